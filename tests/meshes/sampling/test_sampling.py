"""Samples lie where they should, as often as they should, and depend on the generator alone."""

import numpy as np
import pytest
from scipy import stats

from meshes.geometry import ClosestPoints
from meshes.sampling import farthest_points, pick, sample_surface, sample_volume
from pipelines.generate.stokes import icosphere


def test_surface_points_lie_on_their_triangle_and_follow_area(rng: np.random.Generator) -> None:
    vertices, triangles = icosphere(1)
    vertices = vertices * np.array([2.0, 1.0, 0.5])
    triangles = np.concatenate([triangles, [[0, 0, 1]]])  # without area: never drawn
    position, triangle = sample_surface(vertices, triangles, count=40_000, generator=rng)
    corners = vertices[triangles]
    weights = [
        np.linalg.norm(np.cross(corners[triangle, i] - position, corners[triangle, j] - position), axis=1) / 2
        for i, j in ((0, 1), (1, 2), (2, 0))
    ]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    np.testing.assert_allclose(sum(weights), area[triangle], rtol=1e-9)
    expected = area[:-1] / area.sum() * len(position)
    assert (triangle < len(triangles) - 1).all()
    assert stats.chisquare(np.bincount(triangle, minlength=len(triangles))[:-1], expected).pvalue > 1e-3
    # Within a triangle all places are alike: each of the three parts takes a third on average.
    for part in weights:
        assert stats.kstest(part / area[triangle], stats.beta(1, 2).cdf).pvalue > 1e-3


def test_generator_alone_decides() -> None:
    sphere = icosphere(1)
    box = np.full(3, -2.0), np.full(3, 2.0)
    for draw in (
        lambda generator: sample_surface(*sphere, count=20, generator=generator)[0],
        lambda generator: sample_volume(*box, *sphere, count=20, generator=generator),
        lambda generator: pick(np.arange(1.0, 30.0), 20, generator),
    ):
        first, again, other = (draw(np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_volume_points_fill_the_box_outside_the_body(rng: np.random.Generator) -> None:
    vertices, triangles = icosphere(2)
    position = sample_volume(np.full(3, -1.5), np.full(3, 1.5), vertices, triangles, count=4000, generator=rng)
    assert position.shape == (4000, 3)
    assert np.abs(position).max() <= 1.5
    assert not ClosestPoints(vertices, triangles).contains(position).any()
    near = (np.linalg.norm(position, axis=1) < 1.3).mean()
    inner = 4 / 3 * np.pi
    assert near == pytest.approx((4 / 3 * np.pi * 1.3**3 - inner) / (27 - inner), abs=0.03)


def test_pick_follows_measure_without_replacement(rng: np.random.Generator) -> None:
    measure = np.array([1.0, 0.0, 2.0, 5.0])
    first = np.array([pick(measure, 2, rng) for _ in range(4000)])
    assert (np.sort(first, axis=1)[:, 0] != np.sort(first, axis=1)[:, 1]).all()
    assert (
        stats.chisquare(np.bincount(first[:, 0], minlength=4)[[0, 2, 3]], 4000 * measure[[0, 2, 3]] / 8).pvalue > 1e-3
    )
    # After the largest, the others follow by their own measure.
    second = first[first[:, 0] == 3, 1]
    assert (second == 2).mean() == pytest.approx(2 / 3, abs=0.03)
    np.testing.assert_array_equal(np.sort(pick(measure, 3, rng)), [0, 2, 3])
    assert len(pick(np.zeros(2), 0, rng)) == 0


def test_part_of_a_pick_is_a_pick() -> None:
    measure = np.random.default_rng(0).random(100)
    many, few = (pick(measure, count, np.random.default_rng(3)) for count in (50, 10))
    np.testing.assert_array_equal(many[:10], few)


def test_farthest_points_spread_within_twice_the_best(rng: np.random.Generator) -> None:
    """Gonzalez: the covering radius is at most twice the smallest, and no two chosen points are nearer than it."""
    points = rng.random((300, 2))
    chosen = farthest_points(points, 20, start=7)
    assert chosen[0] == 7
    assert len(set(chosen.tolist())) == 20
    between = np.linalg.norm(points[chosen][:, None] - points[chosen], axis=2)
    covering = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(1).max()
    assert between[~np.eye(20, dtype=bool)].min() >= covering
    np.testing.assert_array_equal(farthest_points(np.arange(5.0)[:, None], 3), [0, 4, 2])


def test_impossible_draws_are_refused(rng: np.random.Generator) -> None:
    vertices, triangles = icosphere(1)
    with pytest.raises(ValueError, match="count is -1"):
        sample_surface(vertices, triangles, count=-1, generator=rng)
    with pytest.raises(ValueError, match="no finite area"):
        sample_surface(np.zeros((3, 3)), np.array([[0, 1, 2]]), count=1, generator=rng)
    with pytest.raises(ValueError, match="leaves no room"):
        sample_volume(np.full(3, -0.1), np.full(3, 0.1), vertices, triangles, count=5, generator=rng)
    with pytest.raises(ValueError, match="is empty"):
        sample_volume(np.ones(3), np.zeros(3), vertices, triangles, count=5, generator=rng)
    with pytest.raises(ValueError, match="expected 0 to 2"):
        pick(np.array([1.0, 0.0, 1.0]), 3, rng)
    with pytest.raises(ValueError, match="negative or not finite"):
        pick(np.array([1.0, -1.0]), 1, rng)
    with pytest.raises(ValueError, match="expected 0 to 2"):
        farthest_points(np.zeros((2, 3)), 3)
    with pytest.raises(ValueError, match="start is 5"):
        farthest_points(np.zeros((2, 3)), 1, start=5)
