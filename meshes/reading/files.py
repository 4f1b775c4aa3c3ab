"""One file to a mesh, through VTK's readers and our own of STL."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from meshes.geometry.welding import weld
from meshes.mesh import Mesh
from meshes.reading.duplicates import check_names
from meshes.reading.errors import ReadError
from meshes.reading.joining import only
from meshes.reading.legacy import check_legacy_names
from meshes.reading.observed import observed
from meshes.reading.ply import check_ply
from meshes.reading.signatures import check_signature
from meshes.reading.source import Source
from meshes.reading.stl import read_stl

# VTK's reader for each ending, and the module that it lives in.
READERS = {
    ".obj": ("vtkIOGeometry", "vtkOBJReader"),
    ".ply": ("vtkIOPLY", "vtkPLYReader"),
    ".vtk": ("vtkIOLegacy", "vtkGenericDataObjectReader"),
    ".vtp": ("vtkIOXML", "vtkXMLPolyDataReader"),
    ".vtu": ("vtkIOXML", "vtkXMLUnstructuredGridReader"),
    ".vti": ("vtkIOXML", "vtkXMLImageDataReader"),
    ".vts": ("vtkIOXML", "vtkXMLStructuredGridReader"),
    ".vtr": ("vtkIOXML", "vtkXMLRectilinearGridReader"),
}
SUFFIXES = (".stl", *READERS)


class File(Source):
    """A file that is one mesh, without time: one block, named as the file."""

    def times(self) -> list[float]:
        """Return none."""
        return []

    def blocks(self, time: float | None) -> list[str]:
        """Return the name of the file."""
        return [self.path.stem]

    def read(self, blocks: Collection[str], arrays: Collection[str] | None, time: float | None) -> dict[str, Mesh]:
        """Read the mesh."""
        mesh = read_file(self.path, arrays)
        if not mesh.n_cells:
            raise ReadError(f"{self.path} has {mesh.n_points} points but no cells; expected a mesh")
        return {self.path.stem: mesh}

    def files(self, arrays: Collection[str] | None, times: Sequence[float]) -> list[Path]:
        """Return the file."""
        return [self.path]


def read_file(path: Path, arrays: Collection[str] | None) -> Mesh:
    """Read a file, which may turn out to have no cells.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: the file is empty, cut short, or not what its ending says.
    """
    suffix = path.suffix.lower()
    check_signature(path, SUFFIXES)
    if suffix == ".stl":
        return read_stl(path)
    if suffix == ".ply":
        check_ply(path)
    if READERS[suffix][0] == "vtkIOXML":
        check_names(path)
    if suffix == ".vtk":
        check_legacy_names(path)
    with observed() as errors:
        reader = _reader(suffix)
        reader.SetFileName(str(path))
        if arrays is not None:
            _select(reader, arrays)
        reader.Update()
        dataset = reader.GetOutputDataObject(0)
    if errors or dataset is None:
        said = f" (VTK says: {errors[0]})" if errors else ""
        raise ReadError(f"{path} cannot be read as {suffix}; it is damaged or cut short{said}; copy or write it again")
    try:
        mesh = Mesh.from_pyvista(dataset, str(path))
    except TypeError as error:
        raise ReadError(f"{path} cannot be used: {error}") from error
    except ValueError as error:  # of the checks of Mesh
        raise ReadError(f"{path} is damaged: {error}") from error
    if suffix == ".obj":
        return _welded(mesh)
    return mesh if arrays is None else only(mesh, arrays)


def _reader(suffix: str) -> Any:
    from importlib import import_module

    module, name = READERS[suffix]
    reader = getattr(import_module(f"vtkmodules.{module}"), name)()
    if suffix == ".vtk":
        for kind in ("Scalars", "Vectors", "Normals", "Tensors", "ColorScalars", "TCoords", "Fields"):
            getattr(reader, f"ReadAll{kind}On")()
    return reader


def _select(reader: Any, arrays: Collection[str]) -> None:
    """Make a reader of XML load only some arrays; other readers know no such choice."""
    if not hasattr(reader, "GetPointDataArraySelection"):
        return
    reader.UpdateInformation()
    for selection in (reader.GetPointDataArraySelection(), reader.GetCellDataArraySelection()):
        for number in range(selection.GetNumberOfArrays()):
            name = selection.GetArrayName(number)
            selection.SetArraySetting(name, int(name in arrays))


def _welded(mesh: Mesh) -> Mesh:
    first, place = weld(mesh.points)
    return replace(mesh, points=mesh.points[first], connectivity=place[mesh.connectivity], point_data={})
