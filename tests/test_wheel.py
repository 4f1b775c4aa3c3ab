"""What a stranger installs works without the checkout."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (path,) = out.glob("anchorfield-*.whl")
    return path


def test_the_wheel_carries_packages_and_configurations(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "neuralop", "meshes", "pipelines", "configs"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    expected = {
        name.replace("configs/", "pipelines/configs/", 1) if name.startswith("configs/") else name for name in tracked
    }
    assert expected <= names
    assert not {name for name in names if name.startswith(("tests/", "configs/", "benchmarks/"))}


def test_the_demo_runs_from_a_wheel_in_a_new_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        str(ROOT / "constraints.txt"),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}

    run = subprocess.run(
        [str(environment / "bin" / "anchorfield"), "demo", "--quick"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    demo = tmp_path / "demo"
    for name in (
        "prediction/surface.vtp",
        "prediction/volume.vtu",
        "prediction/prediction.json",
        "store/manifest.json",
    ):
        assert (demo / name).is_file(), name
    assert list((demo / "pictures").glob("*.png"))
    scores = json.loads((demo / "scores.json").read_text())
    assert scores["cases"]
    for field, entry in scores["fields"].items():
        assert {"relative_l2", "rmse", "r2", "baselines"} <= set(entry), field
        assert ("near_wall" in entry) == field.startswith("volume"), field
