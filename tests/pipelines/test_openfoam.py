"""Cases that OpenFOAM's own programs solved just now, read and prepared."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from meshes.geometry.cells import cell_centres, cell_sizes
from meshes.kinds import POLYHEDRON
from meshes.mesh import Mesh
from meshes.reading import open_source, read, read_blocks
from meshes.stores import Store
from pipelines.inspect import inspect, render
from pipelines.prepare import prepare
from pipelines.settings import read as read_settings
from pipelines.sources import DataConfig

pytestmark = pytest.mark.openfoam

# Where Debian's packages `openfoam` and `openfoam-examples` put things; its programs are on the path, their
# configuration is found through WM_PROJECT_DIR alone.
ENVIRONMENT = {"WM_PROJECT_DIR": "/usr/share/openfoam", "FOAM_SIGFPE": "false", **os.environ}
EXAMPLES = Path(os.environ.get("FOAM_TUTORIALS", "/usr/share/doc/openfoam-examples/examples"))
TIMES = [0, 0.1, 0.2, 0.3, 0.4, 0.5]
FORCES = """
functions { forces { type forces; libs (forces); patches (walls); rho rhoInf; rhoInf 1; CofR (0 0 0); } }
"""


def _run(case: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=case, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def _example(name: str, to: Path) -> Path:
    for program in ("blockMesh", "decomposePar", "foamToEnsight", "icoFoam", "polyDualMesh", "simpleFoam"):
        if shutil.which(program) is None:
            pytest.skip(f"OpenFOAM's {program} is not installed (Debian: openfoam)")
    if not (EXAMPLES / name).is_dir():
        pytest.skip(f"OpenFOAM's examples are not installed at {EXAMPLES} (Debian: openfoam-examples)")
    shutil.copytree(EXAMPLES / name, to)
    for packed in to.rglob("*.gz"):
        _run(to, "gunzip", str(packed))
    return to


def _change(file: Path, **entries: str) -> None:
    text = file.read_text()
    for name, value in entries.items():
        text, count = re.subn(rf"(?m)^{name}\b.*;", f"{name} {value};", text)
        assert count == 1, name
    file.write_text(text)


@pytest.fixture(scope="module")
def cavity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Solve the flow in a box under a moving lid."""
    case = _example("incompressible/icoFoam/cavity/cavity", tmp_path_factory.mktemp("openfoam") / "cavity")
    _run(case, "blockMesh")
    _run(case, "icoFoam")
    return case


def _copy(case: Path, to: Path) -> Path:
    return Path(shutil.copytree(case, to))


def _in_order(mesh: Mesh) -> np.ndarray:
    """Return what is on cells, in the order of their centres: centre, size and fields."""
    centre = np.round(cell_centres(mesh), 8) + 0.0
    arrays = [mesh.cell_data[name].reshape(mesh.n_cells, -1) for name in ("p", "U")]
    table = np.concatenate([centre, cell_sizes(mesh)[:, None], *arrays], axis=1)
    return table[np.lexsort(centre.T)]


def _values(file: Path) -> np.ndarray:
    inner = file.read_text().split("internalField", 1)[1].split("(", 1)[1].split(")\n;", 1)[0]
    return np.array(re.sub(r"[()]", " ", inner).split(), float)


def test_a_serial_case_is_read_as_it_was_written(cavity: Path) -> None:
    source = open_source(cavity)
    assert source.times() == pytest.approx(TIMES)
    assert source.blocks(0.5) == ["internalMesh", "movingWall", "fixedWalls", "frontAndBack"]
    blocks = read_blocks(cavity)
    assert {name: mesh.n_cells for name, mesh in blocks.items()} == {
        "internalMesh": 400, "movingWall": 20, "fixedWalls": 60, "frontAndBack": 800,
    }  # fmt: skip
    assert cell_sizes(blocks["internalMesh"]).sum() == pytest.approx(1e-4)
    assert cell_sizes(blocks["fixedWalls"]).sum() == pytest.approx(3e-3)
    assert not any(mesh.point_data for mesh in blocks.values())
    for time in ("0.1", "0.5"):
        mesh = read(cavity, time=float(time))
        np.testing.assert_allclose(mesh.cell_data["p"], _values(cavity / time / "p"), rtol=1e-6)
        np.testing.assert_allclose(mesh.cell_data["U"].ravel(), _values(cavity / time / "U"), rtol=1e-6)
    np.testing.assert_array_equal(blocks["movingWall"].cell_data["U"], np.tile([1, 0, 0], (20, 1)))
    np.testing.assert_array_equal(blocks["fixedWalls"].cell_data["U"], np.zeros((60, 3)))


def test_the_mean_over_times(cavity: Path) -> None:
    mean = np.mean([_values(cavity / time / "p") for time in ("0.3", "0.4", "0.5")], axis=0)
    for time in ("0.3 to latest", [0.3, 0.4, 0.5]):
        np.testing.assert_allclose(read(cavity, time=time).cell_data["p"], mean, rtol=1e-5, atol=1e-6)


def test_a_decomposed_case_is_the_serial_one_in_another_order(cavity: Path, tmp_path: Path) -> None:
    case = _copy(cavity, tmp_path / "cavity")
    (case / "system/decomposeParDict").write_text(
        "FoamFile { version 2.0; format ascii; class dictionary; object decomposeParDict; }\n"
        "numberOfSubdomains 3;\nmethod simple;\nsimpleCoeffs { n (3 1 1); delta 0.001; }\n"
    )
    _run(case, "decomposePar", "-time", "0:")
    assert not open_source(case).decomposed  # type: ignore[attr-defined]  # it has been reconstructed
    for time in TIMES[1:]:
        shutil.rmtree(case / f"{time:g}")
    assert open_source(case).decomposed  # type: ignore[attr-defined]
    assert open_source(case).blocks(0.5) == open_source(cavity).blocks(0.5)
    for time in (0.2, "latest", [0.1, 0.2]):
        for blocks in (["internalMesh"], ["movingWall", "fixedWalls"]):
            one, other = (read(each, time=time, blocks=blocks) for each in (cavity, case))
            np.testing.assert_allclose(_in_order(one), _in_order(other), rtol=1e-5, atol=1e-7)
    assert "of 3 processors" in render(inspect([case])[0])


def test_binary_and_compressed_files(cavity: Path, tmp_path: Path) -> None:
    case = _copy(cavity, tmp_path / "cavity")
    for time in TIMES[1:]:
        shutil.rmtree(case / f"{time:g}")
    _change(case / "system/controlDict", writeFormat="binary", writeCompression="on")
    _run(case, "icoFoam")
    np.testing.assert_allclose(_in_order(read(case)), _in_order(read(cavity)), rtol=1e-3, atol=1e-4)


def test_polyhedra_fill_the_same_box(cavity: Path, tmp_path: Path) -> None:
    case = _copy(cavity, tmp_path / "cavity")
    _run(case, "polyDualMesh", "75", "-overwrite")
    mesh = read(case, time=0)
    assert (mesh.types == POLYHEDRON).any()
    assert cell_sizes(mesh).sum() == pytest.approx(1e-4, rel=1e-5)


@pytest.mark.parametrize("options", [[], ["-ascii"]])
def test_what_openfoam_writes_for_ensight_is_the_same(cavity: Path, tmp_path: Path, options: list[str]) -> None:
    case = _copy(cavity, tmp_path / "cavity")
    _run(case, "foamToEnsight", *options)
    path = next((case / "EnSight").glob("*.case"))
    assert open_source(path).times() == pytest.approx(TIMES)
    for blocks in (["internalMesh"], ["fixedWalls"]):
        one, other = (read(each, time=0.4, blocks=blocks) for each in (cavity, path))
        np.testing.assert_allclose(_in_order(one), _in_order(other), rtol=1e-3, atol=1e-4)


def test_three_airfoils_from_solver_to_store(tmp_path: Path) -> None:
    angles = (0, 4, 8)
    for angle in angles:
        case = _example("incompressible/simpleFoam/airFoil2D", tmp_path / f"airfoil_{angle}")
        speed = 26 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        _change(case / "0/U", internalField=f"uniform ({speed[0]:.6f} {speed[1]:.6f} 0)")
        _change(case / "system/controlDict", endTime="40", writeInterval="20")
        with (case / "system/controlDict").open("a") as file:
            file.write(FORCES)
        _run(case, "simpleFoam")
        _run(case, "simpleFoam", "-postProcess", "-func", "wallShearStress")
    pressure = {"array": "p", "unit": "m²/s²", "scale": "0.5 * speed**2"}
    shear = {"array": "wallShearStress", "unit": "m²/s²", "kind": "vector", "scale": "0.5 * speed**2"}
    velocity = {"array": "U", "unit": "m/s", "kind": "vector", "scale": "speed"}
    settings = {
        "store": str(tmp_path / "store"),
        "cases": f"{tmp_path}/airfoil_*",
        "space": ["x", "y"],
        "branches": {
            "surface": {
                "file": ".",
                "kind": "surface",
                "blocks": ["wall*"],
                "fields": {"pressure": pressure, "wall_shear_stress": shear},
            },
            "volume": {
                "file": ".",
                "kind": "volume",
                "time": "20 to latest",
                "fields": {"pressure": pressure, "velocity": velocity},
            },
        },
        "parameters": {"pattern": "airfoil_(?P<angle>[0-9]+)", "values": {"speed": 26}},
        "conditions": ["angle"],
        "conventions": {"pressure": "kinematic", "shear": "on_fluid", "density": 1.0},
        "splits": {"kind": "names", "validation": ["airfoil_4"], "test": ["airfoil_8"]},
    }
    config = read_settings(DataConfig, settings, "data")
    assert sorted(prepare(config, workers=1, strict=True).prepared) == [f"airfoil_{angle}" for angle in angles]
    store = Store(tmp_path / "store")
    for angle in angles:
        case = store.case(f"airfoil_{angle}")
        assert case.entry["counts"] == {"surface": 78, "volume": 10720}
        report = next((tmp_path / f"airfoil_{angle}" / "postProcessing/forces").rglob("force.dat"))
        last = np.array(re.sub(r"[()]", " ", report.read_text().splitlines()[-1]).split(), float)[1:]
        known = (last[-6:-3], last[-3:]) if len(last) >= 9 else (last[:3], last[3:6])
        for name, truth in zip(("pressure", "friction"), known, strict=True):
            np.testing.assert_allclose(case.entry["forces"][name][:2], truth[:2], rtol=2e-3, atol=2e-3, err_msg=name)
    assert sorted(prepare(config, workers=1).kept) == [f"airfoil_{angle}" for angle in angles]
    (tmp_path / "airfoil_4/40/p").write_text((tmp_path / "airfoil_4/20/p").read_text())
    assert prepare(config, workers=1).prepared == ["airfoil_4"]
