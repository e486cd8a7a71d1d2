"""The training code: words, samples, losses, resuming, and a tiny recipe from beginning to end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from phantom_chests import make_lungs
from safetensors import SafetensorError
from torch import nn

from instructx2x.errors import InputError, ModelError, OutputError
from instructx2x.instructions import FINDINGS, Edit, Operation, parse, render
from instructx2x.models import load, token_ids
from instructx2x.training import healing, states
from instructx2x.training.back_translation import add_to_normals, additions_of
from instructx2x.training.healing import Region, around, opacity, reach
from instructx2x.training.loop import fast_halves, fingerprint, fit, learning_rate
from instructx2x.training.pairs import Bank, Pair
from instructx2x.training.run import read_recipe, run
from instructx2x.training.samples import MIX, Sample, Sampler, changed, random_edit
from instructx2x.training.simulation.lesions import Lesion, traits
from instructx2x.training.states import read_state, write_state
from instructx2x.training.text_encoder import (
    FIELDS,
    NAMES,
    Reader,
    build_text_encoder,
    build_tokenizer,
    labels,
    random_instruction,
)
from instructx2x.training.unet import (
    NOISY,
    build_scheduler,
    build_unet,
    drop_conditions,
    filled_already,
    hide,
    loss_weights,
    made_already,
    noised,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return build_tokenizer(tmp_path_factory.mktemp("tokenizer"), 48)


def test_every_word_of_the_language_is_one_token(tokenizer):
    for finding in FINDINGS:
        words = finding.replace("-", " - ").split()
        assert len(tokenizer(finding).input_ids) == len(words) + 2, finding


def test_the_tokenizer_is_deterministic_and_reloads(tokenizer, tmp_path):
    from transformers import CLIPTokenizer

    build_tokenizer(tmp_path / "again", 48)
    again = CLIPTokenizer.from_pretrained(tmp_path / "again")
    text = "Change the level of right lower lobe consolidation from mild to moderate-to-severe. héllo 🙂"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert tokenizer(text.upper()).input_ids == tokenizer(text).input_ids


def test_ids_are_padded_as_diffusers_pads_them(tokenizer):
    ids = token_ids(tokenizer, ["", "Add the finding of edema."], tokenizer.model_max_length)
    assert ids.shape == (2, 48)
    assert (ids[:, -1] == tokenizer.eos_token_id).all()


def test_random_instructions_are_valid_and_their_labels_true():
    rng = np.random.default_rng(0)
    instructions = [random_instruction(rng) for _ in range(200)]
    truth = labels(instructions)
    for row, edits in enumerate(instructions):
        assert parse(render(edits)) == edits
        assert int((truth["operation"][row] > 0).sum()) == len(edits)
        for edit in edits:
            column = NAMES.index(edit.finding)
            for field, values in FIELDS.items():
                assert values[truth[field][row, column]] == getattr(edit, field)


def test_random_edits_reach_every_finding_and_operation():
    rng = np.random.default_rng(0)
    edits = [random_edit(rng) for _ in range(2000)]
    assert {edit.finding for edit in edits} == set(FINDINGS)
    assert {edit.operation for edit in edits} == set(Operation)


def test_the_reader_reads_what_it_was_taught(tokenizer, tmp_path):
    torch.manual_seed(0)
    reader = Reader(build_text_encoder(tokenizer, width=32, layers=1))
    reader.change(torch.zeros(1, 8, 16, 16))
    taught = [(Edit(operation, "edema", side=side),) for operation in ("add", "remove") for side in ("left", "right")]
    ids = token_ids(tokenizer, [render(edits) for edits in taught], tokenizer.model_max_length)
    truth = labels(taught)

    def loss(ids):
        _, logits = reader.read(ids)
        parts = [
            nn.functional.cross_entropy(logits[f].flatten(0, 1).float(), torch.cat((truth[f],) * 2).flatten())
            for f in ("operation", "side")
        ]
        return sum(parts), {}

    fit("reader", reader, lambda rng: (ids,), loss, work=tmp_path, steps=150, peak_lr=1e-2, ema_decay=0.9)
    _, logits = reader.read(ids)
    column = NAMES.index("edema")
    for field in ("operation", "side"):
        assert logits[field][:4, column].argmax(-1).tolist() == truth[field][:, column].tolist()


def _fit(work, steps, interrupt=None, **settings):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

    def draw(rng):
        return torch.from_numpy(rng.standard_normal((8, 3)).astype(np.float32)), torch.randn(8, 3)

    def loss(x, more):
        if interrupt is not None:
            interrupt[0] -= 1
            if interrupt[0] < 0:
                raise KeyboardInterrupt
        x = x + 0.1 * more + 0.1 * torch.randn(x.shape)
        return ((module(x).float() - x.sum(1, keepdim=True)) ** 2).mean(), {"mean": x.mean()}

    fit("toy", module, draw, loss, work=work, steps=steps, peak_lr=1e-2, save_every=20, **settings)
    return [p.detach().clone() for p in module.parameters()]


def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path):
    undisturbed = _fit(tmp_path / "a", 60)
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path / "b", 60, interrupt=[37])
    resumed = _fit(tmp_path / "b", 60)
    for a, b in zip(undisturbed, resumed, strict=True):
        assert torch.equal(a, b)


def test_batches_drawn_by_other_processes_are_the_same(tmp_path):
    here, elsewhere = _fit(tmp_path / "a", 30), _fit(tmp_path / "b", 30, drawers=2)
    for a, b in zip(here, elsewhere, strict=True):
        assert torch.equal(a, b)


def test_a_resumed_curve_has_what_an_undisturbed_one_has(tmp_path):
    _fit(tmp_path / "a", 80)
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path / "b", 80, interrupt=[47])
    _fit(tmp_path / "b", 80)

    def curve(work):
        return [row.split(",")[2:] for row in (work / "toy.csv").read_text().splitlines()]

    assert curve(tmp_path / "a") == curve(tmp_path / "b")


def test_a_state_of_another_run_is_not_gone_on_from(tmp_path):
    _fit(tmp_path, 20, run={"channels": [8, 16]})
    _fit(tmp_path, 40, run={"channels": [8, 16]})
    with pytest.raises(InputError, match=r"toy\.safetensors is of a run with other settings"):
        _fit(tmp_path, 60, run={"channels": [8, 32]})


def test_a_state_that_cannot_be_written_leaves_the_last_one(tmp_path, monkeypatch):
    write_state({"step": 1}, tmp_path / "run.safetensors")

    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(states, "save_file", full)
    with pytest.raises(OutputError, match="make room"):
        write_state({"step": 2}, tmp_path / "run.safetensors")
    assert read_state(tmp_path / "run.safetensors") == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]


def test_fingerprints_tell_weights_and_images_apart():
    layer = nn.Linear(2, 2)
    before = fingerprint(layer)
    assert before == fingerprint(*layer.parameters()) and len(before) == 12
    with torch.no_grad():
        layer.bias[0] += 1e-6
    assert fingerprint(layer) != before
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert fingerprint(images) == fingerprint(np.asfortranarray(images)) != fingerprint(images[::-1])


def test_a_resumed_curve_has_every_step_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path, 100, interrupt=[65])
    # A run that was killed between a save and the rows after it.
    with (tmp_path / "toy.csv").open("a") as file:
        file.write("80,1,1\n")
    _fit(tmp_path, 100)
    rows = (tmp_path / "toy.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == [20, 40, 60, 80, 100]


def test_the_learning_rate_is_a_trapezoid():
    rates = [learning_rate(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] == 0.01 and rates[99] == 1.0 and rates[700] == 1.0
    assert rates[-1] == pytest.approx(1 / 250) and min(rates) > 0


@pytest.fixture(scope="module")
def sampler():
    import polars as pl

    generator = torch.Generator().manual_seed(0)
    clean = torch.randn((3, 4, 8, 8), generator=generator).half()
    painted = clean[[0, 1, 1, 1]].clone()
    for number in range(4):
        painted[number, :, number, 2:6] += 1
    effusion = Lesion("pleural effusion", "left", "", "small", 2.0, 1)
    pairs = [
        Pair(0, "lesion", [effusion], [], 0, -1),
        Pair(1, "level", [effusion], [effusion.at_level("large", 4.2)], 1, 2),
        Pair(1, "heal", [effusion], [], 3, -1),
        Pair(1, "real", [effusion], [], 3, -1),
        Pair(0, "back", [effusion], [], 0, -1),
    ]
    table = pl.DataFrame(
        {
            "adult": [True, True, True],
            "split": ["train", "train", "val"],
            "findings": ["No Finding", "Effusion|Mass", "Edema"],
        }
    )
    place = torch.zeros(8, 8)
    place[2:5, 1:4] = 1
    regions = [Region(0, effusion, place), Region(1, effusion, place)]
    return Sampler(Bank(clean, painted, pairs), table, regions=regions)


@pytest.mark.parametrize("kind", list(MIX))
def test_samples_say_what_they_show(sampler, kind):
    bank = sampler.bank
    for seed in range(20):
        sample = sampler.draw(np.random.default_rng(seed), kind)
        assert sample.kind == kind
        if sample.edits:
            assert parse(sample.text) == sample.edits
        if kind == "blank":
            continue  # has a test of its own
        if sample.source is not None and not torch.equal(sample.source, sample.target):
            assert torch.equal(sample.where, changed(sample.source, sample.target))
        if kind == "nothing":
            assert torch.equal(sample.source, sample.target)
            # Those that a lesion of these words changed in some chest; of a mere label they are not known.
            assert sample.where is None or sample.where.sum() == 4
            assert sample.where is not None or sample.edits[0].operation is Operation.ADD
        elif kind == "single":
            assert sample.source is None
            assert any(torch.equal(sample.target, bank.clean[row].float()) for row in (0, 1)), "a val image was used"
        elif kind == "add":
            assert sample.edits[0].operation is Operation.ADD
            assert any(torch.equal(sample.source, clean.float()) for clean in bank.clean)
        elif kind == "real":
            ill, healed = bank.clean[1].float(), bank.painted[3].float()
            removed = sample.edits[0].operation is Operation.REMOVE
            expected = (ill, healed) if removed else (healed, ill)
            assert torch.equal(sample.source, expected[0]) and torch.equal(sample.target, expected[1])
        elif kind in ("remove", "heal", "back"):
            assert sample.edits[0].operation is Operation.REMOVE
            assert any(torch.equal(sample.target, clean.float()) for clean in bank.clean)
        else:
            level = {"small": bank.painted[1].float(), "large": bank.painted[2].float()}[sample.edits[0].level]
            assert torch.equal(sample.target, level)


def test_what_is_blanked_comes_back_healthy_and_the_rest_as_it_is(sampler):
    bank = sampler.bank
    seen = set()
    for seed in range(200):
        sample = sampler.draw(np.random.default_rng(seed), "blank")
        assert sample.blank.shape == (8, 8) and 0 <= sample.blank.min() and 0 < sample.blank.max() <= 1
        assert torch.equal(sample.where, sample.blank > 0.3)
        if torch.equal(sample.source, sample.target):
            row = next(row for row in (0, 1) if torch.equal(sample.source, bank.clean[row].float()))
            # An ill X-ray teaches what images look like and never what removal gives.
            assert bool(sample.edits) == (row == 0) and not (row == 1 and sample.text)
            assert not sample.blank[sampler.regions[0].values == 0].any()
            seen.add("normal" if row == 0 else "ill")
        else:
            reached = reach(sample.blank)
            assert torch.equal(sample.target[:, ~reached], sample.source[:, ~reached])
            edit = sample.edits[0]
            if edit.operation is Operation.CHANGE:
                assert (edit.from_level, edit.level) == ("large", "small"), "a level was raised"
                assert torch.equal(sample.source, bank.painted[2].float())
                wanted = [bank.painted[1].float()]
            else:
                assert edit.operation is Operation.REMOVE
                wanted = [image.float() for image in bank.clean]
            assert any(torch.equal(sample.target[:, reached], image[:, reached]) for image in wanted)
            seen.add(edit.operation.value)
    assert seen == {"normal", "ill", "remove", "change"}


def test_regions_are_kept_as_they_were_found(tmp_path, monkeypatch):
    import polars as pl

    monkeypatch.setattr(healing, "segment_lungs", lambda display: make_lungs((64, 64)))
    table = pl.DataFrame(
        {
            "adult": [True, True, False, True],
            "split": ["train", "train", "train", "val"],
            "findings": ["No Finding", "Edema", "No Finding", "No Finding"],
        }
    )
    outline = np.array([[0.2, 0.3], [0.3, 0.3], [0.3, 0.5], [0.2, 0.5]], np.float32)
    known = traits({"Consolidation": [outline]})
    images = np.full((4, 64, 64), 128, np.uint8)
    for name in ("a.pt", "b.pt"):
        healing.write_regions(images, table, known, tmp_path / name, split="train")
    regions = healing.read_regions(tmp_path / "a.pt", 8)
    assert {region.image for region in regions} == {0, 1}, "of a child, or of another split"
    assert sum(region.image == 0 for region in regions) > sum(region.image == 1 for region in regions) == 1
    for region in regions:
        assert region.values.shape == (8, 8) and 0 <= region.values.min() and region.values.max() > 0.1
        # The patient's left is the image's right.
        half = {"left": region.values[:, :3], "right": region.values[:, 6:]}.get(region.lesion.side)
        assert half is None or not half.any()
    again = healing.read_regions(tmp_path / "b.pt", 8)
    assert [region.lesion for region in again] == [region.lesion for region in regions]
    healing.write_regions(images[:0], table[:0], known, tmp_path / "a.pt", split="train")
    assert len(healing.read_regions(tmp_path / "a.pt", 8)) == len(regions), "found anew"
    monkeypatch.setattr(healing, "segment_lungs", lambda display: replace(make_lungs((64, 64)), plausible=False))
    healing.write_regions(images, table, known, tmp_path / "none.pt", split="train")
    assert healing.read_regions(tmp_path / "none.pt", 8) == healing.read_regions(tmp_path / "gone.pt", 8) == []


def test_a_blank_is_zeros_and_hides_by_its_opacity():
    source = torch.randn(4, 3, 3)
    blank = torch.tensor([[0.0, 0.5, 1.0]] * 3)
    hidden = hide(source, blank)
    assert torch.equal(hidden[..., 0], source[..., 0]) and torch.equal(hidden[..., 1], source[..., 1] / 2)
    assert not hidden[..., 2].any() and hide(source, None) is source


def test_opacities_are_those_of_guidance_maps():
    place = torch.zeros(16, 16)
    place[4:12, 4:12] = 0.5
    drawn = torch.stack([opacity(place, np.random.default_rng(seed)) for seed in range(200)])
    assert not drawn[:, place == 0].any() and drawn.min() >= 0 and drawn.max() == 1
    most = drawn.amax((1, 2))
    assert 0.4 < (most > 0.99).float().mean() < 0.95, "some are partly transparent everywhere, and not most"
    inside = drawn[:, 4:12, 4:12]
    assert 0.3 < (inside.std((1, 2)) > 0.01).float().mean() < 0.7, "half vary within the region"


def test_what_is_around_cells_holds_them_with_a_soft_edge():
    cells = torch.zeros(16, 16, dtype=torch.bool)
    cells[6:9, 6:9] = True
    for seed in range(10):
        soft = around(cells, np.random.default_rng(seed))
        assert soft[cells].min() > 0.8 and soft[0, 0] == 0 and ((soft > 0.1) & (soft < 0.9)).any()


def test_noisy_latents_show_of_a_blank_what_sampling_shows():
    alphas = build_scheduler().alphas_cumprod.numpy()
    t = np.repeat([0, 500, 999], 1000)
    made = filled_already(np.random.default_rng(0), t, alphas).reshape(3, 1000)
    assert ((made == 1).mean(1) > 0.4).all() and ((made == 1).mean(1) < 0.6).all()
    rest = [made[row][made[row] < 1] for row in range(3)]
    assert (rest[2] == 0).all(), "sampling starts with the blank"
    assert 0.85 < rest[1][0] < 0.95 and rest[0].min() > 0.99


def test_halves_are_left_where_a_processor_only_emulates_them(monkeypatch):
    capability = torch.backends.cpu
    monkeypatch.setattr(capability, "get_cpu_capability", lambda: "AVX2")
    assert not fast_halves(torch.device("cpu")) and fast_halves(torch.device("cuda"))
    monkeypatch.setattr(capability, "get_cpu_capability", lambda: "AVX512")
    assert fast_halves(torch.device("cpu"))


def test_kinds_without_pairs_are_left_out(sampler):
    pairs = [pair for pair in sampler.bank.pairs if pair.kind in ("lesion", "level")]
    poor = Sampler(Bank(sampler.bank.clean, sampler.bank.painted, pairs), sampler.table)
    drawn = {poor.draw(np.random.default_rng(seed)).kind for seed in range(300)}
    assert drawn == set(MIX) - {"heal", "real", "back", "blank"}


def test_more_pairs_are_drawn_from_beside_those_there_are(sampler):
    pairs = [pair for pair in sampler.bank.pairs if pair.kind == "lesion"]
    poor = Sampler(Bank(sampler.bank.clean, sampler.bank.painted, pairs), sampler.table)
    added = sampler.bank.clean[[0, 0]] + 1
    rich = poor.also(added, [Pair(0, "back", pairs[0].lesions, [], place, -1) for place in (0, 1)])
    assert not poor.of_kind["back"] and len(rich.of_kind["back"]) == 2
    drawn = rich.draw(np.random.default_rng(0), "back")
    assert torch.equal(drawn.source, added[0].float()) and torch.equal(drawn.target, sampler.bank.clean[0].float())
    # A level's second image moves with the first, and none stays none.
    level = sampler.bank.pairs[1].behind(5)
    assert (level.painted, level.painted_after, pairs[0].behind(5).painted_after) == (6, 7, -1)


def test_additions_come_back_as_they_were_made(sampler, make_tiny_model, tmp_path):
    model = load(make_tiny_model(tmp_path / "m"), device="cpu")
    side = model.latent_shape[-1]
    bank = Bank(torch.randn(3, 4, side, side).half(), sampler.bank.painted, sampler.bank.pairs)
    tiny = Sampler(bank, sampler.table)
    made = add_to_normals(model, tiny, 3)
    write_state(made, tmp_path / "back.safetensors")
    latents, pairs = additions_of(read_state(tmp_path / "back.safetensors"))
    assert len(latents) == len(pairs) == 3 and latents.shape[1:] == (4, side, side)
    for place, pair in enumerate(pairs):
        # The only normal of train, words of the bank's lesions, and a picture that is no longer the normal.
        assert (pair.image, pair.kind, pair.painted) == (0, "back", place)
        assert pair.lesions == sampler.bank.pairs[0].lesions
        assert changed(bank.clean[0].float(), latents[place].float()).any()
    again = add_to_normals(model, tiny, 3)
    assert torch.equal(again["latents"], latents) and again["pairs"] == made["pairs"]


def test_without_text_nothing_changes():
    source, target = torch.zeros(4, 2, 2), torch.ones(4, 2, 2)
    sample = Sample("add", source, target, (Edit("add", "edema"),))
    seen = set()
    for seed in range(300):
        shown, wanted, text = drop_conditions(sample, np.random.default_rng(seed), 0.2, 0.2, 0.2)
        seen.add((shown is None, text == ""))
        assert torch.equal(wanted, source if text == "" else target)
        assert shown is None or torch.equal(shown, source)
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


def test_what_the_noisy_latents_show_becomes_the_target():
    source, target, noise = torch.randn(3, 5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    made = torch.tensor([0.0, 0.3, 0.9, 1.0, 1.0])
    alpha = build_scheduler().alphas_cumprod[[999, 700, 400, 400, 0]]
    noisy, wanted = noised(source, target, made, noise, alpha)
    a = alpha[:, None, None, None]
    assert torch.allclose((noisy - (1 - a).sqrt() * wanted) / a.sqrt(), target, atol=1e-4)
    assert torch.equal(wanted[3:], noise[3:]), "the usual noise where the edit is made"
    shown = (noisy - (1 - a).sqrt() * noise) / a.sqrt()
    assert torch.allclose(shown[0], source[0], atol=1e-4) and torch.allclose(shown[3:], target[3:], atol=1e-4)


def test_edits_are_shown_unmade_only_where_they_are_decided():
    t = np.random.default_rng(0).integers(0, 1000, 8000)
    made = made_already(np.random.default_rng(1), t)
    assert (made[t < NOISY] == 1).all() and made.dtype == np.float32
    noisy = made[t >= NOISY]
    assert 0 <= noisy.min() and noisy.max() <= 1
    assert [(noisy == 0).mean(), (noisy == 1).mean()] == pytest.approx([0.25, 0.5], abs=0.03)


def test_cells_that_an_instruction_is_about_weigh_more():
    small, large, none = torch.zeros(3, 32, 32, dtype=torch.bool)
    small[3, 3], large[:16] = True, True
    weights = loss_weights(torch.stack([small, large, none]), torch.ones(3))[:, 0]
    assert weights[0, 3, 3] == weights[0, 2, 2] == 20 * weights[0, 5, 5], "a small region, with the cells around it"
    assert weights[1, 0, 0] == 5 * weights[1, 31, 0]
    assert (weights[2] == weights[2, 0, 0]).all()
    # Between the two the region as a whole has the same weight, whatever its size.
    middle = torch.zeros(2, 32, 32, dtype=torch.bool)
    middle[0, 8:14, 8:14] = middle[1, 8:12, 8:12] = True
    extra = (loss_weights(middle, torch.ones(2)) - 1).sum((1, 2, 3))
    assert extra[0].item() == pytest.approx(extra[1].item(), rel=1e-5)


def test_noisy_timesteps_weigh_more_and_none_without_bound():
    nowhere = torch.zeros(4, 8, 8, dtype=torch.bool)
    weights = loss_weights(nowhere, torch.tensor([1e6, 1.0, 0.25, 1e-6]))[:, 0, 0, 0]
    assert weights.tolist() == pytest.approx([0.3, 1.0, 2.0, 6.0])


def test_the_schedule_is_stable_diffusions():
    alphas = build_scheduler().alphas_cumprod
    assert alphas[1].item() == pytest.approx(0.998296, abs=1e-6)
    assert alphas[800].item() == pytest.approx(0.03687, abs=1e-5)


def test_the_unet_is_instructpix2pix():
    unet = build_unet((32, 48), 8, 16)
    out = unet(torch.zeros(1, 8, 8, 8), torch.tensor([5]), torch.zeros(1, 4, 16)).sample
    assert out.shape == (1, 4, 8, 8)


def test_recipes_are_found_by_name_and_path(tmp_path):
    short, full = read_recipe("open-cpu"), read_recipe("open")
    assert short["size"] == full["size"] == 256
    # The same model, trained for longer.
    for stage, key in (("vae", "channels"), ("text_encoder", "width"), ("unet", "channels")):
        assert short[stage][key] == full[stage][key]
    assert short["unet"]["steps"] < full["unet"]["steps"]
    with pytest.raises(InputError, match="open-cpu"):
        read_recipe("nothing")
    broken = tmp_path / "broken.toml"
    broken.write_text("size = ")
    with pytest.raises(InputError, match="not a recipe"):
        read_recipe(broken)
    broken.write_text("size = 256")
    with pytest.raises(InputError, match="lacks"):
        read_recipe(broken)
    with pytest.raises(InputError, match=r"masks\.csv not found: the stage lungs needs it"):
        run("open-cpu", data=tmp_path, work=tmp_path / "work")
    with pytest.raises(InputError, match="--data"):
        run("open-cpu", data=tmp_path, work=tmp_path / "work", stages=("vae",))
    with pytest.raises(ModelError, match="device warp"):
        run("open-cpu", data=tmp_path, work=tmp_path / "work", stages=("vae",), device="warp")
    (tmp_path / "mine").write_text("no model")
    with pytest.raises(OutputError, match="is there already"):
        run("open-cpu", data=tmp_path, work=tmp_path / "work", stages=("vae",), out=tmp_path / "mine")
    assert not (tmp_path / "work").exists(), "refused before any work"
