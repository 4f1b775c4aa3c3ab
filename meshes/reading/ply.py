"""Whether a PLY is whole: VTK's reader ends the process at one that is cut short."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from meshes.reading.errors import ReadError

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip


class _Element(NamedTuple):
    """A table of the file: its rows, and for each property the types of its count (of a list) and of its values."""

    name: str
    count: int
    properties: list[tuple[np.dtype | None, np.dtype]]


def check_ply(path: Path) -> None:
    """Refuse a PLY whose header cannot be understood or whose data end before the header says.

    Raises:
        ReadError: either.
    """
    data = path.read_bytes()
    end = data.find(b"end_header")
    start = data.find(b"\n", end) + 1
    if end < 0 or start == 0:
        raise ReadError(f"{path} is cut short: its header does not end in 'end_header'; copy or write it again")
    try:
        order, elements = _header(data[:end].decode("ascii").split("\n"))
    except (KeyError, ValueError, IndexError) as error:
        raise ReadError(f"the header of {path} is no PLY header ({error}); write it again") from error
    if order is None:
        lines = sum(bool(line.strip()) for line in data[start:].split(b"\n"))
        whole = lines >= sum(element.count for element in elements)
    else:
        whole = _whole(np.frombuffer(data, np.uint8), start, elements)
    if not whole:
        told = " and ".join(f"{element.count} of {element.name}" for element in elements)
        raise ReadError(f"{path} is cut short: its header announces {told}; copy or write it again")


def _header(lines: list[str]) -> tuple[str | None, list[_Element]]:
    order: str | None = None
    elements: list[_Element] = []
    for line in lines:
        words = line.split()
        if words[:1] == ["format"]:
            order = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}[words[1]]
        elif words[:1] == ["element"]:
            elements.append(_Element(words[1], int(words[2]), []))
        elif words[:1] == ["property"]:
            kinds = [np.dtype(f"{order or '='}{_TYPES[word]}") for word in words[1:-1] if word != "list"]
            elements[-1].properties.append((kinds[0], kinds[1]) if words[1] == "list" else (None, kinds[0]))
    return order, elements


def _whole(data: np.ndarray, start: int, elements: list[_Element]) -> bool:
    for element in elements:
        lists = [count for count, _ in element.properties if count is not None]
        if not lists:
            start += element.count * sum(kind.itemsize for _, kind in element.properties)
        elif element.count:
            start = _after_lists(data, start, element)
        if start > len(data):
            return False
    return True


def _after_lists(data: np.ndarray, start: int, element: _Element) -> int:
    """Return where the rows of an element with lists end; beyond the data where they are cut short."""
    beyond = len(data) + 1
    first = _after_row(data, start, element)
    if len(element.properties) == 1 and first < beyond:  # usually all lists are of one length: no need to walk
        count = element.properties[0][0]
        assert count is not None
        size = first - start
        if start + element.count * size <= len(data):
            rows = data[start : start + element.count * size].reshape(element.count, size)[:, : count.itemsize]
            if (rows == rows[0]).all():
                return start + element.count * size
    for _ in range(element.count):
        if start >= beyond:
            break
        start = _after_row(data, start, element)
    return start


def _after_row(data: np.ndarray, start: int, element: _Element) -> int:
    for count, kind in element.properties:
        if count is None:
            start += kind.itemsize
        elif start + count.itemsize > len(data):
            return len(data) + 1
        else:
            length = int(data[start : start + count.itemsize].view(count)[0])
            start += count.itemsize + length * kind.itemsize
    return start
