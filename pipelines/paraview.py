"""A script that shows pictures of ours in ParaView 5.11 or newer."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCRIPT = '''"""These pictures in ParaView: `pvpython view.py` renders them, `paraview --script=view.py` shows them."""

import json
import os

from paraview.simple import *  # noqa: F403

HERE = os.path.dirname(os.path.abspath(__file__))
PICTURES = json.loads("""
{pictures}
""")
SIZE = [760, 640]
PRESETS = {{True: "Cool to Warm", False: "Viridis (matplotlib)"}}
READERS = {{".vtp": XMLPolyDataReader, ".vtu": XMLUnstructuredGridReader}}  # noqa: F405


def show(picture, panel, view):
    path = os.path.join(HERE, picture["path"])
    reader = READERS.get(os.path.splitext(path)[1])
    source = reader(FileName=[path]) if reader else OpenDataFile(path)  # noqa: F405
    if picture["slice_normal"]:
        source = Slice(Input=source)  # noqa: F405
        source.SliceType = "Plane"
        source.SliceType.Origin = picture["slice_origin"]
        source.SliceType.Normal = picture["slice_normal"]
        source.Triangulatetheslice = 0
    name = picture["array"] if panel == "prediction" else picture["array"] + "_" + panel
    display = Show(source, view)  # noqa: F405
    kind = "CELLS" if picture["association"] == "cell" else "POINTS"
    colour = (kind, name, "Magnitude") if picture["vector"] else (kind, name)
    ColorBy(display, colour)  # noqa: F405
    table = GetColorTransferFunction(name)  # noqa: F405
    error = panel == "error"
    signed = (error and not picture["vector"]) or (picture["signed"] and not error)
    table.ApplyPreset(PRESETS[bool(signed)], True)
    lower, upper = picture["limits"]
    if error:
        lower, upper = (0.0 if picture["vector"] else -picture["error_limit"]), picture["error_limit"]
    table.RescaleTransferFunction(lower, upper)
    bar = GetScalarBar(table, view)  # noqa: F405
    bar.Title = ("error of " if error else "") + picture["label"]
    bar.ComponentTitle = ""
    bar.TitleColor = bar.LabelColor = [0.0, 0.0, 0.0]
    bar.AutoOrient = 0
    bar.Orientation = "Horizontal"
    bar.WindowLocation = "Lower Center"
    bar.ScalarBarLength = 0.7
    bar.RangeLabelFormat = "%.3g"
    display.SetScalarBarVisibility(view, True)
    if picture["slice_normal"]:
        display.Ambient, display.Diffuse = 1.0, 0.0


def render(picture):
    layout = CreateLayout(name=picture["name"])  # noqa: F405
    views = []
    for index, panel in enumerate(picture["panels"]):
        view = CreateView("RenderView")  # noqa: F405
        AssignViewToLayout(view=view, layout=layout, hint=0)  # noqa: F405
        view.OrientationAxesVisibility = 0
        view.ViewSize = SIZE
        view.UseColorPaletteForBackground = 0
        view.BackgroundColorMode = "Single Color"
        view.Background = [1.0, 1.0, 1.0]
        show(picture, panel, view)
        view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = picture["camera"]
        view.CameraParallelProjection = 1
        view.CameraParallelScale = picture["height"]
        views.append(view)
        Render(view)  # noqa: F405
    for index, view in enumerate(views):
        target = os.path.join(HERE, "paraview_%s_%s.png" % (picture["name"], picture["panels"][index]))
        SaveScreenshot(target, view, ImageResolution=SIZE)  # noqa: F405


for picture in PICTURES:
    render(picture)
'''


def script_of(pictures: Sequence[tuple[Path, Mapping[str, Any]]], *, folder: Path) -> str:
    """Write the script that shows the same pictures in ParaView.

    Args:
        pictures: files, and what is drawn of each: the attributes of a `pipelines.visualise.Picture`.
        folder: where the script will stand; files are named relative to it, so that both can be moved together.
    """
    entries = [
        {**picture, "name": f"{file.stem}_{picture['array']}", "path": _relative(file, folder)}
        for file, picture in pictures
    ]
    return SCRIPT.format(pictures=json.dumps(entries, indent=1).replace("\\", "\\\\"))


def _relative(file: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return file.resolve().as_posix()
