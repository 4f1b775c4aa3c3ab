"""Distances are those of comparing with every triangle; inside and outside are told for closed bodies."""

import numpy as np
import pytest
from bodies import box, rotation
from hypothesis import given
from hypothesis import strategies as st

from meshes.geometry import ClosestPoints, Mirror, triangulate
from meshes.reading import read
from pipelines.generate.ellipsoid import Ellipsoid
from pipelines.generate.stokes import icosphere


def brute_force(vertices: np.ndarray, triangles: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Distance to each triangle as the smallest over its plane (where the foot lies inside), edges and corners."""
    result = np.full(len(position), np.inf)
    for a, b, c in vertices[triangles]:
        normal = np.cross(b - a, c - a)
        size = normal @ normal
        if size > 0:
            foot = position - ((position - a) @ normal / size)[:, None] * normal
            inside = np.all(
                [np.cross(q - p, foot - p) @ normal >= 0 for p, q in ((a, b), (b, c), (c, a))],
                axis=0,
            )
            result = np.where(inside, np.minimum(result, np.linalg.norm(position - foot, axis=1)), result)
        for p, q in ((a, b), (b, c), (c, a)):
            length = (q - p) @ (q - p)
            part = np.clip((position - p) @ (q - p) / length, 0, 1) if length > 0 else np.zeros(len(position))
            result = np.minimum(result, np.linalg.norm(position - p - part[:, None] * (q - p), axis=1))
    return result


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    spread=st.sampled_from([0.01, 1.0, 30.0]),
    flat=st.booleans(),
)
def test_equals_brute_force(seed: int, count: int, spread: float, flat: bool) -> None:
    """Triangles of very different sizes, degenerate ones among them, duplicates, and points far and near."""
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(count + 2, 3)) * np.exp(rng.normal(size=(count + 2, 1)))
    if flat:
        vertices[:, 2] = 0
    triangles = rng.integers(0, len(vertices), (count, 3))  # repeated corners make degenerate triangles
    position = np.concatenate([spread * rng.normal(size=(40, 3)), vertices, vertices[triangles].mean(1)])
    distance, point, triangle = ClosestPoints(vertices, triangles).query(position)
    scale = np.abs(vertices).max() + np.abs(position).max()
    np.testing.assert_allclose(distance, brute_force(vertices, triangles, position), atol=1e-9 * scale)
    np.testing.assert_allclose(np.linalg.norm(position - point, axis=1), distance, atol=1e-9 * scale)
    for index in np.unique(triangle):
        mine = triangle == index
        on_it = brute_force(vertices, triangles[[index]], point[mine])
        np.testing.assert_allclose(on_it, 0, atol=1e-9 * scale)


def test_converges_to_an_ellipsoid_at_second_order(rng: np.random.Generator) -> None:
    body = Ellipsoid(axes=np.array([1.5, 1.0, 0.6]), rotation=rotation(rng), centre=np.array([0.2, 0.1, -0.3]))
    direction = rng.normal(size=(2000, 3))
    wall = body.from_sphere(direction / np.linalg.norm(direction, axis=1, keepdims=True))
    position = wall + rng.uniform(0.1, 3, (2000, 1)) * body.normal(wall)
    exact = body.closest(position)[0]
    errors = []
    for subdivisions in (2, 3, 4):
        vertices, triangles = icosphere(subdivisions)
        errors.append(np.abs(ClosestPoints(body.from_sphere(vertices), triangles).query(position)[0] - exact).max())
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 3


def test_rigid_motion_changes_nothing(rng: np.random.Generator) -> None:
    vertices, triangles = icosphere(2)
    position, turn, shift = rng.normal(size=(500, 3)) * 2, rotation(rng), np.array([10.0, -3.0, 5.0])
    here = ClosestPoints(vertices, triangles).query(position)
    there = ClosestPoints(vertices @ turn.T + shift, triangles).query(position @ turn.T + shift)
    np.testing.assert_allclose(here[0], there[0], atol=1e-12)


def test_order_of_triangles_and_of_places_is_immaterial(rng: np.random.Generator) -> None:
    vertices, triangles = icosphere(2)
    position, shuffle, other = rng.normal(size=(300, 3)), rng.permutation(300), rng.permutation(len(triangles))
    search = ClosestPoints(vertices, triangles)
    distance, point, triangle = search.query(position)
    again = search.query(position[shuffle])
    for first, second in zip((distance, point, triangle), again, strict=True):
        np.testing.assert_array_equal(first[shuffle], second)
    np.testing.assert_allclose(ClosestPoints(vertices, triangles[other]).query(position)[0], distance, atol=1e-14)


def test_inside_is_told_for_closed_bodies_wound_either_way(rng: np.random.Generator) -> None:
    body = Ellipsoid(axes=np.array([1.5, 1.0, 0.6]), rotation=rotation(rng), centre=np.zeros(3))
    vertices, triangles = icosphere(4)
    position = rng.uniform(-1.6, 1.6, (4000, 3))
    position = position[np.abs(((body.to_body(position) / body.axes) ** 2).sum(1) - 1) > 0.01]
    for wound in (triangles, triangles[:, ::-1]):
        search = ClosestPoints(body.from_sphere(vertices), wound)
        np.testing.assert_array_equal(search.contains(position), body.contains(position))


def test_winding_number_counts_overlapping_bodies_and_survives_a_hole() -> None:
    vertices, triangles, _ = triangulate(box())
    both = ClosestPoints(
        np.concatenate([vertices, vertices + np.array([0.5, 0, 0])]),
        np.concatenate([triangles, triangles + len(vertices)]),
    )
    places = np.array([[0.25, 0.5, 0.5], [0.75, 0.5, 0.5], [1.25, 0.5, 0.5], [1.75, 0.5, 0.5]])
    np.testing.assert_allclose(both.winding_number(places), [1, 2, 1, 0], atol=0.06)
    sphere, cells = icosphere(3)
    holed = ClosestPoints(sphere, cells[3:])
    assert holed.contains(np.zeros((1, 3))).all()
    assert not holed.contains(np.array([[1.5, 0.0, 0.0]])).any()


def test_half_body_is_told_inside_after_mirroring(shared_data) -> None:
    surface = read(shared_data / "ahmed" / "ahmed_00_000" / "surface.vtp", arrays=[])
    vertices, triangles, _ = triangulate(Mirror(1).mirror(surface))
    body = ClosestPoints(vertices, triangles)
    middle = 0.5 * (vertices.min(0) + vertices.max(0)).astype(np.float64)
    assert body.contains(middle[None]).all()
    assert not body.contains(middle[None] + [0.0, 0.0, 2.0]).any()


def test_impossible_input_is_refused() -> None:
    with pytest.raises(ValueError, match="has no triangle"):
        ClosestPoints(np.zeros((3, 3)), np.zeros((0, 3), np.int64))
    with pytest.raises(ValueError, match="not finite"):
        ClosestPoints(np.full((3, 3), np.nan), np.array([[0, 1, 2]]))
    search = ClosestPoints(*icosphere(0))
    with pytest.raises(ValueError, match="not finite"):
        search.query(np.array([[np.inf, 0, 0]]))
    assert len(search.query(np.zeros((0, 3)))[0]) == 0
    assert len(search.winding_number(np.zeros((0, 3)))) == 0
