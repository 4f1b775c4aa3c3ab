"""Neighbours equal those of brute force, with ties, duplicates and empty balls, whatever the order of points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshes.neighbours import brute_force, nearest, radius


def same(first, second) -> None:
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype == np.int64
        np.testing.assert_array_equal(a, b)


@st.composite
def clouds(draw):
    """Points and centres of one or more samples, on a lattice (ties, duplicates) or anywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    space, samples = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    counts = [rng.integers(0, 40, samples), rng.integers(0, 12, samples)]
    lattice = draw(st.booleans())
    clouds = [
        rng.integers(-3, 4, (n.sum(), space)) * 1.0 if lattice else 2 * rng.normal(size=(n.sum(), space))
        for n in counts
    ]
    offsets = [np.concatenate([[0], np.cumsum(n)]) for n in counts]
    return clouds[0], clouds[1], offsets[0], offsets[1]


@given(cloud=clouds(), reach=st.sampled_from([0.0, 1.0, 1.5, 2.0, np.inf]), count=st.sampled_from([None, 0, 1, 3, 100]))
def test_equals_brute_force(cloud, reach: float, count: int | None) -> None:
    points, centres, point_offsets, centre_offsets = cloud
    found = radius(points, centres, reach, count, point_offsets, centre_offsets)
    same(found, brute_force.radius(points, centres, reach, count, point_offsets, centre_offsets))
    if count is not None:
        found = nearest(points, centres, count, point_offsets, centre_offsets)
        same(found, brute_force.nearest(points, centres, count, point_offsets, centre_offsets))


@given(cloud=clouds(), count=st.sampled_from([None, 1, 4]), seed=st.integers(0, 1000))
def test_order_of_points_is_immaterial(cloud, count: int | None, seed: int) -> None:
    points, centres, *_ = cloud
    shuffle = np.random.default_rng(seed).permutation(len(points))
    offsets, indices = radius(points, centres, 2.0, count)
    other_offsets, others = radius(points[shuffle], centres, 2.0, count)
    np.testing.assert_array_equal(offsets, other_offsets)
    np.testing.assert_array_equal(points[indices], points[shuffle][others])


def test_rigid_motion_keeps_neighbours(rng: np.random.Generator) -> None:
    points, centres = rng.normal(size=(500, 3)), rng.normal(size=(50, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    same(radius(points, centres, 0.7, 8), radius(points @ turn + 3, centres @ turn + 3, 0.7, 8))


def test_single_precision_is_compared_exactly() -> None:
    """Positions stored in float32 mean the same points as when they are widened."""
    points = np.random.default_rng(0).random((200, 3), np.float32)
    same(radius(points, points[:20], 0.3, 5), brute_force.radius(points, points[:20], 0.3, 5))


def test_impossible_input_is_refused() -> None:
    points = np.zeros((3, 2))
    for arguments, message in (
        ((points, points, -1.0), "the radius is -1.0"),
        ((points, points, 1.0, -1), "max_count is -1"),
        ((points * np.nan, points, 1.0), "points are not all finite"),
        ((points, points, 1.0, None, np.array([0, 2])), "offsets of points must rise from 0 to 3"),
        ((points, points, 1.0, None, np.array([0, 1, 3]), None), "points come in 2 samples, centres in 1"),
    ):
        with pytest.raises(ValueError, match=message):
            radius(*arguments)
    with pytest.raises(ValueError, match="count is -2"):
        nearest(points, points, -2)
