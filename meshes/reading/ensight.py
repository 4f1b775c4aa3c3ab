"""EnSight Gold through VTK's reader: its parts as blocks."""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from meshes.mesh import Mesh
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
            raise FileNotFoundError(f"{path} does not exist; check the path")
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
        for file in self._named():
            if "*" not in str(file) and not file.exists():
                raise FileNotFoundError(f"{file} is not there, but {path} names it")
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
        """Read some parts at a time."""
        with observed() as errors:
            reader = self._reader()
            for selection in (reader.GetPointArraySelection(), reader.GetCellArraySelection()):
                for name in _names(selection):
                    selection.SetArraySetting(name, int(arrays is None or name in arrays))
            parts = reader.GetPartSelection()
            for name in _names(parts):
                parts.SetArraySetting(name, int(name in blocks))
            if time is not None:
                reader.SetTimeValue(time)
            reader.Update()
            found = list(_leaves(reader.GetOutputDataObject(0)))
        self._refuse(errors)
        meshes: dict[str, Mesh] = {}
        for name, dataset in found:
            source = f"{self.path} ({name})"
            try:
                mesh = Mesh.from_pyvista(dataset, source)
            except ValueError as error:  # of the checks of Mesh
                raise ReadError(f"{source} is damaged: {error}") from error
            if mesh.n_cells:
                meshes[free_name(name, meshes)] = mesh
        return meshes

    def files(self, arrays: Collection[str] | None, times: Sequence[float]) -> list[Path]:
        """Return the case file, and the files of the geometry and of the arrays at some times."""
        steps = self.times()
        found = [self.path]
        for file in self._named(arrays):
            name = str(file.relative_to(self.path.parent))
            if "*" not in name:
                found.append(file)
                continue
            each_time = sorted(self.path.parent.glob(name.replace("*", "[0-9]")))
            whole = len(each_time) != len(steps)
            found += [each for number, each in enumerate(each_time) if whole or steps[number] in times]
        return found

    def _named(self, arrays: Collection[str] | None = None) -> Iterator[Path]:
        """Give the files that the case file names; `*` stands for digits."""
        section = ""
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, colon, rest = (part.strip() for part in line.partition(":"))
            words = rest.split()
            if not colon and key.isupper():
                section = key
            elif section == "GEOMETRY" and key.lower() == "model" and words:
                names = [word for word in words if not word.isdigit()]
                yield self.path.parent / names[0].strip('"')
            elif section == "VARIABLE" and " per " in key.lower() and not key.lower().startswith("constant"):
                names = [word.strip('"') for word in words if not word.isdigit()]
                if len(names) > 1 and (arrays is None or names[0] in arrays):
                    yield self.path.parent / names[1]

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
