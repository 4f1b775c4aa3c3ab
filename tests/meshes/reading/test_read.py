import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pyvista
from same import assert_same

from meshes.geometry.cells import cell_sizes
from meshes.kinds import HEXAHEDRON, POLYHEDRON
from meshes.mesh import Mesh
from meshes.reading import SUFFIXES, ReadError, read, read_blocks
from meshes.writing import write

DATA = Path(__file__).parents[2] / "data"


def _sphere() -> pyvista.PolyData:
    sphere = pyvista.Sphere(theta_resolution=7, phi_resolution=6)
    sphere.clear_data()
    return sphere


def _grid() -> pyvista.ImageData:
    grid = pyvista.ImageData(dimensions=(3, 4, 5), spacing=(0.5, 1, 2), origin=(1, 2, 3))
    grid.cell_data["p"] = np.arange(grid.n_cells, dtype=np.float32)
    grid.point_data["U"] = np.arange(3.0 * grid.n_points).reshape(-1, 3)
    return grid


def _saved(dataset: pyvista.DataObject, path: Path, **options) -> Path:
    dataset.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".stl", ".obj", ".ply", ".vtk", ".vtp"])
@pytest.mark.parametrize("binary", [True, False])
def test_surfaces_of_every_format(tmp_path: Path, suffix: str, binary: bool) -> None:
    sphere = _sphere()
    if suffix == ".obj":
        pytest.importorskip("vtkmodules.vtkIOGeometry")
    mesh = read(_saved(sphere, tmp_path / f"body{suffix}", binary=binary))
    assert mesh.is_surface
    assert (mesh.n_points, mesh.n_cells) == (sphere.n_points, sphere.n_cells)
    assert cell_sizes(mesh).sum() == pytest.approx(sphere.area, rel=1e-5)
    assert mesh.source == str(tmp_path / f"body{suffix}")


@pytest.mark.parametrize("suffix", [".vti", ".vtr", ".vts", ".vtk", ".vtu"])
def test_grids_of_every_format(tmp_path: Path, suffix: str) -> None:
    grid = _grid()
    dataset = {
        ".vtr": grid.cast_to_rectilinear_grid, ".vts": grid.cast_to_structured_grid,
        ".vtu": grid.cast_to_unstructured_grid,
    }.get(suffix, lambda: grid)()  # fmt: skip
    mesh = read(_saved(dataset, tmp_path / f"grid{suffix}"))
    assert (mesh.n_points, mesh.n_cells) == (60, 24)
    assert cell_sizes(mesh) == pytest.approx(1)
    np.testing.assert_array_equal(mesh.cell_data["p"], grid.cell_data["p"])
    np.testing.assert_array_equal(mesh.point_data["U"], grid.point_data["U"])
    assert mesh.points.min(axis=0).tolist() == [1, 2, 3]


@pytest.mark.parametrize("layout", ["older", "newer"])
def test_polyhedra_of_both_layouts(layout: str) -> None:
    mesh = read(DATA / f"polyhedra_{layout}.vtu")
    assert mesh.types.tolist() == [POLYHEDRON, POLYHEDRON, HEXAHEDRON]
    lid = 3 * np.sin(np.pi / 3)
    np.testing.assert_allclose(cell_sizes(mesh), [lid, lid / 3, 1], rtol=1e-6)
    assert mesh.cell_data["pressure"].tolist() == [1.5, -2.5, 0.25]
    assert_same(mesh, read(DATA / "polyhedra_older.vtu"))


@pytest.mark.parametrize("suffix", [".vtu", ".vtk", ".vti"])
def test_only_the_arrays_asked_for(tmp_path: Path, suffix: str) -> None:
    grid = _grid() if suffix == ".vti" else _grid().cast_to_unstructured_grid()
    path = _saved(grid, tmp_path / f"grid{suffix}")
    mesh = read(path, arrays=["p", "not there"])
    assert (list(mesh.cell_data), list(mesh.point_data)) == (["p"], [])
    assert read(path, arrays=[]).cell_data == {}


def test_corners_of_an_stl_become_points_and_no_triangle_is_lost(tmp_path: Path) -> None:
    corners = np.array(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -0.0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0]]
    )
    write(Mesh.from_triangles(corners.astype(float), np.arange(9).reshape(3, 3)), tmp_path / "body.stl")
    mesh = read(tmp_path / "body.stl")
    assert mesh.points.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert mesh.connectivity.tolist() == [0, 1, 2, 0, 1, 3, 0, 1, 0]  # the last has no area and is kept
    assert mesh.n_cells == 3


def test_nothing_reaches_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = (DATA / "polyhedra_older.vtu").read_bytes()
    (tmp_path / "bad.vtu").write_bytes(text.replace(b'offset="0"', b'offset="7"'))
    with pytest.raises(ReadError):
        read(tmp_path / "bad.vtu")
    read(DATA / "polyhedra_older.vtu")
    assert capfd.readouterr() == ("", "")


def _blocks(**blocks: pyvista.DataSet) -> pyvista.MultiBlock:
    return pyvista.MultiBlock(dict(blocks))


def test_blocks_by_name(tmp_path: Path) -> None:
    outer = _blocks(inlet=_sphere(), inner=_blocks(a=_sphere(), b=_sphere().translate((3, 0, 0))))
    path = _saved(outer, tmp_path / "case.vtm")
    blocks = read_blocks(path)
    assert list(blocks) == ["inlet", "inner/a", "inner/b"]
    whole = read(path)
    assert whole.n_cells == 3 * _sphere().n_cells
    assert cell_sizes(whole).sum() == pytest.approx(3 * _sphere().area, rel=1e-5)


def test_the_only_block_with_cells_is_the_mesh(tmp_path: Path) -> None:
    path = _saved(_blocks(empty=pyvista.PolyData(), grid=_grid()), tmp_path / "case.vtm")
    assert list(read_blocks(path)) == ["grid"]
    assert read(path).n_cells == 24


def test_merged_polyhedra_keep_their_faces(tmp_path: Path) -> None:
    one = pyvista.read(DATA / "polyhedra_older.vtu")
    boxes = _grid().cast_to_unstructured_grid()
    boxes.clear_data()
    one.clear_data()
    mesh = read(_saved(_blocks(a=boxes, b=one, c=one), tmp_path / "case.vtm"))
    alone = read(DATA / "polyhedra_older.vtu")
    np.testing.assert_allclose(cell_sizes(mesh), [*np.ones(24), *cell_sizes(alone), *cell_sizes(alone)])


def test_blocks_of_different_kinds_are_told_apart(tmp_path: Path) -> None:
    path = _saved(_blocks(body=_sphere(), fluid=_grid()), tmp_path / "case.vtm")
    with pytest.raises(ReadError, match=r"'body': 2-D cells with no arrays; 'fluid': 3-D cells with U, p"):
        read(path)


def test_a_series_asks_for_a_time(tmp_path: Path) -> None:
    write(Mesh.from_pyvista(_sphere()), tmp_path / "a.vtp")
    sets = "".join(f'<DataSet timestep="{time}" file="a.vtp"/>' for time in (0, 0.5))
    (tmp_path / "run.pvd").write_text(f'<VTKFile type="Collection"><Collection>{sets}</Collection></VTKFile>')
    with pytest.raises(ReadError, match=r"say which of its times to read: 0, 0.5"):
        read(tmp_path / "run.pvd")
    with pytest.raises(ReadError, match=r"no time 2; there are: 0, 0.5"):
        read(tmp_path / "run.pvd", time=2.0)
    assert read(tmp_path / "run.pvd", time=0.5).n_cells == _sphere().n_cells


def test_times_that_make_no_sense(tmp_path: Path) -> None:
    write(Mesh.from_pyvista(_sphere()), tmp_path / "a.vtp")
    for reader in (read, read_blocks):
        with pytest.raises(ReadError, match="a single mesh without times, but time 1 was asked for"):
            reader(tmp_path / "a.vtp", time=1.0)
    text = '<VTKFile type="Collection"><Collection><DataSet timestep="late" file="a.vtp"/></Collection></VTKFile>'
    (tmp_path / "run.pvd").write_text(text)
    with pytest.raises(ReadError, match="has a timestep that is no number"):
        read(tmp_path / "run.pvd")


def test_a_piece_that_is_missing_is_named(tmp_path: Path) -> None:
    path = _saved(_blocks(a=_sphere(), b=_sphere()), tmp_path / "case.vtm")
    gone = next((tmp_path / "case").glob("*1*"))
    gone.unlink()
    with pytest.raises(FileNotFoundError, match=gone.name):
        read(path)


@pytest.mark.parametrize("suffix", sorted(set(SUFFIXES) - {".foam"}))  # which is empty by convention
def test_files_that_are_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"case{suffix}"
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(path)
    path.touch()
    with pytest.raises(ReadError, match=r"is empty \(0 bytes\)"):
        read(path)
    path.write_text("<!DOCTYPE html><html><body>404</body></html>" + " " * 200)
    with pytest.raises(ReadError, match="holds a web page"):
        read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ReadError, match="is a folder"):
        read(path)


@pytest.mark.parametrize(
    ("suffix", "kept", "message"),
    [
        (".stl", 0.5, r"its header announces 56 triangles, which take 2884"),
        (".stl", 0.02, "an STL has at least 84"),
        (".ply", 0.5, "cut short: its header announces 30 of vertex and 56 of face"),
        (".ply", 0.05, "its header does not end in 'end_header'"),
        (".vtk", 0.7, "damaged or cut short"),
        (".vtp", 0.5, "does not end in </VTKFile>"),
        (".obj", 0.5, None),
    ],
)
def test_files_cut_short(tmp_path: Path, suffix: str, kept: float, message: str | None) -> None:
    path = _saved(_sphere(), tmp_path / f"body{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ReadError, match=message):
        read(path)


@pytest.mark.parametrize("suffix", [".stl", ".ply"])
def test_text_files_cut_short(tmp_path: Path, suffix: str) -> None:
    path = _saved(_sphere(), tmp_path / f"body{suffix}", binary=False)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ReadError, match="is cut short"):
        read(path)


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_ply_of_mixed_polygons_is_walked(tmp_path: Path, order: str) -> None:
    end = "<" if order == "little" else ">"
    head = f"ply\nformat binary_{order}_endian 1.0\nelement vertex 5\n"
    head += "property float x\nproperty float y\nproperty float z\n"
    head += "element face 2\nproperty list uchar int vertex_indices\nproperty uchar red\nend_header\n"
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0]], f"{end}f4")
    faces = b"".join(
        bytes([len(face)]) + np.array(face, f"{end}i4").tobytes() + b"\xff" for face in ([0, 1, 2, 3], [1, 4, 2])
    )
    path = tmp_path / "mixed.ply"
    path.write_bytes(head.encode() + points.tobytes() + faces)
    assert cell_sizes(read(path)).tolist() == [1, 0.5]
    path.write_bytes(head.encode() + points.tobytes() + faces[:-1])
    with pytest.raises(ReadError, match="is cut short"):
        read(path)


def test_altered_arrays_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "grid.vtu"
    write(Mesh.from_pyvista(_grid()), path)
    data = bytearray(path.read_bytes())
    middle = data.index(b"AppendedData") + 200
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(ReadError, match=r"grid.vtu cannot be read as .vtu; it is damaged or cut short \(VTK says: Z"):
        read(path)


def test_indices_beyond_the_points_are_noticed(tmp_path: Path) -> None:
    vertices = "".join(f"property float {axis}\n" for axis in "xyz")
    head = (
        f"ply\nformat ascii 1.0\nelement vertex 3\n{vertices}element face 1\nproperty list uchar int vertex_indices\n"
    )
    (tmp_path / "body.ply").write_text(f"{head}end_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n")
    with pytest.raises(ReadError, match="holds indices from 0 to 7, but there are 3 points"):
        read(tmp_path / "body.ply")


@pytest.mark.parametrize(
    ("saved", "named", "message"),
    [
        (".vtp", ".vtu", "type PolyData; expected VTK XML of type UnstructuredGrid; rename it to body.vtp"),
        (".vtp", ".stl", "ends in .stl but holds VTK XML of type PolyData"),
        (".vtk", ".vtp", "holds a legacy VTK file"),
        (".stl", ".ply", "ends in .ply but holds something else"),
        (".ply", ".stl", "ends in .stl but holds a PLY file"),
        (".vtp", ".xyz", "ends in '.xyz'; expected one of .stl, .obj"),
    ],
)
def test_wrong_endings(tmp_path: Path, saved: str, named: str, message: str) -> None:
    path = _saved(_sphere(), tmp_path / f"body{saved}").rename(tmp_path / f"body{named}")
    with pytest.raises(ReadError, match=message.replace(".", r"\.")):
        read(path)


def test_points_without_cells(tmp_path: Path) -> None:
    empty = pyvista.UnstructuredGrid()
    empty.points = np.eye(3)
    with pytest.raises(ReadError, match="3 points but no cells"):
        read(_saved(empty, tmp_path / "cloud.vtu"))


def test_a_table_is_no_mesh(tmp_path: Path) -> None:
    (tmp_path / "table.vtk").write_text(
        "# vtk DataFile Version 3.0\nt\nASCII\nDATASET TABLE\nROW_DATA 2\nFIELD FieldData 1\na 1 2 float\n1 2\n"
    )
    with pytest.raises(ReadError, match=r"table.vtk cannot be used: a Table is no single mesh"):
        read(tmp_path / "table.vtk")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "points", "cells"),
    [
        ("office.binary.vtk", 8400, 7220),
        ("carotid.vtk", 167580, 158400),
        ("can.vtu", 6724, 4800),
        ("polyhedron2pieces.vtu", 18, 4),
        ("quadraticTetra01.vtu", 22, 3),
        ("notch_disp.vtu", 12717, 2192),
        ("surfaces/42400-IDGH.stl", 5500, 11036),
        ("surfaces/octagonal_pocket.ply", 1658, 3262),
        ("surfaces/not_convex.obj", 44, 96),
        ("surfaces/joined_tetrahedra.obj", 5, 8),
        ("surfaces/soup.stl", 300, 100),
        ("surfaces/two_objects_mixed_case_names.stl", 16, 24),
    ],
)
def test_public_files(shared_data: Path, file: str, points: int, cells: int, capfd: pytest.CaptureFixture[str]) -> None:
    mesh = read(shared_data / "public/meshes" / file)
    assert (mesh.n_points, mesh.n_cells) == (points, cells)
    assert capfd.readouterr().err == ""


@pytest.mark.shared
def test_parts_of_a_public_series_change_in_time(shared_data: Path) -> None:
    blocks = read_blocks(shared_data / "public/meshes/pvd/dualSphereAnimation4.pvd")
    assert len(blocks) == 10
    assert [blocks[f"{time}/0"].n_points for time in range(5)] == [50, 56, 56, 56, 56]


def test_importing_costs_nothing() -> None:
    heavy = {"vtkmodules", "pyvista", "torch"}
    code = f"import sys, meshes.reading, meshes.writing; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "[]"
