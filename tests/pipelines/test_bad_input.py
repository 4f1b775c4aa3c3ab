"""Bad input as its user meets it: an exit code and a sentence that says what, where and what to do; nothing is lost."""

import contextlib
import io
import json
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from meshes.mesh import Mesh
from meshes.reading import read
from meshes.stores import Store
from meshes.writing import write
from pipelines.checkpoints import find, load
from pipelines.cli import main
from pipelines.config import Experiment, to_yaml

CONDITIONS = ("--condition", "speed=1.1", "--condition", "viscosity=1.1")
BAD = "stokes_0001"


@dataclass(frozen=True)
class Answer:
    code: int
    text: str
    out: str


def anchorfield(*arguments: str | Path) -> Answer:
    """Run the command in this process, which saves importing everything once a test."""
    out, err = io.StringIO(), io.StringIO()
    before, stages = sys.argv, logging.getLogger("pipelines")
    handlers, sys.argv = list(stages.handlers), ["anchorfield", *map(str, arguments)]
    code: int | str | None = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as exit_:
        code = exit_.code
    finally:
        sys.argv, stages.handlers = before, handlers
    return Answer(int(code or 0), out.getvalue() + err.getvalue(), out.getvalue())


def content(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def of_triangles(*pieces: tuple[np.ndarray, np.ndarray]) -> Mesh:
    start = np.cumsum([0, *(len(points) for points, _ in pieces)])
    triangles = [each + offset for (_, each), offset in zip(pieces, start[:-1], strict=True)]
    return Mesh.from_triangles(np.concatenate([points for points, _ in pieces]), np.concatenate(triangles))


@pytest.fixture(scope="session")
def body(stokes_cases: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of a body."""
    mesh = read(stokes_cases / BAD / "body.stl")
    return np.asarray(mesh.points, np.float32), mesh.connectivity.reshape(-1, 3)


# --- prepare: one case among three is bad


@dataclass(frozen=True)
class Bench:
    """Three cases, a configuration that prepares them, and the case to spoil."""

    folder: Path
    case: Path

    def prepare(self, *arguments: str) -> Answer:
        return anchorfield("prepare", self.folder / "experiment.yaml", *arguments, "--workers", "1")

    def edit(self, file: str, **changes: Callable[[Mesh], object]) -> None:
        mesh = read(self.case / file)
        write(replace(mesh, **{name: change(mesh) for name, change in changes.items()}), self.case / file)

    @property
    def prepared(self) -> list[str]:
        return list(Store(self.folder / "store"))


@pytest.fixture
def bench(stokes_cases: Path, tiny_experiment: Experiment, tmp_path: Path) -> Bench:
    for number in range(3):
        shutil.copytree(stokes_cases / f"stokes_{number:04d}", tmp_path / "cases" / f"stokes_{number:04d}")
    settings = tiny_experiment.to_dict()
    settings["data"] |= {"cases": f"{tmp_path}/cases/*", "store": f"{tmp_path}/store", "splits": {"kind": "names"}}
    (tmp_path / "experiment.yaml").write_text(to_yaml(settings))
    return Bench(tmp_path, tmp_path / "cases" / BAD)


def spoilt(name: str, row: int, value: float) -> Callable[[Mesh], dict]:
    def change(mesh: Mesh) -> dict:
        array = mesh.cell_data[name].copy()
        array[row:] = np.where(
            np.arange(row, len(array))[(...,) + (None,) * (array.ndim - 1)] < row + 3, value, array[row:]
        )
        return {**mesh.cell_data, name: array}

    return change


def with_a_bad_point(value: float) -> Callable[[Mesh], np.ndarray]:
    def change(mesh: Mesh) -> np.ndarray:
        points = mesh.points.copy()
        points[11, 1] = value
        return points

    return change


def times(factor: float) -> Callable[[Mesh], np.ndarray]:
    return lambda mesh: mesh.points * factor


def all_in_millimetres(bench: Bench) -> None:
    for file in ("body.stl", "surface.vtp", "volume.vtu"):
        bench.edit(file, points=times(1000))


def without_cells(file: str) -> Callable[[Bench], None]:
    import pyvista

    kind = pyvista.PolyData if file.endswith("vtp") else pyvista.UnstructuredGrid
    return lambda bench: kind().save(bench.case / file)


def linked(target: str) -> Callable[[Bench], None]:
    def change(bench: Bench) -> None:
        (bench.case / "body.stl").unlink()
        (bench.case / "body.stl").symlink_to(target)

    return change


def made_a_folder(bench: Bench) -> None:
    (bench.case / "body.stl").unlink()
    (bench.case / "body.stl").mkdir()


def too_short(bench: Bench) -> None:
    text = (bench.case / "surface.vtp").read_bytes()
    (bench.case / "surface.vtp").write_bytes(re.sub(rb'NumberOfPolys="(\d+)"', b'NumberOfPolys="400"', text))


def given_twice(bench: Bench) -> None:
    text = (bench.case / "surface.vtp").read_bytes()
    (bench.case / "surface.vtp").write_bytes(text.replace(b'Name="wallShearStress"', b'Name="p"', 1))


def surface(*corners: tuple[float, float, float]) -> Callable[[Bench], None]:
    triangles = np.arange(len(corners)).reshape(-1, 3)
    return lambda bench: write(Mesh.from_triangles(np.array(corners, np.float64), triangles), bench.case / "body.stl")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_cells("surface.vtp"), r"surface\.vtp has 0 points but no cells"),
        (without_cells("volume.vtu"), r"volume\.vtu has 0 points but no cells"),
        (
            lambda bench: bench.edit("surface.vtp", cell_data=spoilt("p", 5, np.nan)),
            r"surface\.vtp: array 'p' is NaN or infinite at 3 of 320 cells, first at cell 5; .* data\.not_finite",
        ),
        (
            lambda bench: bench.edit("volume.vtu", cell_data=spoilt("U", 7, np.inf)),
            r"volume\.vtu: array 'U' is NaN or infinite at 3 of 2560 cells, first at cell 7",
        ),
        (
            lambda bench: bench.edit("surface.vtp", points=with_a_bad_point(np.nan)),
            r"surface\.vtp: the positions of 1 of 162 points are NaN or infinite, first of point 11 \(of cell \d+\)",
        ),
        (
            lambda bench: bench.edit("volume.vtu", points=with_a_bad_point(np.inf)),
            r"volume\.vtu: the positions of 1 of 1458 points are NaN or infinite, first of point 11",
        ),
        (too_short, r"surface\.vtp cannot be read as \.vtp; it is damaged or cut short"),
        (given_twice, r"surface\.vtp has several arrays of cells called 'p'"),
        (lambda bench: bench.edit("body.stl", points=times(1000)), r"body\.stl [\d.e+]+ m: .* some in millimetres"),
        (lambda bench: bench.edit("surface.vtp", points=times(0.01)), r"surface\.vtp is .* some in centimetres"),
        (lambda bench: bench.edit("volume.vtu", points=times(1000)), r"volume\.vtu is .* m away: are they in diff"),
        (lambda bench: bench.edit("volume.vtu", points=times(0.0254)), r"volume\.vtu is .*, which cannot lie in it"),
        (all_in_millimetres, r"its body is \d+ m long, those of 2 other cases about [\d.]+ m: are its files in ot"),
        (surface((0, 0, 0), (1, 0, 0), (0, 1, 0)), r"body\.stl: the surface of 1 cell lies in a plane"),
        (surface((0, 0, 0), (1, 0, 0), (2, 0, 0)), r"body\.stl: the surface of 1 cell lies in a plane"),
        (linked("nowhere.stl"), r"body\.stl is a link to nowhere\.stl, which is not there"),
        (made_a_folder, r"body\.stl is a folder; expected a file"),
        (lambda bench: (bench.case / "case.json").write_text("{"), r"case\.json is not JSON"),
    ],
)  # fmt: skip
def test_a_bad_case_is_named_and_costs_no_other(bench: Bench, spoil: Callable[[Bench], object], said: str) -> None:
    spoil(bench)
    answer = bench.prepare()
    assert answer.code == 1, answer.text
    assert re.search(rf"failed: {BAD}: .*{said}", answer.text), answer.text
    assert bench.prepared == ["stokes_0000", "stokes_0002"]


def test_a_named_setting_drops_cells_without_values(bench: Bench) -> None:
    bench.edit("surface.vtp", cell_data=spoilt("p", 5, np.nan))
    answer = bench.prepare("data.not_finite=drop")
    assert answer.code == 0
    assert re.search(r"surface\.vtp: 3 of 320 cells with values that are NaN or infinite were left out", answer.text)
    case = Store(bench.folder / "store").case(BAD)
    assert case.count("surface") == 317
    assert not set(case.read("surface", names=["order"])["order"]) & {5, 6, 7}


def test_bodies_that_can_be_used_are_prepared_with_a_note(bench: Bench, body: tuple[np.ndarray, np.ndarray]) -> None:
    points, triangles = body
    aside, into = points + np.float32([50, 0, 0]) * 0.1, points + np.float32([0.2, 0, 0])
    for mesh, note in (
        (
            of_triangles((points, triangles[:-30])),
            r"body\.stl: the surface is not closed, \d+ edges have one cell only",
        ),
        (of_triangles((points, triangles), (into, triangles)), r"of the surface lies inside another of its 2 pieces"),
        (of_triangles((points, triangles), (aside, triangles)), None),
        (of_triangles((points, triangles[:, ::-1])), None),
    ):
        write(mesh, bench.case / "body.stl")
        answer = bench.prepare()
        assert answer.code == 0, answer.text
        assert re.search(note, answer.text) if note else "note:" not in answer.text.replace("note: no case", "")
    vertices, wound = Store(bench.folder / "store").case(BAD).geometry()
    corners = vertices[wound]
    assert np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() > 0


def test_cases_that_cannot_be_told_apart(bench: Bench) -> None:
    shutil.copytree(bench.case, bench.folder / "more" / BAD)
    answer = bench.prepare(f"data.cases={bench.folder}/*/{BAD}")
    assert answer.code == 2
    assert "are both called 'stokes_0001'" in answer.text
    (bench.folder / "cases" / "stokes_0009").symlink_to("nowhere")
    answer = bench.prepare()
    assert answer.code == 2
    assert re.search(r"stokes_0009 is a link to nowhere, which is not there", answer.text)
    assert not (bench.folder / "store").exists()


def test_a_linked_case_keeps_its_own_name(bench: Bench) -> None:
    bench.case.rename(bench.folder / "elsewhere")
    bench.case.symlink_to(bench.folder / "elsewhere")
    assert bench.prepare().code == 0
    assert BAD in bench.prepared


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (lambda store: store.write_text("mine"), "store is a file where a folder is needed"),
        (lambda store: store.symlink_to("/nowhere/at/all"), "store is a link to /nowhere/at/all, which is not there"),
        (
            lambda store: (store.mkdir(), (store / "cases").write_text("mine")),
            "store/cases is a file where a folder is needed",
        ),
    ],
)
def test_a_store_that_cannot_be_made(bench: Bench, block: Callable[[Path], object], said: str) -> None:
    block(bench.folder / "store")
    before = content(bench.folder)
    answer = bench.prepare()
    assert answer.code == 1
    assert said in answer.text
    assert content(bench.folder) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": {"steps": "many"}}, "training.steps should be a whole number"),
        ({"training": {"sampling": [1, 2]}}, "training.sampling"),
        ({"data": {"conditions": "speed"}}, "data.conditions should be a list"),
        ({"data": {"branches": {"surface": {"kind": "area"}}}}, "surface.kind should be surface or volume"),
        ({"operator": 3}, "operator"),
        ({"data": {"forces": {"reference_area": [1]}}}, "data.forces.reference_area"),
    ],
)  # fmt: skip
def test_wrong_types_in_a_configuration(bench: Bench, change: dict, said: str) -> None:
    def merged(below: dict, above: dict) -> dict:
        both = {key: merged(below[key], above[key]) for key in below.keys() & above if isinstance(above[key], dict)}
        return below | above | both

    path = bench.folder / "experiment.yaml"
    path.write_text(to_yaml(merged(yaml.safe_load(path.read_text()), change)))
    answer = anchorfield("train", path, "--run", bench.folder / "run")
    assert answer.code == 2
    assert said in answer.text
    assert not (bench.folder / "run").exists()


def test_a_configuration_that_is_none(bench: Bench) -> None:
    (bench.folder / "folder.yaml").mkdir()
    for path in (bench.case / "body.stl", bench.folder / "folder.yaml", bench.folder / "nothing.yaml"):
        answer = anchorfield("train", path)
        assert answer.code == 2
        assert path.name.removesuffix(".yaml") in answer.text
        assert "codec" not in answer.text


# --- predict


@pytest.fixture
def predict(tiny_run: Path, tmp_path: Path) -> Callable[..., Answer]:
    def work(
        geometry: Path | Mesh, *arguments: str | Path, run: Path = tiny_run, out: Path = tmp_path / "out"
    ) -> Answer:
        if isinstance(geometry, Mesh):
            write(geometry, tmp_path / "body.vtp")
            geometry = tmp_path / "body.vtp"
        return anchorfield("predict", run, "--geometry", geometry, "--out", out, *(arguments or (*CONDITIONS, *GRID)))

    return work


GRID = ("--grid", "4,4,4")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, r"needs the condition speed \(from [\d.]+ to [\d.]+ in training\), viscosity .* give it as"),
        (("--condition", "sped=1", "--condition", "viscosity=1"), 2, r"no condition 'sped'; .* did you mean speed\?"),
        (("--condition", "speed=fast"), 2, r"'speed=fast' is not NAME=NUMBER"),
        (("--condition", "speed=nan"), 2, r"'speed=nan' is not NAME=NUMBER"),
        (("--condition", "speed=1", "--condition", "speed=2"), 2, r"speed is given twice: 1 and 2"),
        (("--condition", "speed=0", "--condition", "viscosity=1"), 1, r"the scale .* is 0.*; it must be positive"),
        ((*CONDITIONS, "--bounds", "1,-1,0,1,0,1"), 2, r"bounds are the lower, then the upper limit for x, y, z"),
        ((*CONDITIONS, "--bounds", "0,nan,0,1,0,1"), 2, r"bounds are the lower, then the upper limit for x, y, z"),
        ((*CONDITIONS, "--grid", "100000,100000,100000"), 1, r"the grid would have 1e\+15 cells"),
        ((*CONDITIONS, "--spacing", "1e-6"), 1, r"the grid would have [\d.e+]+ cells"),
        ((*CONDITIONS, "--seed", "-1"), 2, r"--seed"),
    ],
)  # fmt: skip
def test_wrong_questions(
    predict: Callable[..., Answer], stokes_cases: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    answer = predict(stokes_cases / BAD / "body.stl", *(arguments or GRID))
    assert answer.code == code, answer.text
    assert re.search(said, answer.text), answer.text
    assert not list(tmp_path.iterdir()) or not list((tmp_path / "out").iterdir())


def test_geometries_that_are_no_body(
    predict: Callable[..., Answer], body: tuple[np.ndarray, np.ndarray], stokes_cases: Path, tmp_path: Path
) -> None:
    points, triangles = body
    nowhere = points.copy()
    nowhere[3] = np.nan
    (tmp_path / "a folder.stl").mkdir()
    (tmp_path / "link.stl").symlink_to("nowhere.stl")
    (tmp_path / "empty.stl").write_bytes(bytes(84))
    for geometry, said in (
        (of_triangles((nowhere, triangles)), r"the positions of 1 of 162 points are NaN or infinite, first of point 3"),
        (of_triangles((points[:3], np.array([[0, 1, 2]]))), r"the surface of 1 cell lies in a plane"),
        (stokes_cases / BAD / "volume.vtu", r"volume\.vtu holds cells of the kind wedge; expected a surface"),
        (tmp_path / "a folder.stl", r"a folder\.stl is a folder"),
        (tmp_path / "link.stl", r"link\.stl is a link to nowhere\.stl, which is not there"),
        (tmp_path / "empty.stl", r"empty\.stl holds no triangles"),
    ):
        answer = predict(geometry)
        assert answer.code == 1, answer.text
        assert re.search(said, answer.text), answer.text
        assert not (tmp_path / "out").exists()


def test_bodies_that_can_be_used_are_predicted_with_a_warning(
    predict: Callable[..., Answer], body: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    points, triangles = body
    into, aside = points + np.float32([0.2, 0, 0]), points + np.float32([5, 0, 0])
    for geometry, said in (
        (of_triangles((points, triangles[:-30])), r"is not closed, \d+ edges have one cell only"),
        (of_triangles((points, triangles), (into, triangles)), r"lies inside another of its 2 pieces"),
        (of_triangles((points, triangles), (aside, triangles)), r"has 2 pieces that do not hang together"),
        (of_triangles((1000 * points, triangles)), r"is the file in millimetres\? Say so with --unit-of-length mm"),
    ):
        answer = predict(geometry)
        assert answer.code == 0, answer.text
        assert re.search(f"warning: .*{said}", answer.text), answer.text
        assert re.search(said, " ".join(json.loads((tmp_path / "out" / "prediction.json").read_text())["warnings"]))


def test_an_inside_out_body_is_the_same_body(
    predict: Callable[..., Answer], body: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    points, triangles = body
    forces = []
    for wound in (triangles, triangles[:, ::-1]):
        assert predict(of_triangles((points, wound))).code == 0
        forces.append(json.loads((tmp_path / "out" / "prediction.json").read_text())["forces"]["force"])
    np.testing.assert_allclose(forces[0], forces[1], rtol=0.02, atol=0.02 * np.abs(forces[0]).max())


def test_nothing_but_an_earlier_prediction_is_replaced(
    predict: Callable[..., Answer], stokes_cases: Path, tmp_path: Path
) -> None:
    case = tmp_path / "simulation"
    shutil.copytree(stokes_cases / BAD, case)
    before = content(case)
    answer = predict(case / "body.stl", out=case)
    assert answer.code == 2
    assert re.search(
        r"surface\.vtp is there already and no result of an earlier call .* name another --out", answer.text
    )
    assert content(case) == before
    for _ in range(2):
        assert predict(case / "body.stl").code == 0
    answer = predict(tmp_path / "out" / "surface.vtp")
    assert answer.code == 2
    assert "would take the place of what it is made from" in answer.text
    (tmp_path / "file").write_text("mine")
    answer = predict(case / "body.stl", out=tmp_path / "file")
    assert answer.code == 1
    assert "file is a file where a folder is needed" in answer.text
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 9}'])
def test_a_damaged_prediction(predict: Callable[..., Answer], stokes_cases: Path, tmp_path: Path, text: str) -> None:
    assert predict(stokes_cases / BAD / "body.stl").code == 0
    (tmp_path / "out" / "prediction.json").write_text(text)
    for verb in ("forces", "view"):
        answer = anchorfield(verb, tmp_path / "out")
        assert answer.code == 1, answer.text
        assert re.search(r"prediction\.json is (not whole|no record of a prediction)", answer.text), answer.text


# --- stores, runs and checkpoints of other versions, or none


def changed(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda store: changed(store / "manifest.json", format=2), r"is a store of format 2, written by anchorfield"),
        (lambda store: (store / "manifest.json").write_text("[1]"), r"manifest\.json should hold one object, got list"),
        (lambda store: (store / "manifest.json").write_text("{"), r"manifest\.json is not whole"),
        (lambda store: (store / "manifest.json").write_text('{"format": 1}'), r"manifest\.json has no fields, space"),
        (lambda store: changed(store / "manifest.json", splits=3), r"manifest\.json was altered"),
        (lambda store: (store / "statistics.json").write_text("{}"), r"statistics\.json has no fields"),
        (lambda store: (store / "manifest.json").unlink(), r"holds no manifest\.json: not a store"),
    ],
)  # fmt: skip
def test_stores_of_other_versions_and_what_is_none(
    tiny_store: Path, tiny_experiment: Experiment, tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    change(store)
    settings = tiny_experiment.to_dict()
    settings["data"]["store"] = str(store)
    (tmp_path / "experiment.yaml").write_text(to_yaml(settings))
    answer = anchorfield("train", tmp_path / "experiment.yaml", "--run", tmp_path / "run")
    assert answer.code == 1, answer.text
    assert re.search(said, answer.text), answer.text
    assert not (tmp_path / "run").exists()


def test_checkpoints_of_other_versions(
    predict: Callable[..., Answer], tiny_run: Path, stokes_cases: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    checkpoint = find(run)
    changed(checkpoint / "manifest.json", format=7)
    answer = predict(stokes_cases / BAD / "body.stl", run=run)
    assert answer.code == 1
    assert re.search(r"has checkpoint format 7, this version reads .* that wrote it \([\d.]+", answer.text)
    answer = predict(stokes_cases / BAD / "body.stl", run=stokes_cases)
    assert answer.code == 1
    assert "holds no finished checkpoint: give the folder of a training run" in answer.text


def test_a_run_is_found_by_its_newest_checkpoint_where_the_mark_is_lost(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    for mark in ("best", "last"):
        (tmp_path / "run" / "checkpoints" / mark).write_text("")
    assert find(tmp_path / "run").name == "step_00000040"


def test_runs_that_are_in_the_way(
    tiny_experiment: Experiment, tiny_store: Path, tiny_run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(tiny_experiment.to_dict()))
    before = content(tmp_path)
    for run, code, said in (
        (tiny_run, 2, r"already holds a training: go on with --resume"),
        (tmp_path, 2, r"config\.yaml is there already and of no training"),
        (path, 1, r"config\.yaml is a file where a folder is needed"),
    ):
        answer = anchorfield("train", path, "--run", run)
        assert answer.code == code, answer.text
        assert re.search(said, answer.text), answer.text
    assert content(tmp_path) == before


# --- a disk that fills


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file become larger than some bytes, in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a disk of some bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: int) -> Path:
        call = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(call, capture_output=True, check=False).returncode:
            pytest.skip("no permission to mount a small disk")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_store(bench: Bench) -> None:
    assert bench.prepare().code == 0
    before = content(bench.folder / "store")
    with largest_file(100_000):
        answer = bench.prepare("--force")
    assert answer.code == 1
    assert re.search(r"stokes_0000\.h5: the file would be larger than the system allows", answer.text), answer.text
    assert content(bench.folder / "store") == before
    Store(bench.folder / "store").verify()


def test_a_really_full_disk_leaves_the_store(bench: Bench, disk: Callable[[int], Path]) -> None:
    store = disk(1_500_000) / "store"
    assert bench.prepare(f"data.store={store}").code == 0
    (store.parent / "filler").write_bytes(bytes(shutil.disk_usage(store).free - 50_000))
    before = content(store)
    answer = bench.prepare(f"data.store={store}", "--force")
    assert answer.code == 1
    assert re.search(r"stokes_0000\.h5: no space is left on the disk; free some", answer.text), answer.text
    assert content(store) == before
    Store(store).verify()


def test_a_full_disk_leaves_the_checkpoint(tiny_run: Path, tiny_experiment: Experiment, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (tmp_path / "experiment.yaml").write_text(to_yaml(tiny_experiment.to_dict()))
    before = content(run / "checkpoints")
    with largest_file(100_000):
        answer = anchorfield("train", tmp_path / "experiment.yaml", "training.steps=44", "--run", run, "--resume")
    assert answer.code == 1, answer.text
    assert re.search(r"step_000000\d\d: the file would be larger than the system allows", answer.text), answer.text
    assert content(run / "checkpoints") == before
    assert load(find(run, "last")).state["step"] == 40


def test_a_full_disk_leaves_the_scores_and_their_report(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    assert anchorfield("evaluate", run).code == 0
    before = content(run)
    sizes = {path.name: path.stat().st_size for path in (run / "evaluation" / "test").iterdir()}
    for name, size in (("scores.json", 1000), ("report.html", sizes["scores.json"] + 1000)):
        assert size < sizes[name]
        with largest_file(size):
            answer = anchorfield("evaluate", run)
        assert answer.code == 1, answer.text
        assert re.search(rf"{name}: the file would be larger than the system allows", answer.text), answer.text
        assert content(run).keys() == before.keys()
        assert content(run)[f"evaluation/test/{name}"] == before[f"evaluation/test/{name}"]


def test_a_full_disk_leaves_the_prediction(
    predict: Callable[..., Answer], stokes_cases: Path, tmp_path: Path, disk: Callable[[int], Path]
) -> None:
    assert predict(stokes_cases / BAD / "body.stl").code == 0
    before = content(tmp_path / "out")
    with largest_file(len(before["surface.vtp"]) + 100):
        answer = predict(stokes_cases / BAD / "body.stl", *CONDITIONS, "--grid", "20,20,20")
    assert answer.code == 1
    assert re.search(r"volume\.vtu: the file would be larger than the system allows", answer.text), answer.text
    assert content(tmp_path / "out") == before
    out = disk(100_000) / "out"
    answer = predict(stokes_cases / BAD / "body.stl", *CONDITIONS, "--grid", "40,40,40", out=out)
    assert answer.code == 1
    assert re.search(r"volume\.vtu: no space is left on the disk", answer.text), answer.text
    assert not content(out)


def test_folders_without_permission(bench: Bench, tmp_path: Path) -> None:
    (bench.folder / "store").mkdir(mode=0o500)
    if os.access(bench.folder / "store", os.W_OK):
        pytest.skip("this user, root perhaps, may read and write everything")
    answer = bench.prepare()
    assert answer.code == 1
    assert re.search(r"store/cases: no permission", answer.text)
    (bench.case / "body.stl").chmod(0)
    answer = bench.prepare(f"data.store={tmp_path}/other")
    assert re.search(r"body\.stl: no permission", answer.text)


# --- names


def test_spaces_and_letters_of_any_language_go_through_the_pipeline(
    stokes_cases: Path, tiny_experiment: Experiment, tmp_path: Path
) -> None:
    folder = tmp_path / "Größe 大 №1 [a]"
    for number in range(3):
        shutil.copytree(stokes_cases / f"stokes_{number:04d}", folder / "fälle" / f"fall {number} é=ß")
        for file in ("surface.vtp", "volume.vtu"):
            path = folder / "fälle" / f"fall {number} é=ß" / file
            mesh = read(path)
            data = dict(mesh.cell_data)
            data["Druck [Pa] ₚ"] = data.pop("p")
            write(replace(mesh, cell_data=data), path)
    settings = tiny_experiment.to_dict()
    for branch in settings["data"]["branches"].values():
        branch["fields"]["pressure"]["array"] = "Druck [Pa] ₚ"
    settings["data"] |= {
        "cases": f"{tmp_path}/Größe*/fälle/*",
        "store": str(folder / "mein store"),
        "splits": {"kind": "names", "test": ["fall 2*"]},
    }
    settings["training"] |= {"steps": 2}
    (folder / "ein versuch.yaml").write_text(to_yaml(settings), encoding="utf-8")
    run, out = folder / "läuft gut", folder / "ergebnis ø"
    body = folder / "fälle" / "fall 2 é=ß" / "body.stl"
    for arguments in (
        ("prepare", folder / "ein versuch.yaml", "--workers", "1"),
        ("train", folder / "ein versuch.yaml", "--run", run),
        ("inspect", body.parent, folder / "mein store", run),
        ("evaluate", run),
        ("predict", run, "--geometry", body, "--out", out, *CONDITIONS, *GRID),
        ("forces", out),
        ("view", out),
    ):
        answer = anchorfield(*arguments)
        assert answer.code == 0, answer.text
    assert "Druck [Pa] ₚ" in read(out / "surface.vtp").cell_data


def test_a_terminal_that_knows_few_letters_is_no_error(stokes_cases: Path, tmp_path: Path) -> None:
    shutil.copy(stokes_cases / BAD / "body.stl", tmp_path / "größe 大.stl")
    call = [sys.executable, "-m", "pipelines.cli", "inspect", str(tmp_path / "größe 大.stl")]
    result = subprocess.run(call, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    assert result.returncode == 0, result.stderr
    assert "größe \\u5927.stl" in result.stdout.decode("latin-1")
