"""`x2x verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from instructx2x.cli.console import one_line
from instructx2x.errors import InputError
from instructx2x.progress import track


def verify(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A result of x2x edit, or a folder of results such as a batch's."),
    ],
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The source image, or the folder that holds the sources under their names; compared pixel by pixel.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check what results claim, without the model.

    Calculates again: that no pixel outside the mask differs from the source, the mask from the guidance map and the
    threshold, the guidance map from the relevance map and the pseudo mask, the digests of all files, the counts of the
    report, and the marks that say that an image is synthetic. The exit code is 0 only if everything holds.

    `x2x verify out/chest`

    `x2x verify out --source films/`
    """
    from instructx2x.results.verify import results_in, verify_batch, verify_result

    folders = results_in(out)
    wrong = verify_batch(out, folders)
    for folder in track(folders, "Verifying"):
        wrong += [f"{folder.name}: {problem}" for problem in verify_result(folder, source)]
    for problem in wrong:
        print(one_line(problem))
    count = f"{len(folders)} result{'s' if len(folders) > 1 else ''}"
    if wrong:
        raise InputError(f"{out}: {len(wrong)} claims of {count} do not hold; see the lines above")
    print(one_line(f"{out}: {count}, everything holds"))
