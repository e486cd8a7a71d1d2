"""`x2x edit`, `x2x guidance` and `x2x demo`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructx2x import NOTICE
from instructx2x.cli.console import one_line, stderr
from instructx2x.cli.options import (
    Anatomy,
    Device,
    Dtype,
    Image,
    ImageGuidance,
    Instruction,
    KeepPatient,
    Model,
    Out,
    Overwrite,
    Profile,
    Protect,
    Region,
    Relevance,
    Samples,
    Scheduler,
    Seed,
    Steps,
    TextGuidance,
    Threshold,
)
from instructx2x.errors import InstructionError
from instructx2x.progress import progress

if TYPE_CHECKING:
    from instructx2x.editing import Guidance, Study

DEMO_INSTRUCTION = "Add the finding of left pleural effusion."


def edit(
    image: Image,
    instruction: Instruction,
    out: Out,
    model: Model = "bundled",
    profile: Profile = "default",
    anatomy: Anatomy = "default",
    seed: Seed = 0,
    samples: Samples = 1,
    steps: Steps = None,
    text_guidance: TextGuidance = None,
    image_guidance: ImageGuidance = None,
    threshold: Threshold = None,
    relevance: Relevance = True,
    region: Region = None,
    protect: Protect = None,
    scheduler: Scheduler = None,
    keep_patient: KeepPatient = False,
    device: Device = None,
    dtype: Dtype = "float32",
    overwrite: Overwrite = False,
) -> None:
    """Edit an X-ray as an instruction says.

    Writes OUT/<image's name>/ with the edited image in the source's format, size and depth, comparison.png,
    guidance_map.png, mask.png, maps.npz and report.json; of a DICOM source also mask.dcm and guidance_map.dcm. Outside
    the mask no pixel changes. A DICOM edit belongs to nobody unless --keep-patient is given.

    `x2x edit chest.png "Add the finding of left pleural effusion." -o out`

    `x2x edit chest.dcm "Change the level of edema from mild to moderate." -o out --seed 1`

    `x2x edit chest.png "remove the cardiomegaly" -o out --model my/model --device cuda`
    """
    reads = [model, anatomy, region, protect]
    study = _open(image, instruction, out, profile, model, device, dtype, overwrite, samples, reads)
    said: list[str] | None = None
    with progress("Editing") as advance:

        def on_step(done: int, total: int, latents: Any) -> None:
            nonlocal said
            if said is None:  # only now is it sure that nothing will be refused
                said = announce(study.editor.backbone.calibration, [instruction])
            advance(total=samples * total)

        result = study.edit(
            instruction,
            seed=seed,
            samples=samples,
            profile=profile,
            anatomy=anatomy,
            steps=steps,
            text_guidance=text_guidance,
            image_guidance=image_guidance,
            threshold=threshold,
            relevance=relevance,
            region=region,
            protect=protect,
            scheduler=scheduler,
            keep_patient=keep_patient,
            callback=on_step,
        )
    _save(result, out, overwrite, said or [])


def guidance(
    image: Image,
    instruction: Instruction,
    out: Out,
    model: Model = "bundled",
    profile: Profile = "default",
    anatomy: Anatomy = "default",
    seed: Seed = 0,
    threshold: Threshold = None,
    relevance: Relevance = True,
    region: Region = None,
    protect: Protect = None,
    device: Device = None,
    dtype: Dtype = "float32",
    overwrite: Overwrite = False,
) -> None:
    """Show where an instruction would edit an X-ray, without editing it.

    Writes OUT/<image's name>/ with guidance_map.png, mask.png, maps.npz and report.json: the maps that `x2x edit` with
    the same arguments follows.

    `x2x guidance chest.png "Remove the finding of edema." -o maps`
    """
    reads = [model, anatomy, region, protect]
    study = _open(image, instruction, out, profile, model, device, dtype, overwrite, 1, reads)
    result = study.guidance(
        instruction,
        seed=seed,
        profile=profile,
        anatomy=anatomy,
        threshold=threshold,
        relevance=relevance,
        region=region,
        protect=protect,
    )
    _save(result, out, overwrite)


def demo(out: Out, device: Device = None, overwrite: Overwrite = False) -> None:
    """Edit the example X-ray with the bundled model.

    The example is itself synthetic: no patient's image is part of this package. Look at OUT/example/comparison.png.

    `x2x demo -o out`
    """
    with as_file(files("instructx2x") / "data" / "example.png") as image:
        edit(image, DEMO_INSTRUCTION, out, device=device, overwrite=overwrite)
    print('your own image: x2x edit IMAGE "Add the finding of edema." -o OUT')


def _open(
    image: Path,
    instruction: str,
    out: Path,
    profile: str,
    model: str,
    device: str | None,
    dtype: str,
    overwrite: bool,
    samples: int,
    reads: Sequence[str | None],
) -> Study:
    """Refuse what can be refused in milliseconds; only then load the model."""
    from instructx2x.imaging import read
    from instructx2x.instructions import parse
    from instructx2x.results.places import check_place, result_name

    if profile != "official":  # which takes any text, as the official code does
        parse(instruction)
    check_place(out, result_name(image), inputs=[image, *reads], overwrite=overwrite, samples=samples)
    radiograph = read(image)
    with stderr().status("Loading the model"):
        from instructx2x.editing import Editor

        return Editor.from_pretrained(model, device=device, dtype=dtype).open(radiograph)


def announce(calibration: Mapping[str, Any] | None, instructions: Iterable[str]) -> list[str]:
    """Say before any picture is made what a model does badly, each thing once; the warnings that were said."""
    from instructx2x.editing.reliability import NOT_MEASURED, announcements
    from instructx2x.instructions import parse

    said: dict[str, None] = {}
    for instruction in dict.fromkeys(instructions):
        try:
            said |= dict.fromkeys(announcements(calibration, parse(instruction)))
        except InstructionError:  # told of later; and the official profile takes any text
            continue
    for warning in said:
        print(one_line(f"warning: {warning}"))
    if not (calibration or {}).get("reliability"):
        print(f"note: {NOT_MEASURED}")
    return list(said)


def _save(result: Guidance, out: Path, overwrite: bool, said: Sequence[str] = ()) -> None:
    """Write a result and say what it is, but for the warnings that were said before."""
    folder = result.save(out, overwrite=overwrite)
    report = result.report
    mask = report["mask"]
    print(one_line(f"{folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}"))
    told = report["instruction"]
    print(one_line(f"instruction: {told['given_to_model']}"))
    if len(told["edits"]) > 1:
        for edit, outcome in zip(told["edits"], told["outcomes"], strict=True):
            where = [edit[name] for name in ("level", "side", "zone") if edit[name]]
            print(one_line(f"{' '.join((edit['operation'], *where, edit['finding']))}: {outcome}"))
    print(f"mask: {mask['fraction']:.1%} of the image, {mask['pixels']} pixels")
    if "pixels_changed" in report:
        outside = report["pixels_changed_outside_mask"]
        print(f"changed: {report['pixels_changed']} pixels, {outside} of them outside the mask")
    for line in _verified(report.get("verification", {"findings": []})):
        print(one_line(line))
    for warning in report["warnings"]:
        if warning not in said:
            print(one_line(f"warning: {warning}"))
    print(NOTICE)


def _verified(verification: dict[str, Any]) -> Iterator[str]:
    """What the verifier says, a line a finding, and which sample it prefers."""
    for entry in verification["findings"]:
        said = f"verifier: {entry['finding']}"
        if "before" in entry:
            said += f" {entry['before']:.2f} before, {entry['after']:.2f} after"
        said += f": {entry['verdict']}"
        if "why" in entry:
            said += f": {entry['why']}"
        elif "noise" in entry:
            said += f" ({entry['movement']:+.2f} log-odds as asked, {entry['noise']:.2f} under other edits)"
        for name, where in (("in_anatomy", "inside its anatomy"), ("on_side", "on the side named")):
            if entry[name] is not None:
                said += f"; {entry[name]:.0%} of the change {where}"
        yield said
    if verification.get("preferred_seed") is not None:
        yield f"verifier: prefers the sample of seed {verification['preferred_seed']}"
