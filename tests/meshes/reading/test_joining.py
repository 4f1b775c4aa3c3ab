"""Vectors stored by component."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshes.mesh import Mesh
from meshes.reading import ReadError, find_joins, read
from meshes.reading.joining import spellings
from meshes.writing import write


@pytest.mark.parametrize(
    ("names", "vector"),
    [
        (("Ux", "Uy", "Uz"), "U"),
        (("U_x", "U_y", "U_z"), "U"),
        (("U:0", "U:1", "U:2"), "U"),
        (("velocity-x", "velocity-y", "velocity-z"), "velocity"),
        (("x-velocity", "y-velocity", "z-velocity"), "velocity"),
        (("X_Velocity", "Y_Velocity", "Z_Velocity"), "Velocity"),
        (("wallShearStress_0", "wallShearStress_1", "wallShearStress_2"), "wallShearStress"),
        (("Velocity[i]", "Velocity[j]", "Velocity[k]"), "Velocity"),
        (("VX", "VY", "VZ"), "V"),
    ],
)
def test_what_solvers_write_is_recognised(names: tuple[str, ...], vector: str) -> None:
    (join,) = find_joins(["p", *names, "T"])
    assert (join.name, join.parts, join.certain) == (vector, names, True)


@given(st.sampled_from(spellings("wall shear")), st.permutations([0, 1, 2]))
def test_every_spelling_is_found_in_any_order(parts: tuple[str, ...], order: list[int]) -> None:
    (join,) = find_joins([parts[place] for place in order])
    assert (join.name, join.parts) == ("wall shear", parts)


@pytest.mark.parametrize(
    "names",
    [
        ["U", "Ux", "Uy", "Uz"],
        ["Ux", "Uy", "Uz", "U_0", "U_1", "U_2"],
        ["U_0", "U_1", "U_2", "U_3"],
        ["u", "v", "w"],
    ],
)
def test_what_may_mean_something_else_is_suggested_only(names: list[str], tmp_path: Path) -> None:
    joins = find_joins(names)
    assert joins
    assert not any(join.certain for join in joins)
    triangle = np.array([[0, 1, 2]])
    write(Mesh.from_triangles(np.eye(3), triangle, cell_data={n: np.ones(1) for n in names}), tmp_path / "a.vtp")
    mesh = read(tmp_path / "a.vtp", arrays=["U", "velocity"])
    assert list(mesh.cell_data) == (["U"] if "U" in names else [])


@pytest.mark.parametrize("names", [["Rxx", "Rxy", "Rxz", "Ryy"], ["p", "Ux", "Uy"], ["max", "T"], []])
def test_what_is_no_vector_is_left_alone(names: list[str]) -> None:
    assert find_joins(names) == []


def _surface(path: Path, **arrays: np.ndarray) -> Path:
    write(Mesh.from_triangles(np.eye(3), np.array([[0, 1, 2]]), **arrays), path)
    return path


def test_a_vector_asked_for_by_name_is_joined_and_said(tmp_path: Path) -> None:
    columns = {f"U{axis}": np.full(1, place) for place, axis in enumerate("xyz")}
    path = _surface(tmp_path / "a.vtp", cell_data={**columns, "p": np.zeros(1)})
    notes: list[str] = []
    mesh = read(path, arrays=["U", "p"], notes=notes)
    assert list(mesh.cell_data) == ["p", "U"]
    assert mesh.cell_data["U"].tolist() == [[0, 1, 2]]
    assert notes == [f"{path}: U is joined from Ux, Uy, Uz"]
    assert list(read(path).cell_data) == [*columns, "p"]  # without being asked, the file stays as it is


def test_a_declared_vector_is_joined_from_any_names(tmp_path: Path) -> None:
    data = {name: np.full(3, number) for number, name in enumerate("abc")}
    path = _surface(tmp_path / "a.vtp", point_data=data)
    notes: list[str] = []
    mesh = read(path, arrays=["U"], parts={"U": ("c", "a", "b")}, notes=notes)
    assert mesh.point_data["U"].tolist() == [[2, 0, 1]] * 3
    assert list(mesh.point_data) == ["U"]
    assert notes == []
    with pytest.raises(ReadError, match=r"has no array 'd' to make U of .*; there are: a, b, c"):
        read(path, arrays=["U"], parts={"U": ("a", "b", "d")})


def test_components_on_points_and_cells_are_not_mixed(tmp_path: Path) -> None:
    cells, points = {"Ux": np.ones(1), "Uy": np.ones(1)}, {"Uz": np.ones(3)}
    path = _surface(tmp_path / "a.vtp", cell_data=cells, point_data=points)
    assert not read(path, arrays=["U"]).cell_data
    with pytest.raises(ReadError, match="all must lie on cells, or all on points"):
        read(path, arrays=["U"], parts={"U": ("Ux", "Uy", "Uz")})


def test_a_vector_is_no_component(tmp_path: Path) -> None:
    path = _surface(tmp_path / "a.vtp", cell_data={"a": np.ones((1, 3)), "b": np.ones(1), "c": np.ones(1)})
    with pytest.raises(ReadError, match="array 'a' is no scalar"):
        read(path, arrays=["U"], parts={"U": ("a", "b", "c")})
