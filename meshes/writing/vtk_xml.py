"""VTK's XML files with compressed, appended arrays.

They are written here and not by VTK because its writer, from version 9.4 on, stores polyhedra in a layout that
ParaView 5.11 does not know and reads without faces; the older one, `faces` and `faceoffsets`, every version reads.
"""

import os
import sys
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Int, Shaped

from meshes.kinds import (
    LINE,
    POLY_LINE,
    POLY_VERTEX,
    POLYGON,
    QUAD,
    TRIANGLE,
    TRIANGLE_STRIP,
    VERTEX,
    name_of,
)
from meshes.mesh import Mesh

BLOCK = 1 << 18  # bytes that are compressed together
LEVEL = 1  # higher ones save 2 % at best and take two to seven times as long
WORTH = 0.75  # arrays whose first block does not shrink to this part are stored as they are, at the speed of the disk
_TYPES = {
    **{np.dtype(f"i{size}"): f"Int{8 * size}" for size in (1, 2, 4, 8)},
    **{np.dtype(f"u{size}"): f"UInt{8 * size}" for size in (1, 2, 4, 8)},
    np.dtype("f4"): "Float32",
    np.dtype("f8"): "Float64",
}
_WIDENED = {np.dtype(bool): np.dtype("u1"), np.dtype("f2"): np.dtype("f4")}
# The sections of PolyData, in the order in which readers number its cells.
_SECTIONS = {
    "Verts": (VERTEX, POLY_VERTEX),
    "Lines": (LINE, POLY_LINE),
    "Polys": (TRIANGLE, QUAD, POLYGON),
    "Strips": (TRIANGLE_STRIP,),
}


def write_grid(mesh: Mesh, file: BinaryIO) -> None:
    """Write a `.vtu`: cells of any kind."""
    document = _Document("UnstructuredGrid")
    document.open("UnstructuredGrid")
    _write_fields(document, mesh)
    document.open("Piece", NumberOfPoints=mesh.n_points, NumberOfCells=mesh.n_cells)
    _write_data(document, mesh)
    document.open("Points")
    document.array("Points", mesh.points)
    document.close("Points")
    document.open("Cells")
    document.array("connectivity", _narrow(mesh.connectivity))
    document.array("offsets", _narrow(mesh.offsets[1:]))
    document.array("types", mesh.types)
    if mesh.face_connectivity is not None:
        faces, ends = _older_faces(mesh)
        document.array("faces", _narrow(faces))
        document.array("faceoffsets", _narrow(ends))
    document.close("Cells")
    document.close("Piece")
    document.close("UnstructuredGrid")
    document.write(file)


def write_surface(mesh: Mesh, file: BinaryIO) -> None:
    """Write a `.vtp`: vertices, lines, polygons and strips, in this order.

    Raises:
        ValueError: there are other cells, or these in another order, which the format cannot keep.
    """
    section = np.full(256, -1)
    for number, kinds in enumerate(_SECTIONS.values()):
        section[list(kinds)] = number
    of_cell = section[mesh.types]
    if (of_cell < 0).any():
        told = ", ".join(name_of(kind) for kind in np.unique(mesh.types[of_cell < 0]))
        raise ValueError(f"a .vtp holds no {told}; write {mesh.source or 'the mesh'} as .vtu")
    if (np.diff(of_cell) < 0).any():
        raise ValueError("a .vtp keeps vertices, lines, polygons and strips in this order; sort the cells, or use .vtu")
    ends = np.searchsorted(of_cell, np.arange(5))
    counts = {f"NumberOf{name}": int(ends[n + 1] - ends[n]) for n, name in enumerate(_SECTIONS)}
    document = _Document("PolyData")
    document.open("PolyData")
    _write_fields(document, mesh)
    document.open("Piece", NumberOfPoints=mesh.n_points, **counts)
    _write_data(document, mesh)
    document.open("Points")
    document.array("Points", mesh.points)
    document.close("Points")
    for number, name in enumerate(_SECTIONS):
        offsets = mesh.offsets[ends[number] : ends[number + 1] + 1]
        document.open(name)
        document.array("connectivity", _narrow(mesh.connectivity[offsets[0] : offsets[-1]]))
        document.array("offsets", _narrow(offsets[1:] - offsets[0]))
        document.close(name)
    document.close("Piece")
    document.close("PolyData")
    document.write(file)


class _Document:
    """An XML tree in text, and the arrays that follow it."""

    def __init__(self, kind: str) -> None:
        order = "LittleEndian" if sys.byteorder == "little" else "BigEndian"
        format = {"type": kind, "version": "1.0", "byte_order": order, "header_type": "UInt64"}
        format["compressor"] = "vtkZLibDataCompressor"
        self.lines = ['<?xml version="1.0"?>', f"<VTKFile{_attributes(format)}>"]
        self.chunks: list[bytes] = []
        self.length = 0

    def open(self, tag: str, **attributes: object) -> None:
        self.lines.append(f"<{tag}{_attributes(attributes)}>")

    def close(self, tag: str) -> None:
        self.lines.append(f"</{tag}>")

    def array(self, name: str, array: Shaped[np.ndarray, "row ..."]) -> None:
        """Append numbers, one row for each point, cell or entry; axes after the first become components."""
        data = _numbers(name, array)
        self._append("DataArray", _bytes(data), type=_TYPES[data.dtype], Name=name, NumberOfComponents=data.shape[1])

    def whole(self, name: str, array: np.ndarray) -> None:
        """Append an array of the whole mesh: numbers or text, of any length."""
        array = np.atleast_1d(array)
        if array.dtype.kind in "US":
            text = "".join(f"{each}\0" for each in array.reshape(-1).astype(str))
            self._append("Array", memoryview(text.encode()), type="String", Name=name, NumberOfTuples=array.size)
            return
        data = _numbers(name, array)
        components = {"NumberOfComponents": data.shape[1], "NumberOfTuples": len(data)}
        self._append("DataArray", _bytes(data), type=_TYPES[data.dtype], Name=name, **components)

    def _append(self, tag: str, data: memoryview, **attributes: object) -> None:
        self.lines.append(f'<{tag}{_attributes(attributes)} format="appended" offset="{self.length}"/>')
        for chunk in _compressed(data):
            self.chunks.append(chunk)
            self.length += len(chunk)

    def write(self, file: BinaryIO) -> None:
        head = "\n".join([*self.lines, '<AppendedData encoding="raw">', "_"])
        file.write(head.encode())
        file.writelines(self.chunks)
        file.write(b"\n</AppendedData>\n</VTKFile>\n")


def _attributes(values: Mapping[str, object]) -> str:
    return "".join(f" {key}={quoteattr(str(value))}" for key, value in values.items())


def _compressed(data: memoryview) -> list[bytes]:
    """Blocks in VTK's layout: their number, their size, the size of the last if smaller, then each compressed size."""
    count, rest = divmod(len(data), BLOCK)
    parts = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    level = LEVEL if not parts or len(zlib.compress(parts[0], LEVEL)) <= WORTH * len(parts[0]) else 0

    def compress(part: memoryview) -> bytes:
        return zlib.compress(part, level)

    if len(parts) > 1:  # zlib lets other threads run
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            blocks = list(pool.map(compress, parts))
    else:
        blocks = [compress(part) for part in parts]
    return [np.array([count + (rest > 0), BLOCK, rest, *map(len, blocks)], np.uint64).tobytes(), *blocks]


def _bytes(data: Shaped[np.ndarray, "row component"]) -> memoryview:
    return data.reshape(-1).view(np.uint8).data


def _numbers(name: str, array: Shaped[np.ndarray, "row ..."]) -> Shaped[np.ndarray, "row component"]:
    kind = _WIDENED.get(array.dtype, array.dtype).newbyteorder("=")
    components = int(np.prod(array.shape[1:]))
    if kind not in _TYPES or components == 0:
        shape = " × ".join(map(str, array.shape))
        raise ValueError(f"the array {name!r} is {array.dtype} of shape {shape}; expected numbers VTK has a type for")
    return np.ascontiguousarray(array.reshape(len(array), components), kind)


def _write_data(document: _Document, mesh: Mesh) -> None:
    for tag, arrays in (("PointData", mesh.point_data), ("CellData", mesh.cell_data)):
        document.open(tag)
        for name, array in arrays.items():
            document.array(name, array)
        document.close(tag)


def _write_fields(document: _Document, mesh: Mesh) -> None:
    if mesh.field_data:
        document.open("FieldData")
        for name, array in mesh.field_data.items():
            document.whole(name, array)
        document.close("FieldData")


def _narrow(indices: Int[np.ndarray, " index"]) -> Int[np.ndarray, " index"]:
    """Halve the size of indices where they allow it."""
    fits = len(indices) == 0 or int(indices.max()) < 2**31
    return indices.astype(np.int32 if fits else np.int64)


def _older_faces(mesh: Mesh) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " cell"]]:
    """Return the older stream of faces, and for each cell where its part ends; -1 for cells without faces.

    The part of a cell is its number of faces, then for each face the number of its corners and the corners.
    """
    assert mesh.face_connectivity is not None
    assert mesh.face_offsets is not None
    assert mesh.polyhedron_offsets is not None
    sizes, counts = np.diff(mesh.face_offsets), np.diff(mesh.polyhedron_offsets)
    cells = np.flatnonzero(counts)
    # One entry before every face for its size, and one before the first face of every cell for its number of faces.
    extra = np.ones(len(sizes), np.int64)
    extra[mesh.polyhedron_offsets[cells]] += 1
    starts = mesh.face_offsets[:-1] + np.cumsum(extra)
    stream = np.empty(len(mesh.face_connectivity) + int(extra.sum()), np.int64)
    stream[np.repeat(np.cumsum(extra), sizes) + np.arange(len(mesh.face_connectivity))] = mesh.face_connectivity
    stream[starts - 1] = sizes
    stream[starts[mesh.polyhedron_offsets[cells]] - 2] = counts[cells]
    last = mesh.polyhedron_offsets[cells + 1] - 1
    ends = np.full(mesh.n_cells, -1, np.int64)
    ends[cells] = starts[last] + sizes[last]
    return stream, ends
