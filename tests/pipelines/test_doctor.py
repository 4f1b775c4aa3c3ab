"""The doctor in environments that are broken in every way it knows: it tells each, with what to do, and never falls."""

import json
import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest

from pipelines import doctor

ROOT = Path(__file__).parents[2]
STAGES = ["generate", "prepare", "train", "evaluate", "predict", "view"]


def anchorfield(*arguments: str, folder: Path, **variables: str | None) -> tuple[int, str, str]:
    """Run the command in a folder, with some variables set or unset."""
    environment = os.environ | {name: value for name, value in variables.items() if value is not None}
    for name in (name for name, value in variables.items() if value is None):
        environment.pop(name, None)
    call = [sys.executable, "-m", "pipelines.cli", *arguments]
    ended = subprocess.run(call, capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=600)
    return ended.returncode, ended.stdout, ended.stderr


def no_renderer(folder: Path) -> dict[str, str | None]:
    return {"DISPLAY": None, "__EGL_VENDOR_LIBRARY_FILENAMES": str(folder / "no-driver.json")}


def by_name(output: str) -> dict[str, dict]:
    return {check["name"]: check for check in json.loads(output)["checks"]}


def distribution(folder: Path, name: str, version: str, *requirements: str) -> None:
    """Write what an installer leaves behind of a distribution."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {each}" for each in requirements), ""]))


def test_a_sound_environment_passes_and_nothing_is_left_behind(tmp_path: Path) -> None:
    code, output, errors = anchorfield("doctor", "--json", folder=tmp_path, PYTHONPATH=str(ROOT))
    assert code == 0, output + errors
    assert json.loads(output)["healthy"]
    checks = by_name(output)
    assert list(checks)[-6:] == STAGES
    for stage in STAGES:
        assert checks[stage]["status"] == "ok", checks[stage]
        assert checks[stage]["seconds"] > 0
    assert "torch 2" in checks["packages"]["said"]
    assert list(tmp_path.iterdir()) == []


def test_everything_that_is_broken_is_told_with_what_to_do(tmp_path: Path) -> None:
    closed, site = tmp_path / "closed", tmp_path / "site"
    closed.mkdir(mode=0o555)
    if os.getuid() == 0:
        closed = Path("/sys")  # where not even the superuser, whom no permissions bind, may make a file
    distribution(site, "neuraloperator", "2.0.0")
    distribution(site, "anchorfield", "9.9.9", "a-package-of-no-name>=1.2", "torch>=99", "pytest>=99; extra == 'test'")
    code, output, errors = anchorfield(
        "doctor",
        "--json",
        folder=closed,
        PYTHONPATH=f"{site}{os.pathsep}{ROOT}",
        PYTHONDONTWRITEBYTECODE="1",
        OMP_NUM_THREADS="four",
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        **no_renderer(tmp_path),
    )
    assert code == 1, output + errors
    assert "Traceback" not in errors
    assert not json.loads(output)["healthy"]
    checks = by_name(output)
    expected = {
        "packages": (
            "failed",
            "a-package-of-no-name is missing; torch is 2",
            "pip install --upgrade 'a-package-of-no-name'",
        ),
        "neuralop": ("failed", "neuraloperator 2.0.0 is installed here", "python -m venv"),
        "threads": ("warning", "OMP_NUM_THREADS=four", "whole number"),
        "folder": ("failed", f"{closed} cannot be written to", "folder of your own"),
        "HDF5": ("skipped", "cannot be written to", ""),
        "MLflow": ("failed", "http://127.0.0.1:9 does not answer", "start the server"),
        **dict.fromkeys(STAGES, ("skipped", "not tried", "")),
    }
    if find_library("OSMesa") is None:  # which draws without EGL
        expected["renderer"] = ("failed", "VTK found none", "apt-get install libegl1")
    for name, (status, said, remedy) in expected.items():
        assert checks[name]["status"] == status, checks[name]
        assert said in checks[name]["said"]
        assert remedy in checks[name]["remedy"]
    assert "pytest" not in checks["packages"]["remedy"]


def test_another_package_of_our_name_is_told_and_not_run(tmp_path: Path) -> None:
    theirs = tmp_path / "site" / "neuralop"
    theirs.mkdir(parents=True)
    (theirs / "__init__.py").write_text("raise SystemExit('this is not ours')\n")
    path = f"{theirs.parent}{os.pathsep}{ROOT}"
    code, output, errors = anchorfield("doctor", folder=tmp_path, PYTHONPATH=path)
    assert code == 1, output + errors
    line = next(line for line in output.splitlines() if "neuralop " in line)
    assert line.startswith("FAILED")
    assert str(theirs) in line
    assert "Uninstall neuraloperator" in line
    assert output.splitlines()[-1].startswith("Broken: neuralop")
    code, output, errors = anchorfield("generate", "stokes", "--out", "cases", folder=tmp_path, PYTHONPATH=path)
    assert (code, output) == (2, "")
    assert str(theirs) in errors
    assert not (tmp_path / "cases").exists()


@pytest.mark.filterwarnings("ignore")  # of MLflow
def test_a_tracking_store_that_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/deep/er/mlflow.db")
    assert "made by the first training" in doctor._mlflow()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mlflow.db").write_text("not a database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(doctor.Finding, match="does not answer") as found:
        doctor._mlflow()
    assert "MLFLOW_TRACKING_URI" in found.value.remedy


@pytest.mark.slow
@pytest.mark.skipif(find_library("OSMesa") is not None, reason="OSMesa draws without EGL")
def test_without_a_renderer_all_but_the_pictures_is_tried(tmp_path: Path) -> None:
    code, output, _ = anchorfield("doctor", folder=tmp_path, PYTHONPATH=str(ROOT), **no_renderer(tmp_path))
    assert code == 1
    lines = {line[9:].split()[0]: line.split()[0] for line in output.splitlines() if line[9:].strip()}
    assert lines["renderer"] == "FAILED"
    assert lines["view"] == "skipped"
    assert {lines[stage] for stage in STAGES[:-1]} == {"ok"}
    assert "→ on Debian and Ubuntu: apt-get install libegl1 libgl1-mesa-dri" in output
    assert shutil.which("anchorfield") is None or output.splitlines()[-1] == "Broken: renderer. See the arrows above."
