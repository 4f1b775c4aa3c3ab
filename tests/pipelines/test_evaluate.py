import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meshes.stores import Store
from pipelines.baselines import NAMES
from pipelines.evaluate import evaluate, render
from pipelines.predict import predict
from pipelines.train import train

VOLUME = ("volume_pressure", "volume_velocity", "volume_vorticity")


@pytest.fixture(scope="module")
def scores(tiny_run: Path) -> dict:
    return evaluate(tiny_run, pictures=0)


def test_every_field_of_every_case_is_scored_beside_baselines(scores: dict, tiny_store: Path) -> None:
    store = Store(tiny_store)
    assert scores["cases"] == store.splits["test"] == ["stokes_0008", "stokes_0009"]
    assert set(scores["fields"]) == {"surface_pressure", "surface_wall_shear_stress", *VOLUME}
    for name, entry in scores["fields"].items():
        branch = name.split("_")[0]
        assert entry["points"] == sum(store.case(case).count(branch) for case in scores["cases"])
        parts = [entry, entry["weighted"], *([entry["near_wall"], entry["far"]] if name in VOLUME else [])]
        for part in parts:
            assert {"relative_l2", "rmse", "r2", "baselines"} <= set(part)
            assert set(part["baselines"]) == set(NAMES)
            assert all(0 < value < 10 for value in part["baselines"].values())
        each = [scores["per_case"][case]["fields"][name]["relative_l2"] for case in scores["cases"]]
        assert entry["relative_l2"] == pytest.approx(np.mean(each))
    assert "disturbance" not in scores["fields"]["volume_pressure"]
    assert "near_wall" in scores["fields"]["volume_velocity"]["disturbance"]


def test_scores_are_left_in_the_run(scores: dict, tiny_run: Path) -> None:
    assert json.loads((tiny_run / "evaluation" / "test" / "scores.json").read_text()) == scores


def test_near_and_far_together_are_all(scores: dict) -> None:
    for case in scores["per_case"].values():
        entry = case["fields"]["volume_velocity"]
        low, high = sorted((entry["near_wall"]["rmse"], entry["far"]["rmse"]))
        assert low <= entry["rmse"] <= high


def test_forces_of_the_truth_are_the_exact_ones(scores: dict, stokes_cases: Path) -> None:
    for name, both in scores["forces"]["cases"].items():
        exact = np.array(json.loads((stokes_cases / name / "case.json").read_text())["force"])
        np.testing.assert_allclose(both["truth"]["force"], exact, atol=1e-2 * np.linalg.norm(exact))
    assert scores["forces"]["coefficients"]["drag_coefficient"]["mean_absolute_error"] > 0


def test_chunks_change_nothing(scores: dict, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.scoring.BLOCK", 501)
    again = evaluate(tiny_run, chunk=173, pictures=0, out=tiny_run.parent / "again")
    for name, entry in scores["fields"].items():
        other = again["fields"][name]
        for key in ("relative_l2", "rmse", "r2"):
            assert other[key] == pytest.approx(entry[key], rel=1e-4)
        assert other["baselines"] == pytest.approx(entry["baselines"])
        assert sum(other["histogram"]["surrogate"]) == sum(entry["histogram"]["surrogate"]) == entry["points"]
        for worst, same in zip(other["worst_cases"], entry["worst_cases"], strict=True):
            assert worst["error"] == pytest.approx(same["error"], rel=1e-4)
            assert worst["position"] == same["position"]


def test_the_table_says_what_was_scored(scores: dict) -> None:
    text = render(scores)
    assert "mean over 2 cases of the split test" in text
    assert "disturbance near wall" in text
    assert "drag coefficient  surrogate" in text
    assert "Worst cases, and where in them:" in text
    assert "spread" not in text
    assert max(map(len, text.splitlines())) < 140


def test_worst_points_are_those_of_the_predictions_themselves(scores: dict, tiny_store: Path) -> None:
    store = Store(tiny_store)
    for field, entry in scores["fields"].items():
        errors = [worst["relative_l2"] for worst in entry["worst_cases"]]
        assert errors == sorted(errors, reverse=True)
        for worst in entry["worst_cases"]:
            case, (branch, name) = store.case(worst["case"]), field.split("_", 1)
            block = case.read(branch)
            (row,) = np.flatnonzero((block["position"] == np.float32(worst["position"])).all(axis=1))
            np.testing.assert_allclose(block[name][row], worst["truth"], rtol=1e-6)
            distance = np.linalg.norm(np.subtract(worst["predicted"], worst["truth"]))
            assert worst["error"] == pytest.approx(distance, rel=1e-6)
            assert worst["error"] >= scores["per_case"][worst["case"]]["fields"][field]["rmse"]


def test_members_of_an_ensemble_are_set_against_the_error(tiny_experiment, tiny_store: Path, tmp_path: Path) -> None:
    operator = replace(tiny_experiment.operator, members=2)
    train(replace(tiny_experiment, operator=operator), run=tmp_path / "run")
    scores = evaluate(tmp_path / "run", pictures=0)
    assert scores["members"] == 2
    for entry in scores["fields"].values():
        assert entry["calibration"]["rms_spread"] > 0
        assert "draws" not in entry
    assert "Error against the spread over 2 members:" in render(scores)
    page = (tmp_path / "run" / "evaluation" / "test" / "report.html").read_text(encoding="utf-8")
    assert "standard deviation over 2 members" in page


def test_several_draws_are_set_against_the_error(scores: dict, tiny_run: Path) -> None:
    several = evaluate(tiny_run, draws=3, pictures=0)
    assert (tiny_run / "evaluation" / "test_draws3" / "scores.json").exists()
    for name, entry in several["fields"].items():
        told = entry["calibration"]
        assert 0 < told["rms_spread"] < told["rms_error"], "so short a training errs by more than its anchors"
        assert 0 <= told["coverage"] <= 1
        assert len(entry["draws"]) == 3
        # The mean of some draws is never further off than they are on average.
        assert entry["relative_l2"] <= np.mean(entry["draws"])
        # The first draw is the only one of an evaluation with one.
        assert entry["draws"][0] == pytest.approx(scores["fields"][name]["relative_l2"], rel=1e-5)
        assert "calibration" not in scores["fields"][name]
    for forces in several["forces"]["cases"].values():
        drags = [each["drag_coefficient"] for each in forces["draws"]]
        # Forces are linear in the fields.
        assert np.mean(drags) == pytest.approx(forces["predicted"]["drag_coefficient"], rel=1e-4)
    assert "Error against the spread over 3 anchor draws:" in render(several)


def test_coefficients_are_judged_beside_those_of_the_baselines(scores: dict) -> None:
    for name, entry in scores["forces"]["coefficients"].items():
        cases = scores["forces"]["cases"].values()
        errors = [each["predicted"][name] - each["truth"][name] for each in cases]
        assert entry["largest_error"] == pytest.approx(np.abs(errors).max())
        assert entry["tie"] == 0.01, "what the shipped experiment tolerates"
        assert entry["pairs"] == 1
        for baseline in NAMES:
            errors = [each["baselines"][baseline][name] - each["truth"][name] for each in cases]
            assert entry["baselines"][baseline]["mean_error"] == pytest.approx(np.mean(errors))


def test_what_cannot_be_scored_is_said(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no split 'exam'; it has training, validation, test"):
        evaluate(tiny_run, split="exam")
    with pytest.raises(ValueError, match="not a store"):
        evaluate(tiny_run, store=tmp_path)
    with pytest.raises(ValueError, match="draws is 0; expected at least 1"):
        evaluate(tiny_run, draws=0)
    with pytest.raises(ValueError, match="device 'tpu9' is not"):
        evaluate(tiny_run, device="tpu9")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::sqlalchemy.exc.SADeprecationWarning")
def test_a_tracked_run_gets_the_scores(tiny_run: Path, scores: dict, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    from pipelines.tracking import record

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("test", artifact_location=(tmp_path / "artefacts").as_uri())
    run = client.create_run(experiment)
    assert not record(tmp_path, {"a": 1.0})
    state = {"uri": uri, "run_id": run.info.run_id, "parameters": True, "sent": 0, "pending": []}
    (tiny_run / "tracking.json").write_text(json.dumps(state))
    try:
        evaluate(tiny_run, pictures=0)
        found = client.get_run(run.info.run_id).data.metrics
        expected = scores["fields"]["volume_velocity"]
        assert found["test/volume_velocity/relative_l2"] == pytest.approx(expected["relative_l2"], rel=1e-6)
        drag = scores["forces"]["coefficients"]["drag_coefficient"]
        assert found["test/drag_coefficient/largest_error"] == pytest.approx(drag["largest_error"], rel=1e-6)
        assert found["test/volume_velocity/nearest_case"] == pytest.approx(expected["baselines"]["nearest_case"])
        assert [each.path for each in client.list_artifacts(run.info.run_id)] == ["report.html", "scores.json"]
        # A store that is away is warned of, and costs nothing else.
        (tiny_run / "tracking.json").write_text(json.dumps(state | {"uri": "http://127.0.0.1:9"}))
        assert evaluate(tiny_run, pictures=0)["fields"].keys() == scores["fields"].keys()
    finally:
        (tiny_run / "tracking.json").unlink()


def test_scores_are_those_of_predictions_from_the_stl_alone(
    scores: dict, tiny_run: Path, stokes_cases: Path, tmp_path: Path
) -> None:
    name = scores["cases"][0]
    case = stokes_cases / name
    numbers = json.loads((case / "case.json").read_text())
    prediction = predict(
        tiny_run,
        geometry=case / "body.stl",
        volume=case / "volume.vtu",
        conditions={key: numbers[key] for key in ("speed", "viscosity")},
        out=tmp_path / "prediction",
    )
    for field, errors in prediction.record["errors"]["volume"].items():
        scored = scores["per_case"][name]["fields"][f"volume_{field}"]["relative_l2"]
        assert scored == pytest.approx(errors["relative_l2"], rel=1e-4), field


def test_cases_that_a_run_has_seen_are_told(
    scores: dict, tiny_run: Path, tiny_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert scores["notes"] == [
        "2 cases tell little of others: give the split test more (data.splits), or score more with --store"
    ]
    store = shutil.copytree(tiny_store, tmp_path / "store")
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["splits"]["test"] += [manifest["splits"]["training"].pop(), *manifest["splits"]["validation"]]
    manifest["splits"]["validation"] = []
    (store / "manifest.json").write_text(json.dumps(manifest))
    with caplog.at_level(logging.INFO):
        flattered = evaluate(tiny_run, store=store, pictures=0, out=tmp_path / "out")
    for note, part in zip(
        flattered["notes"],
        ("stokes_0005: the run was trained on a case of", "stokes_0006, stokes_0007: the run chose"),
        strict=True,
    ):
        assert note.startswith(part)
        assert f"note: {note}" in render(flattered)
        assert note in (tmp_path / "out" / "report.html").read_text()
    assert [line.partition(":")[0] for line in caplog.messages if line.startswith("[")] == [
        f"[{number}/5] {name}" for number, name in enumerate(flattered["cases"], 1)
    ]
