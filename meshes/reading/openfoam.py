"""Cases of OpenFOAM, serial and decomposed, through VTK's reader: the inner mesh and its patches as blocks."""

import gzip
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from meshes.mesh import Mesh
from meshes.paths import absence
from meshes.reading.errors import ReadError
from meshes.reading.observed import observed
from meshes.reading.source import Source

SUFFIX = ".foam"
INTERNAL = "internalMesh"
CONTROL = Path("system", "controlDict")


def is_case(path: Path) -> bool:
    """Whether a path is the folder of an OpenFOAM case, or a `.foam` file in one."""
    folder = path if path.is_dir() else path.parent
    return (path.is_dir() or (path.suffix.lower() == SUFFIX and path.is_file())) and (folder / CONTROL).is_file()


def head_of(file: Path) -> str:
    """Return the first bytes of a file, which may be compressed, as text."""
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        return opened.read(2048).decode("ascii", errors="ignore")


class OpenFOAM(Source):
    """An OpenFOAM case: block `internalMesh` and each patch by its name, data on cells and faces as they are stored.

    Blocks of several regions are named `REGION/internalMesh` and `REGION/PATCH`. VTK winds the faces of patches as
    OpenFOAM does: their normals point out of the fluid. Polyhedra stay whole, and no data are interpolated to points.

    A decomposed case (`processor0` …) is read from its processors where it has no mesh of its own, or no time as late
    as theirs: `reconstructPar` has then not been run. Its cells come processor by processor.

    Raises:
        FileNotFoundError: there is no such path.
        ReadError: it is no case, or was decomposed into files that VTK cannot read.
    """

    latest = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.folder = path if path.is_dir() else path.parent
        if not path.exists():
            raise FileNotFoundError(absence(path))
        if not is_case(path):
            raise ReadError(f"{path} belongs to no OpenFOAM case: {self.folder / CONTROL} is not there")
        self.processors = sorted(
            (each for each in self.folder.glob("processor*") if re.fullmatch(r"processor\d+", each.name)),
            key=lambda each: int(each.name.removeprefix("processor")),
        )
        self._serial = _times(self.folder)
        own = _meshes(self.folder)
        if not self.processors and not own:
            collated = next(self.folder.glob("processors*"), None)
            message = f"{path} has no mesh: there is no {self.folder / 'constant' / 'polyMesh'}"
            raise ReadError(message + (f"; {collated.name} is collated: run reconstructPar" if collated else ""))
        theirs = _times(self.processors[0]) if self.processors else {}
        self.decomposed = bool(theirs) and (not own or max(theirs) > max(self._serial, default=-1.0))
        self._names = theirs if self.decomposed else self._serial
        self._vtk: Any = None

    def times(self) -> list[float]:
        """Return the times of the folders, in order."""
        return sorted(self._names)

    def blocks(self, time: float | None) -> list[str]:
        """Return the inner meshes and the patches."""
        with observed() as errors:
            names = list(self._patches(time))
        self._refuse(errors)
        return names

    def usual(self, blocks: list[str]) -> list[str]:
        """Return the inner meshes."""
        return [name for name in blocks if name.rpartition("/")[2] == INTERNAL]

    def read(self, blocks: Collection[str], arrays: Collection[str] | None, time: float | None) -> dict[str, Mesh]:
        """Read some blocks at a time."""
        if self.decomposed:
            self._vtk = None  # a reader of several processors keeps to the first time that it was asked for
        with observed() as errors:
            patches = self._patches(time)
            for name, label in patches.items():
                self._reader().SetPatchArrayStatus(label, int(name in blocks))
            reader = self._reader()
            for number in range(reader.GetNumberOfCellArrays()):
                name = reader.GetCellArrayName(number)
                reader.SetCellArrayStatus(name, int(arrays is None or name in arrays))
            if time is None:
                reader.Update()
            else:
                reader.UpdateTimeStep(time)  # `Update` alone would keep to the first time
            found = dict(_leaves(reader.GetOutputDataObject(0), ""))
        self._refuse(errors)
        meshes = {name: self._mesh(name, found[name]) for name in patches if name in blocks and name in found}
        return {name: mesh for name, mesh in meshes.items() if mesh.n_cells}

    def files(self, arrays: Collection[str] | None, times: Sequence[float]) -> list[Path]:
        """Return the files of the mesh and of the fields at some times."""
        roots = self.processors if self.decomposed else [self.folder]
        found = [self.folder / CONTROL]
        for root in roots:
            found += sorted(file for mesh in _meshes(root) for file in mesh.iterdir() if file.is_file())
            for time in times:
                files = sorted(file for file in (root / self._names[time]).rglob("*") if file.is_file())
                found += [
                    file
                    for file in files
                    if arrays is None or file.name.removesuffix(".gz") in arrays or file.parent.name == "polyMesh"
                ]
        return found

    def _mesh(self, name: str, dataset: Any) -> Mesh:
        source = f"{self.path} ({name})"
        try:
            return Mesh.from_pyvista(dataset, source)
        except ValueError as error:  # of the checks of Mesh
            raise ReadError(f"{source} is damaged: {error}") from error

    def _refuse(self, errors: list[str]) -> None:
        if errors:
            raise ReadError(f"{self.path} cannot be read as an OpenFOAM case (VTK says: {errors[0]})")

    def _reader(self) -> Any:
        if self._vtk is None:
            from vtkmodules.vtkIOParallel import vtkPOpenFOAMReader

            reader: Any = vtkPOpenFOAMReader()
            reader.SetFileName(str(self.folder / "case.foam"))  # only its folder counts
            reader.SetCaseType(0 if self.decomposed else 1)
            reader.CreateCellToPointOff()
            if hasattr(reader, "DecomposePolyhedraOff"):  # until VTK 9.6; later ones never decompose
                reader.DecomposePolyhedraOff()
            self._vtk = reader
        return self._vtk

    def _patches(self, time: float | None) -> dict[str, str]:
        """Return for each block what VTK calls it."""
        reader = self._reader()
        if time is not None:
            reader.SetTimeValue(time)
        reader.UpdateInformation()
        labels = [reader.GetPatchArrayName(number) for number in range(reader.GetNumberOfPatchArrays())]
        names = {}
        for label in labels:
            region, kind, name = re.fullmatch(r"(?:/(.*?)/)?(?:(\w+)/)?([^/]+)", label).groups()  # type: ignore[union-attr]
            if name == INTERNAL or kind == "patch":
                names[f"{region}/{name}" if region else name] = label
        return names


def _times(folder: Path) -> dict[float, str]:
    """Return the folders of times, by their number."""
    names = (each.name for each in folder.iterdir() if re.fullmatch(r"[\d.]+(e[-+]?\d+)?", each.name) and each.is_dir())
    return {float(name): name for name in names}


def _meshes(root: Path) -> list[Path]:
    """Return the folders of the meshes, one a region."""
    return sorted(each.parent for each in (root / "constant").glob("**/polyMesh/owner*"))


def _leaves(dataset: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkMultiBlockDataSet

    if dataset is None:
        return
    if not isinstance(dataset, vtkMultiBlockDataSet):
        yield prefix, dataset
        return
    for number in range(dataset.GetNumberOfBlocks()):
        name = dataset.GetMetaData(number).Get(vtkCompositeDataSet.NAME())
        inner = prefix if name == "boundary" else f"{prefix}/{name}" if prefix else name
        yield from _leaves(dataset.GetBlock(number), inner)
