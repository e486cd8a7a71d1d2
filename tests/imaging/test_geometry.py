"""The one geometry: where an image lies in the model's square, and back."""

import numpy as np
import pytest

from instructx2x.imaging import Frame, resize

SIZES = [(512, 512), (300, 500), (500, 300), (3000, 40), (33, 2000), (257, 251)]


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("mode", ["letterbox", "squash"])
@pytest.mark.parametrize("cells", [256, 32, 37])
def test_a_constant_stays_constant_to_the_very_edge(height, width, mode, cells):
    frame = Frame(height, width, 256, mode)
    model = frame.to_model(np.ones((height, width), np.float32))
    top, bottom, left, right = frame.content
    assert (model[top:bottom, left:right] == 1).all()
    assert model.sum() == (bottom - top) * (right - left)
    np.testing.assert_allclose(frame.to_source(model), 1, atol=1e-6)
    square = frame.to_source(np.ones((cells, cells), np.float32))
    assert square.shape == (height, width)
    np.testing.assert_allclose(square, 1, atol=1e-6)


@pytest.mark.parametrize("mode", ["letterbox", "squash"])
def test_there_and_back_is_the_same_place(mode):
    rows, columns = np.mgrid[0:300, 0:420]
    blob = np.exp(-((rows - 90) ** 2 + (columns - 300) ** 2) / 800).astype(np.float32)
    frame = Frame(300, 420, 256, mode)
    back = frame.to_source(frame.to_model(blob))
    assert np.abs(back - blob).max() < 0.03
    assert np.unravel_index(back.argmax(), back.shape) == pytest.approx((90, 300), abs=1)


def test_a_coarse_map_lands_where_the_fine_one_does():
    frame = Frame(400, 300, 256)
    coarse = np.zeros((32, 32), np.float32)
    coarse[10, 20] = 1
    fine = np.kron(coarse, np.ones((8, 8), np.float32))
    rows, columns = np.mgrid[0:400, 0:300]

    def centre(values):
        return (rows * values).sum() / values.sum(), (columns * values).sum() / values.sum()

    assert centre(frame.to_source(coarse)) == pytest.approx(centre(frame.to_source(fine)), abs=0.2)


def test_mirror_symmetry():
    image = np.random.default_rng(0).random((200, 320)).astype(np.float32)
    frame = Frame(200, 320, 256)
    np.testing.assert_allclose(frame.to_model(image[:, ::-1]), frame.to_model(image)[:, ::-1], atol=1e-5)


def test_resize_of_the_same_size_is_a_copy():
    image = np.random.default_rng(0).random((50, 60)).astype(np.float32)
    same = resize(image, 50, 60)
    np.testing.assert_array_equal(same, image)
    assert same is not image and not np.shares_memory(same, image)


def test_shrinking_averages():
    checker = (np.indices((256, 256)).sum(axis=0) % 2).astype(np.float32)
    np.testing.assert_allclose(resize(checker, 32, 32)[2:-2, 2:-2], 0.5, atol=0.02)
