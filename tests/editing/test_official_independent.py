"""The official profile against a second calculation, written from method sections 3 and 4 alone.

Nothing of instructx2x is used on this side but the public API that is being judged. The model's networks are black
boxes; everything between them (schedule, guidance, relevance, masks, DDIM, blending, compositing) is done here again,
in float64 and with other means: explicit interpolation weights, one branch at a time, no scheduler object.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from instructx2x.editing import Editor

SIDE, CELLS, CHANNELS = 64, 8, 4
TEXT_GUIDANCE, IMAGE_GUIDANCE, TAU = 7.5, 1.5, 0.1
EFFUSION = "Add the finding of pleural effusion."

# Rows and columns (first, last + 1) of each mask's boxes, in 512 x 512. All different, and all on multiples of 8, so
# that every road from 512 to 64 pixels to 8 cells gives the same mask; edges inside cells make values of 0.5.
BOXES = {
    "Atelectasis": [(320, 480, 40, 232)],
    "Cardiomegaly": [(224, 432, 160, 416)],
    "Consolidation": [(96, 352, 32, 200), (96, 304, 288, 472)],
    "Edema": [(80, 416, 48, 464)],
    "Effusion": [(288, 480, 24, 224), (272, 480, 312, 496)],
    "Lung Opacity": [(64, 448, 72, 440)],
    "Pneumonia": [(152, 400, 264, 488)],
    "Pneumothorax": [(24, 256, 40, 216), (16, 264, 304, 480)],
}


# ---- the algorithm, again ----


def cumulative_alphas():
    """abar_t for t = 0..999 of the scaled-linear schedule: float64."""
    betas = np.linspace(np.sqrt(0.00085), np.sqrt(0.012), 1000) ** 2
    return np.cumprod(1 - betas)


ABAR = cumulative_alphas()


def timesteps(steps):
    """Leading spacing with offset 1, from noise to image: 100 -> 991, 981, ..., 1."""
    return [1000 // steps * i + 1 for i in reversed(range(steps))]


def noised(clean, noise, t):
    return np.sqrt(ABAR[t]) * clean + np.sqrt(1 - ABAR[t]) * noise


def ddim(z, epsilon, t, steps):
    """One deterministic step (eta 0) from t; past the schedule's end abar is abar_0, not 1."""
    previous = ABAR[max(t - 1000 // steps, 0)]
    clean = (z - np.sqrt(1 - ABAR[t]) * epsilon) / np.sqrt(ABAR[t])
    return np.sqrt(previous) * clean + np.sqrt(1 - previous) * epsilon


def weights(source, target):
    """(target, source) matrix of linear interpolation between pixel centres, edges repeated, no antialias."""
    matrix = np.zeros((target, source))
    for i in range(target):
        position = min(max((i + 0.5) * source / target - 0.5, 0), source - 1)
        low = int(position)
        matrix[i, low] += 1 - (position - low)
        matrix[i, min(low + 1, source - 1)] += position - low
    return matrix


def resized(image, side):
    across = weights(image.shape[0], side)
    return across @ image @ across.T


def normalised(difference):
    """Clip at the upper fence, then min-max."""
    q1, q3 = np.quantile(difference, [0.25, 0.75], method="midpoint")
    clipped = np.clip(difference, 0, q3 + 1.5 * (q3 - q1))
    return (clipped - clipped.min()) / (clipped.max() - clipped.min())


class Networks:
    """A folder's networks, in and out as float64 numpy arrays."""

    def __init__(self, folder):
        self.vae = AutoencoderKL.from_pretrained(folder, subfolder="vae").eval()
        self.unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()
        self.encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.scale = self.vae.config.scaling_factor

    @torch.no_grad()
    def words(self, text):
        tokens = self.tokenizer(
            text,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return self.encoder(tokens.input_ids)[0]

    @torch.no_grad()
    def mode(self, gray):
        """(H, W) in [0, 1] -> the posterior's mode, unscaled."""
        image = torch.from_numpy(np.stack([2 * gray - 1] * 3)[None]).float()
        return self.vae.encode(image).latent_dist.mode().numpy().astype(float)

    @torch.no_grad()
    def picture(self, latents):
        """Scaled latents -> (3, H, W) in [0, 1]."""
        image = self.vae.decode(torch.from_numpy(latents / self.scale).float()).sample
        return np.clip((image[0].numpy().astype(float) + 1) / 2, 0, 1)

    @torch.no_grad()
    def epsilon(self, z, condition, words, t):
        stacked = torch.from_numpy(np.concatenate([z, condition], axis=1)).float()
        return self.unet(stacked, t, encoder_hidden_states=words).sample.numpy().astype(float)


@dataclass
class Reference:
    relevance: np.ndarray  # (64, 64), like the next two
    guidance: np.ndarray
    mask: np.ndarray
    cell_guidance: np.ndarray  # (8, 8)
    latents: np.ndarray  # (1, 4, 8, 8)
    image: np.ndarray  # (64, 64) in [0, 1]


def official_edit(networks, pixels, text, pseudo_mask, noise, relevance_noise, steps):
    """What the paper's code computes for a square image of the model's size and a (512, 512) pseudo mask."""
    source = pixels / 255
    condition = networks.mode(source)
    clean = condition * networks.scale
    nothing = np.zeros_like(condition)
    said, unsaid = networks.words(text), networks.words("")

    z = noised(clean, relevance_noise, 800)
    difference = networks.epsilon(z, condition, said, 800) - networks.epsilon(z, condition, unsaid, 800)
    cells = normalised(np.abs(difference[0]).sum(axis=0))
    relevance = resized(cells, SIDE)
    cell_guidance = resized(pseudo_mask, CELLS) * cells
    guidance = resized(pseudo_mask, SIDE) * relevance
    cell_mask, mask = cell_guidance >= TAU, guidance >= TAU

    times = timesteps(steps)
    z = noised(clean, noise, times[0])
    for t in times:
        full = networks.epsilon(z, condition, said, t)
        image_only = networks.epsilon(z, condition, unsaid, t)
        neither = networks.epsilon(z, nothing, unsaid, t)
        epsilon = neither + IMAGE_GUIDANCE * (image_only - neither) + TEXT_GUIDANCE * (full - image_only)
        # The official level: the kept region goes back to the step's first timestep, not to its last.
        z = np.where(cell_mask, ddim(z, epsilon, t, steps), noised(clean, noise, t))

    edited = np.where(mask, networks.picture(z), source).mean(axis=0)
    return Reference(relevance, guidance, mask, cell_guidance, z, edited)


# ---- what both sides get ----


def mask_of(name):
    mask = np.zeros((512, 512), np.uint8)
    for top, bottom, left, right in BOXES[name]:
        mask[top:bottom, left:right] = 1
    return mask


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """A folder as the official release has it."""
    folder = tmp_path_factory.mktemp("official-masks")
    for name in BOXES:
        np.save(folder / f"pseudo_mask_{name}.npy", mask_of(name))
    return folder


@pytest.fixture(scope="module")
def networks(tiny_model):
    return Networks(tiny_model)


@pytest.fixture(scope="module")
def pixels(make_chest):
    return make_chest(SIDE, SIDE, seed=3)


@pytest.fixture(scope="module")
def study(tiny_model, pixels):
    return Editor.from_pretrained(tiny_model).open(pixels)


@pytest.fixture(scope="module")
def noises():
    generator = torch.Generator().manual_seed(20260300)
    return {
        name: torch.randn((1, CHANNELS, CELLS, CELLS), generator=generator) for name in ("noise", "relevance_noise")
    }


def agreement(result, reference):
    """Largest deviations: R, G, latents (of their largest value), gray levels, mask pixels."""
    levels = np.floor(255 * reference.image + 0.5)
    return {
        "relevance": np.abs(result.relevance - reference.relevance).max(),
        "guidance": np.abs(result.guidance - reference.guidance).max(),
        "latents": np.abs(result.latents.numpy() - reference.latents).max() / np.abs(reference.latents).max(),
        "levels": np.abs(result.image.pixels.astype(float) - levels).max(),
        "mask": np.count_nonzero(result.mask != reference.mask),
    }


# ---- tests ----


def test_the_schedule_is_the_published_one():
    assert ABAR[1] == pytest.approx(0.998296, abs=5e-7)
    assert ABAR[800] == pytest.approx(0.03687, abs=5e-6)
    assert ABAR[991] == pytest.approx(0.00513, abs=5e-6)
    assert timesteps(100)[:2] == [991, 981] and timesteps(20)[0] == 951 and timesteps(20)[-1] == 1
    assert np.sqrt(1 - ABAR[timesteps(100)[-1]]) == pytest.approx(0.041, abs=5e-4)  # what the kept region keeps


CASES = {
    "one finding": (EFFUSION, ["Effusion"]),
    "two findings": ("Add the findings of cardiomegaly and pneumothorax.", ["Cardiomegaly", "Pneumothorax"]),
    "no mask": ("Add the finding of infection.", []),
    "text as typed": ("please ADD the finding of  Edema", ["Edema"]),
}


@pytest.mark.parametrize("steps", [20, 100])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_second_calculation(case, steps, networks, study, masks, pixels, noises):
    text, findings = CASES[case]
    pseudo_mask = np.max([mask_of(name) for name in findings] or [np.ones((512, 512))], axis=0)
    drawn = {name: noise.numpy().astype(float) for name, noise in noises.items()}
    reference = official_edit(networks, pixels, text, pseudo_mask, steps=steps, **drawn)
    # The case must show something: cells on both sides of the threshold, none so near that rounding decides.
    for guidance in (reference.guidance, reference.cell_guidance):
        assert 0 < np.count_nonzero(guidance >= TAU) < guidance.size
        assert np.abs(guidance - TAU).min() > 1e-6

    result = study.edit(text, profile="official", anatomy=masks, steps=steps, **noises)

    found = agreement(result, reference)
    print(case, steps, {name: float(f"{value:.2e}") for name, value in found.items()})
    assert found["relevance"] < 1e-5
    assert found["guidance"] < 1e-5
    assert found["latents"] < 1e-5
    assert found["levels"] <= 1
    assert found["mask"] == 0
    np.testing.assert_allclose(result.pseudo_mask, resized(pseudo_mask, SIDE), atol=1e-6)
    assert np.array_equal(result.image.pixels[~reference.mask], pixels[~reference.mask])
    assert not np.array_equal(result.image.pixels, pixels)
