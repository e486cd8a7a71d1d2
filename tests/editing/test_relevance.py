import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from instructx2x.editing import relevance
from instructx2x.errors import ModelError

SHAPE = (1, 4, 6, 6)


@pytest.fixture
def alphas_cumprod():
    return DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_noise_schedule_is_the_published_one(alphas_cumprod):
    """Method section 2."""
    one, zero = torch.ones(3, 1, 1, 1), torch.zeros(3, 1, 1, 1)
    steps = torch.tensor([1, 800, 991])
    kept = relevance.add_noise(alphas_cumprod, one, zero, steps).flatten() ** 2
    np.testing.assert_allclose(kept.numpy(), [0.998296, 0.03687, 0.00513], rtol=1e-3)
    noised = relevance.add_noise(alphas_cumprod, one, one, steps).flatten()
    np.testing.assert_allclose(noised.numpy(), (kept.sqrt() + (1 - kept).sqrt()).numpy(), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_differences_are_absolute_channel_sums_from_the_empty_branch(alphas_cumprod, count):
    """Row 6: every draw at every timestep, all branches on the same noisy latents, and none without image."""
    z0, condition, noise = seeded(*SHAPE), seeded(*SHAPE, seed=1), seeded(5, *SHAPE[1:], seed=2)
    texts, empty = [seeded(1, 3, 2, seed=3 + number) for number in range(count)], torch.zeros(1, 3, 2)
    timesteps = [600, 800]
    branches = []

    def predict(noisy, t, image_latents, embeds):
        branches.append(len(noisy))
        assert torch.equal(image_latents, condition.expand_as(noisy))
        return noisy * t.view(-1, 1, 1, 1) * embeds.mean((1, 2)).view(-1, 1, 1, 1)

    found = relevance.differences(predict, alphas_cumprod, z0, condition, texts, empty, noise, timesteps)
    assert found.shape == (count, 5, 2, 6, 6)
    assert sum(branches) == (count + 1) * 5 * 2
    for number, text in enumerate(texts):
        for draw in range(5):
            for level, t in enumerate(timesteps):
                abar = alphas_cumprod[t]
                noisy = abar.sqrt() * z0 + (1 - abar).sqrt() * noise[draw]
                expected = (noisy * t * text.mean()).abs().sum(1)[0]
                np.testing.assert_allclose(found[number, draw, level], expected.numpy(), rtol=1e-4)


def test_balance_is_a_ratio_within_the_anatomy(rng):
    where = np.zeros((6, 6), bool)
    where[1:3, 2:5] = True
    one, other = rng.gamma(2, 1, (2, 4, 3, 6, 6))
    expected = one[..., where].mean() / other[..., where].mean()
    assert relevance.balance(one, other, where) == pytest.approx(expected)
    assert relevance.balance(other, one, where) == pytest.approx(1 / expected)
    # How strongly the model reacts cancels, and so does what lies outside.
    outside = np.where(where, 0, 1000)
    assert relevance.balance(7 * one + outside, 7 * other, where) == pytest.approx(expected)
    assert relevance.balance(one, other, np.zeros((6, 6), bool)) == 1
    assert relevance.balance(0 * one, 0 * other, where) == 1


def test_numbers_that_are_not_finite_are_told(alphas_cumprod):
    z0 = seeded(*SHAPE)
    with pytest.raises(ModelError, match="float32"):
        relevance.differences(
            lambda noisy, *_: noisy * torch.nan,
            alphas_cumprod,
            z0,
            z0,
            [torch.zeros(1, 1, 1)],
            torch.zeros(1, 1, 1),
            z0,
            [800],
        )


def test_official_clips_outliers_at_midpoint_quartiles():
    difference = np.array([[1.0, 2, 3, 4], [5, 6, 7, 100]])
    # Sorted, the quartiles fall between 2 and 3, and between 6 and 7.
    limit = 6.5 + 1.5 * (6.5 - 2.5)
    expected = (np.minimum(difference, limit) - 1) / (limit - 1)
    np.testing.assert_allclose(relevance.normalise_official(difference), expected, rtol=1e-6)


def test_official_always_finds_something_unless_flat(rng):
    """Row 7: a 1 somewhere and a 0 somewhere, whatever the scale; a flat map gives zeros, not NaN."""
    difference = rng.gamma(2, 1, (32, 32))
    for scale in (1e-6, 1.0, 1e6):
        found = relevance.normalise_official(scale * difference)
        assert (found.min(), found.max()) == (0, 1)
    assert not relevance.normalise_official(np.full((32, 32), 0.3)).any()


@pytest.mark.parametrize("channels", [1, 4])
def test_structureless_noise_passes_the_official_threshold_almost_everywhere(rng, channels):
    """Row 7: on 76 % of the cells and more, depending on how much the channels have in common."""
    difference = np.abs(rng.normal(size=(channels, 64, 64))).sum(axis=0)
    assert (relevance.normalise_official(difference) >= 0.1).mean() >= 0.76


def test_calibrated_scale_is_absolute(rng):
    """Row 7: nothing to do gives zeros, a true region gives ones, and halfway gives a half."""
    null, inside = [0.4, 0.6], [1.4, 2.6]
    levels = np.array([null, inside, [0.9, 1.6]]).T[None, :, None, :] * np.ones((3, 1, 1, 1))
    found, spread = relevance.normalise_calibrated(levels, null, inside)
    np.testing.assert_allclose(found, [[0, 1, 0.5]], atol=1e-6)
    np.testing.assert_allclose(spread, 0, atol=1e-6)
    quiet = rng.uniform(0, 0.4, (4, 2, 8, 8))
    assert not relevance.normalise_calibrated(quiet, null, inside)[0].any()


def test_calibrated_spread_is_that_of_the_draws(rng):
    differences = rng.uniform(0, 1, (6, 3, 4, 4))
    found, spread = relevance.normalise_calibrated(differences, [0, 0, 0], [1, 1, 1])
    np.testing.assert_allclose(found, differences.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(spread, differences.mean(1).std(0), rtol=1e-5)


def test_inside_ignores_what_is_outside(rng):
    """Row 8: normalised among the cells of the anatomy; the rest of the image has no say."""
    where = np.zeros((8, 8), bool)
    where[2:5, 3:7] = True
    differences = rng.gamma(2, 1, (4, 2, 8, 8))
    loud = np.where(where, differences, 1000)
    found, spread = relevance.normalise_inside(differences, where)
    np.testing.assert_array_equal(found, relevance.normalise_inside(loud, where)[0])
    assert (found[where].min(), found[where].max()) == (0, 1)
    assert not found[~where].any() and not spread[~where].any() and spread[where].any()


def test_inside_of_nothing_or_of_a_flat_map_is_zero():
    flat = np.ones((2, 1, 4, 4))
    for where in (np.zeros((4, 4), bool), np.ones((4, 4), bool)):
        found, spread = relevance.normalise_inside(flat, where)
        assert not found.any() and not spread.any()


def test_holes_are_closed_and_nothing_else_changes():
    disease = np.zeros((32, 32), np.float32)
    disease[8:24, 4:14] = 0.8
    holey = disease.copy()
    holey[13:18, 7:11] = 0.05
    np.testing.assert_allclose(relevance.close_holes(holey), disease)
    wide = disease.copy()
    wide[8:24, 20:30] = 0.8
    assert not relevance.close_holes(np.where(disease > 0, 0, wide))[:, :19].any(), "relevance grew outwards"
    values = np.random.default_rng(0).random((32, 32), np.float32)
    assert (relevance.close_holes(values) >= values).all() and relevance.close_holes(values).max() == values.max()
