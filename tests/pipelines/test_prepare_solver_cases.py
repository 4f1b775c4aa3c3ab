"""Cases as solvers leave them become the same store, whichever solver wrote them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.make_cases import BODY, INNER, meshes, pressure, velocity

from meshes.mesh import Mesh
from meshes.stores import Store
from meshes.writing import write
from pipelines.forces import forces
from pipelines.prepare import PrepareReport, prepare
from pipelines.settings import ConfigError, read
from pipelines.sources import DataConfig

CASES = Path(__file__).parents[1] / "data" / "cases"
FILES = {"serial": ".", "decomposed": ".", "ensight": "flow.case"}


def _prepare(folder: Path, source: str, **changes: Any) -> PrepareReport:
    """Prepare two copies of a case."""
    for name in ("one", "two"):
        if not (folder / f"flow_{name}").exists():
            shutil.copytree(CASES / source, folder / f"flow_{name}")
    fields = {
        "pressure": {"array": "p", "unit": "Pa"},
        "velocity": {"array": "U", "unit": "m/s", "kind": "vector"} | changes.pop("velocity", {}),
    }
    each = {"file": FILES[source], "fields": fields}
    settings = {
        "store": str(folder / "store"),
        "cases": f"{folder}/flow_*",
        "branches": {
            "surface": each | {"kind": "surface", "blocks": [BODY], "time": 0.5} | changes.pop("surface", {}),
            "volume": each | {"kind": "volume", "blocks": [INNER], "time": "0 to 0.5"} | changes.pop("volume", {}),
        },
        "splits": {"kind": "names", "test": ["flow_two"]},
    }
    return prepare(read(DataConfig, settings | changes, "data"), workers=1, strict=True)


@pytest.mark.parametrize("source", FILES)
def test_surface_and_volume_hold_the_flow(tmp_path: Path, source: str) -> None:
    report = _prepare(tmp_path, source)
    case = Store(tmp_path / "store").case("flow_one")
    assert case.entry["counts"] == {"surface": 6, "volume": 26}
    for branch, time in (("surface", 0.5), ("volume", 0.25)):
        block = case.read(branch, 0, case.count(branch))
        position = block["position"].astype(np.float64)
        np.testing.assert_allclose(block["pressure"][:, 0], pressure(position, time), atol=1e-5)
        np.testing.assert_allclose(block["velocity"], velocity(position, time), atol=1e-5)
    surface = case.read("surface", 0, 6)
    np.testing.assert_allclose(surface["normal"], 2 * surface["position"], atol=1e-6)
    assert case.read("volume", 0, 26)["measure"].sum() == pytest.approx(26)
    # The pressure rises by 1, -2 and 3 along the axes, over a body of volume 1.
    np.testing.assert_allclose(case.entry["forces"]["pressure"], [-1, 2, -3], atol=1e-5)
    joined = [note for note in report.notes if "joined from Ux, Uy, Uz" in note]
    assert len(joined) == (4 if source == "ensight" else 0)


@pytest.mark.parametrize("source", FILES)
def test_a_changed_file_of_values_is_noticed(tmp_path: Path, source: str) -> None:
    _prepare(tmp_path, source)
    assert _prepare(tmp_path, source).kept == ["flow_one", "flow_two"]
    folder = tmp_path / "flow_one"
    file = {
        "serial": folder / "0.5/p",
        "decomposed": folder / "processor1/0.5/p",
        "ensight": folder / "flow.p.01",
    }[source]
    file.write_text(file.read_text().replace("3.5", "3.6"))
    assert _prepare(tmp_path, source).prepared == ["flow_one"]


def test_times_that_are_not_read_do_not_count(tmp_path: Path) -> None:
    _prepare(tmp_path, "serial")
    shutil.rmtree(tmp_path / "flow_one/1")
    assert _prepare(tmp_path, "serial").kept == ["flow_one", "flow_two"]


def test_a_vector_is_declared_by_its_components(tmp_path: Path) -> None:
    report = _prepare(tmp_path, "ensight", velocity={"array": "wind", "parts": ["Uz", "Uy", "Ux"]})
    assert not [note for note in report.notes if "joined" in note]
    store = Store(tmp_path / "store")
    assert store.fields["volume"]["velocity"].array == "wind"
    block = store.case("flow_two").read("volume", 0, 26)
    expected = velocity(block["position"].astype(np.float64), 0.25)[:, ::-1]
    np.testing.assert_allclose(block["velocity"], expected, atol=1e-5)
    with pytest.raises(ConfigError, match="parts of 'U' names 2 arrays; expected three"):
        _prepare(tmp_path, "ensight", velocity={"parts": ["Ux", "Uy"]})
    with pytest.raises(ValueError, match=r"has no array 'Uq' to make U of .* there are: p, Ux, Uy, Uz"):
        _prepare(tmp_path, "ensight", velocity={"parts": ["Ux", "Uy", "Uq"]})


@pytest.mark.parametrize("source", FILES)
def test_forces_are_taken_from_the_blocks_that_the_configuration_names(tmp_path: Path, source: str) -> None:
    shutil.copytree(CASES / source, tmp_path / "flow")
    (tmp_path / "flow.yaml").write_text(
        f"data: {{store: store, cases: flow, branches: {{surface: {{file: {FILES[source]}, kind: surface, "
        f"blocks: [{BODY}], time: 0.5, fields: {{pressure: {{array: p, unit: Pa}}}}}}}}}}\n"
    )
    report = forces(tmp_path / "flow", config=str(tmp_path / "flow.yaml"))
    np.testing.assert_allclose(report.to_dict()["force"], [-1, 2, -3], atol=1e-5)


def test_an_stl_beside_the_case_is_the_body(tmp_path: Path) -> None:
    blocks = meshes(0.0)
    quads = blocks[BODY].connectivity.reshape(-1, 4)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    for name in ("one", "two"):
        shutil.copytree(CASES / "serial", tmp_path / f"flow_{name}")
        write(
            Mesh.from_triangles(blocks[BODY].points, triangles),
            tmp_path / f"flow_{name}" / "constant/triSurface/body.stl",
        )
    _prepare(tmp_path, "serial", geometry={"file": "constant/triSurface/body.stl"})
    case = Store(tmp_path / "store").case("flow_one")
    assert (case.entry["body"]["lower"], case.entry["body"]["upper"]) == ([-0.5] * 3, [0.5] * 3)
    assert case.entry["sources"]["geometry"]["path"].endswith("body.stl")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"surface": {"blocks": []}}, "name the patches of the body under blocks; there are: body, far"),
        (
            {"surface": {"blocks": ["bodi"]}},
            "no block 'bodi'; there are: internalMesh, body, far; did you mean body",
        ),
        ({"volume": {"time": 0.7}}, "has no time 0.7; there are: 0, 0.5, 1"),
        ({"volume": {"file": "case.foam"}}, "of the OpenFOAM case .* write file: ."),
        ({"geometry": {"file": "."}}, "name the patches of the body under blocks; there are: body, far"),
        ({"volume": {"blocks": ["*"]}}, "do not make one mesh .*; choose some by name with blocks"),
    ],
)
def test_what_is_wrong_is_said_with_what_there_is(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _prepare(tmp_path, "serial", **changes)
