"""Ray sums against volumes and lengths that are known otherwise."""

import numpy as np
import pytest

from instructx2x.phantom import film, shapes

FILM = film.Film(200, 160, 0.1)  # 20 cm x 16 cm


def volume(patch):
    """Cubic centimetres, as seen at y = 0."""
    return patch[1].sum() * FILM.pitch**2


def test_film_places_points_where_its_grid_says():
    points = np.array([[0.0, 0, film.CENTRE], [3.0, 0, film.CENTRE + 2]])
    flat, magnification = FILM.project(points)
    assert np.allclose(flat, [[0, film.CENTRE], [3, film.CENTRE + 2]]) and np.allclose(magnification, 1)
    assert np.isclose(FILM.x[0].mean(), 0) and np.isclose(FILM.z.mean(), film.CENTRE) and FILM.z[0] > FILM.z[-1]


@pytest.mark.parametrize("view", ["PA", "AP"])
def test_what_is_nearer_to_the_tube_looks_larger(view):
    grid = film.Film(64, 64, 0.5, view)
    front, back = grid.magnification(8.0), grid.magnification(-8.0)
    assert front > 1 > back if view == "AP" else front < 1 < back


@pytest.mark.parametrize("degrees", [0, 35])
def test_an_ellipsoids_paths_sum_up_to_its_volume(degrees):
    enter, leave = shapes.ellipsoid(FILM, FILM.x, FILM.z, (1, 0, film.CENTRE), (3, 2, 4), degrees)
    path = shapes.length((enter, leave))
    assert np.isclose(path.sum() * FILM.pitch**2, 4 / 3 * np.pi * 24, rtol=0.01)
    assert np.isclose(path.max(), 4.0, rtol=0.01)  # twice its half axis along the rays


def test_a_union_counts_what_overlaps_once():
    def interval(a, b):
        return np.array([a], np.float32), np.array([b], np.float32)

    within = interval(-10, 10)
    assert shapes.union([interval(0, 4), interval(2, 6), interval(8, 9)], within) == 7
    assert shapes.union([interval(0, 4), interval(1, -1)], within) == 4  # one that the ray misses
    assert shapes.union([interval(-20, -8), interval(9, 30)], within) == 3
    assert shapes.length(shapes.hull([interval(0, 4), interval(2, 6), interval(1, -1)])) == 6


@pytest.mark.parametrize("radius", [0.1, 0.6])
def test_a_tubes_paths_sum_up_to_its_volume(radius):
    curve = np.linspace([-4, 0, film.CENTRE], [4, 0, film.CENTRE], 30)
    patch = shapes.tubes(FILM, [curve], [np.full(30, radius)])
    assert np.isclose(volume(patch), np.pi * radius**2 * 8, rtol=0.02)
    middle = patch[1][:, patch[1].shape[1] // 2]
    # Thinner than a few pixels it is blurred, and its path shared with its neighbours.
    assert 0.65 * 2 * radius < middle.max() < 1.05 * 2 * radius


def test_a_bone_keeps_its_volume_however_it_runs_along_the_rays():
    wall, marrow, radius = 0.1, 0.2, 0.5
    section = np.pi * ((radius**2 - (radius - wall) ** 2) + marrow * (radius - wall) ** 2)
    for end in ([3, 0, 0], [1, 5, 1], [0, 6, 0.0]):
        curve = np.linspace([0, 0, 0], end, 40) + np.array([0, -2, film.CENTRE])
        _, m = FILM.project(curve)
        wanted = section * np.linalg.norm(end) * np.mean(m**2)
        assert np.isclose(volume(shapes.bone(FILM, curve, radius, wall=wall, marrow=marrow)), wanted, rtol=0.06)


def test_a_bones_cortex_is_denser_than_its_marrow():
    curve = np.linspace([-5, 0, film.CENTRE], [5, 0, film.CENTRE], 40)
    fine = film.Film(400, 400, 0.04)
    _, path = shapes.bone(fine, curve, 0.8, wall=0.12, marrow=0.1)
    across = path[:, path.shape[1] // 2]
    assert across.max() > 1.3 * across[len(across) // 2]


def test_what_lies_beside_the_film_adds_nothing():
    far = np.linspace([40, 0, 0], [45, 0, 0], 10)
    assert shapes.bone(FILM, far, 0.5)[1].sum() == 0
    box, path = shapes.tubes(FILM, [np.linspace([6, 0, film.CENTRE], [12, 0, film.CENTRE], 30)], [np.full(30, 0.4)])
    assert box[1].stop <= FILM.width and path.sum() > 0
