"""A remeshed surface has the same shape: planes, edges, area and volume; only its cells are finer."""

import numpy as np
import pytest
from bodies import box, rotation, total_area, volume_within
from hypothesis import given
from hypothesis import strategies as st

from meshes.geometry import characteristic_size, remesh, triangulate, watertightness
from meshes.reading import read
from pipelines.generate.ellipsoid import Ellipsoid, StokesFlow
from pipelines.generate.stokes import icosphere


def parts(mesh) -> tuple[np.ndarray, np.ndarray]:
    return mesh.points, mesh.connectivity.reshape(-1, 3)


@given(seed=st.integers(0, 2**32 - 1), target=st.floats(0.03, 2))
def test_shape_is_kept(seed: int, target: float) -> None:
    rng = np.random.default_rng(seed)
    size = np.exp(rng.normal(size=3))
    vertices, triangles, _ = triangulate(box(size, -size / 2))
    turn = rotation(rng)
    fine = remesh(vertices @ turn.T, triangles, target * size.max() / 2)
    points, cells = parts(fine)
    assert total_area(points, cells) == pytest.approx(total_area(vertices, triangles), rel=1e-9)
    assert volume_within(points, cells) == pytest.approx(size.prod(), rel=1e-9)
    found = watertightness(fine)
    assert found.closed
    assert found.consistent
    # Every point still lies on a face of the box.
    on_face = np.abs(np.abs(points @ turn) - size / 2).min(1)
    assert on_face.max() < 1e-9 * size.max()
    edges = np.linalg.norm(points[cells] - np.roll(points[cells], 1, axis=1), axis=2)
    assert edges.max() <= target * size.max() * (1 + 1e-9)


def test_cells_have_the_size_asked_for() -> None:
    vertices, triangles, _ = triangulate(box())
    for target in (0.1, 0.03):
        points, cells = parts(remesh(vertices, triangles, target))
        mean = np.sqrt(total_area(points, cells) / len(cells))
        assert 0.5 * target < mean < 1.5 * target
        assert characteristic_size(points, cells) < 1.5 * target


def test_finer_surfaces_stay_as_they_are() -> None:
    vertices, triangles = icosphere(3)
    mesh = remesh(vertices, triangles, 1.0)
    np.testing.assert_array_equal(mesh.points, vertices)
    np.testing.assert_array_equal(mesh.connectivity.reshape(-1, 3), triangles)


def test_flipping_improves_long_triangles_in_a_plane() -> None:
    """A fan of needles from one corner of a flat side, such as CAD systems write."""
    along = np.linspace(0, 3, 60)
    vertices = np.concatenate([[[0.0, 0.0, 0.0]], np.stack([along, 0 * along + 0.5, 0 * along], axis=1)])
    triangles = np.stack([np.zeros(59, int), np.arange(2, 61), np.arange(1, 60)], axis=1)

    def quality(mesh) -> float:
        points, cells = parts(mesh)
        corners = points[cells]
        vector = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        squares = ((corners - np.roll(corners, 1, axis=1)) ** 2).sum((1, 2))
        return float((2 * np.sqrt(3) * np.linalg.norm(vector, axis=1) / squares).mean())

    plain, flipped = (remesh(vertices, triangles, 0.03, flip=flip) for flip in (False, True))
    assert total_area(*parts(flipped)) == pytest.approx(total_area(vertices, triangles))
    assert quality(flipped) > 1.15 * quality(plain)


def test_coarse_surface_gives_the_force_of_its_shape(rng: np.random.Generator) -> None:
    """Traction that varies over coarse triangles is integrated better on finer ones, without moving the surface."""
    flow = StokesFlow(
        Ellipsoid(axes=np.array([1.6, 1.0, 0.625]), rotation=rotation(rng), centre=np.zeros(3)),
        np.array([1.0, 0, 0]),
        1.0,
    )
    body = flow.ellipsoid
    sphere, triangles = icosphere(1)
    vertices = body.from_sphere(sphere)

    def force(points: np.ndarray, cells: np.ndarray) -> np.ndarray:
        corners = points[cells]
        vector = 0.5 * np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        _, pressure, shear = flow.surface(body.closest(corners.mean(1))[1])
        return (shear * np.linalg.norm(vector, axis=1, keepdims=True) - pressure[:, None] * vector).sum(0)

    coarse, *finer = (
        force(vertices, triangles), *(force(*parts(remesh(vertices, triangles, size))) for size in (0.2, 0.1, 0.05))
    )  # fmt: skip
    changes = [np.linalg.norm(result - finer[-1]) for result in (coarse, *finer[:2])]
    assert changes[1] < 0.5 * changes[0]
    assert changes[2] < 0.5 * changes[1]
    assert np.linalg.norm(finer[-1] - flow.force()) < 0.02 * np.linalg.norm(flow.force())


@pytest.mark.shared
def test_stl_of_two_hundred_triangles(shared_data) -> None:
    vertices, triangles, _ = triangulate(read(shared_data / "ahmed" / "ahmed_00_000" / "body.stl"))
    mesh = remesh(vertices, triangles, 0.015)
    points, cells = parts(mesh)
    assert len(triangles) < 250
    assert 4000 < len(cells) < 20000
    assert watertightness(mesh).closed
    assert volume_within(points, cells) == pytest.approx(volume_within(vertices, triangles), rel=1e-12)


def test_impossible_targets_are_refused() -> None:
    vertices, triangles = icosphere(0)
    with pytest.raises(ValueError, match="expected a positive length"):
        remesh(vertices, triangles, 0.0)
    with pytest.raises(ValueError, match="is the surface in other units"):
        remesh(1000 * vertices, triangles, 1e-3)
