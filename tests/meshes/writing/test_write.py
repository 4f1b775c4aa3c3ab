import os
import re
from pathlib import Path

import numpy as np
import pytest
import pyvista
from hypothesis import HealthCheck, given, settings
from same import assert_same
from strategies import SURFACE, meshes

from meshes.geometry.cells import cell_sizes
from meshes.kinds import LINE, POLYHEDRON, VERTEX
from meshes.mesh import Mesh
from meshes.reading import read, read_blocks
from meshes.writing import write, write_collection

ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@ONE_FOLDER
@given(mesh=meshes())
def test_a_vtu_reads_back_as_it_was(tmp_path: Path, mesh: Mesh) -> None:
    write(mesh, tmp_path / "mesh.vtu")
    assert_same(read(tmp_path / "mesh.vtu"), mesh)


@ONE_FOLDER
@given(mesh=meshes(kinds=SURFACE))
def test_a_vtp_reads_back_as_it_was(tmp_path: Path, mesh: Mesh) -> None:
    write(mesh, tmp_path / "mesh.vtp")
    assert_same(read(tmp_path / "mesh.vtp"), mesh)


@ONE_FOLDER
@given(mesh=meshes(kinds=(POLYHEDRON, 10)))
def test_polyhedra_have_the_older_layout(tmp_path: Path, mesh: Mesh) -> None:
    write(mesh, tmp_path / "mesh.vtu")
    names = set(re.findall(rb'Name="(\w+)"', (tmp_path / "mesh.vtu").read_bytes()))
    assert (b"faces" in names) == (b"faceoffsets" in names) == (POLYHEDRON in mesh.types)
    assert not any(name.startswith((b"face_", b"polyhedron")) for name in names)


def test_vertices_and_lines_stand_in_a_vtp(tmp_path: Path) -> None:
    dataset = pyvista.PolyData(np.eye(3, dtype=np.float32), verts=[1, 0], lines=[3, 0, 1, 2], faces=[3, 0, 1, 2])
    mesh = Mesh.from_pyvista(dataset)
    write(mesh, tmp_path / "mesh.vtp")
    assert_same(read(tmp_path / "mesh.vtp"), mesh)


def test_arrays_larger_than_a_block_and_empty_ones(tmp_path: Path, rng: np.random.Generator) -> None:
    many = 100_001  # float64 × 3: several blocks and a rest
    mesh = Mesh(
        points=rng.normal(size=(many, 3)),
        connectivity=np.arange(2),
        offsets=np.array([0, 1, 2]),
        types=np.full(2, VERTEX, np.uint8),
        point_data={"exactly one block": np.arange(many, dtype=np.int8)},
        field_data={"none": np.zeros((0, 3))},
    )
    for name in ("mesh.vtu", "mesh.vtp"):
        write(mesh, tmp_path / name)
        found = read(tmp_path / name)
        np.testing.assert_array_equal(found.points, mesh.points)
        np.testing.assert_array_equal(found.point_data["exactly one block"], mesh.point_data["exactly one block"])


@pytest.mark.shared
@pytest.mark.parametrize(
    "case", ["ahmed/ahmed_00_003/volume.vtu", "ahmed/ahmed_00_003/surface.vtp", "naca/naca_00_002/volume.vtu"]
)
def test_simulations_read_back_as_they_were(tmp_path: Path, shared_data: Path, case: str) -> None:
    mesh = read(shared_data / case)
    copy = tmp_path / Path(case).name
    write(mesh, copy)
    assert_same(read(copy), mesh)
    assert copy.stat().st_size < 1.1 * (shared_data / case).stat().st_size


@pytest.mark.parametrize(("array", "dtype"), [(np.array([True, False]), "u1"), (np.ones(2, np.float16), "f4")])
def test_types_that_vtk_lacks_are_widened(tmp_path: Path, array: np.ndarray, dtype: str) -> None:
    mesh = Mesh.from_triangles(np.eye(3), np.array([[0, 1, 2], [0, 2, 1]]), cell_data={"a": array})
    write(mesh, tmp_path / "mesh.vtp")
    found = read(tmp_path / "mesh.vtp").cell_data["a"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


def test_big_endian_arrays_keep_their_values(tmp_path: Path) -> None:
    array = np.array([1.5, -2e-7], ">f4")
    mesh = Mesh.from_triangles(np.eye(3), np.array([[0, 1, 2], [0, 2, 1]]), cell_data={"a": array})
    write(mesh, tmp_path / "mesh.vtu")
    np.testing.assert_array_equal(read(tmp_path / "mesh.vtu").cell_data["a"], array)


@pytest.mark.parametrize("array", [np.array(["a", "b"]), np.array([1j, 0]), np.zeros((2, 0))])
def test_arrays_that_vtk_cannot_hold_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    path = tmp_path / "mesh.vtp"
    path.write_text("what was there")
    mesh = Mesh.from_triangles(np.eye(3), np.array([[0, 1, 2], [0, 2, 1]]), cell_data={"odd": array})
    with pytest.raises(ValueError, match=r"mesh.vtp cannot be written: the array 'odd'"):
        write(mesh, path)
    assert path.read_text() == "what was there"
    assert os.listdir(tmp_path) == ["mesh.vtp"]


def test_a_vtp_refuses_volumes_and_another_order(tmp_path: Path) -> None:
    grid = Mesh.from_pyvista(pyvista.ImageData(dimensions=(2, 2, 2)))
    with pytest.raises(ValueError, match=r"holds no voxel; write the mesh as .vtu"):
        write(grid, tmp_path / "mesh.vtp")
    mixed = Mesh(
        points=np.eye(3), connectivity=np.array([0, 1, 2, 0, 1]), offsets=np.array([0, 3, 5]),
        types=np.array([5, LINE], np.uint8),
    )  # fmt: skip
    with pytest.raises(ValueError, match="in this order"):
        write(mixed, tmp_path / "mesh.vtp")


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in '.xyz'; meshes are written as .vtp, .vtu, .stl"):
        write(Mesh.from_triangles(np.eye(3), np.array([[0, 1, 2]])), tmp_path / "mesh.xyz")


def test_an_stl_keeps_shape_and_side(tmp_path: Path) -> None:
    box = pyvista.Cube(x_length=2, y_length=3, z_length=5).clean()  # six quads
    mesh = Mesh.from_pyvista(box)
    write(mesh, tmp_path / "new" / "folder" / "box.stl")
    found = read(tmp_path / "new" / "folder" / "box.stl")
    assert (found.n_points, found.n_cells) == (8, 12)
    assert cell_sizes(found).sum() == pytest.approx(62)
    assert found.to_pyvista().volume == pytest.approx(30)


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    write(Mesh.from_triangles(np.eye(3), np.array([[0, 1, 2]])), tmp_path / "mesh.vtp")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "mesh.vtp").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_series_reads_back_by_time(tmp_path: Path) -> None:
    for step in range(3):
        mesh = Mesh.from_triangles(np.eye(3) * (step + 1), np.array([[0, 1, 2]]))
        write(mesh, tmp_path / "steps" / f"step {step} & more.vtp")
    entries = [(np.float64(0.1) * step, tmp_path / "steps" / f"step {step} & more.vtp") for step in range(3)]
    write_collection(tmp_path / "series.pvd", entries)
    assert list(read_blocks(tmp_path / "series.pvd")) == ["0/0", "0.1/0", "0.2/0"]
    assert read(tmp_path / "series.pvd", time=0.2).points.max() == 3
    assert len(pyvista.get_reader(tmp_path / "series.pvd").time_values) == 3
    with pytest.raises(ValueError, match="name no files"):
        write_collection(tmp_path / "none.pvd", [])
