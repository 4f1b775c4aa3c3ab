"""Fields of a geometry that nobody simulated, as files that ParaView opens."""

import dataclasses
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from meshes.mesh import Mesh
from meshes.stores.layout import write_json
from pipelines import grids, shapes
from pipelines.ensemble import Ensemble, Values, pick_device, pick_precision
from pipelines.expressions import names_in
from pipelines.forces import PRESSURE, SHEAR, coefficients, in_space, integrate, lump
from pipelines.metrics import Errors
from pipelines.outputs import FORMAT, refuse_loss, results
from pipelines.settings import ConfigError
from pipelines.shapes import Shape, as_in_files, kept_columns
from pipelines.sources import METRES
from pipelines.specification import SurrogateSpec, Units

RECORD = "prediction.json"
# Places whose wall distances are sought at once; bounds memory and changes nothing else.
BLOCK = 262_144

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What `predict` wrote.

    Attributes:
        out: the folder.
        record: what `prediction.json` holds.
    """

    out: Path
    record: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, as JSON holds them."""
        return {"out": str(self.out), **self.record}

    def render(self) -> str:
        """Say in a few lines what was predicted."""
        record = self.record
        lines = [f"warning: {warning}" for warning in record["warnings"]]
        size = np.subtract(record["body"]["upper"], record["body"]["lower"])
        lines.append(f"the body measures {' × '.join(f'{length:.4g}' for length in size)} m")
        for file, entry in record["files"].items():
            arrays = ", ".join(
                f"{field['array']} [{field['unit']}]" for field in record["fields"][entry["branch"]].values()
            )
            lines.append(f"{self.out / file}: {entry['places']} {entry['association']}s with {arrays}")
        for branch, fields in record["errors"].items():
            lines += [
                f"{branch} {name}: relative L2 {100 * scores['relative_l2']:.2f} % against the file given"
                for name, scores in fields.items()
                if scores["relative_l2"] is not None
            ]
        if (forces := record["forces"]) is not None:
            largest = max(map(abs, forces["force"]))
            vector = ", ".join(f"{value if abs(value) > 1e-9 * largest else 0:.4g}" for value in forces["force"])
            lines.append(f"force on {_extent(forces['extent'])}: ({vector}) {forces['unit']}")
            if "drag_coefficient" in forces:
                drag, lift = forces["drag_coefficient"], forces["lift_coefficient"]
                reference = f"reference force {forces['reference_force']:.4g} {forces['unit']}"
                lines.append(f"drag coefficient {drag:.4f}, lift coefficient {lift:.4f} ({reference})")
        lines.append(f"{record['seconds']['total']:.1f} s in all")
        return "\n".join(lines)


def predict(
    run: str | Path,
    *,
    geometry: Path,
    out: Path,
    volume: Path | None = None,
    grid: tuple[int, ...] | None = None,
    bounds: tuple[float, ...] | None = None,
    spacing: float | None = None,
    conditions: Mapping[str, float] | None = None,
    keep_cells: bool = False,
    chunk: int | None = None,
    draws: int = 1,
    seed: int = 0,
    unit_of_length: str = "m",
    precision: str = "auto",
    device: str = "auto",
) -> Prediction:
    """Predict the fields of a new geometry.

    Fields come under the array names and in the units of the training files. A geometry or volume file that holds
    these arrays is taken for a simulation: its cells are kept, and the truth and the error (prediction − truth) are
    written beside, as `NAME_truth` and `NAME_error`. With several draws, or several members of an
    operator, `NAME_spread` is the standard deviation of their answers.

    Surrogates of half models take whole bodies: places on the other side are predicted at their mirror image, and
    vectors mirrored back.

    Args:
        run: folder of a training run, one of its checkpoints, or `runs:/ID`.
        geometry: surface of the body, whole or as the training surfaces.
        out: folder for `surface.vtp`, `volume.vtu` and `prediction.json`.
        volume: mesh to predict the volume fields on.
        grid: cells along each axis of a grid around the body, in place of `volume`.
        bounds: box of the grid [m], lower and upper limit for each axis; by default that of the training volumes.
        spacing: size of the grid's cells [m], in place of `grid`. Without either, cells grow away from the body.
        conditions: such as the inflow speed; those that never varied in training may be left out.
        keep_cells: predict on the geometry's own cells; by default it is meshed as finely as the training surfaces.
        chunk: places at once; by default as many as a quarter of the free memory holds.
        draws: anchor draws to average over.
        seed: decides the draws.
        unit_of_length: of the geometry and of the volume mesh, such as `mm`; what is written is in metres.
        precision: of the operator's arithmetic; `auto` takes bfloat16 on GPUs that have it.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ValueError: the surrogate has no volume branch to put on a volume or grid, a condition is missing or unknown,
            or settings contradict each other; or the files would take the place of others than an earlier prediction.
        OSError: a file cannot be read or written. Of an earlier prediction in `out` nothing is lost then.
    """
    from meshes.writing import write
    from pipelines.checkpoints import find, load_surrogate

    clock = _Clock()
    geometry, out = Path(geometry), Path(out)
    # Beside all the rest gigabytes are hashed, and an STL, which has no arrays to choose, is read.
    aside = ThreadPoolExecutor(2)
    stl = aside.submit(shapes.read_surface, geometry, ()) if geometry.suffix.lower() == ".stl" else None
    geometry_sha256 = aside.submit(_sha256, geometry)
    aside.shutdown(wait=False)
    checkpoint = find(run)
    if unit_of_length not in METRES:
        raise ConfigError(f"the unit of length {unit_of_length!r} is not known; expected one of {', '.join(METRES)}")
    chosen = pick_device(device)
    surrogate = load_surrogate(run, device=chosen, precision=pick_precision(precision, chosen))
    spec = surrogate.spec
    _check(spec, conditions or {}, volume, grid, bounds, spacing)
    surface_branches, volume_branches = (
        [branch for branch, kind in spec.kinds.items() if kind == wanted] for wanted in ("surface", "volume")
    )
    names = _file_names(surface_branches, ".vtp") | _file_names(volume_branches, ".vtu")
    files = (out, RECORD, list(names.values()), [geometry] if volume is None else [geometry, Path(volume)])
    refuse_loss(*files)
    clock("load")

    given = shapes.read_surface(geometry, _arrays(spec, surface_branches)) if stl is None else stl.result()
    given = _in_metres(given, unit_of_length)
    clock("read")
    keep = keep_cells or bool(_truth_arrays(given, _arrays(spec, surface_branches)))
    shape = shapes.shape(_places_only(given), spec, keep_cells=keep)
    parameters = surrogate.complete(dict(conditions or {}), shape.body)
    warnings = [*shape.warnings, *shapes.out_of_range(shape.body, parameters, spec)]
    clock("body")

    candidates, _ = shape.surface_sites("cell")
    ensemble = Ensemble(
        surrogate,
        dict.fromkeys(surface_branches, candidates),
        shape.vertices,
        shape.triangles,
        parameters,
        body=shape.body,
        draws=draws,
        seed=seed,
        chunk=chunk,
    )
    clock("encode")

    with results(*files) as folder:
        writer = _Writer(spec, folder)
        surface_values: dict[str, np.ndarray] = {}
        association = "cell"
        for branch in surface_branches:
            association = _association(given, spec, branch)
            sites, other = shape.surface_sites(association)
            mean, spread = ensemble.decode(branch, sites)
            values = shape.unfold(branch, mean, other)
            surface_values |= values
            clock("surface")
            truth = given if keep else None
            mesh = writer.fill(branch, shape.surface, association, values, spread, truth)
            writer.write(write, names[branch], branch, association, mesh)
            clock("write")
        forces = _forces(shape, surface_values, association, spec, parameters)
        clock("forces")

        if volume_branches:
            target, inside_given = _target(shape, volume_branches, volume, grid, bounds, spacing, unit_of_length)
            if inside_given:
                warnings.append(
                    f"{inside_given} of {_size(target)} places of {volume} lie inside the body: are they of one case?"
                )
            if volume is not None:
                warnings += _outside(_positions(target, _association(target, spec, volume_branches[0])), shape)
            for branch in volume_branches:
                association = _association(target, spec, branch)
                values, spread = _decode_volume(ensemble, shape, branch, _positions(target, association))
                clock("volume")
                truth = target if volume is not None else None
                mesh = writer.fill(branch, _places_only(target), association, values, spread, truth)
                writer.write(write, names[branch], branch, association, mesh)
                clock("write")

        for warning in warnings:
            log.warning("%s", warning)
        record = {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "run": str(run),
            "checkpoint": {"name": checkpoint.name, "sha256": _sha256(checkpoint / "manifest.json")},
            "geometry": {"path": str(geometry), "sha256": geometry_sha256.result(), "triangles": len(shape.triangles)},
            "volume": None if volume is None else {"path": str(volume), "sha256": _sha256(Path(volume))},
            "settings": {
                "grid": grid,
                "bounds": bounds,
                "spacing": spacing,
                "keep_cells": keep,
                "chunk": min(ensemble.chunk, surrogate.largest or ensemble.chunk),
                "draws": draws,
                "seed": seed,
                "unit_of_length": unit_of_length,
                "precision": surrogate.precision,
                "device": str(surrogate.device),
            },
            "space": list(spec.space),
            "body": {
                "lower": shape.body.lower.tolist(),
                "upper": shape.body.upper.tolist(),
                "length": shape.body.length,
            },
            "conditions": {name: parameters[name] for name in sorted(surrogate.needed)},
            "parameters": parameters,
            "conventions": dataclasses.asdict(spec.conventions),
            "force_settings": None if spec.forces is None else dataclasses.asdict(spec.forces),
            "fields": writer.fields,
            "files": writer.files,
            "forces": forces,
            "errors": writer.errors,
            "warnings": warnings,
            "versions": spec.versions,
            "seconds": clock.seconds(),
        }
        write_json(folder / RECORD, record)
    return Prediction(out, record)


# --- What is asked for


def _check(
    spec: SurrogateSpec,
    conditions: Mapping[str, float],
    volume: Path | None,
    grid: tuple[int, ...] | None,
    bounds: tuple[float, ...] | None,
    spacing: float | None,
) -> None:
    known = _known_conditions(spec)
    for name in conditions:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            listing = ", ".join(sorted(Units(spec).needed)) or "none at all"
            raise ConfigError(f"the surrogate knows no condition {name!r}; it takes {listing}{hint}")
    if "volume" not in spec.kinds.values() and (volume, grid, bounds, spacing) != (None,) * 4:
        raise ConfigError("this surrogate has no volume branch: it predicts on surfaces only")
    if volume is not None and (grid, bounds, spacing) != (None,) * 3:
        raise ConfigError("give either a volume mesh, or a grid with its bounds or spacing")
    if grid is not None and spacing is not None:
        raise ConfigError("give either the number of cells of the grid or their size (spacing)")
    count = len(spec.space)
    if grid is not None and len(grid) != count:
        raise ConfigError(f"the grid {grid} has {len(grid)} axes, the surrogate {count}: {', '.join(spec.space)}")
    if bounds is not None and len(bounds) != 2 * count:
        raise ConfigError(f"bounds are {2 * count} numbers, lower and upper for {', '.join(spec.space)}: got {bounds}")
    if bounds is not None and not all(-np.inf < low < high < np.inf for low, high in _pairs(bounds)):
        raise ConfigError(f"bounds are the lower, then the upper limit for {', '.join(spec.space)}: got {bounds}")


def _pairs(bounds: tuple[float, ...]) -> Iterator[tuple[float, float]]:
    return zip(bounds[::2], bounds[1::2], strict=True)


def _known_conditions(spec: SurrogateSpec) -> set[str]:
    """Names that mean something: conditions, and what scales, conventions and force settings use."""
    expressions: list[Any] = [spec.conventions.density, spec.conventions.reference_pressure]
    if (forces := spec.forces) is not None:
        expressions += [forces.reference_area, forces.speed, forces.reference_force]
        expressions += [*forces.drag_direction, *forces.lift_direction]
    for fields in spec.fields.values():
        for field in fields.values():
            expressions += [field.scale, *(field.free_stream or ())]
    used = {name for expression in expressions if isinstance(expression, str) for name in names_in(expression)}
    return used | set(spec.conditions) | set(spec.constants)


def _file_names(branches: list[str], ending: str) -> dict[str, str]:
    """Name the file of each branch: the first is called `surface` or `volume`, whatever the branch is."""
    first = {".vtp": "surface", ".vtu": "volume"}[ending]
    return {branch: f"{branch if number else first}{ending}" for number, branch in enumerate(branches)}


def _arrays(spec: SurrogateSpec, branches: list[str]) -> list[str]:
    return [field.array for branch in branches for field in spec.fields[branch].values()]


def _truth_arrays(mesh: Mesh, arrays: list[str]) -> list[str]:
    return [name for name in arrays if name in mesh.cell_data or name in mesh.point_data]


def _association(mesh: Mesh, spec: SurrogateSpec, branch: str) -> str:
    """Fields stand at cells, unless the file that was given holds them at points."""
    arrays = _arrays(spec, [branch])
    at_points = any(name in mesh.point_data for name in arrays) and not any(name in mesh.cell_data for name in arrays)
    return "point" if at_points else "cell"


def _in_metres(mesh: Mesh, unit: str) -> Mesh:
    if METRES[unit] == 1:
        return mesh
    return dataclasses.replace(mesh, points=np.asarray(mesh.points, np.float64) * METRES[unit])


def _places_only(mesh: Mesh) -> Mesh:
    return dataclasses.replace(mesh, point_data={}, cell_data={}, field_data={})


# --- Volumes


def _target(
    shape: Shape,
    branches: list[str],
    volume: Path | None,
    grid: tuple[int, ...] | None,
    bounds: tuple[float, ...] | None,
    spacing: float | None,
    unit_of_length: str,
) -> tuple[Mesh, int]:
    """Where to predict in the fluid, and how many places of a given mesh lie inside the body."""
    from meshes.reading import read

    if volume is not None:
        mesh = _in_metres(read(volume, arrays=_arrays(shape.spec, branches)), unit_of_length)
        position = _positions(mesh, _association(mesh, shape.spec, branches[0]))
        inside = sum(int(_inside(shape, part).sum()) for part in _split(position))
        return mesh, inside if inside > 0.01 * _size(mesh) else 0
    spec = shape.spec
    axes = spec.axes
    body = np.stack([shape.body.lower, shape.body.upper])[:, axes]
    box = _box(shape) if bounds is None else np.asarray(bounds, np.float64).reshape(-1, 2).T
    if spec.symmetry_axis is not None and shape.extent == "half":
        body[0, axes.index(spec.symmetry_axis)] = 0.0
    if grid is not None or spacing is not None:
        edges = grids.uniform_edges(box, counts=grid, spacing=spacing)
    else:
        edges = grids.graded_edges(box, body)
    centre = grids.centres(edges)
    position = in_space(centre, axes)
    level = float(0.5 * (shape.body.lower + shape.body.upper)[_across(axes)]) if len(axes) == 2 else 0.0
    keep = ~np.concatenate([_inside(shape, part) for part in _split(position)])
    if not keep.any():
        raise ValueError(f"no cell of the grid from {box[0].tolist()} to {box[1].tolist()} lies outside the body")
    return grids.grid_mesh(edges, keep, axes, level), 0


def _box(shape: Shape) -> Float[np.ndarray, "2 space"]:
    """Box of the training volumes around this body; both halves of it for a body given whole."""
    spec = shape.spec
    if spec.volume_box is None:
        raise ValueError("this checkpoint does not know how far its volumes reach: give bounds")
    box = np.asarray(spec.volume_box, np.float64) * shape.frame.length + np.asarray(shape.frame.centre)
    if spec.symmetry_axis is not None and shape.extent == "both halves":
        column = spec.axes.index(spec.symmetry_axis)
        reach = np.abs(box[:, column]).max()
        box[:, column] = -reach, reach
    return box


def _across(axes: list[int]) -> int:
    (across,) = set(range(3)) - set(axes)
    return across


def _inside(shape: Shape, position: Float[np.ndarray, "point 3"]) -> np.ndarray:
    return shape.volume_sites(position)[2]


def _outside(position: np.ndarray, shape: Shape) -> list[str]:
    """Warn of places beyond the training volumes."""
    if shape.spec.volume_box is None:
        return []
    box, axes = _box(shape), shape.spec.axes
    margin = 0.01 * (box[1] - box[0])
    position = shape.fold(position)[0][:, axes]
    out = ((position < box[0] - margin) | (position > box[1] + margin)).any(axis=1)
    if out.mean() < 1e-3:
        return []
    low, high = np.round(box, 3).tolist()
    return [f"{out.mean():.1%} of the volume lies outside the training volumes, from {low} to {high} m"]


def _positions(mesh: Mesh, association: str) -> np.ndarray:
    from meshes.geometry.cells import cell_centres

    return cell_centres(mesh) if association == "cell" else np.asarray(mesh.points, np.float64)


def _split(position: np.ndarray) -> list[np.ndarray]:
    return [position[start : start + BLOCK] for start in range(0, max(len(position), 1), BLOCK)]


def _size(mesh: Mesh) -> int:
    return len(mesh.types)


def _decode_volume(ensemble: Ensemble, shape: Shape, branch: str, position: np.ndarray) -> tuple[Values, Values | None]:
    parts, spreads = [], []
    for block in _split(position):
        sites, other, _ = shape.volume_sites(block)
        mean, spread = ensemble.decode(branch, sites)
        parts.append(shape.unfold(branch, mean, other))
        spreads.append(spread)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if spreads[0] is None:
        return joined, None
    return joined, {name: np.concatenate([part[name] for part in spreads if part is not None]) for name in joined}


# --- Writing


class _Writer:
    """Puts predictions on meshes under the names of the source, with truth, error and spread beside them."""

    def __init__(self, spec: SurrogateSpec, out: Path) -> None:
        self.spec = spec
        self.out = out
        self.fields: dict[str, dict[str, dict[str, Any]]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.errors: dict[str, dict[str, dict[str, float | None]]] = {}

    def fill(
        self,
        branch: str,
        mesh: Mesh,
        association: str,
        values: Mapping[str, np.ndarray],
        spread: Mapping[str, np.ndarray] | None,
        truth: Mesh | None,
    ) -> Mesh:
        """Add the fields of a branch to a mesh."""
        data: dict[str, np.ndarray] = {}
        self.fields[branch] = {}
        known: Mapping[str, np.ndarray] = {}
        if truth is not None:
            known = truth.cell_data if association == "cell" else truth.point_data
        for name, array in values.items():
            field = self.spec.fields[branch][name]
            if not np.isfinite(array).all():
                raise ValueError(
                    f"{branch} {name} came out NaN or infinite; is the checkpoint sound, and the geometry in metres?"
                )
            data[field.array] = as_in_files(self.spec, branch, name, array)
            if spread is not None:
                data[f"{field.array}_spread"] = as_in_files(self.spec, branch, name, spread[name])
            self.fields[branch][name] = {
                "array": field.array,
                "unit": field.unit,
                "kind": field.kind,
                "association": association,
                "truth": field.array in known,
            }
            if field.array in known:
                true = _columns(self.spec, branch, name, known[field.array])
                data[f"{field.array}_truth"] = as_in_files(self.spec, branch, name, true.astype(np.float32))
                data[f"{field.array}_error"] = data[field.array] - data[f"{field.array}_truth"]
                self.errors.setdefault(branch, {})[name] = Errors.of(true, array).scores()
        return mesh.with_data(**{f"{association}_data": data})

    def write(self, write: Any, name: str, branch: str, association: str, mesh: Mesh) -> None:
        """Write a file and remember its checksum."""
        write(mesh, self.out / name)
        places = len(mesh.types) if association == "cell" else len(mesh.points)
        self.files[name] = {
            "branch": branch,
            "association": association,
            "places": places,
            "sha256": _sha256(self.out / name),
        }


def _columns(spec: SurrogateSpec, branch: str, name: str, array: np.ndarray) -> np.ndarray:
    """Keep those columns of a file's array that the field has."""
    columns = array[:, None] if array.ndim == 1 else array
    return (
        columns
        if columns.shape[1] == spec.components(branch, name)
        else columns[:, list(kept_columns(spec, branch, name))]
    )


def _forces(
    shape: Shape,
    values: Mapping[str, np.ndarray],
    association: str,
    spec: SurrogateSpec,
    parameters: Mapping[str, float],
) -> dict[str, Any] | None:
    if PRESSURE not in values:
        return None
    vector = shape.area_vector if association == "cell" else lump(shape.surface, shape.area_vector)
    shear = in_space(values[SHEAR], spec.axes) if SHEAR in values else None
    forces = integrate(vector, values[PRESSURE][:, 0], shear, spec.conventions, parameters, extent=shape.extent)
    record = forces.to_dict()
    if spec.forces is not None:
        record |= coefficients(forces, spec.forces, parameters).to_dict()
    return record


def _extent(extent: str) -> str:
    return {"whole": "the body", "half": "the modelled half of the body", "both halves": "the whole body"}[extent]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Clock:
    """Seconds since the last call, added up by name."""

    def __init__(self) -> None:
        self.started = self.last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def __call__(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self.last
        self.last = now

    def seconds(self) -> dict[str, float]:
        return {name: round(lap, 3) for name, lap in self.laps.items()} | {
            "total": round(time.perf_counter() - self.started, 3)
        }
