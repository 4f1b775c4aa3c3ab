import copy
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report import check

from meshes.stores import Store
from pipelines.compare import compare, paired, render, render_page, verdict_of
from pipelines.config import Experiment


@pytest.fixture(scope="module")
def another_seed(tiny_experiment: Experiment, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the tiny run again, with another seed."""
    from pipelines.train import train

    run = tmp_path_factory.mktemp("runs") / "run"
    training = dataclasses.replace(tiny_experiment.training, seed=1, steps=40)
    train(dataclasses.replace(tiny_experiment, training=training), run=run)
    return run


@pytest.fixture(scope="module")
def comparison(tiny_run: Path, another_seed: Path) -> dict[str, Any]:
    return compare([tiny_run, another_seed], draws=2, out=tiny_run.parent / "comparison")


def test_runs_are_compared_by_the_scores_that_evaluate_gives(
    comparison: dict[str, Any], tiny_run: Path, another_seed: Path
) -> None:
    assert [group["runs"] for group in comparison["groups"]] == [[str(tiny_run)], [str(another_seed)]]
    assert len({group["name"] for group in comparison["groups"]}) == 2, "two folders of one name are told apart"
    told = [json.loads((run / "evaluation/test_draws2/scores.json").read_text()) for run in (tiny_run, another_seed)]
    for name, entry in comparison["quantities"].items():
        if name in told[0]["fields"]:
            assert entry["mean"] == pytest.approx([scores["fields"][name]["relative_l2"] for scores in told])
            assert entry["draw_spread"] == pytest.approx(
                [np.std(scores["fields"][name]["draws"], ddof=1) for scores in told]
            )
        elif name.endswith("coefficient"):
            judged = [scores["forces"]["coefficients"][name]["mean_absolute_error"] for scores in told]
            assert entry["mean"] == pytest.approx(judged)
        difference = entry["differences"][0]
        assert difference["mean"] == pytest.approx(entry["mean"][1] - entry["mean"][0])
        assert difference["low"] <= difference["mean"] <= difference["high"]
        assert sum(entry["wins"]) == difference["better"] + difference["worse"] == 2
    assert {"surface_pressure", "surface_pressure_weighted", "drag_coefficient"} <= set(comparison["quantities"])


def test_scores_that_are_there_are_taken(comparison: dict[str, Any], tiny_run: Path, another_seed: Path) -> None:
    written = tiny_run / "evaluation/test_draws2/scores.json"
    before = written.stat().st_mtime_ns
    assert compare([tiny_run, another_seed], draws=2) == comparison
    assert written.stat().st_mtime_ns == before


def test_a_run_against_itself_differs_by_nothing(comparison: dict[str, Any], tiny_run: Path) -> None:
    same = compare([tiny_run, tiny_run], draws=2)
    assert len(same["groups"]) == 2
    for entry in same["quantities"].values():
        difference = entry["differences"][0]
        assert difference["mean"] == difference["low"] == difference["high"] == 0
        assert entry["wins"] == [0, 0]
        assert (difference["better"], difference["worse"]) == (0, 0)
        assert not difference["beyond_draws"]
        assert verdict_of(difference) == "not told apart"


def test_seeds_of_one_setting_count_as_one(
    comparison: dict[str, Any], tiny_run: Path, another_seed: Path, tmp_path: Path
) -> None:
    # A third run with another setting, as far as its scores tell: what it predicts does not matter here.
    other = tmp_path / "other"
    shutil.copytree(tiny_run, other)
    file = other / "evaluation/test_draws2/scores.json"
    scores = json.loads(file.read_text())
    scores["trained"]["settings"]["training.ema"] = "0.5"
    file.write_text(json.dumps(scores))
    grouped = compare([other, tiny_run, another_seed], draws=2)
    assert [group["name"] for group in grouped["groups"]] == ["other", f"{tiny_run} (2 seeds)"]
    for name, entry in grouped["quantities"].items():
        pair = comparison["quantities"][name]["mean"]
        assert entry["mean"][1] == pytest.approx(np.mean(pair))
        assert entry["seed_spread"] == [None, pytest.approx(np.std(pair, ddof=1))]
    assert "±" in render(grouped)


def test_only_common_cases_that_no_run_was_trained_on_count(
    comparison: dict[str, Any], tiny_run: Path, tiny_store: Path, tmp_path: Path
) -> None:
    def altered(name: str, change: Any) -> Path:
        run = tmp_path / name
        shutil.copytree(tiny_run, run)
        file = run / "evaluation/test_draws2/scores.json"
        scores = json.loads(file.read_text())
        change(scores)
        file.write_text(json.dumps(scores))
        return run

    first, second = Store(tiny_store).splits["test"]
    fewer = compare([tiny_run, altered("fewer", lambda s: s["sources"].update({first: "another"}))], draws=2)
    assert fewer["cases"] == [second]
    assert len(fewer["notes"]) == 2
    assert "1 of the 2 cases" in render(fewer)
    trained = altered("trained", lambda s: s["trained"]["splits"]["training"].append(first))
    seen = compare([tiny_run, trained], draws=2)
    assert seen["cases"] == [second]
    assert f"{first} do not count: {trained} was trained on" in seen["notes"][0]
    nothing = altered("nothing", lambda s: s["sources"].update({first: "x", second: "y"}))
    with pytest.raises(ValueError, match="no case of the split test in common"):
        compare([tiny_run, nothing], draws=2)
    with pytest.raises(ValueError, match="needs at least two"):
        compare([tiny_run])


def test_the_page_holds_the_numbers_of_the_comparison(comparison: dict[str, Any], tiny_run: Path) -> None:
    written = tiny_run.parent / "comparison"
    stored = json.loads((written / "comparison.json").read_text(encoding="utf-8"))
    assert stored == comparison
    check((written / "comparison.html").read_text(encoding="utf-8"), stored)
    hostile = copy.deepcopy(comparison)
    hostile["groups"][0]["name"] = "<i>'&\""
    assert "<i>'&\"" in check(render_page(hostile), hostile).text


# --- The statistics


@given(seed=st.integers(0, 2**31), cases=st.integers(2, 9), runs=st.integers(1, 3))
def test_differences_are_what_loops_over_cases_give(seed: int, cases: int, runs: int) -> None:
    rng = np.random.default_rng(seed)
    errors = [rng.uniform(0.01, 1, (runs, cases)).round(1) for _ in range(3)]
    told = paired(errors, [0.01, None, 0.02], resamples=50, seed=0)
    means = [[float(np.mean(each[:, case])) for case in range(cases)] for each in errors]
    for number in (1, 2):
        differences = [means[number][case] - means[0][case] for case in range(cases)]
        difference = told["differences"][number - 1]
        assert difference["mean"] == pytest.approx(np.mean(differences), abs=1e-12)
        assert difference["better"] == sum(each < 0 for each in differences)
        assert difference["worse"] == sum(each > 0 for each in differences)
    wins = [0, 0, 0]
    for case in range(cases):
        column = [means[number][case] for number in range(3)]
        if column.count(min(column)) == 1:
            wins[column.index(min(column))] += 1
    assert told["wins"] == wins
    assert told["differences"][0]["beyond_draws"] is None


def test_intervals_hold_the_true_difference_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        difficulty = rng.uniform(0.05, 0.5, 30)  # shared by both runs, so that pairing matters
        first = difficulty + 0.01 * rng.normal(size=30)
        second = difficulty + 0.02 + 0.01 * rng.normal(size=30)
        told = paired([first[None], second[None]], [0.0, 0.0], resamples=400, seed=trial)["differences"][0]
        held += told["low"] <= 0.02 <= told["high"]
        assert told["low"] > 0, "unpaired, this could not be told"
    assert 0.88 <= held / 200 <= 0.98


def test_a_difference_within_the_luck_of_the_anchors_is_named_so() -> None:
    errors = [np.full((1, 6), 0.10), np.full((1, 6), 0.11)]
    lucky, sure = (
        paired(errors, [spread, spread], resamples=100, seed=0)["differences"][0] for spread in (0.01, 0.001)
    )
    assert not lucky["beyond_draws"]
    assert verdict_of(lucky) == "worse, within the anchors' luck"
    assert sure["beyond_draws"]
    assert verdict_of(sure) == "worse"


def test_cases_and_units_in_another_order_change_nothing() -> None:
    rng = np.random.default_rng(1)
    errors = [rng.uniform(size=(2, 6)) for _ in range(2)]
    order = rng.permutation(6)
    plain = paired(errors, [0.1, 0.2], resamples=20_000, seed=0)
    other = paired([1e3 * each[:, order] for each in errors], [100.0, 200.0], resamples=20_000, seed=0)
    assert other["wins"] == plain["wins"]
    for key in ("mean", "low", "high"):
        assert other["differences"][0][key] == pytest.approx(1e3 * plain["differences"][0][key], rel=0.05, abs=5)
    assert other["differences"][0]["beyond_draws"] == plain["differences"][0]["beyond_draws"]


@pytest.mark.parametrize("count", [1, 5, 6])
def test_few_cases_tell_no_runs_apart(count: int) -> None:
    errors = [np.full((1, count), 0.10), np.full((1, count), 0.20)]
    (difference,) = paired(errors, [0.0, 0.0], resamples=100, seed=0)["differences"]
    by_luck = 2 * 0.5**count  # that all cases agree on one of two equal runs
    assert verdict_of(difference) == ("too few cases" if by_luck > 0.05 else "worse")
