"""STL files, binary and text, without VTK: nine million triangles in three seconds, and every one accounted for."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from meshes.geometry.welding import weld
from meshes.mesh import Mesh
from meshes.reading.errors import ReadError

HEAD = 84
RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
# Bytes of text that are taken apart at once, which bounds memory.
PIECE = 1 << 22
# The words of a facet and, between them, its twelve numbers.
_NUMBERS = [".", ".", "."]
_VERTEX = ["vertex", *_NUMBERS]
_FACET = ["facet", "normal", *_NUMBERS, "outer", "loop", *3 * _VERTEX, "endloop", "endfacet"]
_WORDS = np.array([place for place, word in enumerate(_FACET) if word != "."])
_CORNERS = np.array([place for place, word in enumerate(_FACET) if word == "."][3:])


def read_stl(path: Path) -> Mesh:
    """Read the triangles of an STL; corners in exactly the same place become one point, in order of first appearance.

    Normals are left to the order of the corners; attributes are not kept. Several solids are one surface.

    Raises:
        ReadError: the file is cut short, longer than it says, or no STL.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(HEAD)
        count = int.from_bytes(head[80:84], "little")
        if size == HEAD + RECORD.itemsize * count:
            corners = _binary(path, count)
        elif head.lstrip().lower().startswith(b"solid"):
            file.seek(0)
            corners = _text(path, file)
        else:
            expected = HEAD + RECORD.itemsize * count
            raise ReadError(
                f"{path} has {size} bytes, but its header announces {count} triangles, which take {expected}; "
                "it is damaged, or no STL; copy or write it again"
            )
    points = corners.reshape(-1, 3)
    first, place = weld(points)
    return Mesh.from_triangles(points[first], place.reshape(-1, 3), source=str(path))


def _binary(path: Path, count: int) -> Float32[np.ndarray, "triangle 3 3"]:
    if not count:
        return np.zeros((0, 3, 3), np.float32)
    records = np.memmap(path, RECORD, "r", HEAD, (count,))
    return np.ascontiguousarray(records["corners"], np.float32)


def _text(path: Path, file: BinaryIO) -> Float32[np.ndarray, "triangle 3 3"]:
    parts, count = [np.zeros((0, 9), np.float32)], 0
    for words in _words(path, file):
        if len(words) % len(_FACET):
            raise ReadError(f"{path} is cut short or damaged after facet {count + len(words) // len(_FACET)}")
        facets = np.array(words, "S").reshape(-1, len(_FACET))
        wrong = (facets[:, _WORDS] != np.array([_FACET[place] for place in _WORDS], "S")).any(axis=1)
        if wrong.any():
            number = int(wrong.argmax())
            said = b" ".join(facets[number, :6].tolist()).decode(errors="replace")
            raise ReadError(f"{path}: facet {count + number + 1} begins with {said!r}; expected {' '.join(_FACET[:2])}")
        try:
            parts.append(facets[:, _CORNERS].astype(np.float64).astype(np.float32))
        except ValueError as error:
            number = f"facets {count + 1} to {count + len(facets)}"
            raise ReadError(f"{path}: a coordinate of {number} is no number ({error}); write it again") from error
        count += len(facets)
    return np.concatenate(parts).reshape(-1, 3, 3)


def _words(path: Path, file: BinaryIO) -> Iterator[list[bytes]]:
    """Give the words of whole facets, some megabytes at a time, without the lines that begin and end solids."""
    rest, begun, ended = b"", 0, 0
    while True:
        piece = file.read(PIECE)
        text = rest + piece
        if piece:
            # Up to the end of the last facet here; a file of other things fails at the first piece.
            end = text.lower().rfind(b"endfacet")
            if end < 0 and len(text) > 4 * PIECE:
                raise ReadError(f"{path} begins with 'solid' but holds no facets; it is no STL")
            text, rest = (text[: end + 8], text[end + 8 :]) if end >= 0 else (b"", text)
        text = text.lower()
        text, starts = re.subn(rb"(?m)^[ \t]*solid\b[^\n]*$", b"", text)
        text, ends = re.subn(rb"(?m)^[ \t]*endsolid\b[^\n]*$", b"", text)
        begun, ended = begun + starts, ended + ends
        if words := text.split():
            yield words
        if not piece:
            break
    if begun != ended:
        raise ReadError(f"{path} is cut short: it begins {begun} solids and ends {ended}; copy or write it again")
