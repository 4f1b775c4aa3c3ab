"""One file or a collection of files to meshes, through VTK's readers."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from meshes.geometry.welding import weld
from meshes.mesh import Mesh
from meshes.reading.errors import ReadError
from meshes.reading.merging import merge
from meshes.reading.observed import observed
from meshes.reading.ply import check_ply
from meshes.reading.signatures import check_signature
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
COLLECTIONS = (".vtm", ".pvd")
SUFFIXES = (".stl", *READERS, *COLLECTIONS)


def read(path: Path | str, *, arrays: Collection[str] | None = None, time: float | None = None) -> Mesh:
    """Read the mesh of a file; of a collection, its only block or all its blocks as one.

    Corners of an STL or OBJ that lie at exactly the same place become one point, in order of first appearance; the
    normals and texture coordinates of an OBJ, which belong to the corners that were split, are dropped. Everything
    else is kept as the file has it.

    Args:
        path: a file whose ending is one of `SUFFIXES`.
        arrays: names of the point and cell arrays to load; the others cost nothing. `None` loads all. A name that
            the file does not have is no error.
        time: which step of a series to read; needed where a `.pvd` has several.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: the file is empty, cut short, not what its ending says, without cells, or a collection whose blocks
            do not make one mesh.
    """
    path = Path(path)
    if path.suffix.lower() not in COLLECTIONS:
        _refuse_time(path, time)
        return _read_file(path, arrays)
    parts = _parts(path)
    times = sorted({part.time for part in parts if part.time is not None})
    if time is None and len(times) > 1:
        told = ", ".join(f"{each:g}" for each in times)
        raise ReadError(f"{path} is a series; say which of its times to read: {told}")
    return merge(_read_parts(path, parts, arrays, time), str(path))


def read_blocks(
    path: Path | str, *, arrays: Collection[str] | None = None, time: float | None = None
) -> dict[str, Mesh]:
    """Read every block of a collection under its name, leaving out those without cells.

    Blocks inside blocks are named `outer/inner`, those of a series `TIME/part`. A file that is no collection has one
    block, named as the file.

    Args:
        path: a file whose ending is one of `SUFFIXES`.
        arrays: as in `read`.
        time: which step of a series to read; `None` reads all.

    Raises:
        FileNotFoundError: the file or one that it names is not there.
        ReadError: a file cannot be read, or no block has cells.
    """
    path = Path(path)
    if path.suffix.lower() in COLLECTIONS:
        return _read_parts(path, _parts(path), arrays, time)
    _refuse_time(path, time)
    return {path.stem: _read_file(path, arrays)}


def _refuse_time(path: Path, time: float | None) -> None:
    if time is not None:
        raise ReadError(f"{path} is a single mesh without times, but time {time:g} was asked for; leave it out")


class _Part(NamedTuple):
    """A file that a collection names."""

    name: str
    path: Path
    time: float | None


def _read_parts(path: Path, parts: list[_Part], arrays: Collection[str] | None, time: float | None) -> dict[str, Mesh]:
    times = sorted({part.time for part in parts if part.time is not None})
    if time is not None and time not in times:
        told = ", ".join(f"{each:g}" for each in times) or "none"
        raise ReadError(f"{path} has no time {time:g}; there are: {told}")
    blocks = {}
    for part in parts:
        if time is not None and part.time != time:
            continue
        mesh = _read_any(part.path, arrays)
        if mesh.n_cells:
            blocks[_free_name(part.name, blocks)] = mesh
    if not blocks:
        raise ReadError(f"{path} has no block with cells; expected at least one")
    return blocks


def _free_name(name: str, taken: dict[str, Mesh]) -> str:
    if name not in taken:
        return name
    return next(free for number in range(2, len(taken) + 3) if (free := f"{name} ({number})") not in taken)


def _parts(path: Path) -> list[_Part]:
    """Return the files that a `.pvd` or `.vtm` names, in order."""
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
        name = child.get("name") or child.get("part") or child.get("index") or str(number)
        if child.tag == "DataSet" and child.get("file"):
            step = child.get("timestep")
            time = None if step is None else float(step)
            label = prefix + name if time is None else f"{time:g}/{name}"
            yield _Part(label, folder / str(child.get("file")), time)
        elif child.tag in ("Block", "Piece"):
            yield from _named(child, f"{prefix}{name}/", folder)
        elif child.tag in ("Collection", "vtkMultiBlockDataSet"):
            yield from _named(child, prefix, folder)


def _read_file(path: Path, arrays: Collection[str] | None) -> Mesh:
    mesh = _read_any(path, arrays)
    if not mesh.n_cells:
        raise ReadError(f"{path} has {mesh.n_points} points but no cells; expected a mesh")
    return mesh


def _read_any(path: Path, arrays: Collection[str] | None) -> Mesh:
    suffix = path.suffix.lower()
    check_signature(path, SUFFIXES)
    if suffix == ".stl":
        return read_stl(path)
    if suffix == ".ply":
        check_ply(path)
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
    return mesh if arrays is None else _only(mesh, arrays)


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


def _only(mesh: Mesh, arrays: Collection[str]) -> Mesh:
    point_data, cell_data = (
        {name: array for name, array in data.items() if name in arrays} for data in (mesh.point_data, mesh.cell_data)
    )
    return replace(mesh, point_data=point_data, cell_data=cell_data)


def _welded(mesh: Mesh) -> Mesh:
    first, place = weld(mesh.points)
    return replace(mesh, points=mesh.points[first], connectivity=place[mesh.connectivity], point_data={})
