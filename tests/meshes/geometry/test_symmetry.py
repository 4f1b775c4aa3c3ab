"""Halves and wholes: what is cut and mirrored again is the same body, without a seam."""

import numpy as np
import pytest
from bodies import as_mesh, box, polygons, rotation, total_area, volume_within
from hypothesis import given
from hypothesis import strategies as st

from meshes.geometry import Mirror, outward, triangulate, watertightness
from meshes.geometry.cells import cell_sizes
from meshes.reading import read
from pipelines.generate.stokes import icosphere


@given(seed=st.integers(0, 2**32 - 1), axis=st.integers(0, 2))
def test_clip_keeps_what_is_on_the_positive_side(seed: int, axis: int) -> None:
    rng = np.random.default_rng(seed)
    vertices, triangles = icosphere(2)
    vertices = vertices @ rotation(rng).T + rng.uniform(-0.3, 0.3, 3)
    half, cut = Mirror(axis).clip(vertices, triangles)
    assert (half[:, axis] >= 0).all()
    flipped = vertices * np.where(np.arange(3) == axis, -1, 1)
    other, rest = Mirror(axis).clip(flipped, triangles[:, ::-1])
    assert volume_within(half, cut) + volume_within(other, rest) == pytest.approx(volume_within(vertices, triangles))
    assert total_area(half, cut) + total_area(other, rest) == pytest.approx(total_area(vertices, triangles))
    whole = Mirror(axis).mirror(as_mesh(half, cut))
    found = watertightness(whole)
    assert found.closed
    assert found.consistent
    assert found.components == 1
    assert outward(whole)[1].turned == 0


def test_vertices_in_the_plane_stay_where_they_are() -> None:
    """An octahedron has edges along the planes of its symmetry: nothing is cut there."""
    vertices = np.concatenate([np.eye(3), -np.eye(3)])
    triangles = np.array([[i, j, k] for i in (0, 3) for j in (1, 4) for k in (2, 5)])
    inward = np.linalg.det(vertices[triangles]) < 0
    triangles[inward] = triangles[inward][:, ::-1]
    for axis in range(3):
        half, cut = Mirror(axis).clip(vertices, triangles)
        assert len(cut) == 4
        assert {tuple(v) for v in half} <= {tuple(v) for v in vertices + 0.0}


def test_what_lies_in_the_plane_or_behind_it_goes() -> None:
    vertices, triangles, _ = triangulate(box())
    half, cut = Mirror(0).clip(vertices, triangles)
    assert total_area(half, cut) == pytest.approx(5)  # the face in the plane is gone
    with pytest.raises(ValueError, match="is the body on the other half"):
        Mirror(0).clip(vertices - np.array([2.0, 0, 0]), triangles)


def test_fields_are_reflected_by_their_kind(rng: np.random.Generator) -> None:
    velocity, gradient = rng.normal(size=(5, 3)), rng.normal(size=(3, 3))
    mirror, matrix = Mirror(1), np.diag([1.0, -1.0, 1.0])
    np.testing.assert_array_equal(mirror.reflect(velocity, "vector"), velocity @ matrix)
    # The curl of a mirrored field is the mirrored curl, as a pseudovector.
    curl = lambda g: np.array([[g[2, 1] - g[1, 2], g[0, 2] - g[2, 0], g[1, 0] - g[0, 1]]])  # noqa: E731
    np.testing.assert_allclose(curl(matrix @ gradient @ matrix), mirror.reflect(curl(gradient), "pseudovector"))
    np.testing.assert_array_equal(mirror.reflect(velocity[:, 0], "scalar"), velocity[:, 0])
    for kind in ("vector", "pseudovector"):
        np.testing.assert_array_equal(mirror.reflect(mirror.reflect(velocity, kind), kind), velocity)
    with pytest.raises(ValueError, match="has no component 1"):
        mirror.reflect(velocity[:, 0], "vector")


def test_fold_brings_places_to_the_kept_half(rng: np.random.Generator) -> None:
    position = rng.normal(size=(50, 2))
    folded, other = Mirror(1).fold(position)
    assert (folded[:, 1] >= 0).all()
    np.testing.assert_array_equal(other, position[:, 1] < 0)
    np.testing.assert_array_equal(np.abs(position[:, 1]), folded[:, 1])
    np.testing.assert_array_equal(position[:, 0], folded[:, 0])


def test_mirrored_data_stand_beside_their_cells() -> None:
    vertices, triangles = Mirror(2).clip(*icosphere(1))
    middle = vertices[triangles].mean(1)
    half = as_mesh(vertices, triangles, height=middle[:, 2], velocity=middle)
    whole = Mirror(2).mirror(half, {"velocity": "vector"})
    corners = whole.points[whole.connectivity.reshape(-1, 3)].mean(1)
    np.testing.assert_allclose(whole.cell_data["velocity"], corners, atol=1e-15)
    np.testing.assert_allclose(whole.cell_data["height"], np.abs(corners[:, 2]), atol=1e-15)
    with pytest.raises(ValueError, match="array 'velocity' has 3 components"):
        Mirror(2).mirror(half)


@pytest.mark.shared
def test_half_a_volume_with_polyhedra_becomes_whole(shared_data) -> None:
    half = read(shared_data / "ahmed" / "ahmed_00_000" / "volume.vtu", arrays=[])
    whole = Mirror(1).mirror(half)
    assert whole.n_cells == 2 * half.n_cells
    sizes = cell_sizes(whole)
    np.testing.assert_allclose(sizes[: half.n_cells], sizes[half.n_cells :], rtol=1e-9)


def test_impossible_mirrors_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 0, 1 or 2"):
        Mirror(3)
    strip = polygons(box().points, [[0, 1, 2, 3]], [6])
    with pytest.raises(ValueError, match="1 cells of VTK type 6 cannot be mirrored"):
        Mirror(0).mirror(strip)
