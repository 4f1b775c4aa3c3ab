"""How large a mesh is on disk, and about how large it becomes in memory, told from file sizes and heads alone."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from meshes.reading import collection, ensight, openfoam
from meshes.reading.open import files_of, open_source
from meshes.reading.times import Time

# Where a file tells what is in it.
HEAD = 1 << 20
# Bytes that are held at once for each corner of a cell while a mesh is read and its cells are measured: of 10⁶
# hexahedra it was 740 MB, of 62,000 cells with 5 % polyhedra 51 MB.
CORNER = 80
POINT = 40
VALUE = 4
# The same for each byte of files that tell nothing in their heads.
BYTES = {".stl": 6, ".ply": 12, ".obj": 8, ".vtk": 14, "binary": 20, "text": 8}


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a mesh takes.

    Attributes:
        stored: bytes on disk.
        memory: bytes in memory, about, while it is read and measured.
    """

    stored: int
    memory: int

    def __str__(self) -> str:
        return f"{say_bytes(self.stored)} on disk, about {say_bytes(self.memory)} in memory"


class _Count(NamedTuple):
    points: int
    cells: int
    corners: int  # of a cell


def size_of(path: Path | str, *, arrays: Collection[str] | None = None, time: Time | None = None) -> Size:
    """Return what a mesh takes before it is read. Compressed files tell it as well as others.

    Args:
        path: as `meshes.reading.read` takes it.
        arrays: those that will be loaded.
        time: those times that will be.

    Raises:
        FileNotFoundError: there is no such path.
        ReadError: it is nothing that can be read.
    """
    source = open_source(path)
    files = [file for file in files_of(path, arrays=arrays, time=time) if file.exists()]
    stored = sum(file.stat().st_size for file in files)
    if isinstance(source, openfoam.OpenFOAM):
        count = _owners(files)
        fields = sum(file.stat().st_size for file in files if file.parent.name != "polyMesh")
        return Size(stored=stored, memory=_memory(count) + fields)
    if isinstance(source, ensight.EnSight):
        geometry = [file for file in files[1:] if _holds_geometry(file)]
        mesh = sum(file.stat().st_size * BYTES[ensight.kind_of(file)] for file in geometry)
        return Size(stored=stored, memory=mesh + 2 * (stored - sum(file.stat().st_size for file in geometry)))
    if isinstance(source, collection.VTKCollection):
        files = files[1:]
    return Size(stored=stored, memory=sum(_of_file(file, arrays) for file in files))


def say_bytes(count: int) -> str:
    """Say bytes as people read them, such as `12.3 GB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            number = count / size
            return f"{number:.3g} {unit}" if number < 999.5 else f"{number:,.0f} {unit}"
    return f"{count} bytes"


def _memory(count: _Count) -> int:
    return POINT * count.points + CORNER * count.corners * count.cells


def _of_file(file: Path, arrays: Collection[str] | None) -> int:
    factor = BYTES.get(file.suffix.lower())
    if factor is not None:
        return factor * file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(HEAD).split(b"<AppendedData")[0].decode("ascii", errors="ignore")
    count = _xml_count(head)
    values = 0
    for place, number in (("PointData", count.points), ("CellData", count.cells)):
        for section in re.findall(rf"<{place}\b.*?(?:</{place}>|\Z)", head, re.DOTALL)[:1]:
            for tag in re.findall(r"<DataArray\b[^>]*>", section):
                name = re.search(r'\bName="([^"]*)"', tag)
                components = re.search(r'NumberOfComponents="\s*(\d+)', tag)
                bits = re.search(r'\btype="\D*(\d+)', tag)
                if arrays is None or (name is not None and name[1] in arrays):
                    values += number * int(components[1] if components else 1) * int(bits[1] if bits else 32) // 8
    return _memory(count) + 2 * values


def _xml_count(head: str) -> _Count:
    """Count points and cells of the pieces that the head of a VTK XML file tells of."""
    points = cells = corners = 0
    for tag in re.findall(r"<Piece\b[^>]*>", head):
        numbers = {name: int(number) for name, number in re.findall(r'\bNumberOf(\w+)="\s*(\d+)', tag)}
        extent = re.search(r'\bExtent="([^"]*)"', tag)
        if extent is not None:
            low_high = [int(each) for each in extent[1].split()]
            steps = [high - low for low, high in zip(low_high[::2], low_high[1::2], strict=True)]
            numbers = {"Points": _product([step + 1 for step in steps]), "Cells": _product([max(1, s) for s in steps])}
        here = sum(numbers.get(kind, 0) for kind in ("Cells", "Verts", "Lines", "Strips", "Polys"))
        points, cells = points + numbers.get("Points", 0), cells + here
        corners = 4 if "Polys" in numbers else 8
    return _Count(points, cells, corners)


def _product(numbers: list[int]) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product


def _owners(files: list[Path]) -> _Count:
    """Add up what the owner files of OpenFOAM say in their heads."""
    points = cells = 0
    for file in files:
        if file.name.removesuffix(".gz") == "owner":
            text = openfoam.head_of(file)
            points += int(found[1]) if (found := re.search(r"nPoints:\s*(\d+)", text)) else 0
            cells += int(found[1]) if (found := re.search(r"nCells:\s*(\d+)", text)) else 0
    return _Count(points, cells, 8)


def _holds_geometry(file: Path) -> bool:
    with file.open("rb") as opened:
        return b"node id" in opened.read(1024)
