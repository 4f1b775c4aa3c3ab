import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from meshes.reading import read
from pipelines.baselines import NAMES
from pipelines.compare import compare
from pipelines.config import Experiment, from_dict
from pipelines.evaluate import evaluate
from pipelines.forces import forces
from pipelines.planning import plan
from pipelines.predict import predict
from pipelines.train import train


def baseline(experiment: Experiment, kind: str) -> Experiment:
    tree = experiment.to_dict()
    return from_dict(tree | {"operator": {"kind": kind}})


@pytest.fixture(scope="module")
def runs(tiny_experiment: Experiment, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("baselines")
    for kind in NAMES:
        report = train(baseline(tiny_experiment, kind), run=folder / kind)
        assert "remembered" in report.render()
    return {kind: folder / kind for kind in NAMES}


@pytest.fixture(scope="module")
def scores(runs: dict[str, Path]) -> dict[str, dict]:
    return {kind: evaluate(run, pictures=0) for kind, run in runs.items()}


@pytest.mark.parametrize("kind", NAMES)
def test_a_run_scores_what_the_baseline_of_its_name_does(scores: dict[str, dict], kind: str) -> None:
    for field, entry in scores[kind]["fields"].items():
        # Float32 in the checkpoint, nothing else, lies between them.
        assert entry["relative_l2"] == pytest.approx(entry["baselines"][kind], rel=1e-4), field
    for name, judged in scores[kind]["forces"]["coefficients"].items():
        assert judged["mean_error"] == pytest.approx(judged["baselines"][kind]["mean_error"], rel=1e-3, abs=1e-6), name


def test_it_predicts_an_stl_on_its_own(runs: dict[str, Path], stokes_cases: Path, tmp_path: Path) -> None:
    case = stokes_cases / "stokes_0008"
    numbers = json.loads((case / "case.json").read_text())
    conditions = {name: numbers[name] for name in ("speed", "viscosity")}
    prediction = predict(
        runs["ridge"], geometry=case / "body.stl", grid=(5, 5, 5), conditions=conditions, out=tmp_path / "out", draws=2
    )
    surface = read(tmp_path / "out" / "surface.vtp")
    assert np.isfinite(surface.cell_data["p"]).all()
    assert not surface.cell_data["p_spread"].any(), "it lays no anchors, so draws are alike"
    told = forces(tmp_path / "out")
    np.testing.assert_allclose(told.forces.force, prediction.record["forces"]["force"], rtol=1e-4, atol=1e-6)


def test_it_can_be_compared_with_a_trained_run(scores: dict[str, dict], runs: dict[str, Path], tiny_run: Path) -> None:
    comparison = compare([runs["nearest_case"], runs["mean_field"], tiny_run], draws=1)
    assert [group["name"] for group in comparison["groups"]] == ["nearest_case", "mean_field", "run"]
    pressure = comparison["quantities"]["surface_pressure"]
    assert pressure["mean"][:2] == pytest.approx(
        [scores[kind]["fields"]["surface_pressure"]["relative_l2"] for kind in ("nearest_case", "mean_field")]
    )


def test_what_a_baseline_cannot_do_is_said(tiny_experiment: Experiment, runs: dict[str, Path], tmp_path: Path) -> None:
    config = baseline(tiny_experiment, "ridge")
    with pytest.raises(ValueError, match="already holds a training"):
        train(config, run=runs["ridge"])
    with pytest.raises(ValueError, match="nothing to resume"):
        train(config, run=runs["ridge"], resume=True)
    with pytest.raises(ValueError, match="no weights to train or to plan for"):
        plan(config)
    with pytest.raises(ValueError, match="points is 0; expected at least 1"):
        dataclasses.replace(config.operator, points=0)
