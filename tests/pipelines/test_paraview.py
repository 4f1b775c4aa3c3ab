"""Predictions in the real ParaView: what it opens is what was written, and what it draws is what `view` drew.

`pytest -m paraview`, with Debian's `paraview`, `python3-paraview` and `xvfb`; ParaView 5.11's off-screen switch ends
the process where there is no display, so that `xvfb-run` gives it one.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pyvista

from meshes.kinds import POLYHEDRON
from meshes.mesh import Mesh
from meshes.reading import read
from meshes.writing import write, write_collection
from pipelines.config import load
from pipelines.predict import predict
from pipelines.prepare import prepare
from pipelines.train import train
from pipelines.visualise import view

pytestmark = [
    pytest.mark.paraview,
    *(
        pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")
        for name in ("pvpython", "xvfb-run")
    ),
]

TINY = [
    "operator.width=24",
    "operator.heads=2",
    "operator.trunk=[perceiver, self, cross]",
    "operator.supernodes=48",
    "training.steps=3",
    "training.sampling={geometry: 128, anchors: 64, queries: 64}",
    "training.device=cpu",
    "tracking={kind: none}",
]
MESHES = ("surface.vtp", "volume.vtu")


def pvpython(script: Path, *arguments: Path) -> None:
    """Run a script in ParaView, which must not complain."""
    call = ["xvfb-run", "-a", "pvpython", str(script), *map(str, arguments)]
    ended = subprocess.run(call, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not any(word in ended.stdout + ended.stderr for word in ("ERR|", "ERROR:", "Traceback")), ended.stderr


def dump(target: Path, files: Sequence[Path]) -> list[list[dict[str, np.ndarray]]]:
    """Open files in ParaView, and give for each file and time what it holds there."""
    pvpython(Path(__file__).with_name("paraview_dump.py"), target, *files)
    found: list[list[dict[str, np.ndarray]]] = [[] for _ in files]
    with np.load(target) as saved:
        print("ParaView", saved["version"])
        for key in saved.files:
            if key == "version":
                continue
            number, index, name = key.split("/", 2)
            times = found[int(number)]
            times.extend({} for _ in range(int(index) + 1 - len(times)))
            times[int(index)][name] = saved[key]
    return found


def faces_of(mesh: Mesh) -> np.ndarray:
    """Say the faces of every polyhedron as `paraview_dump.py` does."""
    said: list[int] = []
    if mesh.face_connectivity is None:
        return np.array(said, np.int64)
    assert mesh.face_offsets is not None
    assert mesh.polyhedron_offsets is not None
    for cell in np.flatnonzero(mesh.types == POLYHEDRON):
        faces = range(*mesh.polyhedron_offsets[cell : cell + 2])
        said += [cell, len(faces)]
        for face in faces:
            corners = mesh.face_connectivity[slice(*mesh.face_offsets[face : face + 2])]
            said += [len(corners), *corners]
    return np.array(said, np.int64)


def assert_same(opened: dict[str, np.ndarray], mesh: Mesh) -> None:
    """Compare what ParaView holds with a mesh of ours, bit for bit."""
    np.testing.assert_array_equal(opened["types"], mesh.types)
    np.testing.assert_array_equal(opened["offsets"], mesh.offsets)
    np.testing.assert_array_equal(opened["faces"], faces_of(mesh))
    if not len(opened["faces"]):  # the corners of a polyhedron are a set, in no order
        np.testing.assert_array_equal(opened["connectivity"], mesh.connectivity)
    assert opened["points"].dtype == mesh.points.dtype
    np.testing.assert_array_equal(opened["points"], mesh.points)
    for place, arrays in (("cell", mesh.cell_data), ("point", mesh.point_data)):
        names = {name.removeprefix(f"{place}/") for name in opened if name.startswith(f"{place}/")}
        assert names == set(arrays)
        for name, array in arrays.items():
            shown = opened[f"{place}/{name}"]
            assert shown.dtype == array.dtype, name
            np.testing.assert_array_equal(shown.reshape(array.shape), array, err_msg=name)


@dataclass(frozen=True)
class Case:
    """A prediction on the mesh of a simulation.

    Attributes:
        out: what `predict` wrote.
        source: folder of the simulation.
        new: what `predict` wrote for the same body without a simulation.
    """

    out: Path
    source: Path
    new: Path


def predicted(run: Path, source: Path, folder: Path, *, numbers: str, names: Sequence[str], body: str) -> Case:
    known = json.loads((source / numbers).read_text())
    conditions = {name: known[name] for name in names}
    out, new = folder / "prediction", folder / "new"
    given = {"conditions": conditions, "device": "cpu"}
    predict(run, geometry=source / "surface.vtp", volume=source / "volume.vtu", out=out, **given)
    predict(run, geometry=source / body, out=new, **given)
    return Case(out, source, new)


def trained(experiment: str, cases: str, test: str, folder: Path) -> Path:
    settings = [f"data.cases={cases}", f"data.store={folder}/store", f"data.splits={{validation: [], test: [{test}]}}"]
    composed = load(experiment, [*settings, *TINY])
    prepare(composed.data, workers=1, strict=True)
    train(composed, run=folder / "run")
    return folder / "run"


@pytest.fixture(scope="module", params=["stokes", "airfoil", "ahmed"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Predict with a tiny surrogate of each kind: everything but the accuracy is real."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "stokes":
        run, cases = request.getfixturevalue("tiny_run"), request.getfixturevalue("stokes_cases")
        source, numbers, names, body = cases / "stokes_0009", "case.json", ("speed", "viscosity"), "body.stl"
    elif request.param == "airfoil":
        shared = request.getfixturevalue("shared_data") / "naca"
        run = trained("airfoil", f"{shared}/naca_00_00[01]", "naca_00_001", folder)
        source, numbers, names, body = shared / "naca_00_001", "summary.json", ("speed", "angle"), "surface.vtp"
    else:
        shared = request.getfixturevalue("shared_data") / "ahmed"
        run = trained("ahmed", f"{shared}/ahmed_00_00[01]", "ahmed_00_001", folder)
        source, numbers, names, body = shared / "ahmed_00_001", "summary.json", ("speed",), "body.stl"
    return predicted(run, source, folder, numbers=numbers, names=names, body=body)


def test_paraview_opens_what_was_written(case: Case, tmp_path: Path) -> None:
    files = [folder / name for folder in (case.out, case.new) for name in MESHES]
    opened = dump(tmp_path / "opened.npz", files)
    for file, (held,) in zip(files, opened, strict=True):
        assert_same(held, read(file))
    for name, (held,) in zip(MESHES, opened[:2], strict=True):
        # The mesh and the truth are those of the simulation's own file, cell by cell.
        simulation = read(case.source / name)
        np.testing.assert_array_equal(held["types"], simulation.types)
        np.testing.assert_array_equal(held["faces"], faces_of(simulation))
        np.testing.assert_array_equal(held["points"], simulation.points)
        for array, truth in simulation.cell_data.items():
            if f"cell/{array}_truth" in held:
                shown = held[f"cell/{array}_truth"].reshape(truth.shape)
                if (
                    case.source.name.startswith("naca") and truth.ndim == 2
                ):  # in the plane: what stands across is left out
                    truth = truth * (1, 1, 0) if array != "vorticity" else truth * (0, 0, 1)
                np.testing.assert_array_equal(shown, truth.astype(np.float32))
                error = held[f"cell/{array}"] - held[f"cell/{array}_truth"]
                np.testing.assert_array_equal(error, held[f"cell/{array}_error"])
    if case.source.name.startswith("ahmed"):
        assert (opened[1][0]["types"] == POLYHEDRON).sum() > 1000


def test_paraview_draws_what_view_drew(case: Case) -> None:
    for folder in (case.out, case.new):
        *pictures, script = view(folder)
        pvpython(script)
        for picture in pictures:
            ours, theirs = (image(picture.with_name(name)) for name in (picture.name, f"paraview_{picture.name}"))
            assert ours.shape == theirs.shape
            drawn = [(each[80:-130] < 250).any(axis=-1) for each in (ours, theirs)]
            # The same cells are seen from the same place …
            assert (drawn[0] & drawn[1]).sum() > 0.9 * (drawn[0] | drawn[1]).sum() or is_curve(picture, folder)
            # … in the same colours; the two light surfaces a little differently.
            both = drawn[0] & drawn[1]
            apart = np.abs(ours[80:-130].astype(float) - theirs[80:-130])[both].mean()
            assert apart < 12 or is_curve(picture, folder), (picture.name, apart)
            assert drawn[1].mean() > 0.005


def is_curve(picture: Path, folder: Path) -> bool:
    """Points of a chart stand nearly, but not exactly, in the same pixels."""
    space = json.loads((folder / "prediction.json").read_text())["space"]
    return len(space) == 2 and picture.name.startswith("surface_")


def image(path: Path) -> np.ndarray:
    """Read a picture as rows of pixels from the top."""
    data = pyvista.read(path)
    width, height, _ = data.dimensions
    return np.asarray(data["PNGImage"]).reshape(height, width, -1)[::-1, :, :3]


def test_paraview_steps_through_a_collection(tiny_run: Path, stokes_cases: Path, tmp_path: Path) -> None:
    body = stokes_cases / "stokes_0009" / "body.stl"
    speeds = {0.0: 1.0, 0.25: 2.0, 1.5: 3.0}
    entries = []
    for time, speed in speeds.items():
        out = tmp_path / f"at {time} s"
        conditions = {"speed": speed, "viscosity": 1.0}
        predict(tiny_run, geometry=body, grid=(6, 5, 4), conditions=conditions, out=out, device="cpu")
        entries.append((time, out / "volume.vtu"))
    write_collection(tmp_path / "series & more.pvd", entries)
    (opened,) = dump(tmp_path / "opened.npz", [tmp_path / "series & more.pvd"])
    assert [float(held["time"]) for held in opened] == list(speeds)
    for held, (_, file) in zip(opened, entries, strict=True):
        assert_same(held, read(file))


@pytest.mark.parametrize("name", ["polyhedra_older.vtu", "polyhedra_newer.vtu"])
def test_paraview_reads_every_kind_of_cell_and_number_as_it_was_in_memory(name: str, tmp_path: Path) -> None:
    mesh = read(Path(__file__).parents[1] / "data" / name)
    rng = np.random.default_rng(3)
    cells = {
        "float32": rng.normal(size=mesh.n_cells).astype(np.float32),
        "τ [m²/s²]": rng.normal(size=(mesh.n_cells, 3)),
        "int64": rng.integers(-(2**60), 2**60, mesh.n_cells),
        "uint8": rng.integers(0, 255, (mesh.n_cells, 2)).astype(np.uint8),
        "tiny": np.full(mesh.n_cells, np.nextafter(np.float32(0), np.float32(1))),
    }
    points = {"double": rng.normal(size=(mesh.n_points, 9)), "not a number": np.full(mesh.n_points, np.nan)}
    filled = mesh.with_data(cell_data=cells, point_data=points)
    write(filled, tmp_path / "filled.vtu")
    ((held,),) = dump(tmp_path / "opened.npz", [tmp_path / "filled.vtu"])
    assert_same(held, filled)
