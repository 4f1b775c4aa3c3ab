"""The command line: exit codes, one-sentence errors, and help that costs nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app

HEAVY = {"torch", "torch_geometric", "pyvista", "vtk", "h5py", "dask", "distributed", "mlflow", "scipy"}
VERBS = [command.callback.__name__ for command in app.registered_commands]


def anchorfield(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    call = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=False, env=os.environ | variables)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from pipelines.cli import app;"
        "result = CliRunner().invoke(app, ['--help']); assert result.exit_code == 0, result.output;"
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", "stokes", "training.step=3"], 2, "did you mean steps?"),
        (["train", "stokes", "training.steps=many"], 2, "training.steps should be a whole number"),
        (["train", "nothing"], 2, "nothing is neither a file nor an experiment that ships"),
        (["generate", "darcy", "--out", "x"], 2, "'darcy' is not a family"),
        (["predict", "run", "--geometry", "a.stl", "--out", "x", "--condition", "speed"], 2, "NAME=NUMBER"),
        (["predict", "run", "--geometry", "a.stl", "--out", "x", "--grid", "4,4,many"], 2, "whole numbers separated"),
        (["inspect", "missing.vtu"], 1, "missing.vtu does not exist"),
        (["evaluate", "nowhere"], 1, "nowhere does not exist"),
        (["view", "nowhere"], 1, "nowhere"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(
    arguments: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = anchorfield(*arguments, PYTHONPATH=str(Path(__file__).parents[2]))
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir()), "a refused command left something behind"


def test_every_verb_refuses_to_share_the_name_neuralop(tmp_path: Path) -> None:
    theirs = tmp_path / "neuraloperator-2.0.0.dist-info"
    theirs.mkdir()
    (theirs / "METADATA").write_text("Metadata-Version: 2.1\nName: neuraloperator\nVersion: 2.0.0\n")
    result = anchorfield("generate", "stokes", "--out", tmp_path / "cases", PYTHONPATH=str(tmp_path))
    assert result.returncode == 2
    assert "neuraloperator" in result.stderr
    assert "separate" in result.stderr or "own environment" in result.stderr
    assert not (tmp_path / "cases").exists()


def test_results_as_json(tiny_run: Path, stokes_cases: Path) -> None:
    result = anchorfield("inspect", stokes_cases / "stokes_0000" / "surface.vtp", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)
    result = anchorfield("evaluate", tiny_run, "--json")
    assert result.returncode == 0, result.stderr
    scores = json.loads(result.stdout)
    assert scores["cases"]
    pressure = scores["fields"]["surface_pressure"]
    assert {"relative_l2", "rmse", "r2"} < set(pressure)
    assert set(pressure["baselines"]) == {"nearest_case", "mean_field", "ridge", "quadratic"}
    assert {"relative_l2", "rmse", "r2", "baselines"} <= set(scores["fields"]["volume_velocity"]["near_wall"])
