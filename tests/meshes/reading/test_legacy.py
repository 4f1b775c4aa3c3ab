"""Arrays of legacy files of VTK are found by their headers, as VTK itself finds them."""

from pathlib import Path

import numpy as np
import pytest
import pyvista
from vtkmodules.vtkCommonCore import vtkBitArray, vtkStringArray
from vtkmodules.vtkIOLegacy import vtkGenericDataObjectReader, vtkGenericDataObjectWriter

from meshes.reading import ReadError, read
from meshes.reading.legacy import legacy_names


def _dataset(kind: str) -> pyvista.DataSet:
    grid = pyvista.ImageData(dimensions=(3, 4, 5))
    return {
        "image": grid,
        "rectilinear": grid.cast_to_rectilinear_grid(),
        "structured": grid.cast_to_structured_grid(),
        "unstructured": grid.cast_to_unstructured_grid(),
        "surface": pyvista.Sphere(theta_resolution=7, phi_resolution=6).strip(),
    }[kind]


def _fill(dataset: pyvista.DataSet) -> None:
    rng = np.random.default_rng(3)
    dataset.clear_data()
    for data, count in ((dataset.point_data, dataset.n_points), (dataset.cell_data, dataset.n_cells)):
        for name in ("alpha", "gamma", "mean p [m²/s²]"):
            data[name] = rng.standard_normal(count)
        data["beta"] = rng.integers(0, 255, (count, 7)).astype(np.uint8)
        for number, kind in enumerate((np.int8, np.int16, np.int32, np.int64, np.uint64, np.float32)):
            data[f"kind_{number}"] = rng.integers(0, 99, (count, 2)).astype(kind)
        data["scalars"], data["vector"] = rng.standard_normal((count, 2)), rng.standard_normal((count, 3))
        data["normal"] = rng.standard_normal((count, 3)).astype(np.float32)
        data["tensor"], data["place"] = rng.standard_normal((count, 9)), rng.standard_normal((count, 2))
        data["ids"] = np.arange(count)
        attributes = data.VTKObject
        texts, bits = vtkStringArray(), vtkBitArray()
        texts.SetName("words")
        bits.SetName("bits")
        for number in range(count):
            texts.InsertNextValue("a word " * (number % 30))
            bits.InsertNextValue(number % 2)
        attributes.AddArray(texts)
        attributes.AddArray(bits)
        for role, name in (
            ("Scalars", "scalars"), ("Vectors", "vector"), ("Normals", "normal"), ("Tensors", "tensor"),
            ("TCoords", "place"), ("GlobalIds", "ids"),
        ):  # fmt: skip
            getattr(attributes, f"SetActive{role}")(name)
    dataset.field_data["alpha"] = [1.0, 2.0]


def _write(dataset: pyvista.DataSet, path: Path, *, binary: bool, version: int) -> None:
    writer = vtkGenericDataObjectWriter()
    writer.SetInputData(dataset)
    writer.SetFileName(str(path))
    writer.SetFileVersion(version)
    writer.SetFileType(2 if binary else 1)
    assert writer.Write()


@pytest.mark.parametrize("version", [42, 51])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("kind", ["image", "rectilinear", "structured", "unstructured", "surface"])
def test_names_are_those_that_vtk_reads(tmp_path: Path, kind: str, binary: bool, version: int) -> None:
    dataset = _dataset(kind)
    _fill(dataset)
    _write(dataset, tmp_path / "a.vtk", binary=binary, version=version)
    reader = vtkGenericDataObjectReader()
    reader.SetFileName(str(tmp_path / "a.vtk"))
    reader.Update()
    there = reader.GetOutput()
    expected = {
        (where, data.GetAbstractArray(number).GetName())
        for where, data in (("points", there.GetPointData()), ("cells", there.GetCellData()))
        for number in range(data.GetNumberOfArrays())
    }
    found = [(where, name.decode()) for where, name in legacy_names(tmp_path / "a.vtk")]
    assert set(found) == expected
    assert len(found) == len(expected) > 30


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(("name", "other"), [("alpha", "gamma"), ("scalars", "kind_0"), ("vector", "normal")])
def test_arrays_of_one_name_are_refused(tmp_path: Path, binary: bool, name: str, other: str) -> None:
    dataset = _dataset("unstructured")
    dataset.cell_data["alpha"] = np.ones(dataset.n_cells)
    _fill(dataset)
    path = tmp_path / "a.vtk"
    _write(dataset, path, binary=binary, version=51)
    read(path, arrays=["alpha"])
    before, section, after = path.read_bytes().partition(b"\nCELL_DATA")
    assert b" " + name.encode() + b" " in after or b"\n" + name.encode() + b" " in after
    for lead in (b" ", b"\n"):
        after = after.replace(lead + name.encode() + b" ", lead + other.encode() + b" ")
    path.write_bytes(before + section + after)
    with pytest.raises(ReadError, match=rf"a\.vtk has several arrays of cells called '{other}'; rename all but one"):
        read(path)


def test_what_is_no_such_file_is_left_to_its_reader(tmp_path: Path) -> None:
    path = tmp_path / "cut.vtk"
    dataset = _dataset("surface")
    _fill(dataset)
    _write(dataset, path, binary=True, version=51)
    whole, names = path.read_bytes(), list(legacy_names(path))
    assert len(names) > 3
    for part in range(0, len(whole), 31):
        path.write_bytes(whole[: part + 1])
        found = list(legacy_names(path))
        assert found == names[: len(found)]
