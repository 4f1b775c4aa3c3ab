"""Scores of a run on every point of every case of a split, beside the answers that cost nothing."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from meshes.mesh import Mesh
from meshes.stores import Store, StoredCase
from meshes.stores.layout import write_json
from pipelines import tracking
from pipelines.baselines import NAMES, Baselines
from pipelines.ensemble import Ensemble, pick_device
from pipelines.forces import PRESSURE, SHEAR, coefficients, in_space, integrate
from pipelines.metrics import Errors, mean_of, near_reach, regions
from pipelines.shapes import shape
from pipelines.specification import Sites
from pipelines.surrogate import Surrogate

MODEL = "model"
BLOCK = 131_072


def evaluate(
    run: str | Path,
    *,
    store: Path | None = None,
    split: str = "test",
    draws: int = 1,
    seed: int = 0,
    device: str = "auto",
    chunk: int | None = None,
    near: float | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Score a trained surrogate on every point of every case of a split.

    The surrogate sees what it would see of a new geometry: the body, the condition, and anchors that it lays itself.
    Errors are those of the values in the unit of the files, each point counted once; `weighted` counts each by its
    area or volume. `near_wall` are the points of a volume that are closer to the body than `near`, `far` the others.
    `disturbance` measures the error against f − free stream, for fields that have a free stream: a velocity is mostly
    the stream, which nobody needs a surrogate for.

    Args:
        run: folder of a training run, one of its checkpoints, or `runs:/ID`.
        store: where the cases are; by default the store it was trained on.
        split: which cases.
        draws: anchor draws to average over.
        seed: decides the anchors.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        chunk: places at once; by default from free memory.
        near: distance from the wall [m]; by default, for each case, the radius of the sphere (in the plane the circle)
            with the body's volume (area).
        out: file for the scores; by default `scores_SPLIT.json` in the folder of the run, if `run` is one.

    Returns:
        `fields` with, for each, means over the cases of the scores and of the baselines' relative L2; `cases`;
        `per_case` with the same for each; `forces` where the surface has pressure; and the settings.

    Raises:
        ValueError: the split has no cases, or the store holds other fields than the surrogate was trained on.
    """
    from pipelines.checkpoints import find, load_surrogate

    started = time.perf_counter()
    checkpoint = find(run)
    surrogate = load_surrogate(run, device=pick_device(device))
    opened = Store(_store_path(surrogate, store))
    names = _cases(opened, surrogate, split)
    baselines = Baselines(opened, surrogate)
    per_case = {
        name: _score(surrogate, opened.case(name), baselines, draws=draws, seed=seed, chunk=chunk, near=near)
        for name in names
    }
    scores = {
        "run": str(run),
        "checkpoint": checkpoint.name,
        "store": str(opened.path),
        "store_digest": opened.digest,
        "split": split,
        "draws": draws,
        "seed": seed,
        "fields": {
            field: _mean([case["fields"][field] for case in per_case.values() if field in case["fields"]])
            for field in _field_names(surrogate, per_case)
        },
        "forces": _mean_forces({name: case.pop("forces") for name, case in per_case.items()}),
        "cases": names,
        "per_case": per_case,
        "seconds": time.perf_counter() - started,
    }
    folder = Path(run)
    if out is None and (folder / "checkpoints").is_dir():
        out = folder / f"scores_{split}.json"
    if out is not None:
        write_json(out, scores)
        tracking.record(checkpoint.parents[1], _metrics(scores), [out])
    return scores


def _metrics(scores: Mapping[str, Any]) -> dict[str, float]:
    """Name the scores that a tracker compares runs by."""
    metrics = {}
    for field, entry in scores["fields"].items():
        for name in ("relative_l2", "rmse", "r2"):
            metrics[f"{scores['split']}/{field}/{name}"] = entry[name]
        for name, value in entry["baselines"].items():
            metrics[f"{scores['split']}/{field}/{name}"] = value
    for name, entry in (scores["forces"] or {}).get("coefficients", {}).items():
        metrics[f"{scores['split']}/{name}/mean_absolute_error"] = entry["mean_absolute_error"]
    return {name: value for name, value in metrics.items() if value is not None}


def render(scores: Mapping[str, Any]) -> str:
    """Set the scores as a table: relative L2 in per cent, of the surrogate and of the baselines."""
    header: tuple[str, ...] = (
        "field",
        "points",
        "surrogate",
        *(name.replace("_", " ") for name in NAMES),
        "R²",
        "RMSE",
    )
    rows: list[tuple[str, ...]] = [header]
    for field, entry in scores["fields"].items():
        for label, part in _parts(entry):
            baselines = part.get("baselines", {})
            rows.append(
                (
                    field if label == "all" else "",
                    label,
                    _per_cent(part["relative_l2"]),
                    *(_per_cent(baselines.get(name)) for name in NAMES),
                    "–" if part.get("r2") is None else f"{part['r2']:.4f}",
                    "–" if part.get("rmse") is None else f"{part['rmse']:.4g} {entry['unit']}",
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(pair))
        for pair in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    lines.insert(1, "─" * len(lines[0]))
    lines.insert(0, f"Relative L2, mean over {len(scores['cases'])} cases of the split {scores['split']}:")
    for field, entry in scores["fields"].items():
        for name, reason in entry.get("reasons", {}).items():
            lines.append(f"{field}: no {name.replace('_', ' ')}: {reason}")
    for name, entry in (scores["forces"] or {}).get("coefficients", {}).items():
        lines.append(
            f"{name.replace('_', ' ')}: mean absolute error {entry['mean_absolute_error']:.5f}, "
            f"truth from {entry['lowest']:.4f} to {entry['highest']:.4f}"
        )
    return "\n".join(lines)


# --- One case


@dataclass(frozen=True)
class View:
    """One way to look at the errors of a field: which points, weighted or not, against which reference."""

    path: tuple[str, ...]
    region: str | None = None
    weighted: bool = False
    disturbance: bool = False


VIEWS = (
    View(()),
    View(("weighted",), weighted=True),
    View(("near_wall",), region="near_wall"),
    View(("far",), region="far"),
    View(("disturbance",), disturbance=True),
    View(("disturbance", "near_wall"), region="near_wall", disturbance=True),
    View(("disturbance", "far"), region="far", disturbance=True),
)


def _score(
    surrogate: Surrogate,
    case: StoredCase,
    baselines: Baselines,
    *,
    draws: int,
    seed: int,
    chunk: int | None,
    near: float | None,
) -> dict[str, Any]:
    spec = surrogate.spec
    vertices, triangles = case.geometry()
    reach = near_reach(vertices, triangles, spec.axes, spec.symmetry_axis) if near is None else near
    body = shape(Mesh.from_triangles(vertices, triangles, source=f"the geometry of {case.name}"), spec)
    candidates, _ = body.surface_sites("cell")
    surface = {branch: candidates for branch, kind in spec.kinds.items() if kind == "surface"}
    ensemble = Ensemble(
        surrogate, surface, body.vertices, body.triangles, case.parameters, draws=draws, seed=seed, chunk=chunk
    )
    result: dict[str, Any] = {"near_wall_distance": reach, "fields": {}}
    predicted, truth = [], []
    for branch in spec.fields:
        if not case.count(branch):
            continue
        weights, reasons = baselines.weights(case, branch)
        sums: dict[tuple[str, View, str], list[Errors]] = defaultdict(list)
        for block, sites in _blocks(case, branch, list(spec.fields[branch])):
            answers = {MODEL: ensemble.decode(branch, sites)[0]}
            answers |= baselines.predict(case, branch, sites.position, weights)
            _accumulate(sums, case, branch, block, sites, answers, regions(sites.distance, reach))
            if spec.kinds[branch] == "surface" and PRESSURE in spec.fields[branch]:
                truth.append(_force(surrogate, sites, block, ensemble.parameters))
                predicted.append(_force(surrogate, sites, answers[MODEL], ensemble.parameters))
        for name, field in spec.fields[branch].items():
            entry = _entry({key[1:]: errors for key, errors in sums.items() if key[0] == name})
            result["fields"][f"{branch}_{name}"] = {"unit": field.unit, "points": case.count(branch), **entry}
            if reasons:
                result["fields"][f"{branch}_{name}"]["reasons"] = reasons
    result["forces"] = _compare(surrogate, truth, predicted, ensemble.parameters) if truth else None
    return result


def _accumulate(
    sums: dict[tuple[str, View, str], list[Errors]],
    case: StoredCase,
    branch: str,
    block: Mapping[str, np.ndarray],
    sites: Sites,
    answers: Mapping[str, Mapping[str, np.ndarray]],
    parts: Mapping[str, np.ndarray],
) -> None:
    for name in next(iter(answers.values())):
        _, free_stream = case.scale(branch, name)
        for view in VIEWS:
            if (view.region and view.region not in parts) or (view.disturbance and not free_stream.any()):
                continue
            mask = parts[view.region] if view.region else slice(None)
            weight = sites.measure[mask] if view.weighted and sites.measure is not None else None
            shift = free_stream if view.disturbance else 0.0
            for who, values in answers.items():
                errors = Errors.of(
                    block[name][mask].astype(np.float64) - shift, values[name][mask].astype(np.float64) - shift, weight
                )
                sums[name, view, who].append(errors)


def _entry(sums: Mapping[tuple[View, str], list[Errors]]) -> dict[str, Any]:
    """Nest the scores of one field: those of all points outermost, each other view under its name."""
    entry: dict[str, Any] = {}
    for view in VIEWS:
        if (view, MODEL) not in sums:
            continue
        place = entry
        for key in view.path:
            place = place.setdefault(key, {})
        place |= sum(sums[view, MODEL][1:], sums[view, MODEL][0]).scores()
        place["baselines"] = {
            name: sum(errors[1:], errors[0]).relative_l2 if (errors := sums.get((view, name))) else None
            for name in NAMES
        }
    return entry


def _blocks(case: StoredCase, branch: str, fields: list[str]) -> Iterator[tuple[dict[str, np.ndarray], Sites]]:
    for start in range(0, case.count(branch), BLOCK):
        block = case.read(branch, start, min(start + BLOCK, case.count(branch)))
        sites = Sites(block["position"], block.get("normal"), block.get("distance"), block["measure"])
        yield {name: block[name] for name in fields}, sites


# --- Forces


def _force(
    surrogate: Surrogate, sites: Sites, values: Mapping[str, np.ndarray], parameters: Mapping[str, float]
) -> Float[np.ndarray, "2 3"]:
    """Pressure and friction part of the force on some cells."""
    axes = surrogate.spec.axes
    assert sites.normal is not None
    assert sites.measure is not None
    area_vector = in_space(sites.normal * sites.measure[:, None], axes)
    shear = in_space(values[SHEAR], axes) if SHEAR in values else None
    part = integrate(area_vector, values[PRESSURE][:, 0], shear, surrogate.spec.conventions, parameters)
    return np.stack([part.pressure, part.friction])


def _compare(
    surrogate: Surrogate,
    truth: list[np.ndarray],
    predicted: list[np.ndarray],
    parameters: Mapping[str, float],
) -> dict[str, Any]:
    spec = surrogate.spec
    empty = integrate(np.zeros((0, 3)), np.zeros(0), None, spec.conventions, parameters)
    both = {}
    for key, parts in (("truth", truth), ("predicted", predicted)):
        pressure, friction = np.sum(parts, axis=0)
        forces = type(empty)(pressure, friction, empty.unit, empty.density, empty.extent)
        both[key] = forces.to_dict()
        if spec.forces is not None:
            both[key] |= coefficients(forces, spec.forces, parameters).to_dict()
    return both


def _mean_forces(per_case: Mapping[str, dict[str, Any] | None]) -> dict[str, Any] | None:
    known = {name: forces for name, forces in per_case.items() if forces is not None}
    if not known:
        return None
    result: dict[str, Any] = {"cases": known}
    names = [name for name in ("drag_coefficient", "lift_coefficient") if name in next(iter(known.values()))["truth"]]
    result["coefficients"] = {}
    for name in names:
        truth = np.array([forces["truth"][name] for forces in known.values()])
        error = np.array([forces["predicted"][name] for forces in known.values()]) - truth
        result["coefficients"][name] = {
            "mean_absolute_error": float(np.abs(error).mean()),
            "largest_error": float(np.abs(error).max()),
            "mean_error": float(error.mean()),
            "lowest": float(truth.min()),
            "highest": float(truth.max()),
            "r2": float(1 - (error @ error) / spread) if (spread := float(truth.var() * len(truth))) > 0 else None,
        }
    return result


# --- Summing up


def _store_path(surrogate: Surrogate, store: Path | None) -> Path:
    if store is not None:
        return store
    path = surrogate.spec.source.get("store")
    if path is None:
        raise ValueError("the checkpoint does not say which store it was trained on: give one with --store")
    return Path(path)


def _cases(store: Store, surrogate: Surrogate, split: str) -> list[str]:
    if split not in store.splits:
        raise ValueError(f"{store.path} has no split {split!r}; it has {', '.join(store.splits)}")
    names = list(store.splits[split])
    if not names:
        raise ValueError(f"the split {split!r} of {store.path} holds no cases: there is nothing to score")
    for branch, fields in surrogate.spec.fields.items():
        missing = sorted(set(fields) - set(store.fields.get(branch, {})))
        if missing:
            raise ValueError(f"{store.path} lacks the fields {', '.join(missing)} of the branch {branch!r}")
    return names


def _field_names(surrogate: Surrogate, per_case: Mapping[str, Any]) -> list[str]:
    present = {field for case in per_case.values() for field in case["fields"]}
    names = [f"{branch}_{name}" for branch, fields in surrogate.spec.fields.items() for name in fields]
    return [name for name in names if name in present]


def _mean(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Average nested scores key by key; texts, and reasons, are taken from the first."""
    mean: dict[str, Any] = {}
    for key in entries[0]:
        values = [entry[key] for entry in entries if key in entry]
        if key == "reasons" or isinstance(values[0], str):
            mean[key] = values[0]
        elif isinstance(values[0], dict):
            mean[key] = _mean(values)
        elif key == "points":
            mean[key] = int(sum(values))
        else:
            mean[key] = mean_of(values)
    return mean


def _parts(entry: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "all", entry
    for name in ("weighted", "near_wall", "far", "disturbance"):
        if name in entry:
            yield name.replace("_", " "), entry[name]
    if "near_wall" in entry.get("disturbance", {}):
        yield "disturbance near wall", entry["disturbance"]["near_wall"]


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"
