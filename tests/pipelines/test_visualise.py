import json
import os
import re
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
import pyvista
from hypothesis import given
from hypothesis.strategies import booleans, floats, sampled_from

from pipelines.paraview import script_of
from pipelines.predict import predict
from pipelines.visualise import plan, view


@pytest.fixture(scope="module")
def prediction(tiny_run: Path, stokes_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = stokes_cases / "stokes_0009"
    numbers = json.loads((case / "case.json").read_text())
    out = tmp_path_factory.mktemp("view") / "prediction"
    predict(
        tiny_run,
        geometry=case / "surface.vtp",
        volume=case / "volume.vtu",
        conditions={name: numbers[name] for name in ("speed", "viscosity")},
        out=out,
        device="cpu",
    )
    return out


@pytest.fixture(scope="module")
def pictures(prediction: Path) -> list[Path]:
    return view(prediction)


def panels(picture: Path, count: int) -> list[np.ndarray]:
    image = np.asarray(pyvista.read(picture)["PNGImage"]).reshape(-1, 3)
    width, height, _ = pyvista.read(picture).dimensions
    return np.split(image.reshape(height, width, 3), count, axis=1)


def test_every_field_gets_a_picture_with_its_truth_and_error(pictures: list[Path], prediction: Path) -> None:
    names = [path.name for path in pictures]
    assert names[:2] == ["surface_p.png", "surface_wallShearStress.png"]
    assert names[2:] == ["volume_p.png", "volume_U.png", "volume_vorticity.png", "view.py"]
    assert all(path.parent == prediction / "pictures" for path in pictures)
    for path in pictures[:-1]:
        for panel in panels(path, 3):
            coloured = (panel != 255).any(axis=-1)
            # Neither empty nor bursting: something is drawn in the middle, and the corners are white.
            assert coloured[150:-100, 100:-100].mean() > 0.05
            assert not coloured[-12:, :12].any()


def test_truth_and_prediction_share_their_colours(prediction: Path) -> None:
    record = json.loads((prediction / "prediction.json").read_text())
    mesh = pyvista.read(prediction / "surface.vtp")
    pressure, shear = plan(prediction / "surface.vtp", mesh, mesh, record)
    assert pressure.label == "p [Pa]"
    assert shear.label == "wallShearStress magnitude [Pa]"
    assert pressure.panels == ("truth", "prediction", "error")
    assert pressure.signed
    assert pressure.limits[0] == -pressure.limits[1]
    both = np.abs(np.concatenate([mesh["p"], mesh["p_truth"]]))
    assert np.quantile(both, 0.95) < pressure.limits[1] < 1.3 * both.max()
    assert shear.limits[0] == 0
    assert pressure.slice_normal is None


def test_a_volume_is_cut_through_the_body(prediction: Path) -> None:
    record = json.loads((prediction / "prediction.json").read_text())
    body, volume = (pyvista.read(prediction / name) for name in ("surface.vtp", "volume.vtu"))
    picture = plan(prediction / "volume.vtu", volume, body, record)[0]
    assert picture.slice_normal == (0.0, 1.0, 0.0)
    assert picture.slice_origin is not None
    np.testing.assert_allclose(picture.slice_origin, np.reshape(body.bounds, (3, 2)).mean(1), atol=1e-5)


def test_a_simulation_alone_can_be_looked_at(stokes_cases: Path, tmp_path: Path) -> None:
    written = view(stokes_cases / "stokes_0000" / "surface.vtp", tmp_path)
    assert [path.name for path in written] == ["surface_p.png", "surface_wallShearStress.png", "view.py"]
    (panel,) = panels(written[0], 1)
    assert (panel != 255).any(axis=-1).mean() > 0.05


def test_the_wall_of_a_plane_flow_is_a_curve(tmp_path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 41)[:-1]
    ring = np.stack([np.cos(angle), 0.2 * np.sin(angle)], axis=1)
    points = np.concatenate([np.insert(ring, 2, level, axis=1) for level in (0.0, 0.1)])
    low = np.arange(40)
    quads = np.stack([np.full(40, 4), low, np.roll(low, -1), np.roll(low, -1) + 40, low + 40], axis=1)
    strip = pyvista.PolyData(points, quads.ravel())
    strip.cell_data["p"] = np.cos(angle)
    strip.save(tmp_path / "wall.vtp")
    (picture,) = plan(tmp_path / "wall.vtp", strip, None, {})
    assert picture.curve == 0
    written = view(tmp_path / "wall.vtp")
    assert written[0] == tmp_path / "pictures" / "wall_p.png"
    assert (panels(written[0], 1)[0] < 100).any()


def test_thin_layers_do_not_decide_on_the_colours(tmp_path: Path) -> None:
    # A layer with most of the cells and a hundredth of a per cent of the area holds values a thousand times larger.
    heights = np.concatenate([np.linspace(0, 1e-4, 200), np.linspace(1e-4, 1, 21)[1:]])
    mesh = pyvista.RectilinearGrid(np.linspace(0, 1, 5), heights, [0.0]).cast_to_unstructured_grid()
    inside = mesh.cell_centers().points[:, 1] < 1e-4
    mesh.cell_data["w"] = np.where(inside, 1000.0, mesh.cell_centers().points[:, 0])
    (picture,) = plan(tmp_path / "layer.vtu", mesh, None, {})
    assert picture.limits == (0.0, 1.0)


def test_errors_of_one_sign_are_coloured_around_zero(tmp_path: Path) -> None:
    mesh = pyvista.Plane(i_resolution=5, j_resolution=4)
    mesh.clear_data()
    mesh.cell_data["p"], mesh.cell_data["p_truth"] = np.linspace(0, 1, 20), np.linspace(3, 4, 20)
    mesh.cell_data["p_error"] = mesh.cell_data["p"] - mesh.cell_data["p_truth"]
    (picture,) = plan(tmp_path / "plane.vtp", mesh, None, {})
    assert picture.limits == (0.0, 4.0)
    assert picture.error_limit == 3.0


@given(
    lower=floats(-1e6, 1e6),
    width=floats(1e-3, 1e6),
    mirrored=booleans(),
    vector=booleans(),
    association=sampled_from(["cell", "point"]),
)
def test_limits_hold_the_values_and_read_well(
    lower: float, width: float, mirrored: bool, vector: bool, association: str
) -> None:
    mesh = pyvista.Plane(i_resolution=5, j_resolution=4)
    mesh.clear_data()
    count = mesh.n_cells if association == "cell" else mesh.n_points
    values = np.linspace(-width if mirrored else lower, width if mirrored else lower + width, count)
    values = np.stack([values, 0 * values, 0 * values], axis=1) if vector else values
    (mesh.cell_data if association == "cell" else mesh.point_data)["f"] = values
    (picture,) = plan(Path("plane.vtp"), mesh, None, {})
    low, high = picture.limits
    shown = np.linalg.norm(values, axis=1) if vector else values
    if association == "cell":
        slack = 1e-9 * max(abs(low), abs(high))
        assert low - slack <= shown.min()
        assert shown.max() <= high + slack
    assert low < high
    assert high - low <= 3 * max(np.ptp(shown), abs(high) if vector or picture.signed else 0)
    if picture.signed or vector:
        # Four quarters, each written with at most six digits.
        labels = np.linspace(low, high, 5)
        assert all(float(f"{label:.6g}") == pytest.approx(label, rel=1e-12, abs=1e-12 * high) for label in labels)


def test_nothing_to_draw_is_said(tmp_path: Path, stokes_cases: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither surface\.vtp nor volume\.vtu: there is nothing to draw"):
        view(tmp_path)
    (tmp_path / "field.vtu").touch()
    with pytest.raises(FileNotFoundError, match=r"nor volume\.vtu; draw one of its files: field\.vtu"):
        view(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        view(tmp_path / "missing.vtp")
    with pytest.raises(ValueError, match="no arrays of one or three numbers"):
        view(stokes_cases / "stokes_0000" / "body.stl", tmp_path / "out")


# --- The script for ParaView


def test_the_script_names_its_files_from_where_it_stands(
    pictures: list[Path], prediction: Path, tmp_path: Path
) -> None:
    # The folder may be moved; `test_paraview.py` runs the script in ParaView.
    moved = tmp_path / "elsewhere"
    shutil.copytree(prediction, moved)
    script = moved / "pictures" / "view.py"
    text = script.read_text()
    compile(text, str(script), "exec")
    held = json.loads(re.findall(r'json\.loads\("""\n(.*?)\n"""\)', text, re.DOTALL)[0])
    assert {(script.parent / each["path"]).resolve() for each in held} == {moved / "surface.vtp", moved / "volume.vtu"}
    assert [f"{each['name']}.png" for each in held] == [path.name for path in pictures[:-1]]
    assert [each["slice_normal"] for each in held] == [None] * 2 + [[0.0, 1.0, 0.0]] * 3


def test_strange_names_do_not_break_the_script(tmp_path: Path) -> None:
    picture = {"array": 'a"b\\c """', "panels": ["prediction"], "label": "τ [m²/s²]"}
    text = script_of([(tmp_path / "it's {a} file.vtp", picture)], folder=tmp_path)
    (held,) = re.findall(r'json\.loads\("""\n(.*)\n"""\)', text, re.DOTALL)
    namespace: dict = {}
    exec(f'import json\nfound = json.loads("""\n{held}\n""")', namespace)
    assert namespace["found"][0]["array"] == picture["array"]
    assert namespace["found"][0]["path"] == "it's {a} file.vtp"


@pytest.mark.skipif(find_library("OSMesa") is not None, reason="OSMesa draws without EGL")
def test_a_machine_that_cannot_draw_is_told_so_and_the_process_lives(tmp_path: Path) -> None:
    surface = tmp_path / "surface.vtp"
    pyvista.Sphere().save(surface)
    code = f"from pathlib import Path; from pipelines.visualise import view; view(Path({str(surface)!r}))"
    variables = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    variables["__EGL_VENDOR_LIBRARY_FILENAMES"] = str(tmp_path / "no-driver.json")
    drawn = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=variables)
    assert drawn.returncode == 1
    assert "NoRendererError: pictures need a display or an off-screen OpenGL" in drawn.stderr
    assert not (tmp_path / "pictures").exists()
