"""STL files read without VTK: as VTK reads them, and refused where they are not whole."""

import re
from pathlib import Path

import numpy as np
import pytest
import pyvista

from meshes.mesh import Mesh
from meshes.reading import ReadError, read, stl
from meshes.writing import write


def sphere(path: Path, *, binary: bool = True) -> Path:
    pyvista.Sphere(theta_resolution=9, phi_resolution=7).save(path, binary=binary)
    return path


def corners_of(mesh: Mesh) -> np.ndarray:
    return mesh.points[mesh.connectivity.reshape(-1, 3)]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("piece", [100, 1 << 22])
def test_equal_to_vtk(tmp_path: Path, binary: bool, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stl, "PIECE", piece)
    path = sphere(tmp_path / "body.stl", binary=binary)
    theirs = pyvista.read(path)
    mesh = read(path)
    np.testing.assert_array_equal(corners_of(mesh), theirs.points[theirs.regular_faces])
    assert mesh.points.dtype == np.float32
    assert len(mesh.points) == len(np.unique(theirs.points, axis=0))


def test_several_solids_in_capitals_and_windows_lines(tmp_path: Path) -> None:
    text = sphere(tmp_path / "one.stl", binary=False).read_text()
    once = read(tmp_path / "one.stl")
    twice = "\r\n".join([*text.upper().splitlines(), "SOLID endfacet of a car", *text.splitlines()[1:]]) + "\r\n"
    (tmp_path / "two.stl").write_bytes(twice.encode())
    np.testing.assert_array_equal(corners_of(read(tmp_path / "two.stl")), np.tile(corners_of(once), (2, 1, 1)))


def test_a_binary_file_may_begin_with_solid(tmp_path: Path) -> None:
    path = sphere(tmp_path / "body.stl")
    before = read(path)
    path.write_bytes(b"solid facet endsolid".ljust(80) + path.read_bytes()[80:])
    np.testing.assert_array_equal(corners_of(read(path)), corners_of(before))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data + b"\0" * 10, "has 4594 bytes, but its header announces 90 triangles, which take 4584"),
        (lambda data: data[:-1], "has 4583 bytes, but its header announces 90 triangles, which take 4584"),
    ],
)
def test_binary_files_hold_what_they_announce(tmp_path: Path, change, message: str) -> None:
    path = sphere(tmp_path / "body.stl")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ReadError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"endloop\s+endfacet\s+", "", "is cut short or damaged"),
        (r"outer loop", "outer lop", r"facet 1 begins with 'facet normal .*'; expected facet normal"),
        (r"vertex (\S+)", "vertex one", r"a coordinate of facets 1 to 90 is no number \(.*one.*\)"),
        (r"endsolid(?s:.*)", "endfacet endsolid", "is cut short"),
        (r"\nendsolid", "\nsolid b\nendsolid", "begins 2 solids and ends 1"),
    ],
)
def test_text_files_are_read_strictly(tmp_path: Path, pattern: str, replacement: str, message: str) -> None:
    path = sphere(tmp_path / "body.stl", binary=False)
    path.write_text(re.sub(pattern, replacement, path.read_text(), count=1))
    with pytest.raises(ReadError, match=message):
        read(path)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(30, 3)).astype(np.float32)
    triangles = np.concatenate(
        [np.arange(30).reshape(-1, 3), rng.permuted(np.tile(np.arange(30), (40, 1)), axis=1)[:, :3]]
    )
    write(Mesh.from_triangles(vertices, triangles), tmp_path / "soup.stl")
    mesh = read(tmp_path / "soup.stl")
    np.testing.assert_array_equal(mesh.points, vertices)
    np.testing.assert_array_equal(mesh.connectivity, triangles.ravel())
