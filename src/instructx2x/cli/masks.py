"""`x2x masks build` and `x2x masks show`."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer

from instructx2x.cli.console import one_line, stderr
from instructx2x.errors import AnatomyError, InputError, OutputError
from instructx2x.results import folders

OFFICIAL_COVERAGE = "59 to 83 %"  # of the frame, by the eight masks of the official release (method section 4, row 3)
CONTENTS = "masks of x2x masks show"  # the mark of a sheet, in its text entries

app = typer.Typer(
    name="masks",
    help="Pseudo masks: where each finding can be, from experts' marks.",
    rich_markup_mode="markdown",
    no_args_is_help=True,
)


@app.command()
def build(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="A .npz file for --anatomy, soft and laid on each patient; or a folder for the official code's "
            "pseudo_mask_*.npy.",
        ),
    ],
    marks: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MARKS",
            help="Files of experts' marks: MS-CXR, NIH BBox_List_2017.csv, ChestX-Det JSON, or a CSV with image_id, "
            "finding, x, y, w, h in fractions of the image.",
            show_default=False,
        ),
    ] = None,
    open_data: Annotated[
        Path | None,
        typer.Option(
            "--open",
            metavar="DIR",
            help="Instead: the folder of open X-rays, whose marks the package brings.",
            show_default=False,
        ),
    ] = None,
    pa: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Only marks on PA views count: mimic-cxr-2.0.0-metadata.csv.gz, or another table with dicom_id and "
            "ViewPosition.",
            show_default=False,
        ),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Leave out marks on these images, one name a line: test_images.txt of a dataset keeps its test "
            "patients out.",
            show_default=False,
        ),
    ] = None,
    overlap: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="For a folder: open what lies inside a mark in at least this share of the images; 0: in any.",
        ),
    ] = 0.0,
) -> None:
    """Build pseudo masks from experts' marks. An earlier .npz of this command is replaced, and no other file.

    `x2x masks build MS_CXR_Local_Alignment_v1.1.0.csv --pa mimic-cxr-2.0.0-metadata.csv.gz -o mine.npz`

    `x2x edit chest.png "Add the finding of edema." -o out --anatomy mine.npz`
    """
    from rich.console import Console
    from rich.table import Table

    from instructx2x.anatomy import building
    from instructx2x.anatomy.marks import read_marks
    from instructx2x.anatomy.official import MASK_NAMES, overlap_masks, union_masks, write_official_masks
    from instructx2x.anatomy.priors import packaged_priors, write_priors

    if bool(marks) == bool(open_data):
        raise InputError("name the marks: one or more files, or --open with the folder of open X-rays")
    given = {"--pa": pa, "--exclude": exclude}
    for option, value in given.items() if open_data else ():
        if value is not None:
            raise InputError(f"the marks of open X-rays are taken as they are: leave {option} out")
    to_folder = out.suffix != ".npz"
    inputs = [*(marks or ()), open_data, pa, exclude]
    if not to_folder:
        folders.check_file(out, inputs=inputs, is_ours=_is_priors)
    else:
        folders.refuse_inputs(out, inputs)
    if to_folder and out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: name a .npz file, or a folder for the official kind of masks")
    if to_folder and any(out.glob("pseudo_mask_*.npy")):
        raise OutputError(f"{out} holds masks already, which would be mixed with these: choose another folder")
    if overlap and not to_folder:
        raise InputError("--overlap is for a folder of official masks: a .npz keeps the counts themselves")
    with stderr().status("Counting marks"):
        if open_data:
            priors = building.build_from_data(open_data)
        else:
            found = [mark for path in marks for mark in read_marks(path)]
            found = building.only_pa(found, pa) if pa else found
            found = building.without(found, exclude) if exclude else found
            packaged = packaged_priors()
            priors = building.build(found, packaged.lungs, packaged.lung_masks)
        masks = overlap_masks(priors, overlap) if overlap else union_masks(priors)
        if not to_folder:
            write_priors(priors, out)
        elif not set(priors.images) & set(MASK_NAMES):
            raise InputError(
                f"no mark is of a finding that the official code has a mask for ({', '.join(MASK_NAMES)}): "
                "name a .npz file, which takes any"
            )
        else:
            if out.exists():
                write_official_masks(masks, out)
            else:
                folders.write_folder(out, lambda folder: write_official_masks(masks, folder))
    table = Table("finding", "images", "union covers" if not overlap else f"overlap of {overlap:g} covers")
    for name, images in priors.images.items():
        mask = masks.get(MASK_NAMES.get(name, ""))
        table.add_row(name, f"{images:,}", "" if mask is None else f"{mask.mean():.0%}")
    Console().print(table)
    print(one_line(f"{out}: {', '.join(sorted(masks)) if to_folder else 'priors for --anatomy'}"))
    if to_folder and "edema" not in priors.images:
        print("Edema has no marks: its mask is that of the packaged lungs")
    if to_folder and (left := sorted(set(priors.images) - set(MASK_NAMES))):
        print(one_line(f"warning: not written, for the official code has no mask of it: {', '.join(left)}"))


def _is_priors(path: Path) -> bool:
    from instructx2x.anatomy.priors import load_priors

    try:
        load_priors(path)
    except AnatomyError:
        return False
    return True


@app.command()
def show(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The picture to write, .png.")],
    image: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGE", help="An X-ray to draw on.  [default: the average lungs]", show_default=False),
    ] = None,
    anatomy: Annotated[
        str,
        typer.Option(metavar="NAME", help="default, patient, prior, union, a folder of official masks, or a .npz."),
    ] = "default",
) -> None:
    """Draw the masks of all findings, sides and zones on one sheet. An earlier sheet is replaced, and no other file.

    `x2x masks show chest.png -o masks.png`
    """
    from instructx2x.anatomy.sheet import mask_sheet
    from instructx2x.imaging import read, write_png
    from instructx2x.imaging.writing import text_entries

    if out.suffix.lower() != ".png":
        raise OutputError(f"{out}: the sheet is a picture; let the name end in .png")

    def is_ours(path: Path) -> bool:
        return text_entries(path).get("Contents") == CONTENTS

    folders.check_file(out, inputs=[image, anatomy], is_ours=is_ours)
    display = None if image is None else read(image).display()
    with stderr().status("Drawing masks"):
        sheet, coverage, warnings = mask_sheet(display, anatomy)
        write_png(sheet, out, text={"Contents": CONTENTS, "Anatomy": anatomy})
    print(one_line(f"{out}: {len(coverage)} findings"))
    shares = f"{min(coverage.values()):.0%} to {max(coverage.values()):.0%}"
    print(
        f"a mask opens {fmean(coverage.values()):.0%} of the image on average ({shares}, no side or zone named); the "
        f"official masks open {OFFICIAL_COVERAGE}"
    )
    for warning in warnings:
        print(one_line(f"warning: {warning}"))
