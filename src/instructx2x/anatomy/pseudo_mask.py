"""The pseudo mask M_pseudo of an edit: where in this patient the finding can be (method section 3, step 2).

The paper opens the union of all boxes ever drawn for a finding, the same for every patient. Here each place
counts as often as experts marked it; the map is laid on the patient's own lungs, narrowed by the side and
zone that the instruction names, and cut to the smallest set of places that holds most of the marks. The
guidance map is G = M_pseudo * R, cut at tau = 0.1: inside the core M_pseudo is 1 and leaves the decision to
the relevance R, towards the rim an edit needs an ever stronger R, and outside it is exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from instructx2x.anatomy.frames import LungFrame, lung_frame, place
from instructx2x.anatomy.heart import find_heart
from instructx2x.anatomy.lungs import Lungs, segment_lungs
from instructx2x.anatomy.official import MASK_NAMES, load_official_masks
from instructx2x.anatomy.patient import WORK, Patient
from instructx2x.anatomy.places import HEART, LUNGS, PLACES, Layer, Place
from instructx2x.anatomy.priors import Priors, load_priors, packaged_priors
from instructx2x.anatomy.regions import REGIONS, zone
from instructx2x.errors import AnatomyError
from instructx2x.imaging.geometry import resize
from instructx2x.instructions.edits import Edit

# The mask is 1 on the smallest set that holds CORE of the marks and 0 outside the smallest one that holds SHARE. Of six
# pairs of SHARE and patient.LIMIT_RIM, this one held most of the area of RSNA's boxes on images that the maps were not
# made from; docs/anatomy-measured.md says how much, in how much of the image.
SHARE = 0.97
CORE = 0.75

# Places with at least this value can pass tau = 0.1 when R is 1; a mask with none of them could never be
# edited.
EDITABLE = 0.1


@dataclass(frozen=True)
class PseudoMask:
    """Where an edit may happen.

    Attributes:
        values: (H, W) float32 in [0, 1]: 1 open, 0 closed for certain.
        kind: "patient", "prior", "union", "none" or "official".
        sources: finding -> what its mask was made from, in words.
        warnings: what the user should know, one line each.
    """

    values: np.ndarray
    kind: str
    sources: dict[str, str]
    warnings: list[str] = field(default_factory=list)

    @property
    def coverage(self) -> float:
        """Share of the image that an edit can reach at tau = 0.1, in [0, 1]."""
        return float((self.values >= EDITABLE).mean())


def pseudo_mask(
    edits: Sequence[Edit],
    display: np.ndarray,
    *,
    anatomy: str | Path = "default",
    lungs: Lungs | None = None,
) -> PseudoMask:
    """Pseudo mask of an instruction; several findings: the pixelwise maximum.

    Args:
        edits: what the instruction asks for, at least one edit.
        display: (H, W) brightness in [0, 1].
        anatomy: "patient" lays the experts' marks on the patient's lungs ("default" is the same); "prior"
            takes them in image fractions, as they are; "union" is the paper's mask, all boxes of a finding;
            "none" opens the whole image; a path is a folder of official `pseudo_mask_<Name>.npy`, or a file
            of `x2x masks build`, which then takes the place of the packaged marks.
        lungs: the patient's lungs when they are known already; else they are looked for when they are needed.

    Returns:
        The mask at the size of `display`. Where lungs are needed and not found, it falls back to "prior" and
        warns.

    Raises:
        AnatomyError: a finding without a place, an empty result (a side and zone where the finding never is),
            an unknown `anatomy`, or an unusable folder or file.
    """
    if not edits:
        raise AnatomyError("there is no finding to place; name one in the instruction")
    shape = display.shape
    if anatomy == "none":
        everywhere = {edit.finding: "the whole image" for edit in edits}
        warning = "no anatomy was used: the edit may reach every pixel of the image"
        return PseudoMask(np.ones(shape, np.float32), "none", everywhere, [warning])
    if anatomy == "union":
        return union_mask(edits, shape)
    priors = packaged_priors()
    kind = "patient" if anatomy == "default" else str(anatomy)
    if kind not in ("patient", "prior"):
        path = Path(anatomy)
        if path.is_dir():
            return _official(edits, display, path, lungs)
        if path.suffix != ".npz":
            raise AnatomyError(f'no anatomy is called "{anatomy}"; use default, patient, prior, union, none or a path')
        priors, kind = load_priors(path), "patient"
    warnings, heart = [], None
    if kind == "patient":
        lungs = segment_lungs(display) if lungs is None else lungs
        if not lungs.plausible:
            warnings.append(f"lungs not found ({lungs.reason}): population prior used")
            kind = "prior"
        elif any(asks_for_heart(edit, priors) for edit in edits):
            heart = find_heart(display, lungs)
            if not heart.plausible:
                warnings.append(f"heart not found ({heart.reason}): where hearts lie in the population is used")
    patient = Patient.of(lungs, heart) if kind == "patient" else Patient.average(priors)
    masks = [finding_mask(edit, shape, priors, patient) for edit in edits]
    sources = {edit.finding: describe(edit.finding, priors, patient.heart is not None) for edit in edits}
    return PseudoMask(np.maximum.reduce(masks), kind, sources, warnings)


def asks_for_heart(edit: Edit, priors: Priors) -> bool:
    """Whether the place of an edit depends on where the heart lies."""
    return edit.zone == "retrocardiac" or any(layer.limit == HEART for layer in _place(edit.finding, priors).layers)


def finding_mask(edit: Edit, shape: tuple[int, int], priors: Priors, patient: Patient) -> np.ndarray:
    """Mask of one edit: (H, W) float32 in [0, 1].

    Raises:
        AnatomyError: the finding has no place, or none where the instruction says.
    """
    layers = [layer_mask(layer, edit.side, edit.zone, priors, patient) for layer in _layers(edit.finding, priors)]
    values = np.clip(resize(np.maximum.reduce(layers), *shape), 0, 1)
    return _reachable(narrow_side(values, edit.side, patient.frame.midline), edit)


def layer_mask(layer: Layer, side: str | None, zone_name: str | None, priors: Priors, patient: Patient) -> np.ndarray:
    """One layer of a finding's place, on the working grid: (WORK, WORK) float32 in [0, 1].

    Marks are narrowed and limited first and cut afterwards, so that the cut holds its share of those marks
    that lie where the instruction says: "apical consolidation" opens the apex although consolidations rarely
    reach it.
    """
    frame, behind = patient.frame, patient.behind_heart
    if layer.source == LUNGS:
        return narrow_zone(patient.lungs, zone_name, frame, behind)
    if layer.source in REGIONS:
        return narrow_zone(REGIONS[layer.source](*frame.grid((WORK, WORK))), zone_name, frame, behind)
    density = place(priors.frequency(layer.source), priors.frame, frame, (WORK, WORK))
    if layer.limit in patient.limits:
        density = density * patient.limits[layer.limit]
    if layer.within is not None:
        density = density * REGIONS[layer.within](*frame.grid((WORK, WORK)))
    values = soft_cut(narrow_side(narrow_zone(density, zone_name, frame, behind), side, frame.midline))
    if layer.limit == HEART and patient.heart is not None:
        values = narrow_zone(patient.around_heart(values), zone_name, frame, behind)
    return values


def threshold_mass(prior: np.ndarray, share: float) -> float:
    """The level at which a map must be cut so that what is left holds a share of its mass.

    `prior >= level` is the smallest set of cells that holds at least `share` of the map's sum (cells that tie
    with the last one included).

    Args:
        prior: any shape, values of at least 0.
        share: in (0, 1].

    Returns:
        The level, a value of the map; 0 for an empty map.
    """
    falling = np.sort(prior, axis=None)[::-1].astype(np.float64)
    mass = np.cumsum(falling)
    return float(falling[min(np.searchsorted(mass, share * mass[-1]), falling.size - 1)])


def soft_cut(prior: np.ndarray, share: float = SHARE, core: float = CORE) -> np.ndarray:
    """Turn a frequency map into a mask: 1 on the core, falling linearly with the frequency to 0 at the cut.

    Args:
        prior: (H, W), values of at least 0, any scale.
        share, core: what the mask's support and its plateau of ones hold of the map's mass.

    Returns:
        (H, W) float32 in [0, 1]; all 0 for an empty map.
    """
    rim, plateau = threshold_mass(prior, share), threshold_mass(prior, core)
    if plateau <= 0:
        return np.zeros(prior.shape, np.float32)
    # A flat map has its rim at the plateau's own level.
    return np.clip((prior - rim) / max(plateau - rim, 1e-6 * plateau) + (prior >= plateau), 0, 1).astype(np.float32)


def narrow_side(values: np.ndarray, side: str | None, midline: float) -> np.ndarray:
    """Close the other side of the patient, hard at the midline. The patient's left is the image's right.

    Args:
        values: (H, W).
        side: "left", "right"; "bilateral" and None leave both open.
        midline: a fraction of the width; the pixel that it runs through belongs to neither side.
    """
    if side not in ("left", "right"):
        return values
    edges = np.arange(values.shape[1] + 1) / values.shape[1]
    open_columns = edges[:-1] >= midline if side == "left" else edges[1:] <= midline
    return values * open_columns.astype(values.dtype)


def narrow_zone(
    values: np.ndarray, name: str | None, frame: LungFrame, behind_heart: np.ndarray | None = None
) -> np.ndarray:
    """Fade out what lies outside a zone of the lungs (regions.zone).

    Args:
        values: (H, W) over the image.
        name: the zone; None leaves all.
        frame: the patient's lungs.
        behind_heart: (H, W) in [0, 1], the zone "retrocardiac" of this patient; None: the population's.
    """
    if name is None:
        return values
    if name == "retrocardiac" and behind_heart is not None:
        return (values * behind_heart).astype(values.dtype)
    return (values * zone(name, *frame.grid(values.shape))).astype(values.dtype)


def union_mask(edits: Sequence[Edit], shape: tuple[int, int]) -> PseudoMask:
    """The paper's kind of mask from our sources: every place in any box of the finding, whole sides, in image
    fractions.

    Findings without boxes use the same stand-ins as elsewhere.

    Returns:
        Values 0 and 1 at `shape`.
    """
    priors = packaged_priors()
    patient = Patient.average(priors)
    masks = []
    for edit in edits:
        parts = []
        for layer in _layers(edit.finding, priors):
            if layer.source in priors.unions:
                parts.append(resize(priors.unions[layer.source], WORK, WORK) >= 0.5)
            else:
                parts.append(layer_mask(layer, None, None, priors, patient) > 0)
        masks.append(resize(np.maximum.reduce(parts), *shape) >= 0.5)
    sources = {edit.finding: "union of boxes; " + describe(edit.finding, priors) for edit in edits}
    return PseudoMask(np.maximum.reduce(masks).astype(np.float32), "union", sources)


def describe(finding: str, priors: Priors, heart_found: bool = False) -> str:
    """What a finding's mask is made from, in words for the report."""
    parts = []
    found = _place(finding, priors)
    for layer in found.layers:
        if layer.source in priors.counts:
            names = ", ".join(sorted(k for k, v in priors.sources.items() if layer.source in v["marks"]))
            images = priors.images[layer.source]
            text = f"experts' marks of {layer.source} in {images} images ({names})"
            if layer.limit == HEART and heart_found:
                text = f"the patient's heart, widened, and {text}"
        else:
            text = f"region: {layer.source}"
        parts.append(f"{text}, within the {layer.within}" if layer.within else text)
    return "; ".join(parts) + (f" - stand-in: {found.reason}" if found.reason else "")


def _official(edits: Sequence[Edit], display: np.ndarray, folder: Path, lungs: Lungs | None) -> PseudoMask:
    """Masks of an official folder, looked up by our rules: one per finding, stand-ins, sides and zones."""
    masks = load_official_masks(folder)
    warnings = []
    frame = packaged_priors().frame.centred()
    if any(edit.zone or edit.side or PLACES[edit.finding].layers[0].within for edit in edits):
        lungs = segment_lungs(display) if lungs is None else lungs
        if lungs.plausible:
            frame = lung_frame(lungs)
        else:
            warnings.append(f"lungs not found ({lungs.reason}): sides and zones are those of the average patient")
    combined, sources = np.zeros(display.shape, np.float32), {}
    for edit in edits:
        layers = _official_layers(edit.finding)
        names = [MASK_NAMES.get(layer.source) for layer in layers]
        missing = [layer.source for layer, name in zip(layers, names, strict=True) if name not in masks]
        if missing:
            raise AnatomyError(
                f"{folder} holds no mask for {edit.finding} ({', '.join(missing)}); it holds {', '.join(masks)}"
            )
        values = np.zeros(display.shape, np.float32)
        for layer, name in zip(layers, names, strict=True):
            part = resize(masks[name], *display.shape)
            if layer.within is not None:
                part = part * REGIONS[layer.within](*frame.grid(part.shape)).astype(np.float32)
            values = np.maximum(values, part)
        values = _reachable(narrow_side(narrow_zone(values, edit.zone, frame), edit.side, frame.midline), edit)
        combined = np.maximum(combined, values)
        sources[edit.finding] = "official mask: " + ", ".join(names)
    return PseudoMask(combined, "official", sources, warnings)


def _official_layers(finding: str) -> tuple[Layer, ...]:
    """What to take from an official folder: it has a mask of edema, which stands for the lungs as well."""
    if finding in MASK_NAMES:
        return (Layer(finding),)
    return tuple(
        Layer("edema" if layer.source == LUNGS else layer.source, layer.within) for layer in PLACES[finding].layers
    )


def _reachable(values: np.ndarray, edit: Edit) -> np.ndarray:
    """Pass a mask on, unless no edit could ever reach a pixel of it."""
    if values.max() < EDITABLE:
        where = " ".join(word for word in (edit.side, edit.zone) if word)
        raise AnatomyError(
            f"{edit.finding} has no place in the {where or 'image'}; leave the location out, or open the "
            "whole image with anatomy none"
        )
    return values


def _place(finding: str, priors: Priors) -> Place:
    """Where a finding can be: by its own marks where the priors hold any, else by the stand-in that is declared."""
    declared = PLACES[finding]
    if not declared.reason or finding not in priors.counts:
        return declared
    limits = {layer.limit for layer in declared.layers}
    return Place((Layer(finding, limit=limits.pop() if len(limits) == 1 else None),))


def _layers(finding: str, priors: Priors) -> tuple[Layer, ...]:
    layers = _place(finding, priors).layers
    for layer in layers:
        if layer.source not in (LUNGS, *REGIONS, *priors.counts):
            raise AnatomyError(
                f"the priors hold no marks of {layer.source}, needed for {finding}; "
                f"they hold {', '.join(priors.counts)}"
            )
    return layers
