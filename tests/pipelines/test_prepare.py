"""The store holds what the files hold: places, measures, directions, fields, forces. Failures stay single."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import pyvista

from meshes.stores import Store
from pipelines.config import ConfigError, load_data
from pipelines.prepare import DataConfig, PrepareReport, prepare
from pipelines.prepare_case import read_case
from pipelines.settings import read
from pipelines.sources import find_cases

FIELDS = {
    "pressure": {"array": "p", "unit": "Pa", "scale": "0.5 * speed**2"},
    "wall_shear_stress": {"array": "tau", "unit": "Pa", "kind": "vector", "scale": 2},
}
FLOW = {"velocity": {"array": "U", "unit": "m/s", "kind": "vector", "scale": "speed", "free_stream": ["speed", 0, 0]}}


def box(lower, upper, count) -> pyvista.UnstructuredGrid:
    axes = [np.linspace(a, b, n + 1) for a, b, n in zip(lower, upper, count, strict=True)]
    return pyvista.RectilinearGrid(*axes).cast_to_unstructured_grid()


def write_case(
    folder: Path, *, size: float = 1.0, speed: float = 10.0, half: bool = False, points: bool = False
) -> None:
    """Write a cube in a box of fluid: pressure linear in x on the body, constant shear, velocity linear in space."""
    folder.mkdir(parents=True)
    cube = box((0, 0 if half else -size / 2, 0), (size, size / 2, size), (4, 4, 4)).extract_surface(algorithm=None)
    if half:
        centres = cube.cell_centers().points
        cube = cube.extract_cells(np.flatnonzero(centres[:, 1] > 1e-9)).extract_surface(algorithm=None)
    cube.clear_data()
    fluid = box((2 * size, 0 if half else -size, 0), (4 * size, size, size), (4, 3, 2))
    fluid.clear_data()
    for mesh in (cube, fluid):
        where = mesh.points if points else mesh.cell_centers().points
        data = mesh.point_data if points else mesh.cell_data
        if mesh is cube:
            data["p"] = (7 * where[:, 0]).astype(np.float32)
            data["tau"] = np.tile(np.float32([0.5, 0, 0]), (len(where), 1))
        else:
            data["U"] = (np.float32([speed, 0, 0]) + 2 * where).astype(np.float32)
        data["unused"] = np.full(len(where), np.nan, dtype=np.float32)
    cube.save(folder / "surface.vtp")
    fluid.save(folder / "volume.vtu")
    cube.triangulate().save(folder / "body.stl")
    (folder / "case.json").write_text(json.dumps({"speed": speed, "size": size}))


def config(folder: Path, **changes) -> DataConfig:
    settings = {
        "store": str(folder / "store"),
        "cases": str(folder / "cases" / "*"),
        "geometry": {"file": "body.stl"},
        "branches": {
            "surface": {"file": "surface.vtp", "kind": "surface", "fields": FIELDS},
            "volume": {"file": "volume.vtu", "kind": "volume", "fields": FLOW},
        },
        "parameters": {"file": "case.json"},
        "conditions": ["speed"],
        "splits": {"test": ["c2"]},
    }
    return read(DataConfig, settings | changes, "data")


@pytest.fixture
def three(tmp_path) -> Path:
    for number in range(3):
        write_case(tmp_path / "cases" / f"c{number}", size=1 + number / 4, speed=10.0 + number)
    return tmp_path


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_places_measures_and_fields(tmp_path, half, points):
    write_case(tmp_path / "cases" / "c0", size=2.0, half=half, points=points)
    conventions = {"symmetry": "y" if half else None}
    prepare(config(tmp_path, conventions=conventions, splits={}, conditions=[]), workers=1, strict=True)
    case = Store(tmp_path / "store").case("c0")
    surface, volume = case.read("surface"), case.read("volume")
    copies = 2 if half else 1
    assert copies * surface["measure"].sum() == pytest.approx(6 * 4.0, rel=1e-6)
    assert copies * volume["measure"].sum() == pytest.approx(4 * 4 * 2, rel=1e-6)
    np.testing.assert_allclose(np.linalg.norm(surface["normal"], axis=1), 1, rtol=1e-6)
    outwards = surface["position"] - np.array([1.0, 0.0, 1.0])
    assert ((outwards * surface["normal"]).sum(axis=1) > 0).all()
    # The divergence theorem: the area vectors of position · n make three times the volume (the rim at y = 0 adds none).
    if not points:
        flux = (surface["position"] * surface["normal"]).sum(axis=1) @ surface["measure"]
        assert copies * flux == pytest.approx(3 * 8, rel=1e-6)
    np.testing.assert_allclose(surface["pressure"][:, 0], 7 * surface["position"][:, 0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(volume["velocity"] - [10, 0, 0], 2 * volume["position"], rtol=1e-4, atol=1e-4)
    assert case.scale("volume", "velocity")[0] == 10
    np.testing.assert_array_equal(case.scale("volume", "velocity")[1], [10, 0, 0])
    # The wall nearest to the fluid is the face x = 2, where y and z overlap.
    overlap = np.abs(volume["position"][:, 1]) < 1
    np.testing.assert_allclose(volume["distance"][overlap], volume["position"][overlap, 0] - 2, rtol=1e-5)
    np.testing.assert_allclose(volume["normal"][overlap], np.tile([1, 0, 0], (overlap.sum(), 1)), atol=1e-6)


def test_order_leads_to_the_cells_of_the_file(three):
    prepare(config(three), workers=1, strict=True)
    read = Store(three / "store").case("c1").read("volume", names=["order", "velocity", "position"])
    source = pyvista.read(three / "cases" / "c1" / "volume.vtu")
    np.testing.assert_array_equal(read["velocity"], source.cell_data["U"][read["order"]])
    np.testing.assert_allclose(read["position"], source.cell_centers().points[read["order"]], atol=1e-6)


def test_what_the_store_says(three):
    report = prepare(config(three), workers=1, strict=True)
    assert (report.prepared, report.kept, report.failed) == (["c0", "c1", "c2"], [], {})
    store = Store(three / "store")
    store.verify()
    assert store.splits == {"training": ["c0", "c1"], "validation": [], "test": ["c2"]}
    assert store.kinds == {"surface": "surface", "volume": "volume"}
    assert store.fields["surface"]["pressure"].unit == "Pa"
    assert store.case("c1").condition == {"speed": 11.0}
    assert store.parameter_statistics["size"].maximum == 1.25
    assert store.body_statistics["extent"].mean == pytest.approx(np.full(3, 1.125))
    sources = store.manifest["cases"]["c0"]["sources"]
    assert set(sources) == {"surface", "volume", "geometry", "parameters"}
    assert Path(sources["volume"]["path"]) == three / "cases" / "c0" / "volume.vtu"
    values = np.concatenate(
        [
            (store.case(name).read("volume")["velocity"] - [speed, 0, 0]) / speed
            for name, speed in (("c0", 10), ("c1", 11))
        ]
    )
    moments = store.statistics["volume"]["velocity"]
    assert moments.count == len(values)
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(moments.std, values.std(axis=0), rtol=1e-5)
    assert store.cell_size["surface"] == pytest.approx(np.median([0.25, 0.3125]), rel=1e-6)
    assert any("no case is in the split validation" in note for note in report.notes)


def test_forces_of_the_truth(tmp_path):
    """Pressure 7 x on a cube of edge 1: buoyancy −7 along x; shear 0.5 over area 6."""
    write_case(tmp_path / "cases" / "c0")
    forces = {"reference_area": "size_y * size_z", "reported": {"drag_coefficient": "(-7 + 3) / (0.5 * speed**2)"}}
    report = prepare(config(tmp_path, splits={}, forces=forces), workers=1)
    told = Store(tmp_path / "store").manifest["cases"]["c0"]["forces"]
    np.testing.assert_allclose(told["pressure"], [-7, 0, 0], atol=1e-5)
    np.testing.assert_allclose(told["friction"], [3, 0, 0], atol=1e-5)
    assert told["drag_coefficient"] == pytest.approx(-4 / 50, rel=1e-5)
    assert told["mismatch"] is None
    assert not any("reported" in note for note in report.notes)
    wrong = forces | {"reported": {"drag_coefficient": "-10 / (0.5 * speed**2)"}}
    report = prepare(config(tmp_path, splits={}, forces=wrong), workers=1)
    assert any("c0: drag_coefficient is -0.08, reported -0.2: likely the wall shear" in note for note in report.notes)


def test_what_holds_for_many_cases_is_told_once():
    names = [f"sedan{number}" for number in range(12)] + ["coupe"]
    notes = [f"{name}: drag is 0.{number}, reported -1.5e-3: the area" for number, name in enumerate(names)]
    report = PrepareReport(store="s", prepared=names, notes=[*notes, "no case is in the split test"])
    assert [line for line in report.render().splitlines() if line.startswith("note")] == [
        "note: sedan0: drag is 0.0, reported -1.5e-3: the area (likewise 12 more: sedan1, sedan2, sedan3 …)",
        "note: no case is in the split test",
    ]
    failed = dict.fromkeys(names[-3:], "its file is not there")
    assert [line for line in PrepareReport(store="s", failed=failed).render().splitlines() if "failed" in line] == [
        f"failed: {name}: its file is not there" for name in failed
    ]


def test_lengths_in_millimetres_become_metres(tmp_path):
    write_case(tmp_path / "cases" / "c0", size=500.0)
    prepare(config(tmp_path, splits={}, unit_of_length="mm"), workers=1, strict=True)
    store = Store(tmp_path / "store")
    assert store.body_statistics["extent"].mean == pytest.approx(np.full(3, 0.5))
    assert store.case("c0").read("surface")["measure"].sum() == pytest.approx(6 * 0.25, rel=1e-6)
    assert store.case("c0").read("volume")["distance"].max() < 2


def test_a_plane_keeps_what_lives_in_it(tmp_path):
    write_case(tmp_path / "cases" / "c0")
    vorticity = {"array": "U", "unit": "1/s", "kind": "pseudovector"}
    volume = {"file": "volume.vtu", "kind": "volume", "fields": {"velocity": FLOW["velocity"] | {"free_stream": None}}}
    volume["fields"]["vorticity"] = vorticity
    surface = {"file": "surface.vtp", "kind": "surface", "fields": FIELDS}
    plane = config(
        tmp_path, space=["x", "y"], splits={}, geometry=None, branches={"surface": surface, "volume": volume}
    )
    prepare(plane, workers=1, strict=True)
    store = Store(tmp_path / "store")
    assert store.fields["volume"]["velocity"].components == (0, 1)
    assert store.fields["volume"]["vorticity"].components == (2,)
    read = store.case("c0").read("volume")
    assert read["position"].shape[1] == read["normal"].shape[1] == read["velocity"].shape[1] == 2
    assert read["vorticity"].shape[1] == 1
    vertices, _ = store.case("c0").geometry()
    assert vertices.shape[1] == 3


def test_undeclared_files_are_never_opened(tmp_path):
    write_case(tmp_path / "cases" / "c0")
    for name in ("volume.vtu", "body.stl"):
        (tmp_path / "cases" / "c0" / name).write_bytes(b"not for us")
    surface = {"surface": {"file": "surface.vtp", "kind": "surface", "fields": FIELDS}}
    prepare(config(tmp_path, branches=surface, geometry=None, splits={}), workers=1, strict=True)
    assert list(Store(tmp_path / "store").fields) == ["surface"]


def test_a_second_call_does_what_changed_alone(three):
    prepare(config(three), workers=1)
    before = {path.name: path.stat().st_mtime_ns for path in (three / "store" / "cases").iterdir()}
    digest = Store(three / "store").digest
    assert prepare(config(three), workers=1).kept == ["c0", "c1", "c2"]
    assert Store(three / "store").digest == digest

    shutil.rmtree(three / "cases" / "c1")
    write_case(three / "cases" / "c1", size=1.25, speed=99.0)
    (three / "store" / "cases" / "c2.h5").unlink()
    write_case(three / "cases" / "c3", size=1.9)
    report = prepare(config(three), workers=1)
    assert (report.prepared, report.kept) == (["c1", "c2", "c3"], ["c0"])
    assert (three / "store" / "cases" / "c0.h5").stat().st_mtime_ns == before["c0.h5"]
    assert Store(three / "store").case("c1").condition == {"speed": 99.0}

    assert prepare(config(three, splits={"test": ["c0"]}), workers=1).prepared == []
    assert Store(three / "store").splits["test"] == ["c0"]
    assert prepare(config(three, conventions={"density": 2.0}), workers=1).kept == []
    assert prepare(config(three, conventions={"density": 2.0}), workers=1, force=True).kept == []


def test_a_truncated_shard_is_prepared_again(three):
    prepare(config(three), workers=1)
    path = three / "store" / "cases" / "c1.h5"
    os.truncate(path, 1000)
    assert prepare(config(three), workers=1).prepared == ["c1"]
    Store(three / "store").verify()


def test_one_failed_case_costs_no_other(three):
    (three / "cases" / "c1" / "volume.vtu").write_bytes(b"")
    report = prepare(config(three), workers=1)
    assert list(report.failed) == ["c1"]
    assert "volume.vtu" in report.failed["c1"]
    assert report.prepared == ["c0", "c2"]
    assert list(Store(three / "store")) == ["c0", "c2"]
    assert "failed: c1: " in report.render()
    json.dumps(report.to_dict())


def test_strict_stops_at_the_first(three):
    (three / "cases" / "c0" / "surface.vtp").unlink()
    with pytest.raises(ValueError, match=r"case c0 failed, and strict is on: .*surface\.vtp is not there"):
        prepare(config(three), workers=1, strict=True)


def test_when_every_case_fails_the_reason_is_told(three):
    with pytest.raises(ValueError, match=r"none of 3 cases .* c0: .*missing\.stl is not there"):
        prepare(config(three, geometry={"file": "missing.stl"}), workers=1)


def failure(folder: Path, **changes) -> str:
    settings = config(folder, **changes)
    with pytest.raises((ValueError, OSError)) as error:
        read_case(find_cases(settings.cases)[0], settings)
    return str(error.value)


def surface_fields(**fields) -> dict:
    return {"surface": {"file": "surface.vtp", "kind": "surface", "fields": fields}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"branches": surface_fields(p={"array": "pp", "unit": "Pa"})},
            "surface.vtp has no array 'pp'; it has",
        ),
        (
            {"branches": surface_fields(p={"array": "tau", "unit": "Pa"})},
            "array 'tau' of the field p has 3 components, which is no scalar; say kind: vector",
        ),
        (
            {"branches": surface_fields(p={"array": "p", "unit": "Pa", "kind": "vector"})},
            "array 'p' of the field p has 1 components, but a vector has three",
        ),
        (
            {"branches": surface_fields(p={"array": "tau", "unit": "Pa", "kind": "vector", "components": [3]})},
            "has 3 components, but components [3] are asked for",
        ),
        (
            {"branches": surface_fields(p={"array": "p", "unit": "Pa", "scale": "sped"})},
            "there is no 'sped', did you mean 'speed'?",
        ),
        (
            {"branches": surface_fields(p={"array": "p", "unit": "Pa", "scale": "speed - speed"})},
            "it must be positive",
        ),
        ({"conditions": ["angle"]}, "c0 has no parameter 'angle' for a condition; there are: speed, size"),
        ({"conventions": {"symmetry": "y"}}, "points have y < 0"),
        ({"forces": {"reported": {"drag_coefficient": "Cd"}}}, "forces.reported.drag_coefficient: "),
        ({"parameters": {"file": "nothing.json"}}, "nothing.json is not there; the folder holds body.stl, case.json"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(three, changes, message):
    assert message in failure(three, **changes)


def test_nan_is_refused_by_name(three):
    with pytest.raises(ValueError, match=r"c0: .*surface\.vtp: array 'unused' is NaN or infinite at 96 of 96 cells"):
        prepare(config(three, branches=surface_fields(p={"array": "unused", "unit": "Pa"})), workers=1)


def test_arrays_on_cells_and_points_do_not_mix(three):
    path = three / "cases" / "c0" / "surface.vtp"
    mesh = pyvista.read(path)
    mesh.point_data["q"] = np.zeros(mesh.n_points)
    mesh.save(path)
    fields = {"p": {"array": "p", "unit": "Pa"}, "q": {"array": "q", "unit": "Pa"}}
    assert "p lie on cells, but q on points; make them two branches" in failure(
        three, branches=surface_fields(**fields)
    )


def test_impossible_splits_are_refused_before_the_work(three):
    with pytest.raises(ConfigError, match="'c9' of test fits no case"):
        prepare(config(three, splits={"test": ["c9"]}), workers=1)
    assert not list((three / "store").rglob("*.h5"))


def test_a_twin_in_another_split_is_noted(three):
    write_case(three / "cases" / "c3", size=1.0, speed=55.0)
    report = prepare(config(three, splits={"test": ["c3"]}), workers=1)
    assert "c3 (test) has the same geometry as c0 (training): scores will flatter" in report.notes


def test_a_constant_condition_is_noted(tmp_path):
    for number in range(3):
        write_case(tmp_path / "cases" / f"c{number}", size=1.0 + number)
    report = prepare(config(tmp_path), workers=1)
    assert "condition speed is 10 in all of training: it is recorded, not learnt" in report.notes


def test_half_precision_is_a_setting(three):
    prepare(config(three), workers=1)
    full = Store(three / "store").case("c0").read("volume")["velocity"]
    report = prepare(config(three, precision="float16"), workers=1, strict=True)
    assert report.kept == []
    np.testing.assert_allclose(Store(three / "store").case("c0").read("volume")["velocity"], full, atol=0.02)


def test_a_half_body_measures_as_a_whole(tmp_path):
    write_case(tmp_path / "cases" / "c0", size=2.0, half=True)
    surface = {"surface": {"file": "surface.vtp", "kind": "surface", "fields": FIELDS}}
    settings = config(tmp_path, branches=surface, geometry=None, splits={}, conventions={"symmetry": "y"})
    case = read_case(find_cases(settings.cases)[0], settings)
    np.testing.assert_allclose(case.body.upper - case.body.lower, [2, 2, 2], rtol=1e-6)
    assert case.forces is not None
    assert case.forces["extent"] == "half"


@pytest.mark.slow
def test_local_workers_and_an_existing_scheduler_give_the_same_store(three, tmp_path):
    from distributed import LocalCluster

    (three / "cases" / "c2" / "surface.vtp").write_bytes(b"")
    settings = config(three, splits={"test": ["c1"]})
    prepare(settings, workers=1)
    expected = Store(three / "store").digest
    report = prepare(settings, workers=2, force=True)
    assert (report.workers, list(report.failed)) == (2, ["c2"])
    assert report.memory_limit is not None
    assert 0 < report.memory_peak < report.memory_limit
    assert Store(three / "store").digest == expected
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        report = prepare(settings, cluster=cluster.scheduler_address, force=True)
    assert report.prepared == ["c0", "c1"]
    assert Store(three / "store").digest == expected


@pytest.mark.shared
@pytest.mark.parametrize(("name", "pattern"), [("ahmed", "ahmed_00_00[03]"), ("airfoil", "naca_00_00[02]")])
def test_drag_of_real_cases(shared_data, tmp_path, name, pattern):
    folder = {"ahmed": "ahmed", "airfoil": "naca"}[name]
    overrides = [f"data.store={tmp_path}", f"data.cases={shared_data / folder / pattern}", "data.splits={}"]
    settings = load_data(name, [*overrides, "data.branches.volume=null"])
    report = prepare(settings, workers=1, strict=True)
    for case in Store(tmp_path).manifest["cases"].values():
        assert abs(case["forces"]["difference"]["drag_coefficient"]) < 2e-4
    assert not any("reported" in note for note in report.notes)
