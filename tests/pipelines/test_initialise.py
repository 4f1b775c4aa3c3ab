"""A configuration written from files alone says what the shipped ones say, and asks for what files cannot tell."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pyvista
import yaml

from pipelines.config import ConfigError, load, load_data
from pipelines.initialise import initialise
from pipelines.prepare import prepare

ANSWERS = {
    "stokes": ["unit_of_length=m", "conventions.pressure=gauge", "conventions.shear=on_body"],
    "ahmed": ["unit_of_length=m", "conventions.pressure=kinematic", "conventions.shear=on_fluid"],
    "airfoil": ["unit_of_length=m", "conventions.pressure=kinematic", "conventions.shear=on_fluid"],
}
AREAS = {"stokes": "size_y * size_z", "ahmed": "size_y * size_z / 2", "airfoil": 0.1}


def answers(shipped: str, unknown: list[str]) -> list[str]:
    """Return overrides for every UNKNOWN, the units as the shipped configuration has them."""
    data = load_data(shipped)
    given = {f"data.{line.partition('=')[0]}": line.partition("=")[2] for line in ANSWERS[shipped]}
    given |= {"data.conventions.density": "1.0", "data.forces.reference_area": str(AREAS[shipped])}
    for branch, source in data.branches.items():
        given |= {f"data.branches.{branch}.fields.{name}.unit": spec.unit for name, spec in source.fields.items()}
    return [f"{path}={given[path]}" for path in unknown]


def copies(source: Path, target: Path, names: list[str]) -> Path:
    for name in names:
        shutil.copytree(source / name, target / name)
    return target


@pytest.fixture
def cases(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a folder with four cases of what the test is parametrised with."""
    shipped = request.param
    if shipped == "stokes":
        generated = request.getfixturevalue("stokes_cases")
        return copies(generated, tmp_path / "cases", [f"stokes_000{number}" for number in range(4)])
    name, folder = ("ahmed", "ahmed") if shipped == "ahmed" else ("naca", "naca")
    shared = request.getfixturevalue("shared_data") / folder
    return copies(shared, tmp_path / "cases", [f"{name}_00_0{number:02d}" for number in (1, 4, 9, 16)])


@pytest.mark.parametrize(("cases", "shipped"), [(each, each) for each in ANSWERS], indirect=["cases"])
def test_what_is_written_is_what_ships_once_the_unknown_is_answered(
    cases: Path, shipped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = initialise(["cases"])
    assert report.cases == 4
    assert report.notes == []
    with pytest.raises(ConfigError, match=f"{len(report.unknown)} settings are still UNKNOWN") as refusal:
        load_data(report.out)
    assert re.findall(r"^  ([\w.]+):", str(refusal.value), re.MULTILINE) == report.unknown
    experiment = load(report.out, answers(shipped, report.unknown))
    data, expected = experiment.data, load_data(shipped)
    shear = expected.branches["surface"].fields["wall_shear_stress"]
    if shipped != "stokes":  # that friction falls with the Reynolds number is more than files can tell
        assert shear.scale == "0.5 * speed**2 * (speed / 40)**-0.2"
        expected.branches["surface"].fields["wall_shear_stress"] = replace(shear, scale="0.5 * speed**2")
    assert data.branches == expected.branches
    assert (data.space, data.geometry) == (expected.space, expected.geometry)
    assert data.conventions == expected.conventions
    assert set(expected.conditions) <= set(data.conditions)
    assert data.parameters == expected.parameters
    assert (data.forces.drag_direction, data.forces.lift_direction) == (
        tuple(expected.forces.drag_direction),
        tuple(expected.forces.lift_direction),
    )
    if shipped != "stokes":
        assert data.forces.reported == expected.forces.reported
    prepared = prepare(data, workers=1, strict=True)
    assert len(prepared.prepared) == 4
    assert not [note for note in prepared.notes if "force" in note or "coefficient" in note]


def test_a_configuration_is_never_lost(stokes_cases: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("mine")
    with pytest.raises(FileExistsError, match=r"mine.yaml is there already; give another --out, or --force"):
        initialise([stokes_cases], out=out)
    assert out.read_text() == "mine"
    initialise([str(stokes_cases / "stokes_*")], out=out, force=True)
    assert yaml.safe_load(out.read_text())["data"]["cases"] == str(stokes_cases / "stokes_*")


def test_no_cases_are_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    out = tmp_path / "out.yaml"
    with pytest.raises(ValueError, match=r"there are no cases in .*empty: no folder there holds a file ending in"):
        initialise([tmp_path / "empty"], out=out)
    with pytest.raises(FileNotFoundError, match=r"nothing fits .*nowhere"):
        initialise([tmp_path / "nowhere"], out=out)
    assert not out.exists()


def test_one_case_is_said_to_be_few(stokes_cases: Path, tmp_path: Path) -> None:
    report = initialise([stokes_cases / "stokes_0001"], out=tmp_path / "one.yaml")
    assert report.cases == 1
    assert any("one case is enough to check files, but a surrogate needs several" in note for note in report.notes)


def test_cases_that_differ_are_told(stokes_cases: Path, tmp_path: Path) -> None:
    cases = copies(stokes_cases, tmp_path / "cases", [f"stokes_000{number}" for number in range(5)])
    (cases / "stokes_0002" / "volume.vtu").unlink()
    volume = pyvista.read(cases / "stokes_0003" / "volume.vtu")
    del volume.cell_data["vorticity"]
    volume.save(cases / "stokes_0003" / "volume.vtu")
    surface = pyvista.read(cases / "stokes_0004" / "surface.vtp")
    surface.cell_data["p"][7] = np.nan
    surface.save(cases / "stokes_0004" / "surface.vtp")
    report = initialise([cases], out=tmp_path / "mixed.yaml")
    assert report.cases == 5
    assert "vorticity" not in report.fields["volume"]
    for sentence in (
        "1 of 5 cases (stokes_0002) have no volume.vtu",
        "volume.vtu lacks the array 'vorticity' in 1 of 4 looked into (stokes_0003)",
        "'p' of surface.vtp has 1 values that are NaN or infinite, first in stokes_0004",
    ):
        assert sentence in report.notes
        assert sentence in (tmp_path / "mixed.yaml").read_text()


def test_vectors_stored_by_components_are_joined(stokes_cases: Path, tmp_path: Path) -> None:
    cases = copies(stokes_cases, tmp_path / "cases", [f"stokes_000{number}" for number in range(3)])
    for volume in cases.glob("*/volume.vtu"):
        mesh = pyvista.read(volume)
        velocity = mesh.cell_data.pop("U")
        for axis, letter in enumerate("xyz"):
            mesh.cell_data[f"U{letter}"] = velocity[:, axis]
        mesh.save(volume)
    report = initialise([cases], out=tmp_path / "parts.yaml")
    spec = yaml.safe_load((tmp_path / "parts.yaml").read_text())["data"]["branches"]["volume"]["fields"]["velocity"]
    assert (report.fields["volume"]["velocity"], spec["parts"]) == ("U", ["Ux", "Uy", "Uz"])
    assert spec["free_stream"] == ["speed", 0, 0]


def test_arrays_with_names_of_their_own_are_known_by_their_range(tmp_path: Path) -> None:
    for number, speed in enumerate((10.0, 20.0, 40.0)):
        folder = tmp_path / "cases" / f"c{number}"
        folder.mkdir(parents=True)
        body = pyvista.Sphere()
        towards = -body.cell_centers().points[:, 0] / 0.5
        body.cell_data["field_1"] = 0.5 * speed**2 * (1 - 2.25 * (1 - towards.clip(0) ** 2)).clip(-1.2, 1)
        body.cell_data["field_2"] = np.tile([0.01 * speed**2 / 2, 0.0, 0.0], (body.n_cells, 1))
        body.save(folder / "body.vtp")
        fluid = pyvista.ImageData(
            dimensions=(7, 7, 7), spacing=(2, 2, 2), origin=(-6, -6, -6)
        ).cast_to_unstructured_grid()
        fluid.cell_data["field_3"] = np.tile([0.0, speed, 0.0], (fluid.n_cells, 1))
        fluid.save(folder / "fluid.vtu")
        (folder / "case.yaml").write_text(f"speed: {speed}\nfluid: air\n")
    report = initialise([tmp_path / "cases"], out=tmp_path / "ranges.yaml")
    assert report.fields == {
        "surface": {"pressure": "field_1", "wall_shear_stress": "field_2"},
        "volume": {"velocity": "field_3"},
    }
    data = yaml.safe_load((tmp_path / "ranges.yaml").read_text())["data"]
    assert data["branches"]["volume"]["fields"]["velocity"]["free_stream"] == [0, "speed", 0]
    assert data["forces"]["drag_direction"] == [0, 1, 0]
    assert data["splits"]["kind"] == "names"  # the body is the same in every case, and cases of one body stay together


def test_files_of_which_each_is_a_case(stokes_cases: Path, tmp_path: Path) -> None:
    for number in range(3):
        shutil.copy(stokes_cases / f"stokes_000{number}" / "surface.vtp", tmp_path / f"car {number}.vtp")
        shutil.copy(stokes_cases / f"stokes_000{number}" / "body.stl", tmp_path / f"car {number}.stl")
    rows = "".join(f"car {number},{10 + number}\n" for number in range(3))
    (tmp_path / "table.csv").write_text("design,velocity\n" + rows)
    report = initialise([tmp_path], out=tmp_path / "flat.yaml")
    data = yaml.safe_load((tmp_path / "flat.yaml").read_text())["data"]
    assert report.cases == 3
    assert data["cases"] == str(tmp_path / "car *.vtp")
    assert (data["geometry"], data["branches"]["surface"]["file"]) == ({"file": "{name}.stl"}, "{name}.vtp")
    assert data["parameters"] == {"file": str(tmp_path / "table.csv"), "name_column": "design"}
    assert data["conditions"] == ["velocity"]
    assert data["branches"]["surface"]["fields"]["pressure"]["scale"] == "0.5 * velocity**2"


def test_names_with_numbers_of_their_own(stokes_cases: Path, tmp_path: Path) -> None:
    for number in (1, 7, 12):
        folder = tmp_path / "runs" / f"run_{number}"
        folder.mkdir(parents=True)
        shutil.copy(stokes_cases / "stokes_0001" / "surface.vtp", folder / f"boundary_{number}.vtp")
        for step in range(5):
            shutil.copy(stokes_cases / "stokes_0001" / "volume.vtu", folder / f"volume_{step}0.vtu")
        (folder / f"geo_{number}.csv").write_text(f"U,length\n{20 + number},4.5\n")
    report = initialise([tmp_path / "runs"], out=tmp_path / "runs.yaml")
    data = yaml.safe_load((tmp_path / "runs.yaml").read_text())["data"]
    assert data["cases"] == str(tmp_path / "runs" / "run_*")
    assert data["branches"]["surface"]["file"] == "boundary_*.vtp"
    assert data["branches"]["volume"]["file"] == "volume_40.vtu"
    assert data["parameters"] == {"file": "geo_*.csv"}
    assert data["conditions"] == ["U"]
    assert report.notes == ["a case has many files like volume_*.vtu, taken for a series of which the last counts"]


def test_files_of_a_case_in_one_folder_share_the_beginning_of_their_names(stokes_cases: Path, tmp_path: Path) -> None:
    names = {"body.stl": ".stl", "surface.vtp": "_surface.vtp", "volume.vtu": "_volume.vtu"}
    for number in (1, 2, 10):  # `car_1` begins `car_10` as well, and is another case
        for name, ending in names.items():
            shutil.copy(stokes_cases / "stokes_0001" / name, tmp_path / f"car_{number}{ending}")
    report = initialise([tmp_path], out=tmp_path / "flat.yaml")
    data = yaml.safe_load((tmp_path / "flat.yaml").read_text())["data"]
    assert (report.cases, data["cases"]) == (3, str(tmp_path / "car_*.stl"))
    assert data["geometry"] == {"file": "{name}.stl"}
    assert data["branches"]["surface"]["file"] == "{name}_surface.vtp"
    assert data["branches"]["volume"]["file"] == "{name}_volume.vtu"
    assert not [note for note in report.notes if "begin like no case" in note]
    for body in tmp_path.glob("*.stl"):
        body.unlink()
    report = initialise([tmp_path], out=tmp_path / "flat.yaml", force=True)
    assert any("3 files begin like no case, so none has them (car_10_" in note for note in report.notes)


def test_a_name_alone_makes_no_coefficient(stokes_cases: Path, tmp_path: Path) -> None:
    cases = copies(stokes_cases, tmp_path / "cases", [f"stokes_000{number}" for number in range(3)])
    for size, scale in ((1.0, "1"), (500.0, "0.5 * speed**2")):
        for file in cases.glob("*/surface.vtp"):
            surface = pyvista.read(file)
            values = surface.cell_data.pop("p") if "p" in surface.cell_data else surface.cell_data["Cp"]
            surface.cell_data["Cp"] = size * values / np.abs(values).max()
            surface.save(file)
        (tmp_path / "case.yaml").unlink(missing_ok=True)
        initialise([cases], out=tmp_path / "case.yaml")
        fields = yaml.safe_load((tmp_path / "case.yaml").read_text())["data"]["branches"]["surface"]["fields"]
        assert fields["pressure"]["array"] == "Cp"
        assert fields["pressure"]["scale"] == scale
