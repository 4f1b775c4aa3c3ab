import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pyvista
from hypothesis import given
from strategies import meshes

from meshes.inspection import MeshReport, inspect_mesh
from meshes.mesh import Mesh
from meshes.reading import read


def _sphere(**data: np.ndarray) -> Mesh:
    sphere = pyvista.Sphere(theta_resolution=9, phi_resolution=7)
    sphere.clear_data()
    return Mesh.from_pyvista(sphere).with_data(cell_data=data)


def _kinds(report: MeshReport) -> dict[str, int]:
    return {defect.kind: defect.count for defect in report.defects}


def _array_kinds(report: MeshReport) -> dict[str, list[str]]:
    return {array.name: [defect.kind for defect in array.defects] for array in report.arrays}


@given(mesh=meshes())
def test_any_mesh_is_reported_in_json(mesh: Mesh) -> None:
    text = json.dumps(inspect_mesh(mesh).to_json(), allow_nan=False)
    found = json.loads(text)
    assert sum(found["kinds"].values()) == mesh.n_cells
    assert len(found["arrays"]) == len(mesh.point_data) + len(mesh.cell_data) + len(mesh.field_data)


def test_a_sound_body_has_no_defect() -> None:
    report = inspect_mesh(_sphere())
    assert report.defects == ()
    assert [size.quantity for size in report.sizes] == ["area"]
    assert report.sizes[0].total == pytest.approx(_sphere().to_pyvista().area)
    np.testing.assert_allclose(report.upper or (), _sphere().points.max(axis=0))


def test_a_hole_and_cells_turned_over() -> None:
    mesh = _sphere()
    triangles = mesh.connectivity.reshape(-1, 3)
    open_ = Mesh.from_triangles(mesh.points, triangles[1:])
    assert _kinds(inspect_mesh(open_)) == {"open_edges": 3}
    turned = triangles.copy()
    turned[4] = turned[4, ::-1]
    assert _kinds(inspect_mesh(Mesh.from_triangles(mesh.points, turned))) == {"inconsistent_edges": 3}
    thrice = np.vstack([triangles, [[*triangles[0, :2], 30]]])
    assert _kinds(inspect_mesh(Mesh.from_triangles(mesh.points, thrice))) == {"open_edges": 2, "non_manifold_edges": 1}


def test_points_in_the_same_place_do_not_open_a_surface() -> None:
    mesh = _sphere()
    loose = Mesh.from_triangles(mesh.points[mesh.connectivity], np.arange(3 * mesh.n_cells).reshape(-1, 3))
    assert _kinds(inspect_mesh(loose)) == {"duplicate_points": 3 * mesh.n_cells - mesh.n_points}


def test_points_that_are_unused_or_nowhere() -> None:
    mesh = _sphere()
    points = np.vstack([mesh.points, [[9, 9, 9], [np.nan, 0, 0]]]).astype(np.float32)
    report = inspect_mesh(Mesh.from_triangles(points, mesh.connectivity.reshape(-1, 3)))
    assert _kinds(report) == {"points_not_finite": 1, "unused_points": 2}
    assert report.upper == (9, 9, 9)


def test_flat_and_inverted_tetrahedra() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], np.float32)
    cells = np.array([[0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 2, 4]])
    mesh = Mesh(points=points, connectivity=cells.ravel(), offsets=4 * np.arange(4), types=np.full(3, 10, np.uint8))
    assert _kinds(inspect_mesh(mesh)) == {"degenerate_cells": 1, "negative_cells": 1}


def test_values_that_are_no_use() -> None:
    n = _sphere().n_cells
    ramp = np.arange(n, dtype=np.float32)
    mesh = _sphere(
        good=ramp, nan=np.where(ramp == 3, np.nan, ramp), none=np.full(n, np.inf), zero=np.zeros((n, 3)),
        flat=np.full(n, 7), vector=np.stack([ramp, 0 * ramp], axis=1),
    )  # fmt: skip
    report = inspect_mesh(mesh)
    assert _array_kinds(report) == {
        "good": [], "nan": ["not_finite"], "none": ["not_finite"], "zero": ["constant"], "flat": ["constant"],
        "vector": [],
    }  # fmt: skip
    assert _kinds(report) == {"missing_units": 6}
    by_name = {array.name: array for array in report.arrays}
    assert by_name["nan"].maximum == (n - 1,)
    assert by_name["none"].minimum is None
    assert by_name["vector"].components == 2


def test_a_mesh_without_cells_or_with_strips() -> None:
    strip = Mesh(
        points=np.eye(4)[:, :3], connectivity=np.arange(4), offsets=np.array([0, 4]), types=np.array([6], np.uint8)
    )
    assert _kinds(inspect_mesh(strip)) == {"unmeasured_cells": 1}
    none = replace(
        strip, points=np.zeros((0, 3)), connectivity=np.arange(0), offsets=np.zeros(1, int), types=strip.types[:0]
    )
    assert inspect_mesh(none).lower is None


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("surfaces/42400-IDGH.stl", {"degenerate_cells": 3}),
        ("surfaces/octagonal_pocket.ply", {"duplicate_points": 27}),
        ("surfaces/not_convex.obj", {"non_manifold_edges": 12}),
        ("surfaces/joined_tetrahedra.obj", {"non_manifold_edges": 3}),
        ("surfaces/soup.stl", {"open_edges": 300}),
        ("surfaces/two_objects_mixed_case_names.stl", {}),
        ("notch_disp.vtu", {"negative_cells": 4}),
    ],
)
def test_known_defects_of_public_files(shared_data: Path, file: str, expected: dict[str, int]) -> None:
    found = _kinds(inspect_mesh(read(shared_data / "public/meshes" / file)))
    found.pop("missing_units", None)
    assert found == expected
