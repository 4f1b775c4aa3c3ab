import numpy as np
import pytest
import pyvista
from hypothesis import given
from same import assert_same
from strategies import SURFACE, meshes

from meshes.kinds import POLYHEDRON, TETRA
from meshes.mesh import Mesh


@given(mesh=meshes())
def test_a_mesh_survives_pyvista(mesh: Mesh) -> None:
    assert_same(Mesh.from_pyvista(mesh.to_pyvista()), mesh)


@given(mesh=meshes(kinds=SURFACE))
def test_polygons_become_poly_data(mesh: Mesh) -> None:
    dataset = mesh.to_pyvista()
    assert isinstance(dataset, pyvista.PolyData)
    assert mesh.is_surface
    assert dataset.n_cells == mesh.n_cells


def test_vertices_and_lines_of_poly_data_are_kept() -> None:
    dataset = pyvista.PolyData(np.eye(3, dtype=np.float32), verts=[1, 0, 2, 1, 2], lines=[2, 0, 1], faces=[3, 0, 1, 2])
    mesh = Mesh.from_pyvista(dataset)
    assert mesh.types.tolist() == [1, 2, 3, 5]
    assert mesh.connectivity.tolist() == [0, 1, 2, 0, 1, 0, 1, 2]
    assert not mesh.is_surface


def test_a_structured_grid_becomes_hexahedra() -> None:
    grid = pyvista.RectilinearGrid([0.0, 1, 3], [0.0, 2], [0.0, 1, 2, 5]).cast_to_structured_grid()
    mesh = Mesh.from_pyvista(grid)
    assert (mesh.n_points, mesh.n_cells) == (24, 6)
    assert set(mesh.types) == {12}


def test_a_collection_is_no_single_mesh() -> None:
    with pytest.raises(TypeError, match="MultiBlock is no single mesh"):
        Mesh.from_pyvista(pyvista.MultiBlock())


def _tetrahedron(**changes) -> Mesh:
    parts = {
        "points": np.vstack([np.zeros(3), np.eye(3)]),
        "connectivity": np.arange(4),
        "offsets": np.array([0, 4]),
        "types": np.array([TETRA], np.uint8),
        "source": "body.vtu",
    }
    return Mesh(**parts | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"connectivity": np.array([0, 1, 2, 4])}, "indices from 0 to 4, but there are 4 points"),
        ({"connectivity": np.array([-1, 1, 2, 3])}, "indices from -1 to 3"),
        ({"offsets": np.array([0, 5])}, "offsets of body.vtu run from 0 to 5; expected increasing numbers from 0 to 4"),
        ({"offsets": np.array([0, 2, 4])}, "1 types but 3 offsets"),
        ({"cell_data": {"p": np.zeros(2)}}, r"cell array 'p' of body.vtu has shape \(2,\); expected 1 rows"),
        ({"point_data": {"U": np.zeros((3, 3))}}, r"point array 'U' .* expected 4 rows"),
        ({"types": np.array([POLYHEDRON], np.uint8)}, "polyhedra but not all of face_connectivity"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _tetrahedron(**changes)


def test_a_polyhedron_without_faces_is_refused() -> None:
    none = {
        "face_connectivity": np.zeros(0, int),
        "face_offsets": np.zeros(1, int),
        "polyhedron_offsets": np.zeros(2, int),
    }
    with pytest.raises(ValueError, match=r"cell 0 of body.vtu is a polyhedron and has no faces"):
        _tetrahedron(types=np.array([POLYHEDRON], np.uint8), **none)


def test_with_data_adds_and_replaces() -> None:
    mesh = _tetrahedron(cell_data={"p": np.zeros(1), "q": np.zeros(1)})
    more = mesh.with_data(cell_data={"p": np.ones(1)}, point_data={"U": np.zeros((4, 3))})
    assert more.cell_data["p"] == 1
    assert list(more.cell_data) == ["p", "q"]
    assert mesh.cell_data["p"] == 0
    assert list(more.point_data) == ["U"]


def test_from_triangles() -> None:
    mesh = Mesh.from_triangles(np.eye(3), np.array([[0, 1, 2], [2, 1, 0]]), cell_data={"p": np.arange(2.0)})
    assert mesh.is_surface
    assert mesh.offsets.tolist() == [0, 3, 6]
    assert mesh.to_pyvista().n_cells == 2
