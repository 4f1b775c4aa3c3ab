import json
import os
import re
import shutil
import subprocess
import sys
import types
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
import pyvista

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
    assert pressure.limits[1] == pytest.approx(np.quantile(both, 0.99), rel=0.1)
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


def test_nothing_to_draw_is_said(tmp_path: Path, stokes_cases: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither surface\.vtp nor volume\.vtu"):
        view(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        view(tmp_path / "missing.vtp")
    with pytest.raises(ValueError, match="no arrays of one or three numbers"):
        view(stokes_cases / "stokes_0000" / "body.stl", tmp_path / "out")


# --- The script for ParaView


class Recorder(types.ModuleType):
    """Stand in for `paraview.simple`: remembers what was called, and lets anything be set."""

    def __init__(self) -> None:
        super().__init__("paraview.simple")
        self.calls: list[tuple[str, tuple, dict]] = []
        self.__all__ = [
            "AssignViewToLayout", "ColorBy", "CreateLayout", "CreateView", "GetColorTransferFunction", "GetScalarBar",
            "OpenDataFile", "Render", "SaveScreenshot", "Show", "Slice", "XMLPolyDataReader",
            "XMLUnstructuredGridReader",
        ]  # fmt: skip

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments, **named):
            self.calls.append((name, arguments, named))
            return Proxy(self, name)

        return call


class Proxy:
    def __init__(self, recorder: Recorder, name: str) -> None:
        object.__setattr__(self, "_recorder", recorder)
        object.__setattr__(self, "_name", name)

    def __getattr__(self, name: str):
        if name in ("SliceType",):
            return Proxy(self._recorder, name)

        def call(*arguments, **named):
            self._recorder.calls.append((f"{self._name}.{name}", arguments, named))

        return call

    def __setattr__(self, name: str, value) -> None:
        self._recorder.calls.append((f"{self._name}.{name}", (value,), {}))


def run_script(script: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple, dict]]:
    recorder = Recorder()
    package = types.ModuleType("paraview")
    monkeypatch.setitem(sys.modules, "paraview", package)
    monkeypatch.setitem(sys.modules, "paraview.simple", recorder)
    exec(compile(script.read_text(), str(script), "exec"), {"__file__": str(script), "__name__": "__main__"})
    return recorder.calls


def test_the_script_opens_the_same_files_with_the_same_colours(
    pictures: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The folder may be moved: files are named relative to the script.
    moved = tmp_path / "elsewhere"
    shutil.copytree(pictures[0].parents[1], moved)
    calls = run_script(moved / "pictures" / "view.py", monkeypatch)
    opened = [Path(named["FileName"][0]).resolve() for name, _, named in calls if name.startswith("XML")]
    assert set(opened) == {moved / "surface.vtp", moved / "volume.vtu"}
    coloured = [arguments[1] for name, arguments, _ in calls if name == "ColorBy"]
    assert ("CELLS", "p_truth") in coloured
    assert ("CELLS", "U_error", "Magnitude") in coloured
    slices = [arguments[0] for name, arguments, _ in calls if name == "SliceType.Normal"]
    assert slices == [[0.0, 1.0, 0.0]] * 9
    saved = [arguments[0] for name, arguments, _ in calls if name == "SaveScreenshot"]
    assert len(saved) == 15
    ranges = [arguments for name, arguments, _ in calls if name == "GetColorTransferFunction.RescaleTransferFunction"]
    assert all(lower < upper for lower, upper in ranges)


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
