"""EnSight Gold through VTK's reader: its parts as blocks."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np

from meshes.mesh import Mesh
from meshes.paths import absence
from meshes.reading.errors import ReadError
from meshes.reading.observed import observed
from meshes.reading.source import Source, free_name

SUFFIXES = (".case", ".encas")
HEAD = 4096


class EnSight(Source):
    """An EnSight Gold case, in text or binary: its parts by name, in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: it is no EnSight Gold case.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if not path.exists():
            raise FileNotFoundError(absence(path))
        if path.is_dir():
            raise ReadError(f"{path} is a folder; expected an EnSight Gold case file")
        if not path.stat().st_size:
            raise ReadError(f"{path} is empty (0 bytes); copy or write it again")
        text = path.read_bytes()[:HEAD].decode("utf-8", errors="replace").lower()
        if text.lstrip().startswith(("<!doctype html", "<html")):
            raise ReadError(f"{path} holds a web page, perhaps of a failed download; expected an EnSight Gold case")
        kind = re.search(r"^\s*type\s*:\s*(.*?)\s*$", text, re.MULTILINE)
        if kind is None:
            raise ReadError(f"{path} says no 'type: ensight gold' under FORMAT: it is no EnSight case file")
        if "gold" not in kind[1]:
            raise ReadError(f"{path} is of type {kind[1]!r}; only EnSight Gold can be read: export it as that")
        self._geometry, self._variables = _named(path)
        for pattern in (*self._geometry, *self._variables.values()):
            if "*" not in pattern and not (path.parent / pattern).exists():
                raise FileNotFoundError(f"{path.parent / pattern} is not there, but {path} names it")
        self._vtk: Any = None

    def times(self) -> list[float]:
        """Return the steps of the time set, in order."""
        with observed() as errors:
            steps = self._reader().GetAllTimeSteps()
            times = [] if steps is None else [steps.GetValue(each) for each in range(steps.GetNumberOfValues())]
        self._refuse(errors)
        return sorted(times)

    def blocks(self, time: float | None) -> list[str]:
        """Return the names of the parts."""
        with observed() as errors:
            names = _names(self._reader().GetPartSelection())
        self._refuse(errors)
        return names

    def read(self, blocks: Collection[str], arrays: Collection[str] | None, time: float | None) -> dict[str, Mesh]:
        """Read some parts at a time.

        VTK fills what a file of values lacks with whatever memory held. So all parts are read, and the files compared
        with what these need.
        """
        with observed() as errors:
            reader = self._reader()
            for selection in (reader.GetPointArraySelection(), reader.GetCellArraySelection()):
                for name in _names(selection):
                    selection.SetArraySetting(name, int(arrays is None or name in arrays))
            if time is not None:
                reader.SetTimeValue(time)
            reader.Update()
            found = list(_leaves(reader.GetOutputDataObject(0)))
        self._refuse(errors)
        meshes: dict[str, Mesh] = {}
        for name, dataset in found:
            meshes[free_name(name, meshes)] = self._mesh(name, dataset)
        for name, pattern in self._variables.items():
            if arrays is None or name in arrays:
                for file in self._at(pattern, [] if time is None else [time]):
                    _check_size(file, name, meshes.values())
        return {name: mesh for name, mesh in meshes.items() if mesh.n_cells and name in blocks}

    def files(self, arrays: Collection[str] | None, times: Sequence[float]) -> list[Path]:
        """Return the case file, and the files of the geometry and of the arrays at some times."""
        chosen = [file for name, file in self._variables.items() if arrays is None or name in arrays]
        return [self.path, *(file for pattern in (*self._geometry, *chosen) for file in self._at(pattern, times))]

    def _at(self, pattern: str, times: Sequence[float]) -> list[Path]:
        """Return the files of a pattern, in which `*` stands for a digit, at some times."""
        if "*" not in pattern:
            return [self.path.parent / pattern]
        found = sorted(self.path.parent.glob(pattern.replace("*", "[0-9]")))
        steps = self.times()
        if len(found) != len(steps):  # of a time set of its own
            return found
        return [file for file, step in zip(found, steps, strict=True) if step in times]

    def _mesh(self, name: str, dataset: Any) -> Mesh:
        source = f"{self.path} ({name})"
        try:
            with catch_warnings():
                simplefilter("error")  # PyVista warns of arrays of the wrong length
                return Mesh.from_pyvista(dataset, source)
        except (ValueError, UserWarning) as error:
            raise ReadError(f"{source} is damaged or cut short: {error}") from error

    def _refuse(self, errors: list[str]) -> None:
        if errors:
            raise ReadError(f"{self.path} cannot be read as EnSight Gold; it is damaged or cut short ({errors[0]})")

    def _reader(self) -> Any:
        if self._vtk is None:
            from vtkmodules.vtkIOEnSight import vtkEnSightGoldCombinedReader

            self._vtk = vtkEnSightGoldCombinedReader()
            self._vtk.SetCaseFileName(str(self.path))
            self._vtk.UpdateInformation()
        return self._vtk


def _named(path: Path) -> tuple[list[str], dict[str, str]]:
    """Return the files that a case file names: of the geometry, and of each array."""
    section, geometry, variables = "", [], {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, colon, rest = (part.strip() for part in line.partition(":"))
        words = [word.strip('"') for word in rest.split() if not word.isdigit()]
        if not colon and key.isupper():
            section = key
        elif section == "GEOMETRY" and key.lower() == "model" and words:
            geometry.append(words[0])
        elif section == "VARIABLE" and " per " in key.lower() and len(words) > 1 and "constant" not in key.lower():
            variables[words[0]] = words[1]
    return geometry, variables


def _check_size(file: Path, array: str, meshes: Iterable[Mesh]) -> None:
    """Refuse a file of values that holds fewer than the parts which have the array need.

    Raises:
        ReadError: it is cut short.
    """
    parts = sections = values = 0
    for mesh in meshes:
        on_cells = array in mesh.cell_data
        if on_cells or array in mesh.point_data:
            parts += 1
            sections += len(np.unique(mesh.types)) if on_cells else 1
            values += (mesh.cell_data if on_cells else mesh.point_data)[array].size
    if values and kind_of(file) == "text":
        cut = _lines(file) < 1 + 2 * parts + sections + values
    else:
        cut = values > 0 and file.stat().st_size < 80 + 84 * parts + 80 * sections + 4 * values
    if cut:
        raise ReadError(f"{file} is cut short: it holds fewer values of {array} than its parts need; write it again")


def kind_of(file: Path) -> str:
    """Tell a text from a binary file: only there does the first line, of 80 characters in a binary, have an end."""
    with file.open("rb") as opened:
        return "text" if b"\n" in opened.read(80).rstrip(b"\0 ") else "binary"


def _lines(file: Path) -> int:
    """Count the whole lines: one without its end counts where it is as long as the one before."""
    count, last, before = 0, b"", b""
    with file.open("rb") as opened:
        for line in opened:
            count, before, last = count + 1, last, line
    whole = last.endswith(b"\n") or len(last) == len(before.rstrip(b"\r\n"))
    return count if whole else count - 1


def _names(selection: Any) -> list[str]:
    return [selection.GetArrayName(number) for number in range(selection.GetNumberOfArrays())]


def _leaves(collection: Any) -> Iterator[tuple[str, Any]]:
    from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet

    for number in range(collection.GetNumberOfPartitionedDataSets()):
        parts = collection.GetPartitionedDataSet(number)
        name = collection.GetMetaData(number).Get(vtkCompositeDataSet.NAME())
        for piece in range(parts.GetNumberOfPartitions()):
            if parts.GetPartition(piece) is not None:
                yield name, parts.GetPartition(piece)
