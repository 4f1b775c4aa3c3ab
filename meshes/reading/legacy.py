"""Names of the arrays in a legacy file of VTK, found by its headers alone: data are stepped over, not read."""

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

from meshes.reading.errors import ReadError

# Bytes of one value; VTK writes its ids as int. Texts, and bits, have lengths of their own.
_BYTES = {
    b"char": 1, b"signed_char": 1, b"unsigned_char": 1, b"short": 2, b"unsigned_short": 2, b"int": 4,
    b"unsigned_int": 4, b"long": 8, b"unsigned_long": 8, b"vtkidtype": 4, b"vtktypeint64": 8, b"vtktypeuint64": 8,
    b"float": 4, b"double": 8,
}  # fmt: skip
_TYPES = b"|".join([*_BYTES, b"bit", b"string", b"utf8_string", b"variant"])
_COMPONENTS = {b"vectors": 3, b"normals": 3, b"tensors": 9, b"tensors6": 6}
_CELLS = (b"cells", b"vertices", b"lines", b"polygons", b"triangle_strips")
_NUMBERS = {b"dimensions": 3, b"origin": 3, b"spacing": 3, b"aspect_ratio": 3, b"extent": 6}
_SECTIONS = {b"point_data": "points", b"cell_data": "cells"}
# In text, a line of numbers never looks like these, and texts hold no spaces. The last is an array of a FIELD.
_LINE = re.compile(
    rb"^[ \t]*(?:(point_data|cell_data)[ \t]+\d+"
    rb"|(?:scalars|vectors|normals|tensors6?|global_ids|pedigree_ids|edge_flags)[ \t]+(\S+)[ \t]+(?:" + _TYPES + rb")\b"
    rb"|texture_coordinates[ \t]+(\S+)[ \t]+\d+[ \t]+\w+|color_scalars[ \t]+(\S+)[ \t]+\d+"
    rb"|(\S+)[ \t]+\d+[ \t]+\d+[ \t]+(?:" + _TYPES + rb"))[ \t]*\d*[ \t]*\r?$",
    re.MULTILINE | re.IGNORECASE,
)


def check_legacy_names(path: Path) -> None:
    """Check that no two arrays of the points, or of the cells, of a legacy file of VTK have one name.

    Raises:
        ReadError: two have.
    """
    seen: set[tuple[str, bytes]] = set()
    for where, name in legacy_names(path):
        if (where, name) in seen:
            called = name.decode("utf-8", "replace")
            raise ReadError(f"{path} has several arrays of {where} called {called!r}; rename all but one")
        seen.add((where, name))


def legacy_names(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield for each array of a legacy file whether it lies on points or cells, and its name.

    Where the file is not what its format says, nothing more is found: its reader has to refuse it.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        version, _, form = (content.readline() for _ in range(3))
        binary = form.strip().lower() == b"binary"
        for where, name in _Binary(content, version).arrays() if binary else _text_arrays(content):
            yield where, unquote_to_bytes(name)


def _text_arrays(content: mmap.mmap) -> Iterator[tuple[str, bytes]]:
    where = ""
    for line in _LINE.finditer(content, content.tell()):
        section, *names = line.groups()
        if section is not None:
            where = _SECTIONS[section.lower()]
        elif where:
            yield where, next(name for name in names if name is not None)


class _Binary:
    """Steps from header to header of a binary file."""

    def __init__(self, content: mmap.mmap, version: bytes) -> None:
        self.content = content
        found = re.search(rb"(\d+)\.\d+", version)
        self.offsets = found is not None and int(found[1]) >= 5  # cells as offsets and connectivity

    def arrays(self) -> Iterator[tuple[str, bytes]]:
        """Yield where each array lies and its name."""
        where, count = "", 0
        try:
            while word := self.word().lower():
                if word in _SECTIONS:
                    where, count = _SECTIONS[word], self.number()
                elif word == b"field":
                    self.word()
                    for _ in range(self.number()):
                        name, components, tuples = self.word(), self.number(), self.number()
                        if where:
                            yield where, name
                        self.skip(components * tuples, self.word())
                elif where and (name := self.attribute(word, count)):
                    yield where, name
                elif not where:
                    self.structure(word)
        except (ValueError, KeyError, IndexError):
            return

    def attribute(self, word: bytes, count: int) -> bytes:
        """Step over an attribute; return its name, or nothing where it has none that counts."""
        if word == b"metadata":
            while self.content.readline().strip():
                pass
            return b""
        name = self.word()
        if word == b"lookup_table":
            self.skip(4 * self.number(), b"unsigned_char")
            return b""
        if word == b"scalars":
            kind, *rest = self.content.readline().split()
            if (table := self.word().lower()) != b"lookup_table":
                raise ValueError(table)
            self.word()
            self.skip(count * int(rest[0] if rest else 1), kind)
        elif word == b"color_scalars":
            self.skip(count * self.number(), b"unsigned_char")
        elif word == b"texture_coordinates":
            self.skip(count * self.number(), self.word())
        elif word in _COMPONENTS or word in (b"global_ids", b"pedigree_ids", b"edge_flags"):
            self.skip(count * _COMPONENTS.get(word, 1), self.word())
        else:
            raise ValueError(word)
        return name

    def structure(self, word: bytes) -> None:
        """Step over what comes before the arrays."""
        if word == b"dataset":
            self.word()
        elif word == b"metadata":
            self.attribute(word, 0)
        elif word in _NUMBERS:
            for _ in range(_NUMBERS[word]):
                self.word()
        elif word == b"points":
            self.skip(3 * self.number(), self.word())
        elif word in (b"x_coordinates", b"y_coordinates", b"z_coordinates"):
            self.skip(self.number(), self.word())
        elif word == b"cell_types":
            self.skip(self.number(), b"int")
        elif word in _CELLS:
            first, second = self.number(), self.number()
            if not self.offsets:
                self.skip(second, b"int")
                return
            for count in (first, second):
                self.word()  # OFFSETS, CONNECTIVITY
                self.skip(count, self.word())
        else:
            raise ValueError(word)

    def word(self) -> bytes:
        """Read up to the next space; nothing at the end of the file."""
        while (letter := self.content.read(1)).isspace():
            pass
        letters = []
        while letter and not letter.isspace():
            letters.append(letter)
            letter = self.content.read(1)
        if letter:
            self.content.seek(-1, 1)
        return b"".join(letters)

    def number(self) -> int:
        """Read a whole number, which is not negative."""
        word = self.word()
        if not word.isdigit():
            raise ValueError(word)
        return int(word)

    def skip(self, count: int, kind: bytes) -> None:
        """Step over the rest of the line and the values after it."""
        self.content.readline()
        kind = kind.lower()
        if kind in (b"string", b"utf8_string"):
            for _ in range(count):
                self.text()
        else:
            self.content.seek((count + 7) // 8 if kind == b"bit" else count * _BYTES[kind], 1)

    def text(self) -> None:
        """Step over a text; its length stands before it, in one, two, four or eight bytes as two bits of it say."""
        head = self.content.read(1)[0]
        more = {3: 0, 2: 1, 1: 3, 0: 7}[head >> 6]
        length = int.from_bytes(bytes([head & 63]) + self.content.read(more), "big")
        self.content.seek(length, 1)
