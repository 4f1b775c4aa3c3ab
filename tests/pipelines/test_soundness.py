"""What is wrong with bodies is found, and nothing is said of sound ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshes.geometry.surfaces import wind_outwards
from meshes.mesh import Mesh
from pipelines.generate.stokes import icosphere
from pipelines.soundness import doubts, other_units, refuse_flat, refuse_not_finite


def told(mesh: Mesh, symmetry: int | None = None) -> list[str]:
    wound, report = wind_outwards(mesh, symmetry=symmetry)
    return doubts(wound, report, symmetry=symmetry)


def half_sphere() -> tuple[np.ndarray, np.ndarray]:
    """Cut a sphere at y = 0, the rim moved into the plane."""
    points, triangles = icosphere(3)
    kept = triangles[(points[triangles][:, :, 1].mean(axis=1) > 0)]
    points = points.copy()
    points[:, 1] = np.maximum(points[:, 1], 0)
    rim = np.unique(kept[(points[kept][:, :, 1] == 0).any(axis=1)])
    points[rim[points[rim, 1] < 0.1], 1] = 0
    return points, kept


def test_a_half_model_is_open_in_its_plane_alone() -> None:
    points, triangles = half_sphere()
    assert told(Mesh.from_triangles(points, triangles), symmetry=1) == []
    assert "is not closed" in told(Mesh.from_triangles(points, triangles))[0]
    top = points[triangles][:, :, 1].mean(axis=1).argmax()
    (said,) = told(Mesh.from_triangles(points, np.delete(triangles, top, axis=0)), symmetry=1)
    assert "3 edges have one cell only" in said


def test_pieces_beside_each_other_are_sound_and_pieces_within_are_not() -> None:
    points, triangles = icosphere(2)

    def two(shift: float, scale: float = 1.0) -> Mesh:
        both = np.concatenate([points, scale * points + np.array([shift, 0, 0])])
        return Mesh.from_triangles(both, np.concatenate([triangles, triangles + len(points)]))

    assert told(two(3)) == []
    # A sphere of half the radius, within: a fifth of the area in all.
    assert "20.0% of the surface lies inside another of its 2 pieces" in told(two(0, 0.5))[0]
    # Unit spheres one apart: the cap of each that is within the other has a quarter of its area.
    (said,) = told(two(1))
    assert abs(float(said.split("%")[0].split()[-1]) - 25) < 3


@given(st.integers(0, 2**32 - 1))
def test_a_surface_in_a_plane_is_no_body_however_it_lies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    flat = rng.normal(size=(6, 2)) @ axes[:2] + 10 * rng.normal(size=3)
    mesh = Mesh.from_triangles(flat.astype(np.float32), np.array([[0, 1, 2], [3, 4, 5]]))
    with pytest.raises(ValueError, match="lies in a plane and encloses no body"):
        refuse_flat(mesh)
    refuse_flat(mesh, space=(0, 1))
    points, triangles = icosphere(1)
    refuse_flat(Mesh.from_triangles(points @ np.diag([1, 1, 1e-3]) @ axes, triangles))


def test_positions_that_are_no_numbers_are_counted() -> None:
    points, triangles = icosphere(1)
    refuse_not_finite(Mesh.from_triangles(points, triangles))
    points = points.copy()
    points[[4, 7], [0, 2]] = np.nan, np.inf
    with pytest.raises(
        ValueError, match=r"body\.stl: the positions of 2 of 42 points are NaN or infinite, first of poi"
    ):
        refuse_not_finite(Mesh.from_triangles(points, triangles, source="body.stl"))


@given(st.lists(st.floats(1, 1.5), min_size=2, max_size=12), st.sampled_from([1000.0, 1e-3, 100.0, 39.37, 0.0254]))
def test_the_few_cases_far_from_all_others_are_in_other_units(lengths: list[float], factor: float) -> None:
    cases = {f"c{number}": length for number, length in enumerate(lengths)}
    assert other_units(cases) == {}
    assert set(other_units(cases | {"odd": factor * lengths[0]})) == {"odd"}


def test_sizes_that_vary_without_a_gap_are_no_mistake() -> None:
    assert other_units({f"c{number}": 10.0**number for number in range(5)}) == {}
    assert other_units({}) == {}
