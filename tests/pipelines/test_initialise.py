"""A configuration written from files alone says what the shipped ones say, and asks for what files cannot tell."""

import re
import shutil
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
