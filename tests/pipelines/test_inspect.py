import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import pyvista

from meshes.mesh import Mesh
from meshes.writing import write, write_collection
from pipelines.inspect import inspect, readable, render

CASES = Path(__file__).parents[1] / "data" / "cases"


def _told(path: Path) -> tuple[dict, str]:
    (report,) = inspect([path])
    json.dumps(report, allow_nan=False)
    return report, render(report)


def test_a_mesh(tmp_path: Path) -> None:
    mesh = Mesh.from_triangles(np.eye(3), np.array([[0, 1, 2]]), cell_data={"p": np.array([np.nan])})
    write(mesh, tmp_path / "part.vtp")
    report, text = _told(tmp_path / "part.vtp")
    assert report["kind"] == "mesh"
    assert "3 points, 1 cell (1 triangle)" in text
    assert "area      minimum 0.866" in text
    assert "1 of 1 values are NaN or infinite" in text
    assert "! 3 of 3 edges are open" in text
    assert "! the file names no units" in text


def test_blocks(tmp_path: Path) -> None:
    write(Mesh.from_triangles(np.eye(3), np.array([[0, 1, 2]])), tmp_path / "part.vtp")
    write_collection(tmp_path / "run.pvd", [(0.0, tmp_path / "part.vtp"), (1.5, tmp_path / "part.vtp")])
    report, text = _told(tmp_path / "run.pvd")
    assert (list(report["blocks"]), report["times"]) == (["0"], [0, 1.5])
    assert text.startswith(f"{tmp_path / 'run.pvd'}: 1 block at time 1.5, the last of 2 (0, 1.5)\nblock 0\n  3 points")


def test_a_folder_of_cases(tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / f"case_{number}"
        write(Mesh.from_pyvista(pyvista.Cube().clean()), folder / "body.stl")
        (folder / "case.json").write_text(json.dumps({"speed": 10 + number, "name": "x", "half": True}))
    (tmp_path / "case_1" / "fluid.vtu").touch()
    (tmp_path / "notes").mkdir()
    report, text = _told(tmp_path)
    assert report["files"] == {"body.stl": 3, "fluid.vtu": 1}
    assert report["parameters"] == {"speed": {"cases": 3, "minimum": 10, "maximum": 12}}
    assert "3 cases, case_0 to case_2" in text
    assert "fluid.vtu  in 1 of 3 cases" in text
    assert "12 cells (12 triangle)" in text


def test_cases_of_solvers(tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(CASES / "decomposed", tmp_path / "runs" / name)
        write(Mesh.from_pyvista(pyvista.Cube().clean()), tmp_path / "runs" / name / "constant/triSurface/body.stl")
        (tmp_path / "runs" / name / "case.foam").touch()
    assert readable(tmp_path / "runs" / "one") == [".", "constant/triSurface/body.stl"]
    report, text = _told(tmp_path / "runs")
    assert report["files"] == {".": 2, "constant/triSurface/body.stl": 2}
    assert list(report["first"]["."]["blocks"]) == ["internalMesh", "body", "far"]
    assert "OpenFOAM case (file: .)  in every case" in text
    assert "3 blocks at time 1, the last of 3 (0, 0.5, 1), of 2 processors" in text
    one, _ = _told(tmp_path / "runs" / "one")
    assert one["blocks"] == report["first"]["."]["blocks"]


def test_vectors_by_component_are_suggested(tmp_path: Path) -> None:
    report, text = _told(CASES / "ensight" / "flow.case")
    (join,) = report["blocks"]["body"]["joins"]
    assert join == {"name": "U", "parts": ("Ux", "Uy", "Uz"), "certain": True}
    assert "Ux, Uy, Uz look like one vector: write array: U, kind: vector" in text
    data = {name: np.ones(1) for name in "uvw"}
    write(Mesh.from_triangles(np.eye(3), np.array([[0, 1, 2]]), cell_data=data), tmp_path / "part.vtp")
    assert "write array: velocity, parts: [u, v, w], kind: vector" in _told(tmp_path / "part.vtp")[1]


@pytest.mark.shared
def test_a_public_ensight_case(shared_data: Path) -> None:
    report, _ = _told(shared_data / "public/meshes/EnSight/CylinderCrossflow/cylinder_Re35.case")
    fluid = report["blocks"]["fluid"]
    assert (fluid["points"], fluid["kinds"]) == (14831, {"triangle": 39, "quad": 14555})
    assert [array["association"] for array in fluid["arrays"]] == ["point"] * 3
    lines = {name: block["cells"] for name, block in report["blocks"].items() if name != "fluid"}
    assert lines == {"inlet": 75, "outlet": 75, "outlet_top": 150, "outlet_bottom": 150, "wall_cylinder": 63}


def test_a_store(tiny_store: Path) -> None:
    report, text = _told(tiny_store)
    assert report["kind"] == "store"
    assert report["defects"] == []
    assert report["splits"] == {"training": 6, "validation": 2, "test": 2}
    assert "store of 10 cases (6 training, 2 validation, 2 test)" in text
    assert "surface_pressure" in text
    assert _told(tiny_store / "manifest.json")[0] == report


def test_a_store_that_lost_part_of_a_case(tiny_store: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(tiny_store, tmp_path / "store")
    file = next((copy / "cases").glob("*.h5"))
    file.write_bytes(file.read_bytes()[:-100])
    report, text = _told(copy)
    assert [defect["kind"] for defect in report["defects"]] == ["damaged_case"]
    assert f"! {file} has" in text


def test_a_run_and_its_checkpoint(tiny_run: Path) -> None:
    report, text = _told(tiny_run)
    assert report["kind"] == "checkpoint"
    assert report["weights"] > 1000
    assert f"step {report['step']}" in text
    assert "surface_pressure" in text
    assert "conventions: pressure" in text
    assert _told(Path(report["path"]))[0] == report


def test_what_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        inspect([tmp_path / "gone"])
    with pytest.raises(
        ValueError, match=r"is no store, run or checkpoint, and it and its folders hold no files ending in .stl"
    ):
        inspect([tmp_path])
    (tmp_path / "readme.txt").write_text("words")
    with pytest.raises(ValueError, match=r"ends in '.txt'"):
        inspect([tmp_path / "readme.txt"])
