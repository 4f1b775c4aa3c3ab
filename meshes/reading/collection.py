"""Collections of VTK files: `.vtm` with blocks, `.pvd` with times and parts."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from meshes.mesh import Mesh
from meshes.reading.errors import ReadError
from meshes.reading.files import read_file
from meshes.reading.signatures import check_signature
from meshes.reading.source import Source, free_name

SUFFIXES = (".vtm", ".pvd")


class _Part(NamedTuple):
    """A file that a collection names."""

    name: str
    path: Path
    time: float | None


class VTKCollection(Source):
    """A `.vtm` or `.pvd`. Blocks inside blocks are named `outer/inner`."""

    def times(self) -> list[float]:
        """Return the times that the file gives its parts."""
        return sorted({part.time for part in self._parts if part.time is not None})

    def blocks(self, time: float | None) -> list[str]:
        """Return the names of the parts at a time."""
        return list(self._at(time))

    def read(self, blocks: Collection[str], arrays: Collection[str] | None, time: float | None) -> dict[str, Mesh]:
        """Read the files of some parts at a time."""
        meshes = {name: read_file(part.path, arrays) for name, part in self._at(time).items() if name in blocks}
        return {name: mesh for name, mesh in meshes.items() if mesh.n_cells}

    def files(self, arrays: Collection[str] | None, times: Sequence[float]) -> list[Path]:
        """Return the collection, and the files that it names at some times."""
        return [self.path, *(part.path for part in self._parts if part.time is None or part.time in times)]

    def _at(self, time: float | None) -> dict[str, _Part]:
        parts: dict[str, _Part] = {}
        for part in self._parts:
            if part.time is None or part.time == time:
                parts[free_name(part.name or str(len(parts)), parts)] = part
        return parts

    @cached_property
    def _parts(self) -> list[_Part]:
        path = self.path
        check_signature(path, SUFFIXES)
        text = path.read_bytes().split(b"<AppendedData")[0]
        if not text.rstrip().endswith(b"</VTKFile>"):
            text += b"</VTKFile>"
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise ReadError(f"{path} is not well-formed XML ({error}); write it again") from error
        try:
            parts = list(_named(root, "", path.parent))
        except ValueError as error:
            raise ReadError(f"{path} has a timestep that is no number ({error}); write it again") from error
        if not parts:
            raise ReadError(f"{path} names no files; expected <DataSet file=…> entries")
        return parts


def _named(element: ElementTree.Element, prefix: str, folder: Path) -> Iterator[_Part]:
    for number, child in enumerate(element):
        step = child.get("timestep")
        # Files of a series count anew at each time, so that a part without a name is called the same at all.
        name = child.get("name") or child.get("part") or child.get("index") or (str(number) if step is None else "")
        if child.tag == "DataSet" and child.get("file"):
            yield _Part(prefix + name, folder / str(child.get("file")), None if step is None else float(step))
        elif child.tag in ("Block", "Piece"):
            yield from _named(child, f"{prefix}{name}/", folder)
        elif child.tag in ("Collection", "vtkMultiBlockDataSet"):
            yield from _named(child, prefix, folder)
