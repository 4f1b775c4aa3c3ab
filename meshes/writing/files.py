"""Meshes to files, by ending."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

import numpy as np

from meshes.aside import aside
from meshes.mesh import Mesh
from meshes.writing.vtk_xml import write_grid, write_surface


def write(mesh: Mesh, path: Path | str) -> None:
    """Write a mesh; the file appears under its name only when it is whole.

    `.vtp` and `.vtu` keep everything but boolean and half-precision arrays, which become `UInt8` and `Float32`, and
    axes beyond the second, which become components. `.stl` keeps triangles in float32 and no arrays; polygons are cut
    into triangles.

    Args:
        mesh: what to write.
        path: a file whose ending is one of `SUFFIXES`; its folder is made where it is missing.

    Raises:
        ValueError: the ending is another, or the format cannot hold the cells or arrays.
    """
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ValueError(f"{path} ends in {path.suffix!r}; meshes are written as {', '.join(_WRITERS)}")
    try:
        with aside(path) as file:
            writer(mesh, file)
    except ValueError as error:
        raise ValueError(f"{path} cannot be written: {error}") from error


def write_collection(path: Path | str, entries: Sequence[tuple[float, Path | str]]) -> None:
    """Write a `.pvd`: files that are one thing at several times.

    Args:
        path: the `.pvd`.
        entries: pairs of a time and a file; files are named relative to the folder of `path`.

    Raises:
        ValueError: there are no entries, or `path` has another ending.
    """
    path = Path(path)
    if path.suffix.lower() != ".pvd":
        raise ValueError(f"{path} ends in {path.suffix!r}; a collection is written as .pvd")
    if not entries:
        raise ValueError(f"{path} would name no files; expected pairs of a time and a file")
    lines = ['<?xml version="1.0"?>', '<VTKFile type="Collection" version="0.1">', "<Collection>"]
    for time, file in entries:
        name = Path(os.path.relpath(file, path.parent)).as_posix()
        lines.append(f'<DataSet timestep="{float(time)!r}" part="0" file={quoteattr(name)}/>')
    lines += ["</Collection>", "</VTKFile>", ""]
    with aside(path) as file:
        file.write("\n".join(lines).encode())


def _write_stl(mesh: Mesh, file: BinaryIO) -> None:
    from meshes.geometry.triangulation import triangulate

    if not mesh.is_surface:
        raise ValueError("an .stl holds a surface; expected triangles or polygons only")
    vertices, triangles, _ = triangulate(mesh)
    corners = np.asarray(vertices, np.float64)[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    records = np.zeros(len(triangles), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    records["normal"] = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    records["corners"] = corners
    file.write(b"binary STL".ljust(80))  # must not begin with "solid", which announces text
    file.write(len(triangles).to_bytes(4, "little"))
    file.write(records.tobytes())


_WRITERS = {".vtp": write_surface, ".vtu": write_grid, ".stl": _write_stl}
SUFFIXES = (*_WRITERS, ".pvd")
