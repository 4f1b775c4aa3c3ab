"""Pictures of predictions and simulations, and a script that opens the same view in ParaView."""

import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from meshes.aside import named, write_text
from pipelines.outputs import read_record
from pipelines.paraview import script_of

PANELS = ("truth", "prediction", "error")
SIGNED, POSITIVE = "coolwarm", "viridis"
PANEL_SIZE = (760, 640)
# The part of a picture's height that is left between the colour bar and the title.
BOTTOM, TOP = 0.18, 0.91
# A slice is drawn this many body lengths to each side: the wake is where the differences are.
BEFORE, BEHIND, BESIDE = 0.8, 1.6, 0.8
# Values on this part of a picture, at either end, may lie beyond its colours.
LEFT_OUT = 0.005
ROUND = (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True)
class Picture:
    """One field of one file, drawn as panels that share their colours.

    Attributes:
        file: the mesh, by name.
        array: the field; `array_truth` and `array_error` are drawn beside it where the file has them.
        label: what the colour bar says.
        association: whether the values stand at points or at cells.
        vector: whether the length of a vector is drawn.
        limits: lowest and highest colour of truth and prediction.
        error_limit: the errors' colours run to this on both sides of zero.
        signed: whether colours part at the middle.
        slice_origin, slice_normal: the plane through the volume; `None` draws the cells themselves.
        window: lower and upper corner of what is shown; `None` shows all.
        camera: position, focal point and direction upwards.
        height: half the height of what is seen [m], in parallel projection.
        panels: which of truth, prediction and error there are.
        curve: the axis to draw values over, for the wall of a flow in the plane; `None` draws the mesh.
    """

    file: str
    array: str
    label: str
    association: Literal["cell", "point"]
    vector: bool
    limits: tuple[float, float]
    error_limit: float
    signed: bool
    slice_origin: tuple[float, float, float] | None
    slice_normal: tuple[float, float, float] | None
    window: tuple[tuple[float, float, float], tuple[float, float, float]] | None
    camera: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
    height: float
    panels: tuple[str, ...]
    curve: int | None = None

    @property
    def name(self) -> str:
        """Name of the picture without its suffix."""
        return f"{Path(self.file).stem}_{self.array}"


class NoRendererError(OSError):
    """There is neither a display nor an off-screen OpenGL to draw with."""


@cache
def check_renderer() -> None:
    """Draw a sphere in another process, since VTK ends its own where it finds no OpenGL.

    Raises:
        NoRendererError: it could not be drawn.
    """
    sphere = (
        "import pyvista; plotter = pyvista.Plotter(off_screen=True, window_size=(16, 16));"
        "plotter.add_mesh(pyvista.Sphere()); plotter.screenshot(None, return_img=True)"
    )
    tried = subprocess.run([sys.executable, "-c", sphere], capture_output=True, check=False)
    if tried.returncode != 0:
        raise NoRendererError(
            "pictures need a display or an off-screen OpenGL, and VTK found none; on Debian and Ubuntu: "
            "apt-get install libegl1 libgl1-mesa-dri"
        )


def view(path: Path, out: Path | None = None, *, only: Collection[str] | None = None) -> list[Path]:
    """Draw the fields of a prediction, of a case folder or of one mesh file, and write a script for `pvpython`.

    The surface is drawn from upstream and above, a volume as the slice through the middle of the body along the
    stream. Where the truth is there, it, the prediction and the error stand side by side, the first two in one range.

    Args:
        path: folder of a prediction with `prediction.json`, a folder with `surface.vtp` and `volume.vtu`, or a file.
        out: folder for `*.png` and `view.py`; by default `pictures` beside the files.
        only: names of the pictures to draw, such as `volume_U`; by default all.

    Returns:
        The files written, the script last.

    Raises:
        FileNotFoundError: there is nothing to draw at `path`.
        ValueError: the files hold no numbers to draw.
        NoRendererError: this machine cannot draw.
    """
    check_renderer()
    import pyvista
    from vtkmodules.vtkCommonCore import vtkLogger

    # Without an X server VTK renders through EGL or in software, but first says that it looked for one.
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
    path = Path(path)
    files = _files(path)
    out = (path if path.is_dir() else path.parent) / "pictures" if out is None else Path(out)
    record = _record(files[0].parent)
    meshes = {file: _read(file) for file in files}
    pictures: list[tuple[Path, Picture]] = []
    for file, mesh in meshes.items():
        body = next((other for name, other in meshes.items() if name.suffix == ".vtp"), None)
        planned = plan(file, mesh, body, record)
        pictures += [(file, picture) for picture in planned if only is None or picture.name in only]
    if not pictures:
        raise ValueError(f"{path} holds no arrays of one or three numbers to draw")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for file, picture in pictures:
        target = out / f"{picture.name}.png"
        with named(target):
            _draw(pyvista, meshes[file], picture, target)
        written.append(target)
    script = out / "view.py"
    write_text(script, script_of([(file, asdict(picture)) for file, picture in pictures], folder=out))
    return [*written, script]


def plan(file: Path, mesh: Any, body: Any | None, record: Mapping[str, Any]) -> list[Picture]:
    """Decide what to draw of a mesh: which arrays, with which colours, seen from where.

    Args:
        file: where the mesh came from.
        mesh: a pyvista data set.
        body: the surface of the body, if there is one: it tells where to look.
        record: what `prediction.json` says, or nothing.
    """
    units = {field["array"]: field["unit"] for fields in record.get("fields", {}).values() for field in fields.values()}
    space = tuple(record.get("space", "xyz"))
    plane = _plane(mesh, space)
    solid = mesh.n_cells > 0 and _dimension(mesh) == 3
    strip = not solid and plane is not None and float(np.ptp(mesh.points[:, plane])) > 0
    if solid or (plane is not None and not strip):
        origin, normal, camera, height, window = _slice_view(mesh, body, plane)
        origin, normal = (origin, normal) if solid else (None, None)
    else:
        origin, normal, window, (camera, height) = None, None, None, _surface_view(mesh)
    seen = _seen(mesh, origin, normal, window)
    pictures = []
    for array in _arrays(mesh, units):
        association: Literal["cell", "point"] = "cell" if array in mesh.cell_data else "point"
        data = mesh.cell_data if association == "cell" else mesh.point_data
        panels = tuple(panel for panel in PANELS if panel == "prediction" or f"{array}_{panel}" in data)
        vector = data[array].ndim == 2
        limits, signed = _limits(seen, [_name(array, panel) for panel in panels if panel != "error"], association)
        worst = 1.0
        if "error" in panels:
            (_, worst), _ = _limits(seen, [f"{array}_error"], association, around_zero=True)
        unit = units.get(array)
        name = f"{array} magnitude" if vector else array
        pictures.append(
            Picture(
                file=file.name,
                array=array,
                label=name if unit is None else f"{name} [{unit}]",
                association=association,
                vector=vector,
                limits=limits,
                error_limit=worst,
                signed=signed,
                slice_origin=origin,
                slice_normal=normal,
                window=window,
                camera=camera,
                height=height,
                panels=panels,
                curve=min(axis for axis in range(3) if axis != plane) if strip else None,
            )
        )
    return pictures


# --- Reading


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        from meshes.reading import SUFFIXES

        files = [path / name for name in ("surface.vtp", "volume.vtu") if (path / name).exists()]
        if not files:
            there = sorted(each.name for each in path.iterdir() if each.is_file() and each.suffix in SUFFIXES)
            others = f"; draw one of its files: {', '.join(there[:12])}" if there else ": there is nothing to draw"
            raise FileNotFoundError(f"{path} holds neither surface.vtp nor volume.vtu{others}")
        return files
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give a prediction, a case folder or a mesh file")
    return [path]


def _record(folder: Path) -> dict[str, Any]:
    file = folder / "prediction.json"
    return read_record(file) if file.exists() else {}


def _read(file: Path) -> Any:
    from meshes.reading import read

    return read(file).to_pyvista()


def _arrays(mesh: Any, units: Mapping[str, str]) -> list[str]:
    """Arrays to draw: those of the record, or all with one or three numbers a place, ghosts and numbering left out."""
    found = [*mesh.cell_data.keys(), *mesh.point_data.keys()]
    if any(name in found for name in units):
        return [name for name in units if name in found]
    helpers = tuple(f"_{panel}" for panel in (*PANELS, "spread"))
    return [
        name
        for name in found
        if not name.startswith("vtk")
        and not name.endswith(helpers)
        and np.issubdtype(mesh[name].dtype, np.floating)
        and (mesh[name].ndim == 1 or mesh[name].shape[1] == 3)
    ]


def _name(array: str, panel: str) -> str:
    return array if panel == "prediction" else f"{array}_{panel}"


def _scalar(values: np.ndarray, vector: bool) -> np.ndarray:
    return np.linalg.norm(values, axis=1) if vector else values


# --- Where to look


def _dimension(mesh: Any) -> int:
    return max(int(cell_type in _SOLID) + 2 for cell_type in np.unique(getattr(mesh, "celltypes", np.array([5]))))


_SOLID = frozenset({10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 32, 33, 42})


def _plane(mesh: Any, space: Sequence[str]) -> int | None:
    """Axis across a flow in the plane: what the record drops, or where the mesh is at most one cell thick."""
    dropped = [axis for axis in range(3) if "xyz"[axis] not in space]
    if dropped:
        return dropped[0]
    levels = [len(np.unique(np.round(mesh.points[:, axis], 9))) for axis in range(3)]
    return int(np.argmin(levels)) if min(levels) <= 2 < sorted(levels)[1] else None


def _box(mesh: Any) -> Float[np.ndarray, "2 3"]:
    return np.asarray(mesh.bounds, np.float64).reshape(3, 2).T


def _slice_view(mesh: Any, body: Any | None, plane: int | None) -> tuple[Any, Any, Any, float, Any]:
    """Choose the plane through a volume, what is seen of it, and from where."""
    lower, upper = _box(mesh)
    inner = _box(body) if body is not None else np.stack([lower + (upper - lower) / 3, upper - (upper - lower) / 3])
    across = 1 if plane is None else plane
    middle = inner.mean(axis=0)
    if plane is None:
        # A half model is cut just beside its plane of symmetry, where there are cells.
        margin = 1e-4 * (upper - lower)[across]
        symmetric = inner[0, across] <= lower[across] + margin
        middle[across] = lower[across] + margin if symmetric else middle[across]
    else:
        middle[across] = 0.5 * (lower + upper)[across]
    pair = [axis for axis in range(3) if axis != across]
    length = max(np.ptp(inner, axis=0)[pair])
    window = np.stack([lower, upper])
    window[0, pair] = np.maximum(lower[pair], inner[0, pair] - length * np.array([BEFORE, BESIDE]))
    window[1, pair] = np.minimum(upper[pair], inner[1, pair] + length * np.array([BEHIND, BESIDE]))
    window[:, across] += np.array([-0.01, 0.01]) * length  # a mesh in the plane has no thickness to be cut from
    focus = window.mean(axis=0)
    focus[across] = middle[across]
    normal = np.eye(3)[across]
    upwards = np.eye(3)[pair[1]]
    # Seen so that the first axis, along which streams mostly run, points to the right.
    towards = -normal if across == 1 else normal
    corners = np.stack(np.meshgrid(*window.T), axis=-1).reshape(-1, 3)
    camera, height = _framed(corners, focus, towards, upwards)
    return _numbers(middle), _numbers(normal), camera, height, tuple(_numbers(corner) for corner in window)


def _surface_view(mesh: Any) -> tuple[Any, float]:
    lower, upper = _box(mesh)
    size = float(np.linalg.norm(upper - lower))
    # From upstream, from the side whose cells all models have, and a little from above.
    towards = np.array([-0.75, 0.55, 0.42]) if lower[1] >= -1e-3 * size else np.array([-0.75, -0.55, 0.42])
    return _framed(np.asarray(mesh.points), 0.5 * (lower + upper), towards, np.array([0.0, 0.0, 1.0]))


def _framed(
    points: Float[np.ndarray, "point 3"],
    focus: Float[np.ndarray, "3"],
    towards: Float[np.ndarray, "3"],
    upwards: Float[np.ndarray, "3"],
) -> tuple[Any, float]:
    """Place a camera so that some points fill the picture between its title and its colour bar.

    Returns:
        Position, focal point and direction upwards; and half the height of what is seen [m].
    """
    towards = towards / np.linalg.norm(towards)
    right = np.cross(upwards, towards)
    right /= np.linalg.norm(right)
    above = np.cross(towards, right)
    width, height = np.ptp(points @ right), np.ptp(points @ above)
    aspect = PANEL_SIZE[0] / PANEL_SIZE[1]
    half = 0.5 * max(height / (TOP - BOTTOM), width / aspect / 0.94)
    middle = [0.5 * float((points @ axis).max() + (points @ axis).min()) - focus @ axis for axis in (right, above)]
    focus = focus + middle[0] * right + (middle[1] - (TOP + BOTTOM - 1) * half) * above
    position = focus + 3 * float(np.linalg.norm(np.ptp(points, axis=0))) * towards
    return (_numbers(position), _numbers(focus), _numbers(upwards)), float(half)


def _numbers(vector: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in vector)
    return first, second, third


def _seen(mesh: Any, origin: Any, normal: Any, window: Any) -> Any:
    """Cut a mesh down to what a picture shows of it."""
    shown = mesh if normal is None else mesh.slice(normal=normal, origin=origin)
    if window is None:
        return shown
    return shown.clip_box([value for pair in zip(*window, strict=True) for value in pair], invert=False)


# --- Colours


def _limits(
    seen: Any, names: Sequence[str], association: str, *, around_zero: bool = False
) -> tuple[tuple[float, float], bool]:
    """Range that all but a few of the values need, by the area that they cover in the picture, in round numbers.

    By area, because most cells of a mesh stand in layers too thin to be seen: their extremes would leave one colour
    for all the rest. Around zero where values have both signs, or where it is asked for.
    """
    cells = seen if association == "cell" else seen.point_data_to_cell_data()
    vector = cells.n_cells > 0 and cells.cell_data[names[0]].ndim == 2
    values = np.concatenate([_scalar(np.asarray(cells.cell_data[name], np.float64), vector) for name in names])
    area = np.tile(np.asarray(cells.compute_cell_sizes(length=False, volume=False)["Area"]), len(names))
    finite = np.isfinite(values)
    if not finite.any():
        return (0.0, 1.0), False
    values, area = values[finite], area[finite]
    order = np.argsort(values)
    values, reached = values[order], np.cumsum(area[order] + 1e-12 * area.sum() / len(area) + 1e-300)
    lower, upper = (float(values[np.searchsorted(reached, part * reached[-1])]) for part in (LEFT_OUT, 1 - LEFT_OUT))
    both = lower < 0 < upper and min(-lower, upper) > 0.05 * max(-lower, upper)
    signed = not vector and (both or around_zero)
    if vector or signed:
        upper = _round(max(-lower, upper) if signed else upper) or 1.0
        return ((-upper if signed else 0.0), upper), signed
    return _round_range(lower, upper), False


def _round(value: float) -> float:
    """Find the next larger number whose quarters are short."""
    if value <= 0:
        return 0.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(power * next(step for step in ROUND if power * step >= value * (1 - 1e-9)))


def _round_range(lower: float, upper: float) -> tuple[float, float]:
    """Find the smallest range of four short steps that holds two numbers."""
    width = (upper - lower) or abs(lower) or 1.0
    while True:
        width = _round(width)
        start = np.floor(lower / (width / 4)) * (width / 4)
        if start + width >= upper:
            return float(start), float(start + width)
        width *= 1.01


# --- Drawing


def _draw_curve(pyvista: Any, mesh: Any, picture: Picture, target: Path) -> None:
    """Draw values on the wall of a flow in the plane over the place along it."""
    data = mesh.cell_data if picture.association == "cell" else mesh.point_data
    position = mesh.cell_centers().points if picture.association == "cell" else mesh.points
    assert picture.curve is not None
    name = "xyz"[picture.curve]
    chart = pyvista.Chart2D(x_label=f"{name} [m]", y_label=picture.label)
    for panel, colour, style in (("truth", "black", "o"), ("prediction", "crimson", "x")):
        if panel in picture.panels:
            values = _scalar(np.asarray(data[_name(picture.array, panel)]), picture.vector)
            chart.scatter(position[:, picture.curve], values, color=colour, style=style, size=8, label=panel)
    chart.legend_visible = len(picture.panels) > 1
    for axis in (chart.x_axis, chart.y_axis):
        axis.label_size, axis.tick_label_size = 20, 16
    plotter = pyvista.Plotter(off_screen=True, window_size=PANEL_SIZE)
    try:
        plotter.set_background("white")
        plotter.add_chart(chart)
        plotter.screenshot(target)
    finally:
        plotter.close()


def _draw(pyvista: Any, mesh: Any, picture: Picture, target: Path) -> None:
    if picture.curve is not None:
        _draw_curve(pyvista, mesh, picture, target)
        return
    shown = _seen(mesh, picture.slice_origin, picture.slice_normal, picture.window)
    count = len(picture.panels)
    plotter = pyvista.Plotter(
        off_screen=True, shape=(1, count), border=False, window_size=(PANEL_SIZE[0] * count, PANEL_SIZE[1])
    )
    try:
        for column, panel in enumerate(picture.panels):
            plotter.subplot(0, column)
            plotter.set_background("white")
            _panel(plotter, shown, picture, panel)
        plotter.screenshot(target)
    finally:
        plotter.close()


def _panel(plotter: Any, shown: Any, picture: Picture, panel: str) -> None:
    error = panel == "error"
    data = shown.cell_data if picture.association == "cell" else shown.point_data
    copy = shown.copy(deep=False)
    values = _scalar(np.asarray(data[_name(picture.array, panel)]), picture.vector)
    (copy.cell_data if picture.association == "cell" else copy.point_data)["shown"] = values
    limits = (-picture.error_limit, picture.error_limit) if error else picture.limits
    if error and picture.vector:
        limits = (0.0, picture.error_limit)
    signed = (error and not picture.vector) or (picture.signed and not error)
    flat = picture.window is not None
    plotter.add_mesh(
        copy,
        scalars="shown",
        preference=picture.association,
        clim=limits,
        cmap=SIGNED if signed else POSITIVE,
        lighting=not flat,
        ambient=0.45,
        diffuse=0.6,
        smooth_shading=False,
        show_scalar_bar=False,
        copy_mesh=True,
    )
    # A plotter keeps one bar for each title, so those of the panels must differ.
    title = f"error of {picture.label}" if error else picture.label
    bar = plotter.add_scalar_bar(
        title=title + " " * picture.panels.index(panel),
        n_labels=5,
        fmt="%.6g",
        color="black",
        title_font_size=20,
        label_font_size=17,
        width=0.7,
        height=0.11,
        position_x=0.15,
        position_y=0.015,
        vertical=False,
    )
    bar.SetTextPositionToPrecedeScalarBar()  # numbers and title below the bar, the title clear of the numbers
    bar.SetVerticalTitleSeparation(10)
    if len(picture.panels) > 1:
        plotter.add_text(panel, position="upper_edge", color="black", font_size=13)
    plotter.camera_position = picture.camera
    plotter.enable_parallel_projection()
    plotter.camera.parallel_scale = picture.height
    plotter.reset_camera_clipping_range()
