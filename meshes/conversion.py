"""Between `Mesh` and the datasets of VTK and PyVista."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, UInt8

from meshes.kinds import (
    LINE,
    POLY_LINE,
    POLY_VERTEX,
    POLYGON,
    POLYHEDRON,
    QUAD,
    TRIANGLE,
    TRIANGLE_STRIP,
    VERTEX,
)

if TYPE_CHECKING:
    import pyvista

    from meshes.mesh import Mesh


def parts_of(dataset: Any) -> dict[str, Any]:
    """Return the fields of the `Mesh` that a dataset of VTK or PyVista is.

    Raises:
        TypeError: it is a composite dataset or a table, which are no single mesh.
    """
    import pyvista

    dataset = pyvista.wrap(dataset)
    if isinstance(dataset, pyvista.PolyData):
        parts = _poly_parts(dataset)
    elif isinstance(dataset, pyvista.DataSet):
        if not isinstance(dataset, pyvista.UnstructuredGrid):
            dataset = dataset.cast_to_unstructured_grid()
        parts = _unstructured_parts(dataset)
    else:
        raise TypeError(f"a {type(dataset).__name__} is no single mesh; expected a surface or a grid")
    points = np.asarray(dataset.points)
    if points.dtype.kind != "f":
        points = points.astype(np.float64)
    return {
        "points": points,
        **parts,
        "point_data": _arrays(dataset.point_data),
        "cell_data": _arrays(dataset.cell_data),
        "field_data": _arrays(dataset.field_data),
    }


def dataset_of(mesh: "Mesh") -> "pyvista.PolyData | pyvista.UnstructuredGrid":
    """Return the dataset of PyVista that a mesh is."""
    import pyvista
    from vtkmodules.util.numpy_support import numpy_to_vtk

    if mesh.n_cells and np.isin(mesh.types, (TRIANGLE, QUAD, POLYGON)).all():
        dataset = pyvista.PolyData()
        dataset.points = mesh.points
        dataset.SetPolys(_cell_array(mesh.connectivity, mesh.offsets))
    else:
        dataset = pyvista.UnstructuredGrid()
        dataset.points = mesh.points
        types = numpy_to_vtk(np.ascontiguousarray(mesh.types), deep=True)
        cells = _cell_array(mesh.connectivity, mesh.offsets)
        if mesh.face_connectivity is None:
            dataset.SetCells(types, cells)
        else:
            assert mesh.face_offsets is not None
            assert mesh.polyhedron_offsets is not None
            locations = _cell_array(np.arange(len(mesh.face_offsets) - 1), mesh.polyhedron_offsets)
            faces = _cell_array(mesh.face_connectivity, mesh.face_offsets)
            dataset.SetPolyhedralCells(types, cells, locations, faces)
    for attributes, arrays in (
        (dataset.point_data, mesh.point_data),
        (dataset.cell_data, mesh.cell_data),
        (dataset.field_data, mesh.field_data),
    ):
        for name, array in arrays.items():
            if array.dtype.kind in "US":
                attributes.VTKObject.AddArray(_text(name, array))
            else:
                attributes.set_array(array.reshape(len(array), -1) if array.ndim > 2 else array, name)
    return dataset


def _text(name: str, array: np.ndarray) -> Any:
    """Make VTK's array of text; PyVista takes ASCII only."""
    from vtkmodules.vtkCommonCore import vtkStringArray

    text = vtkStringArray()
    text.SetName(name)
    for each in array.reshape(-1).astype(str):
        text.InsertNextValue(each)
    return text


def _poly_parts(dataset: "pyvista.PolyData") -> dict[str, Any]:
    # VTK numbers the cells of PolyData in this order, and tells single ones from poly-ones by their size.
    sections = (
        (dataset.GetVerts(), {1: VERTEX}, POLY_VERTEX),
        (dataset.GetLines(), {2: LINE}, POLY_LINE),
        (dataset.GetPolys(), {3: TRIANGLE, 4: QUAD}, POLYGON),
        (dataset.GetStrips(), {}, TRIANGLE_STRIP),
    )
    connectivity, sizes, types = [], [], []
    for cells, of_size, otherwise in sections:
        corners, offsets = _runs(cells)
        size = np.diff(offsets)
        kind = np.full(len(size), otherwise, np.uint8)
        for count, special in of_size.items():
            kind[size == count] = special
        connectivity.append(corners)
        sizes.append(size)
        types.append(kind)
    return {
        "connectivity": np.concatenate(connectivity),
        "offsets": np.concatenate([[0], np.cumsum(np.concatenate(sizes))]),
        "types": np.concatenate(types),
    }


def _unstructured_parts(dataset: "pyvista.UnstructuredGrid") -> dict[str, Any]:
    types: UInt8[np.ndarray, " cell"] = np.asarray(dataset.celltypes).astype(np.uint8)
    connectivity, offsets = _runs(dataset.GetCells())
    parts: dict[str, Any] = {"connectivity": connectivity, "offsets": offsets, "types": types}
    if not (types == POLYHEDRON).any():
        return parts
    faces, face_offsets = _runs(dataset.GetPolyhedronFaces())
    order, polyhedron_offsets = _runs(dataset.GetPolyhedronFaceLocations())
    if not np.array_equal(order, np.arange(len(face_offsets) - 1)):
        sizes = np.diff(face_offsets)[order]
        starts = face_offsets[:-1][order]
        face_offsets = np.concatenate([[0], np.cumsum(sizes)])
        faces = faces[np.repeat(starts - face_offsets[:-1], sizes) + np.arange(face_offsets[-1])]
    return parts | {
        "face_connectivity": faces,
        "face_offsets": face_offsets,
        "polyhedron_offsets": polyhedron_offsets,
    }


def _runs(cells: Any) -> tuple[Int[np.ndarray, " corner"], Int[np.ndarray, " cell_plus_one"]]:
    from vtkmodules.util.numpy_support import vtk_to_numpy

    if cells is None or cells.GetNumberOfCells() == 0:
        return np.zeros(0, np.int64), np.zeros(1, np.int64)
    cells.ConvertToDefaultStorage()  # cells of one size may hold implicit offsets, which NumPy cannot see
    connectivity = vtk_to_numpy(cells.GetConnectivityArray()).astype(np.int64)
    return connectivity, vtk_to_numpy(cells.GetOffsetsArray()).astype(np.int64)


def _cell_array(connectivity: Int[np.ndarray, " corner"], offsets: Int[np.ndarray, " cell_plus_one"]) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray

    cells = vtkCellArray()
    cells.SetData(
        numpy_to_vtkIdTypeArray(np.ascontiguousarray(offsets, np.int64), deep=True),
        numpy_to_vtkIdTypeArray(np.ascontiguousarray(connectivity, np.int64), deep=True),
    )
    return cells


def _arrays(attributes: "pyvista.DataSetAttributes") -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in attributes.items()}
