"""What a file says about itself in its first and last bytes, before a reader is let near it."""

import re
from collections.abc import Collection
from pathlib import Path

from meshes.paths import absence
from meshes.reading.errors import ReadError

XML_TYPES = {
    ".vtp": "PolyData",
    ".vtu": "UnstructuredGrid",
    ".vti": "ImageData",
    ".vts": "StructuredGrid",
    ".vtr": "RectilinearGrid",
    ".vtm": "vtkMultiBlockDataSet",
    ".pvd": "Collection",
}
HEAD, TAIL = 2048, 512


def check_signature(path: Path, suffixes: Collection[str]) -> None:
    """Refuse a file that is not there, empty, cut short, or plainly not what its ending says.

    Args:
        path: the file.
        suffixes: the endings that can be read, for the message.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: any of the others.
    """
    suffix = path.suffix.lower()
    if not path.exists():
        raise FileNotFoundError(absence(path))
    if path.is_dir():
        raise ReadError(f"{path} is a folder; expected a file ending in {', '.join(suffixes)}")
    if suffix not in suffixes:
        ending = f"ends in {path.suffix!r}" if suffix else "has no ending"
        raise ReadError(f"{path} {ending}; expected one of {', '.join(suffixes)}")
    size = path.stat().st_size
    if size == 0:
        raise ReadError(f"{path} is empty (0 bytes); copy or write it again")
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(max(size - TAIL, 0))
        tail = file.read()
    found = kind_of(head)
    if found == "a web page":
        raise ReadError(f"{path} holds a web page, perhaps of a failed download; expected a {suffix} file")
    if suffix in XML_TYPES:
        _check_xml(path, head, tail, found)
    elif suffix == ".stl":
        _check_stl(path, head, tail, size, found)
    else:
        expected = {".ply": "a PLY file", ".vtk": "a legacy VTK file", ".obj": None}[suffix]
        if found != expected:
            raise ReadError(f"{path} ends in {suffix} but holds {found or 'something else'}; give it its right ending")


def kind_of(head: bytes) -> str | None:
    """Tell from its first bytes what a file is; None where they tell nothing."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    declared = re.search(rb"<VTKFile[^>]*?\btype=[\"'](\w+)[\"']", head)
    if declared:
        return f"VTK XML of type {declared[1].decode()}"
    if start.startswith(b"# vtk datafile"):
        return "a legacy VTK file"
    if start.startswith((b"ply\n", b"ply\r")):
        return "a PLY file"
    if start.startswith(b"\x89hdf"):
        return "an HDF5 file"
    if start.startswith((b"pk\x03\x04", b"\x1f\x8b")):
        return "a compressed archive"
    return None


def _check_xml(path: Path, head: bytes, tail: bytes, found: str | None) -> None:
    suffix = path.suffix.lower()
    expected = f"VTK XML of type {XML_TYPES[suffix]}"
    if found != expected:
        right = next((end for end, kind in XML_TYPES.items() if found == f"VTK XML of type {kind}"), None)
        advice = f"rename it to {path.with_suffix(right).name}" if right else "give it its right ending"
        raise ReadError(f"{path} holds {found or 'no VTK XML'}; expected {expected}; {advice}")
    if not tail.rstrip().endswith(b"</VTKFile>"):
        raise ReadError(f"{path} is cut short: it does not end in </VTKFile>; copy or write it again")


def _check_stl(path: Path, head: bytes, tail: bytes, size: int, found: str | None) -> None:
    if found is not None:
        raise ReadError(f"{path} ends in .stl but holds {found}; give it its right ending")
    triangles = int.from_bytes(head[80:84], "little") if size >= 84 else 0
    needed = 84 + 50 * triangles
    if size == needed and triangles:
        return
    if head.lstrip().lower().startswith(b"solid") and (b"facet" in head.lower() or b"endsolid" in head.lower()):
        if b"endsolid" not in tail.lower():
            raise ReadError(f"{path} is cut short: this text STL does not end in 'endsolid'; copy or write it again")
        return
    if size < 84:
        raise ReadError(f"{path} has {size} bytes; an STL has at least 84; copy or write it again")
    if size < needed:
        message = f"{path} has {size} bytes, but its header announces {triangles} triangles, which take {needed}"
        raise ReadError(f"{message}; it is cut short, or no STL; copy or write it again")
    if not triangles:
        raise ReadError(f"{path} holds no triangles; expected a surface")
