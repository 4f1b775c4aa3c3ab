"""A script that shows pictures of ours in ParaView 5.11 or newer."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCRIPT = '''"""These pictures in ParaView: `pvpython view.py` draws them, `paraview --script=view.py` shows them too."""

import json
import os

from paraview.simple import *  # noqa: F403
from paraview.simple import _DisableFirstRenderCameraReset

HERE = os.path.dirname(os.path.abspath(__file__))
PICTURES = json.loads("""
{pictures}
""")
SIZE = [760, 640]
LABELS = 5
PRESETS = {{True: "Cool to Warm", False: "Viridis (matplotlib)"}}
READERS = {{".vtp": XMLPolyDataReader, ".vtu": XMLUnstructuredGridReader}}  # noqa: F405
COLOURS = {{"truth": ["0", "0", "0"], "prediction": ["0.86", "0.08", "0.24"]}}
MARKERS = {{"truth": "4", "prediction": "1"}}  # a disc, a cross


def opened(picture):
    path = os.path.join(HERE, picture["path"])
    reader = READERS.get(os.path.splitext(path)[1])
    return reader(FileName=[path]) if reader else OpenDataFile(path)  # noqa: F405


def array_of(picture, panel):
    return picture["array"] if panel == "prediction" else picture["array"] + "_" + panel


def cut(picture, source):
    """Slice the cells where the picture does, and keep what it shows."""
    if picture["slice_normal"]:
        source = Slice(Input=source)  # noqa: F405
        source.SliceType = "Plane"
        source.SliceType.Origin = picture["slice_origin"]
        source.SliceType.Normal = picture["slice_normal"]
        source.Triangulatetheslice = 0
    if picture["window"]:
        lower, upper = picture["window"]
        source = Clip(Input=source)  # noqa: F405
        source.ClipType = "Box"
        source.ClipType.Position = lower
        source.ClipType.Length = [high - low for low, high in zip(lower, upper)]
        source.Exact = 1
    return source


def show(picture, panel, source, view):
    display = Show(source, view)  # noqa: F405
    name = array_of(picture, panel)
    kind = "CELLS" if picture["association"] == "cell" else "POINTS"
    # Each display has colours of its own: the same array has other limits in another picture.
    ColorBy(display, (kind, name, "Magnitude") if picture["vector"] else (kind, name), True)  # noqa: F405
    table = GetColorTransferFunction(name, display, True)  # noqa: F405
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
    bar.AutomaticLabelFormat = 0
    bar.LabelFormat = "%.6g"
    bar.AddRangeLabels = 0
    bar.UseCustomLabels = 1
    bar.CustomLabels = [lower + (upper - lower) * step / (LABELS - 1) for step in range(LABELS)]
    display.SetScalarBarVisibility(view, True)
    if picture["window"]:
        display.Ambient, display.Diffuse = 1.0, 0.0
    else:
        display.Ambient, display.Diffuse = 0.45, 0.6
    if len(picture["panels"]) > 1:
        title = Show(Text(Text=panel), view)  # noqa: F405
        title.WindowLocation = "Upper Center"
        title.Color = [0.0, 0.0, 0.0]


def coloured(picture):
    """Give a view for each panel."""
    source = cut(picture, opened(picture))
    views = []
    for panel in picture["panels"]:
        view = CreateView("RenderView")  # noqa: F405
        view.OrientationAxesVisibility = 0
        view.UseColorPaletteForBackground = 0
        view.BackgroundColorMode = "Single Color"
        view.Background = [1.0, 1.0, 1.0]
        show(picture, panel, source, view)
        view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = picture["camera"]
        view.CameraParallelProjection = 1
        view.CameraParallelScale = picture["height"]
        views.append(view)
    return views


def curve(picture):
    """Give a view of values on a wall over the place along it."""
    source = opened(picture)
    if picture["association"] == "cell":
        source = CellCenters(Input=source)  # noqa: F405
    view = CreateView("XYChartView")  # noqa: F405
    display = Show(PlotData(Input=source), view, "XYChartRepresentation")  # noqa: F405
    axis = "XYZ"[picture["curve"]]
    display.AttributeType = "Point Data"
    display.UseIndexForXAxis = 0
    display.XArrayName = "Points_" + axis
    ending = "_Magnitude" if picture["vector"] else ""
    series = {{panel: array_of(picture, panel) + ending for panel in picture["panels"] if panel in COLOURS}}
    display.SeriesVisibility = list(series.values())
    display.SeriesLabel = [text for panel, name in series.items() for text in (name, panel)]
    display.SeriesColor = [text for panel, name in series.items() for text in (name, *COLOURS[panel])]
    display.SeriesLineStyle = [text for name in series.values() for text in (name, "0")]
    display.SeriesMarkerStyle = [text for panel, name in series.items() for text in (name, MARKERS[panel])]
    display.SeriesMarkerSize = [text for name in series.values() for text in (name, "8")]
    view.LeftAxisTitle, view.BottomAxisTitle = picture["label"], axis.lower() + " [m]"
    view.ShowLegend = int(len(series) > 1)
    return [view]


def render(picture):
    views = coloured(picture) if picture["curve"] is None else curve(picture)
    layout = CreateLayout(name=picture["name"])  # noqa: F405
    place = 0
    for left, view in zip(range(len(views), 0, -1), views):
        if left > 1:
            place = layout.SplitHorizontal(place, 1.0 / left)
        layout.AssignView(place, view)
        place += 1
    size = [SIZE[0] * len(views), SIZE[1]]
    layout.SetSize(*size)
    target = os.path.join(HERE, "paraview_" + picture["name"] + ".png")
    SaveScreenshot(target, layout, ImageResolution=size)  # noqa: F405


_DisableFirstRenderCameraReset()
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
