"""Arrays of one name, of which VTK would read one without a word."""

import mmap
import re
from html import unescape
from pathlib import Path

from meshes.reading.errors import ReadError

_TAG = re.compile(rb"<(/?)(Piece|PointData|CellData|DataArray|Array|AppendedData)\b([^>]*)>")
_NAME = re.compile(rb"""\bName\s*=\s*(?:"([^"]*)"|'([^']*)')""")


def check_names(path: Path) -> None:
    """Check that no two arrays of the points, or of the cells, of an XML file of VTK have one name.

    Raises:
        ReadError: two have.
    """
    section, names = b"", set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        for tag in _TAG.finditer(text):
            closing, kind, attributes = tag.groups()
            if kind == b"AppendedData":
                return
            if kind in (b"PointData", b"CellData"):
                section, names = b"" if closing else kind, set()
            elif section and not closing and (found := _NAME.search(attributes)) is not None:
                name = found[1] if found[1] is not None else found[2]
                if name in names:
                    where = "points" if section == b"PointData" else "cells"
                    called = unescape(name.decode("utf-8", "replace"))
                    raise ReadError(f"{path} has several arrays of {where} called {called!r}; rename all but one")
                names.add(name)
