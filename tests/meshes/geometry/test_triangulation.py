"""Triangles keep the area vector, the shape and the winding of the polygons they came from."""

import numpy as np
import pytest
from bodies import box, polygons, total_area
from hypothesis import given
from hypothesis import strategies as st

from meshes.geometry import area_vectors, cell_centres, triangulate
from meshes.geometry.triangulation import area_vectors_of, boundary_edges

STAR = [(0.3 if k % 2 else 1.0) * np.array([np.cos(k * np.pi / 5), np.sin(k * np.pi / 5)]) for k in range(10)]


@given(seed=st.integers(0, 2**32 - 1), corners=st.integers(3, 12))
def test_concave_polygons_are_covered_once(seed: int, corners: int) -> None:
    """Star-shaped polygons with random radii, tilted in space, listed from any corner, wound either way."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners)) if corners > 5 else 2 * np.pi * np.arange(corners) / corners
    angle = 0.5 * angle + np.pi * np.arange(corners) / corners  # gaps below π, or the centre may lie outside
    ring = rng.uniform(0.2, 1, corners)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    frame = np.linalg.qr(rng.normal(size=(3, 3)))[0][:2]
    cell = np.roll(np.arange(corners), rng.integers(corners))[:: rng.choice([-1, 1])]
    mesh = polygons(ring @ frame, [cell.tolist()])
    vertices, triangles, owner = triangulate(mesh)
    assert len(triangles) == corners - 2
    assert not owner.any()
    following = np.roll(ring, -1, axis=0)
    area = 0.5 * abs((ring[:, 0] * following[:, 1] - ring[:, 1] * following[:, 0]).sum())
    assert total_area(vertices, triangles) == pytest.approx(area, rel=1e-9)
    vector = area_vectors_of(vertices, triangles, owner, 1)[0]
    assert np.linalg.norm(vector) == pytest.approx(area, rel=1e-9)


def test_star_beside_convex_cells() -> None:
    points = np.concatenate([np.pad(np.array(STAR), ((0, 0), (0, 1))), box().points + 5])
    faces = (box().connectivity.reshape(-1, 4) + 10).tolist()
    mesh = polygons(points, [faces[0], list(range(10)), *faces[1:]])
    vertices, triangles, cell = triangulate(mesh)
    np.testing.assert_array_equal(np.bincount(cell), [2, 8, 2, 2, 2, 2, 2])
    assert total_area(vertices, triangles) == pytest.approx(6 + 5 * 0.3 * np.sin(np.pi / 5))


def test_every_kind_of_cell_counts_by_its_corners() -> None:
    grid = np.array([[x, y, 0] for y in range(3) for x in range(3)], float)
    quad, pixel = [0, 1, 4, 3], [0, 1, 3, 4]
    cases = [
        ([quad], [9], 1), ([pixel], [8], 1), ([quad], [7], 1), ([[0, 1, 3, 4, 6, 7]], [6], 2),
        ([[0, 2, 6, 1, 4, 3]], [22], 2),
        ([[0, 2, 8, 6, 1, 5, 7, 3]], [23], 4), ([[0, 2, 8, 6, 1, 5, 7, 3, 4]], [28], 4),
        ([[0, 2, 8, 6, 1, 5, 7, 3]], [36], 4), ([[0], [0, 1], quad], [1, 3, 9], 1),
    ]  # fmt: skip
    for cells, types, area in cases:
        mesh = polygons(grid, cells, types)
        vertices, triangles, cell = triangulate(mesh)
        vectors = area_vectors_of(vertices, triangles, cell, len(cells))
        np.testing.assert_allclose(vectors.sum(0), [0, 0, area], err_msg=f"type {types[0]}")
        owner, start, end = boundary_edges(mesh)
        around = 0.5 * np.cross(grid[start], grid[end])
        np.testing.assert_allclose(around.sum(0), [0, 0, area], err_msg=f"type {types[0]}")
        assert set(owner.tolist()) == {len(cells) - 1}


def test_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match="1 cells of VTK type 12 are not two-dimensional"):
        triangulate(polygons(box().points, [list(range(8))], [12]))


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), dtype=st.sampled_from([np.float32, np.float64]))
def test_triangles_are_measured_as_polygons_are(seed: int, count: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(30, 3)).astype(dtype)
    cells = rng.integers(0, 30, (count, 3))  # some without area
    triangles, general = (polygons(points, cells.tolist(), [kind] * count) for kind in (5, 7))
    np.testing.assert_array_equal(triangulate(triangles)[1], triangulate(general)[1])
    np.testing.assert_allclose(area_vectors(triangles), area_vectors(general), atol=1e-14)
    np.testing.assert_allclose(cell_centres(triangles), cell_centres(general), atol=1e-14)
