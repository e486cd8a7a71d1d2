"""The past image laid on the current one by an affine transform, with a score by which bad pairs are dropped.

Between two visits a patient stands, turns and breathes in differently, and the tube stands elsewhere. A model that
learns from unregistered pairs has to explain that movement with the finding, and so moves patients about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image
from scipy import ndimage

from ..errors import InputError
from ..extras import install_command
from ..imaging import MIN_SIDE, resize
from ..imaging.radiograph import label
from ..imaging.writing import text_entries
from .images import Sources, by_target, gray_image, write_all

# Pairs below this are best dropped. On 120 neighbouring visits of NIH and Hannover patients (benchmarks/
# dataset_registration.py --pairs 60) it keeps 88 %, and the dropped ones that were looked at had failed: half a body, a
# lateral view, a lung gone white. Of pairs of two patients it keeps 35 % (0.15 would keep 59 %), because chests are
# alike, and of pairs with one image upside down 10 %. At 0.25 one visit in five would go, well aligned ones too. So it
# finds failed alignments; it is no proof that both images show one patient.
MIN_QUALITY = 0.2

SIDE = 256  # pixels of the longer side while aligning; ribs and vessels are still several pixels wide
# Pyramid of the alignment, in pixels of the working grid. All starts are tried on the coarse level, the best two go on.
COARSE, FINE, REFINED = (8,), (4, 2), 2
STARTS = ((0.0, 1.0), (-7.0, 0.93), (-7.0, 1.07), (7.0, 0.93), (7.0, 1.07))  # degrees, scale

# What two visits of one patient can differ by. Beyond it, something else than the patient was aligned.
STRETCH = (0.75, 1.33)  # each principal stretch
ANISOTROPY = 1.25  # larger over smaller principal stretch
TURN = 20.0  # degrees
OVERLAP = 0.75  # share of the current thorax that the past image must cover

DARK = 12  # gray value up to which what touches the border is background: air, collimation, letterbox
THORAX = 0.46  # half axes of the ellipse that is compared, of height and width; markers and arms lie outside
DETAIL = 2.0  # pixels of the working grid: smoothing before gradients are compared
SPREAD = 16.0  # likewise: over what distance brightness and contrast are evened out


@dataclass(frozen=True, eq=False)
class Registration:
    """The past image on the current image's grid.

    Attributes:
        image: (H, W) uint8, the past image; black where it does not reach.
        matrix: (2, 3) float64, takes pixels of the current image to pixels of the past one:
            (x, y) = matrix @ (x', y', 1). x is the column and y the row; pixel centres are whole numbers.
        quality: how well the two agree after alignment, in [-1, 1]; see `MIN_QUALITY`.
        before: the same score before it. `quality` is never below it.
    """

    image: np.ndarray
    matrix: np.ndarray
    quality: float
    before: float


@dataclass(frozen=True, eq=False)
class _View:
    """An image on the working grid.

    Attributes:
        detail: (h, w) float32, brightness and contrast evened out, 0 on the background.
        smooth: the same without what is smaller than DETAIL.
        body: (h, w) bool, what is not background.
    """

    detail: np.ndarray
    smooth: np.ndarray
    body: np.ndarray


def register(past: np.ndarray, current: np.ndarray) -> Registration:
    """Align the past image to the current one, by an affine transform within plausible limits.

    Evened-out brightness is compared by mean squares over the thorax, from several starting points, coarse to fine.
    Of the results, and of leaving the image as it is, the one with the best `quality` is taken. Quality is the
    correlation of the two images' gradients (as vectors, smoothed over a few pixels) in the thorax: ribs, vessels and
    borders of organs have to lie on each other, and how bright they are does not matter. Images without anything to
    compare get the identity and quality 0.

    Uses one thread and no random numbers: the same images give the same bytes.

    Args:
        past, current: (H, W) uint8 of the same shape, 0 black.

    Raises:
        InputError: two different shapes, or SimpleITK is not installed.
    """
    sitk = _simpleitk()
    for image in (past, current):
        if image.ndim != 2 or image.dtype != np.uint8 or image.shape != past.shape:
            raise InputError("the two images must be 8-bit gray and of the same size; prepare both in the same way")
    height, width = current.shape
    identity = np.eye(2, 3)
    nothing = Registration(past.copy(), identity, 0.0, 0.0)
    if min(height, width) < MIN_SIDE:
        return nothing
    moving, fixed = _view(past), _view(current)
    thorax = fixed.body & _ellipse(fixed.body.shape)
    if thorax.mean() < 0.1 or moving.body.mean() < 0.1:
        return nothing

    def scored(matrix: np.ndarray) -> tuple[float, np.ndarray]:
        return _quality(moving, fixed, thorax, matrix), matrix

    def best(candidates: Iterable[tuple[float, np.ndarray]]) -> list[tuple[float, np.ndarray]]:
        return sorted(candidates, key=itemgetter(0), reverse=True)

    starts = [_similarity(degrees, scale, thorax.shape) for degrees, scale in STARTS]
    coarse = best(scored(_optimised(sitk, moving, fixed, thorax, start, COARSE)) for start in starts)
    fine = [scored(_optimised(sitk, moving, fixed, thorax, start, FINE)) for _, start in coarse[:REFINED]]
    before, _ = scored(identity)
    quality, matrix = best([*coarse, *fine])[0]
    if quality <= before:
        return Registration(past.copy(), identity, before, before)
    scale_y, scale_x = height / thorax.shape[0], width / thorax.shape[1]
    to_full = np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2], [0, 0, 1]])
    matrix = (to_full @ np.vstack([matrix, [0, 0, 1]]) @ np.linalg.inv(to_full))[:2]
    return Registration(_resampled(sitk, past, matrix), matrix, quality, before)


def register_images(jobs: Iterable[tuple[Path, Path, Path]], *, workers: int | None = None) -> dict[Path, float | str]:
    """Register many prepared pairs. What an earlier run wrote of the same pairs stays as it is.

    Args:
        jobs: (past, current, target) each. The target becomes the past image on the current one's grid, whatever its
            quality; it ends in .png and its text entries hold the quality, so that the two appear together.
        workers: threads; by default one for each processor that this process may use.

    Returns:
        target -> its quality, or why it could not be made, in one line. The order is the jobs'.

    Raises:
        InputError: a target that is no .png or asked for twice from different sources, or SimpleITK is missing.
    """
    _simpleitk()

    def make(sources: Sources) -> tuple[np.ndarray, Mapping[str, str]]:
        past, current = (np.asarray(gray_image(source)) for source in sources)
        try:
            registration = register(past, current)
        except InputError as error:
            raise InputError(f"{label(sources[0])} and {label(sources[1])}: {error}") from error
        entries = {"Registered": _pair(sources), "Registration quality": f"{registration.quality:.6f}"}
        return registration.image, _preparation(sources) | entries

    def accept(sources: Sources, entries: Mapping[str, str]) -> float | None:
        # Sources prepared anew, at another size perhaps, make an earlier target worthless.
        if entries.get("Registered") != _pair(sources) or not _preparation(sources).items() <= entries.items():
            return None
        return float(entries["Registration quality"])

    wanted = by_target((target, (past, current)) for past, current, target in jobs)
    return write_all(wanted, make, accept, workers=workers, description="Registering pairs")


def _pair(sources: Sources) -> str:
    past, current = (ascii(source.name) for source in sources)
    return f"{past} on {current}"


def _preparation(sources: Sources) -> dict[str, str]:
    """How the current image was prepared, where it says so."""
    return {key: value for key, value in text_entries(sources[1]).items() if key == "Preparation"}


def _simpleitk() -> ModuleType:
    try:
        import SimpleITK
    except ImportError as error:
        raise InputError(f"registration needs SimpleITK: {install_command('register')}") from error
    # Trials that slide off the image are expected here; the library would print paragraphs about each.
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    # One thread, because sums of floats depend on how they are split. A filter's own setting does not reach the
    # metric inside it; this one does, for all of the process.
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return SimpleITK


def _view(image: np.ndarray) -> _View:
    dark = np.pad(ndimage.gaussian_filter(image.astype(np.float32), 1) <= DARK, 1, constant_values=True)
    regions, _ = ndimage.label(dark)
    body = ndimage.binary_erosion((regions != regions[0, 0])[1:-1, 1:-1], iterations=3, border_value=1)
    shrink = min(1.0, SIDE / max(image.shape))
    height, width = (max(1, round(side * shrink)) for side in image.shape)
    small = resize(image, height, width, Image.Resampling.BOX)
    body = resize(body, height, width, Image.Resampling.BOX) > 0.99
    weight = body.astype(np.float32)
    near = ndimage.gaussian_filter(weight, SPREAD) + 1e-3
    detail = (small - ndimage.gaussian_filter(small * weight, SPREAD) / near) * weight
    # 2 gray values: what is fainter than the noise of film and JPEG is not amplified to a pattern.
    contrast = np.sqrt(ndimage.gaussian_filter(detail**2, SPREAD) / near + 2**2)
    detail = np.clip(detail / contrast, -3, 3)
    return _View(detail, ndimage.gaussian_filter(detail, DETAIL), body)


def _ellipse(shape: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    y, x = (y + 0.5) / shape[0] - 0.5, (x + 0.5) / shape[1] - 0.5
    return (x / THORAX) ** 2 + (y / THORAX) ** 2 < 1


def _similarity(degrees: float, scale: float, shape: tuple[int, int]) -> np.ndarray:
    """(2, 3) matrix that turns and scales about the image's centre."""
    turn = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = (np.array(shape[::-1]) - 1) / 2
    return np.column_stack([linear, centre - linear @ centre])


def _optimised(
    sitk: ModuleType, moving: _View, fixed: _View, thorax: np.ndarray, start: np.ndarray, levels: tuple[int, ...]
) -> np.ndarray:
    """The (2, 3) matrix to which gradient descent on the mean squares leads; `start` where it cannot go anywhere."""
    centre = (np.array(thorax.shape[::-1]) - 1) / 2
    transform = sitk.AffineTransform(2)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(start[:, :2].ravel().tolist())
    transform.SetTranslation((start @ [*centre, 1] - centre).tolist())

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetMetricFixedMask(sitk.GetImageFromArray(thorax.astype(np.uint8)))
    method.SetMetricMovingMask(sitk.GetImageFromArray(moving.body.astype(np.uint8)))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=60, gradientMagnitudeTolerance=1e-8
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(levels)
    method.SetSmoothingSigmasPerLevel([level / 2 for level in levels])
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(sitk.GetImageFromArray(fixed.detail), sitk.GetImageFromArray(moving.detail))
    except RuntimeError:
        # The library's answer to images that came to lie beside each other.
        return start
    linear = np.array(transform.GetMatrix()).reshape(2, 2)
    found = np.column_stack([linear, centre + np.array(transform.GetTranslation()) - linear @ centre])
    return found if np.isfinite(found).all() else start


def _plausible(matrix: np.ndarray) -> bool:
    left, stretch, right = np.linalg.svd(matrix[:, :2])
    turn = left @ right
    return bool(
        np.linalg.det(turn) > 0
        and STRETCH[0] <= stretch[1] <= stretch[0] <= min(STRETCH[1], ANISOTROPY * stretch[1])
        and abs(np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))) <= TURN
    )


def _quality(moving: _View, fixed: _View, thorax: np.ndarray, matrix: np.ndarray) -> float:
    """Correlation of the gradients where both images show the thorax, in [-1, 1]; -1 for implausible matrices."""
    if not _plausible(matrix):
        return -1.0
    rows = matrix[::-1, [1, 0, 2]]  # SciPy counts rows first

    def moved(array: np.ndarray) -> np.ndarray:
        return ndimage.affine_transform(array, rows[:, :2], rows[:, 2], order=1)

    common = (moved(moving.body.astype(np.float32)) > 0.99) & thorax
    if common.sum() < OVERLAP * thorax.sum():
        return 0.0 if np.array_equal(matrix, np.eye(2, 3)) else -1.0
    past, current = (
        np.concatenate([direction[common] for direction in np.gradient(smooth)]).astype(np.float64)
        for smooth in (moved(moving.smooth), fixed.smooth)
    )
    norm = np.linalg.norm(past) * np.linalg.norm(current)
    return float(np.clip(past @ current / norm, -1, 1)) if norm > 0 else 0.0


def _resampled(sitk: ModuleType, image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The image drawn through a matrix from the result's pixels to its own: (H, W) uint8 -> (H, W) uint8."""
    transform = sitk.AffineTransform(matrix[:, :2].ravel().tolist(), matrix[:, 2].tolist())
    resample = sitk.ResampleImageFilter()
    resample.SetReferenceImage(sitk.GetImageFromArray(image))
    resample.SetTransform(transform)
    # Cubic: with linear interpolation every past image would be a little softer than its current one.
    resample.SetInterpolator(sitk.sitkBSpline3)
    moved = resample.Execute(sitk.GetImageFromArray(image.astype(np.float32)))
    return np.clip(np.round(sitk.GetArrayFromImage(moved)), 0, 255).astype(np.uint8)
