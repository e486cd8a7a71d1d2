import numpy as np
import pytest
from scipy import ndimage

from instructx2x.editing import compositing, official
from instructx2x.imaging.geometry import Frame


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("size", [(64, 64), (150, 90), (40, 57)])
def test_no_change_in_the_latents_is_no_change_in_the_image(rng, size):
    """Row 12: what the VAE does to every picture cancels."""
    display = rng.random(size, np.float32)
    decoded = rng.random((64, 64), np.float32)
    out = compositing.composite(display, decoded, decoded, np.ones(size, np.float32), Frame(*size, 64))
    np.testing.assert_array_equal(out, display)


@pytest.mark.parametrize("size", [(64, 64), (150, 90), (40, 57)])
def test_outside_the_mask_nothing_changes(rng, size):
    display = rng.random(size, np.float32)
    edited, reconstructed = rng.random((2, 64, 64), np.float32)
    soft = np.where(rng.random(size) < 0.5, rng.random(size), 0).astype(np.float32)
    out = compositing.composite(display, edited, reconstructed, soft, Frame(*size, 64))
    np.testing.assert_array_equal(out[soft == 0], display[soft == 0])
    assert out.min() >= 0 and out.max() <= 1
    assert (out != display)[soft > 0].mean() > 0.9


def test_a_smooth_change_is_added_at_the_sources_resolution():
    """Row 12: out = src + m up(D(z_edit) - D(z_rec)), with the source's own fine detail kept."""
    frame = Frame(256, 256, 64)
    y, x = np.mgrid[0:256, 0:256] / 256
    display = (0.4 + 0.05 * np.sin(y * 300) * np.sin(x * 300)).astype(np.float32)
    reconstructed = frame.to_model(display)
    bump = frame.to_model(0.3 * np.exp(-((y - 0.5) ** 2 + (x - 0.5) ** 2) / 0.05))
    out = compositing.composite(display, reconstructed + bump, reconstructed, np.ones((256, 256), np.float32), frame)
    np.testing.assert_allclose(out - display, frame.to_source(bump), atol=0.02)


def test_no_ghost_of_removed_texture_stays_behind():
    """Row 12: where the edit smooths a texture, its part finer than the model's pixels goes too."""
    frame = Frame(256, 256, 64)
    fine = np.random.default_rng(1).normal(0, 0.1, (256, 256))
    coarse = np.kron(np.random.default_rng(2).normal(0, 0.1, (64, 64)), np.ones((4, 4)))
    display = np.clip(0.5 + fine + coarse, 0, 1).astype(np.float32)
    reconstructed = frame.to_model(display)
    everywhere = np.ones((256, 256), np.float32)
    smooth = np.full((64, 64), 0.5, np.float32)
    out = compositing.composite(display, smooth, reconstructed, everywhere, frame)
    plain = np.clip(display + frame.to_source(smooth - reconstructed), 0, 1)
    assert out.std() < 0.25 * plain.std()


def test_detail_is_only_ever_taken_away(rng):
    smooth = np.full((64, 64), 0.5, np.float32)
    rough = rng.random((64, 64), np.float32)
    assert (compositing.detail_gain(rough, smooth) == 1).all()
    assert (compositing.detail_gain(smooth, rough) < 0.1).all()
    assert (compositing.detail_gain(rough, rough) == 1).all()


def test_official_composite_is_hard_and_averages_the_channels(rng):
    decoded = rng.random((3, 16, 16), np.float32)
    display = rng.random((16, 16), np.float32)
    mask = rng.random((16, 16)) < 0.5
    out = official.composite(decoded, display, mask)
    np.testing.assert_allclose(out[mask], decoded.mean(0)[mask], rtol=1e-6)
    np.testing.assert_allclose(out[~mask], display[~mask], rtol=1e-6)


def test_official_resize_is_the_identity_at_the_same_size_and_does_not_antialias(rng):
    image = rng.random((64, 64), np.float32)
    np.testing.assert_array_equal(official.resize(image, 64, 64), image)
    # Halving by bilinear interpolation with corners not aligned averages 2 x 2; by four it skips pixels.
    np.testing.assert_allclose(official.resize(image, 32, 32), image.reshape(32, 2, 32, 2).mean((1, 3)), rtol=1e-5)
    np.testing.assert_allclose(
        official.resize(image, 16, 16), image.reshape(16, 4, 16, 4)[:, 1:3, :, 1:3].mean((1, 3)), rtol=1e-5
    )


def test_official_maps_go_up_and_down(rng):
    pseudo_mask = (rng.random((64, 64)) < 0.5).astype(np.float32)
    relevance = rng.random((8, 8), np.float32)
    cells, fine, pixels = official.maps(pseudo_mask, relevance)
    np.testing.assert_array_equal(cells, official.resize(pseudo_mask, 8, 8) * relevance)
    np.testing.assert_array_equal(fine, official.resize(relevance, 64, 64))
    np.testing.assert_array_equal(pixels, pseudo_mask * fine)


def test_vessels_that_the_autoencoder_loses_do_not_shine_through_an_opacity(rng):
    """Row 12 for a blurry model: structures up to BAND pixels shrink with the detail that the edit takes away."""
    frame = Frame(128, 128, 64)
    display = np.full((128, 128), 0.4, np.float32)
    display[:, ::12] = 0.6
    display[:, 1::12] = 0.6
    reconstructed = ndimage.gaussian_filter(frame.to_model(display), 1.2)
    edited = np.full_like(reconstructed, 0.8)
    soft = np.ones((128, 128), np.float32)
    out = compositing.composite(display, edited, reconstructed, soft, frame)
    inner = (slice(16, 112), slice(16, 112))
    assert out[inner].std() < 0.3 * display[inner].std()
    assert abs(out[inner].mean() - 0.8) < 0.02
    np.testing.assert_array_equal(compositing.composite(display, reconstructed, reconstructed, soft, frame), display)


@pytest.mark.parametrize("size", [(256, 256), (900, 700)])
def test_devices_stay_and_disease_goes(size):
    """What was hidden from the model comes back without its leads and devices: they are laid over it again."""
    height, width = size
    y, x = np.mgrid[:height, :width] / max(size)
    haze = 0.1 + 0.5 * x + 0.05 * np.sin(9 * x) * np.cos(7 * y)
    lead = np.abs(y - 0.3 - 0.4 * x) < 0.004
    pacemaker = (np.abs(y - 0.75) < 0.03) & (np.abs(x - 0.2) < 0.04)
    mass = np.exp(-((y - 0.8) ** 2 + (x - 0.6) ** 2) / 0.03**2)
    nodule = np.exp(-((y - 0.2) ** 2 + (x - 0.6) ** 2) / 0.01**2)
    vessel = np.abs(x - 0.45) < 0.004
    display = haze + 0.3 * lead + 0.4 * pacemaker + 0.3 * mass + 0.15 * nodule + 0.04 * vessel
    display = ndimage.gaussian_filter(display, max(size) / 512).astype(np.float32)
    frame = Frame(height, width, 64)
    healed, reconstructed = np.full((64, 64), 0.3, np.float32), frame.to_model(display)
    everywhere = np.ones(size, np.float32)
    plain = compositing.composite(display, healed, reconstructed, everywhere, frame)
    kept = compositing.composite(display, healed, reconstructed, everywhere, frame, devices=True)
    assert (kept - plain)[lead].mean() > 0.1, "the lead is gone"
    np.testing.assert_allclose(kept[pacemaker], display[pacemaker], atol=0.05)
    elsewhere = ~ndimage.binary_dilation(lead | pacemaker, iterations=max(size) // 40)
    assert np.abs(kept - plain)[elsewhere & ((mass > 0.1) | (nodule > 0.1))].max() < 0.02
    assert np.abs(kept - plain)[elsewhere & vessel].mean() < 0.02
    soft = (x > 0.5).astype(np.float32)
    half = compositing.composite(display, healed, reconstructed, soft, frame, devices=True)
    np.testing.assert_array_equal(half[soft == 0], display[soft == 0])


def test_devices_that_are_there_are_not_laid_over_twice():
    display = np.full((256, 256), 0.4, np.float32)
    display[100:103], display[180:200, 60:80] = 0.8, 0.9
    np.testing.assert_allclose(compositing.keep_devices(display, display), display, atol=1e-6)


@pytest.mark.parametrize("direction", [-1, 1])
def test_what_is_healed_goes_one_direction_as_a_whole(direction):
    change = np.zeros((128, 128), np.float32)
    change[:, :64], change[:, 64:] = 0.2, -0.2
    change[60, 100], change[60, 30] = -0.5, -0.1
    change *= direction
    kept = compositing.one_direction(change, direction)
    np.testing.assert_allclose(kept[:, :50], change[:, :50], atol=1e-3)
    assert np.abs(kept[:58, 80:]).max() < 0.01, "the other half is left as it was"
    assert direction * kept[60, 100] < -0.25, "fine structures stay"
    assert (direction * kept >= direction * change).all() and compositing.one_direction(change, 0) is change
    display = np.full((128, 128), 0.5, np.float32)
    everywhere, frame = np.ones((128, 128), np.float32), Frame(128, 128, 128)
    plain = compositing.composite(display, display + change, display, everywhere, frame)
    healed = compositing.composite(display, display + change, display, everywhere, frame, direction=direction)
    assert abs(plain[20, 100] - 0.5) > 0.15 and healed[20, 100] == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(healed[:, :50], plain[:, :50], atol=1e-3)
