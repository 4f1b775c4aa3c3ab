"""Data of the surface alone, and of the volume alone, go through every stage from `init` to `view`."""

import shutil
from pathlib import Path

import pytest
import pyvista

from meshes.stores import Store
from pipelines.config import load
from pipelines.evaluate import evaluate, render
from pipelines.forces import forces
from pipelines.initialise import initialise
from pipelines.predict import predict
from pipelines.prepare import prepare
from pipelines.train import train
from pipelines.visualise import view

QUICK = [
    "operator={width: 24, heads: 2, trunk: [perceiver, self, cross], supernodes: 48, radius: 0.2}",
    "training.steps=4",
    "training.sampling={geometry: 128, anchors: 64, queries: 64}",
    "training.validate_every=2",
    "training.checkpoint_every=4",
    "training.validation_points=256",
    "training.device=cpu",
    "tracking={kind: none}",
]
KNOWN = ["data.unit_of_length=m", "data.parameters.values.speed=1.0"]
STRESS = "data.branches.{branch}.fields.{field}.unit=Pa"


def cases_with(files: tuple[str, ...], cases: Path, target: Path) -> Path:
    """Keep some files of five cases: nothing says their speed, as nothing does in many published sets."""
    for case in sorted(cases.iterdir())[:5]:
        (target / case.name).mkdir(parents=True)
        for file in files:
            shutil.copy(case / file, target / case.name / file)
    return target


def trained(folder: Path, cases: Path, answers: list[str]) -> Path:
    report = initialise([cases], out=folder / "own.yaml")
    assert {answer.partition("=")[0] for answer in answers} == set(report.unknown)
    experiment = load(report.out, [*answers, *QUICK, f"data.store={folder / 'store'}"])
    prepare(experiment.data, workers=1, strict=True)
    train(experiment, run=folder / "run")
    return folder / "run"


def test_surfaces_alone(stokes_cases: Path, tmp_path: Path) -> None:
    cases = cases_with(("surface.vtp",), stokes_cases, tmp_path / "cases")
    units = [STRESS.format(branch="surface", field=field) for field in ("pressure", "wall_shear_stress")]
    conventions = ["pressure=gauge", "shear=on_body", "density=1.2"]
    answers = [*KNOWN, *units, *(f"data.conventions.{each}" for each in conventions)]
    answers += ["data.forces.reference_area=size_y * size_z", "data.forces.drag_direction=[1, 0, 0]"]
    run = trained(tmp_path, cases, answers)
    assert list(Store(tmp_path / "store").kinds.values()) == ["surface"]
    scores = evaluate(run, device="cpu")
    assert set(scores["fields"]) == {"surface_pressure", "surface_wall_shear_stress"}
    assert "drag coefficient" in render(scores)

    body = stokes_cases / "stokes_0007" / "body.stl"
    prediction = predict(run, geometry=body, out=tmp_path / "new", device="cpu")
    assert list(prediction.record["files"]) == ["surface.vtp"]
    told = forces(tmp_path / "new").to_dict()
    assert told["drag_coefficient"] == pytest.approx(prediction.record["forces"]["drag_coefficient"], rel=1e-4)
    assert told["extent"] == "whole"
    assert {picture.name for picture in view(tmp_path / "new")} >= {"surface_p.png", "view.py"}
    with pytest.raises(ValueError, match="this surrogate has no volume branch: it predicts on surfaces only"):
        predict(run, geometry=body, grid=(4, 4, 4), out=tmp_path / "no", device="cpu")


def test_volumes_alone(stokes_cases: Path, tmp_path: Path) -> None:
    cases = cases_with(("volume.vtu", "body.stl"), stokes_cases, tmp_path / "cases")
    units = [STRESS.format(branch="volume", field=field) for field in ("pressure", "velocity", "vorticity")]
    run = trained(tmp_path, cases, [*KNOWN, *units])
    assert list(Store(tmp_path / "store").kinds.values()) == ["volume"]
    scores = evaluate(run, device="cpu")
    assert set(scores["fields"]) == {"volume_pressure", "volume_velocity", "volume_vorticity"}
    render(scores)

    case = stokes_cases / "stokes_0007"
    out = tmp_path / "new"
    prediction = predict(run, geometry=case / "body.stl", volume=case / "volume.vtu", out=out, device="cpu")
    assert set(prediction.record["errors"]["volume"]) == {"pressure", "velocity", "vorticity"}
    assert "U_error" in pyvista.read(out / "volume.vtu").cell_data
    assert {picture.name for picture in view(out)} >= {"volume_U.png", "view.py"}
    with pytest.raises(ValueError, match="is a prediction without a pressure on a surface"):
        forces(out)
