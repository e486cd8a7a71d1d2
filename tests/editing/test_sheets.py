import numpy as np
import pytest
from PIL import Image

from instructx2x.editing import pictures, sheets


@pytest.fixture
def results(tmp_path):
    """results(n) -> n entries with a comparison each: black input, gray edited."""

    def make(count):
        before = np.zeros((300, 260), np.float32)
        picture = pictures.comparison(before, before + 0.5, np.zeros((300, 260, 3), np.uint8))
        entries = []
        for row in range(1, count + 1):
            (tmp_path / f"r{row}").mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / f"r{row}/comparison.png")
            entries.append(
                {"row": row, "image": f"{row}.png", "instruction": "Add edema", "seed": 0, "status": "done"}
                | {"folder": f"r{row}"}
            )
        return entries

    return make


def test_panels_are_what_was_put_together(tmp_path):
    before, after = np.random.default_rng(0).random((2, 300, 260), np.float32)
    guidance = np.random.default_rng(1).integers(0, 256, (300, 260, 3)).astype(np.uint8)
    shown = pictures.panels(pictures.comparison(before, after, guidance))
    assert len(shown) == 4 and {panel.shape for panel in shown} == {(300, 260, 3)}
    np.testing.assert_array_equal(shown[1][..., 0], np.round(after * 255))
    np.testing.assert_array_equal(shown[3], guidance)


def test_every_row_is_shown(results, tmp_path):
    entries = results(4)
    entries[2] = {**entries[2], "status": "failed", "reason": "no such file"}
    (tmp_path / "r4/comparison.png").unlink()
    (path,) = sheets.write_sheets(entries, tmp_path)
    with Image.open(path) as picture:
        assert picture.text["Synthetic"] == "yes"
        page = np.asarray(picture)
    width, height = sheets._TILE
    for number, shown in enumerate((True, True, False, False)):
        top, left = number // sheets.ACROSS * height, number % sheets.ACROSS * width
        tile = page[top : top + height, left : left + width]
        middle = tile[sheets._CAPTION + 40 : -40]
        edited = middle[:, int(1.4 * sheets.PANEL) : int(1.6 * sheets.PANEL)]
        assert (edited == 128).all() if shown else not edited.any()
        assert tile[:15].any(), "the caption"


def test_long_batches_have_pages(results, tmp_path):
    size = sheets.ACROSS * sheets.DOWN
    entries = results(size + 1)
    assert [path.name for path in sheets.write_sheets(entries, tmp_path)] == ["sheet.png", "sheet-2.png"]
    (tmp_path / "sheet-of-mine.png").write_text("mine")
    assert [path.name for path in sheets.write_sheets(entries[:size], tmp_path)] == ["sheet.png"]
    assert not (tmp_path / "sheet-2.png").exists() and (tmp_path / "sheet-of-mine.png").exists()


def test_words_of_any_length_and_script(results, tmp_path):
    (entry,) = results(1)
    entry |= {"image": "胸部" * 100, "instruction": "x" * 5000}
    assert sheets.write_sheets([entry], tmp_path)
