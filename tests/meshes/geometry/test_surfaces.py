"""Which side is out, whatever the file stored; what is closed, and what cannot be told."""

import json
from dataclasses import replace

import numpy as np
import pytest
from bodies import as_mesh, box, polygons, rotation
from hypothesis import given
from hypothesis import strategies as st

from meshes.geometry import Mirror, Watertightness, outward, triangulate, watertightness, wind_outwards
from meshes.geometry.surfaces import reverse
from meshes.mesh import Mesh
from meshes.reading import read
from pipelines.generate.stokes import icosphere


def points_out(mesh: Mesh, vectors: np.ndarray) -> bool:
    """Whether area vectors point away from the origin, for bodies that are star-shaped about it."""
    vertices, triangles, cell = triangulate(mesh)
    middle = np.zeros((len(mesh.types), 3))
    np.add.at(middle, cell, vertices[triangles].mean(1))
    return bool(((middle * vectors).sum(1) > 0).all())


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_any_winding_comes_out_right(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    vertices, triangles = icosphere(1)
    flipped = rng.random(len(triangles)) < share
    wound = np.where(flipped[:, None], triangles[:, ::-1], triangles)
    mesh = as_mesh(vertices @ rotation(rng).T * rng.uniform(0.5, 2, 3), wound)
    vectors, report = outward(mesh)
    assert points_out(mesh, vectors)
    assert report.turned == flipped.sum()
    assert report.repaired <= len(triangles) / 2 + 10  # the smaller part by area is mended
    np.testing.assert_allclose(vectors.sum(0), 0, atol=1e-12)
    turned, _ = wind_outwards(mesh)
    again, second = outward(turned)
    np.testing.assert_allclose(again, vectors, atol=1e-15)
    assert second.turned == second.repaired == 0
    assert watertightness(turned) == Watertightness(
        closed=True, consistent=True, open_edges=0, non_manifold_edges=0, components=1
    )


@given(seed=st.integers(0, 2**32 - 1), cut=st.sampled_from([2.0, 0.9, 0.3]), turned=st.booleans(), loose=st.booleans())
def test_triangles_that_agree_come_out_as_any_others(seed: int, cut: float, turned: bool, loose: bool) -> None:
    """Their sides are sorted, not paired; written as polygons they take the general way."""
    rng = np.random.default_rng(seed)
    vertices, triangles = icosphere(1)
    vertices = np.concatenate([vertices @ rotation(rng), 0.5 * vertices + 3])
    triangles = np.concatenate([triangles, triangles[:, ::-1] + len(vertices) // 2])
    triangles = rng.permutation(triangles[(vertices[triangles].mean(1)[:, 2] < cut) | (triangles.min(1) >= 42)])
    if turned:
        triangles[0] = triangles[0][::-1]
    if loose:
        vertices, triangles = vertices[triangles].reshape(-1, 3), np.arange(triangles.size).reshape(-1, 3)
    mesh = as_mesh(vertices, triangles)
    general = polygons(vertices, triangles.tolist())
    vectors, report = outward(mesh)
    expected, told = outward(general)
    np.testing.assert_allclose(vectors, expected, atol=1e-15)
    assert report == told
    assert watertightness(mesh) == watertightness(general)


def test_each_piece_is_decided_by_itself() -> None:
    vertices, triangles = icosphere(1)
    mesh = as_mesh(
        np.concatenate([vertices, vertices + np.array([5, 0, 0])]), np.concatenate([triangles, triangles[:, ::-1] + 42])
    )
    vectors, report = outward(mesh)
    assert report.components == 2
    assert report.turned == len(triangles)
    assert report.repaired == 0
    np.testing.assert_allclose(vectors[len(triangles) :], vectors[: len(triangles)], atol=1e-14)


def test_points_in_the_same_place_are_one() -> None:
    vertices, triangles = icosphere(1)
    loose = as_mesh(vertices[triangles].reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))
    assert watertightness(loose).closed
    assert outward(loose)[1].components == 1


def test_half_open_in_the_symmetry_plane_points_out() -> None:
    vertices, triangles = icosphere(2)
    half, cut = Mirror(1).clip(vertices, triangles)
    for wound in (cut, cut[:, ::-1]):
        mesh = as_mesh(half, wound)
        vectors, report = outward(mesh, symmetry=1)
        assert points_out(mesh, vectors)
        assert not report.watertightness.closed
        assert report.by_winding == 0


def test_strip_one_cell_thick_points_out_in_its_plane() -> None:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.stack([np.cos(angle), 0.1 * np.sin(angle)], axis=1)
    points = np.concatenate([np.insert(ring, 2, level, axis=1) for level in (-0.05, 0.05)])
    cells = [[i, (i + 1) % 40, 40 + (i + 1) % 40, 40 + i] for i in range(40)]
    for wound in (cells, [cell[::-1] for cell in cells]):
        mesh = polygons(points, wound)
        assert points_out(mesh, outward(mesh, space=(0, 1))[0])


def test_most_of_a_sphere_is_told_from_inside_out() -> None:
    vertices, triangles = icosphere(2)
    open_ = triangles[vertices[triangles].mean(1)[:, 2] < 0.6]
    for wound in (open_, open_[:, ::-1]):
        mesh = as_mesh(vertices, wound)
        assert points_out(mesh, outward(mesh)[0])


def test_what_encloses_nothing_is_refused() -> None:
    square = polygons([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2, 3]])
    with pytest.raises(ValueError, match="cannot be told which side of the open surface is out"):
        outward(square)
    with pytest.raises(ValueError, match=r"somewhere\.stl: the surface has no area"):
        outward(replace(as_mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])), source="somewhere.stl"))


def test_one_sided_surface_is_refused() -> None:
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    sides = [
        np.stack(
            [
                (1 + s * np.cos(turn / 2)) * np.cos(turn),
                (1 + s * np.cos(turn / 2)) * np.sin(turn),
                s * np.sin(turn / 2),
            ],
            1,
        )
        for s in (-0.2, 0.2)
    ]
    cells = [[i, i + 1, 21 + i, 20 + i] for i in range(19)] + [[19, 20, 0, 39]]
    moebius = polygons(np.concatenate(sides), cells)
    with pytest.raises(ValueError, match="one side only"):
        outward(moebius)
    assert not watertightness(moebius).consistent


def test_open_and_non_manifold_edges_are_counted() -> None:
    lid_off = box()
    lid_off = polygons(lid_off.points, lid_off.connectivity.reshape(-1, 4)[1:].tolist())
    assert watertightness(lid_off) == Watertightness(
        closed=False, consistent=True, open_edges=4, non_manifold_edges=0, components=1
    )
    fin = polygons(
        np.concatenate([box().points, [[0.0, 0.0, 2.0], [1.0, 0.0, 2.0]]]),
        [*box().connectivity.reshape(-1, 4).tolist(), [4, 5, 9, 8]],
    )
    found = watertightness(fin)
    assert (found.open_edges, found.non_manifold_edges, found.components) == (3, 1, 2)
    one_wrong = reverse(box(), np.arange(6) == 2)
    assert not watertightness(one_wrong).consistent
    assert outward(one_wrong)[1].repaired == 1


def test_slivers_points_and_lines_have_no_area() -> None:
    cells = [*box().connectivity.reshape(-1, 4).tolist(), [0], [0, 1], [0, 0, 1]]
    vectors, _ = outward(polygons(box().points, cells, [9] * 6 + [1, 3, 5]))
    np.testing.assert_allclose(vectors[:6], outward(box())[0])
    assert not vectors[6:].any()


@pytest.mark.shared
@pytest.mark.parametrize("case", ["ahmed_00_000", "ahmed_00_003", "ahmed_00_010"])
def test_drag_of_bodies_stored_inside_out(shared_data, case: str) -> None:
    """OpenFOAM's patches point into the body, and its wall shear stress is the force of the wall on the fluid."""
    folder = shared_data / "ahmed" / case
    surface, summary = read(folder / "surface.vtp"), json.loads((folder / "summary.json").read_text())
    vectors, report = outward(surface, symmetry=1)
    assert report.turned == surface.n_cells
    assert report.repaired == 0
    area = np.linalg.norm(vectors, axis=1)[:, None]
    force = -(surface.cell_data["pMean"][:, None] * vectors + surface.cell_data["wallShearStressMean"] * area).sum(0)
    reference = 0.5 * summary["speed"] ** 2 * summary["width"] * summary["height"] / 2
    assert force[0] / reference == pytest.approx(summary["drag_coefficient"], abs=2e-4)


@pytest.mark.shared
def test_drag_and_lift_of_an_airfoil_one_cell_thick(shared_data) -> None:
    folder = shared_data / "naca" / "naca_00_003"
    surface, summary = read(folder / "surface.vtp"), json.loads((folder / "summary.json").read_text())
    vectors, report = outward(surface, space=(0, 1))
    assert report.turned == surface.n_cells
    area = np.linalg.norm(vectors, axis=1)[:, None]
    force = -(surface.cell_data["p"][:, None] * vectors + surface.cell_data["wallShearStress"] * area).sum(0)
    angle, reference = np.radians(summary["angle"]), 0.5 * summary["speed"] ** 2 * np.ptp(surface.points[:, 2])
    drag = force[0] * np.cos(angle) + force[1] * np.sin(angle)
    lift = force[1] * np.cos(angle) - force[0] * np.sin(angle)
    assert drag / reference == pytest.approx(summary["drag_coefficient"], abs=1e-5)
    assert lift / reference == pytest.approx(summary["lift_coefficient"], abs=1e-4)
