"""What a body looks like from one side: half the sum of |A·d| where it is convex, and overlaps count once."""

import numpy as np
import pytest
from bodies import box, rotation
from hypothesis import given
from hypothesis import strategies as st

from meshes.geometry import bounds, projected_area, triangulate
from pipelines.generate.stokes import icosphere


@given(seed=st.integers(0, 2**32 - 1))
def test_convex_bodies_follow_cauchy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices, triangles = icosphere(1)
    vertices = vertices @ rotation(rng).T * np.exp(rng.normal(size=3) / 2)
    direction = rng.normal(size=3)
    corners = vertices[triangles]
    vector = 0.5 * np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    expected = 0.5 * np.abs(vector @ direction).sum() / np.linalg.norm(direction)
    assert projected_area(vertices, triangles, direction) == pytest.approx(expected, rel=1e-3)


def test_overlaps_count_once() -> None:
    vertices, triangles, _ = triangulate(box())
    behind = (
        np.concatenate([vertices, vertices + np.array([3.0, 0.5, 0.0])]),
        np.concatenate([triangles, triangles + 8]),
    )
    assert projected_area(*behind, np.array([1.0, 0, 0])) == pytest.approx(1.5, rel=1e-3)
    assert projected_area(*behind, np.array([0, 0, -2.0])) == pytest.approx(2.0, rel=1e-3)
    # A hole stays a hole: four bars around an empty square.
    frame = [box((3, 1, 1)), box((3, 1, 1), (0, 2, 0)), box((1, 3, 1)), box((1, 3, 1), (2, 0, 0))]
    points = np.concatenate([bar.points for bar in frame])
    cells = np.concatenate([triangles + 8 * number for number in range(4)])
    assert projected_area(points, cells, np.array([0, 0, 1.0])) == pytest.approx(8.0, rel=1e-3)


def test_box_around_what_is_used() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [9, 9, 9.0]])
    lower, upper = bounds(vertices, np.array([[0, 1, 2]]))
    np.testing.assert_array_equal(lower, [0, 0, 0])
    np.testing.assert_array_equal(upper, [1, 2, 0])
    np.testing.assert_array_equal(bounds(vertices)[1], [9, 9, 9])
    with pytest.raises(ValueError, match="no points"):
        bounds(np.zeros((0, 3)))


def test_no_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="direction of view is zero"):
        projected_area(*icosphere(0), np.zeros(3))
