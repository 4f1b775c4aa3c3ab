"""Scores of a run on every point of every case of a split, beside the answers that cost nothing."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meshes.stores import Store
from meshes.stores.layout import sha256, write_json
from pipelines import tracking
from pipelines.baselines import NAMES, Baselines, StoredCases
from pipelines.ensemble import pick_device
from pipelines.metrics import EDGES, mean_of, parity, rank, spread_over
from pipelines.progress import progress
from pipelines.scoring import MODEL, How, score
from pipelines.surrogate import Surrogate

FORMAT = 2
FOLDER, SCORES, REPORT = "evaluation", "scores.json", "report.html"
# Cases that are listed as the worst of each field.
LISTED = 5
# With fewer cases a score tells those cases rather than how good the surrogate is for others.
FEW = 5


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
    tie: float | None = None,
    pictures: int = 3,
    out: Path | None = None,
) -> dict[str, Any]:
    """Score a trained surrogate on every point of every case of a split, and write a report to share.

    The surrogate sees what it would see of a new geometry: the body, the condition, and anchors that it lays itself.
    Errors are those of the values in the unit of the files, each point counted once; `weighted` counts each by its
    area or volume. `near_wall` are the points of a volume that are closer to the body than `near`, `far` the others.
    `disturbance` measures the error against f − free stream, for fields that have a free stream: a velocity is mostly
    the stream, which nobody needs a surrogate for.

    Args:
        run: folder of a training run, one of its checkpoints, or `runs:/ID`.
        store: where the cases are; by default the store it was trained on.
        split: which cases.
        draws: anchor draws to average over; with several, their spread is set against the error.
        seed: decides the anchors.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        chunk: places at once; by default from free memory.
        near: distance from the wall [m]; by default, for each case, the radius of the sphere (in the plane the circle)
            with the body's volume (area).
        tie: two designs whose true force coefficients differ by no more are not told apart; by default what the
            settings of the forces tolerate between a reported coefficient and an integrated one.
        pictures: how many of the worst cases the report shows; the surfaces and volumes they were prepared from are
            read for it.
        out: folder for `scores.json` and `report.html`; by default `evaluation/SPLIT` in the folder of the run, with
            the number of draws and the seed in its name where they are not 1 and 0. A checkpoint or `runs:/ID` has no
            folder: nothing is written without `out`.

    Returns:
        What `scores.json` holds; the README of `pipelines` tells the keys.

    Raises:
        ValueError: the split has no cases, or the store holds other fields than the surrogate was trained on.
    """
    from pipelines.checkpoints import find, load_surrogate

    started = time.perf_counter()
    checkpoint = find(run)
    surrogate = load_surrogate(run, device=pick_device(device))
    opened = Store(_store_path(surrogate, store))
    names = _cases(opened, surrogate, split)
    baselines = Baselines(StoredCases(opened, surrogate), surrogate)
    how = How(draws=draws, seed=seed, chunk=chunk, near=near)
    per_case: dict[str, dict[str, Any]] = {}
    with progress(f"evaluate {run}", len(names)) as tell:
        for name in names:
            per_case[name] = score(surrogate, opened.case(name), baselines, how)
            errors = per_case[name]["fields"].items()
            tell(f"{name}: " + ", ".join(f"{field} {_per_cent(entry['relative_l2'])}" for field, entry in errors))
    forces = {name: case.pop("forces") for name, case in per_case.items()}
    if tie is None:
        tie = 0.0 if surrogate.spec.forces is None else surrogate.spec.forces.tolerance
    scores = {
        "format": FORMAT,
        "run": str(run),
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": sha256(checkpoint / "manifest.json"),
        "store": str(opened.path),
        "store_digest": opened.digest,
        "split": split,
        "draws": draws,
        "members": surrogate.members,
        "seed": seed,
        "near": near,
        "space": list(surrogate.spec.space),
        "trained": _trained(checkpoint, surrogate),
        "fields": {field: _field(field, per_case) for field in _field_names(surrogate, per_case)},
        "histogram_edges": EDGES.tolist(),
        "forces": _mean_forces(forces, tie),
        "cases": names,
        "notes": _notes(names, surrogate, split),
        "sources": {name: source(opened.case(name).entry) for name in names},
        "per_case": per_case,
    }
    for case in per_case.values():
        for entry in case["fields"].values():
            del entry["histogram"]
    scores["seconds"] = time.perf_counter() - started
    folder = Path(run)
    if out is None and (folder / "checkpoints").is_dir():
        out = folder / FOLDER / folder_name(split, draws, seed)
    if out is not None:
        from pipelines.report import write_report

        out.mkdir(parents=True, exist_ok=True)
        scores["report"] = str(out / REPORT)
        write_json(out / SCORES, scores)
        write_report(scores, out / REPORT, checkpoint=checkpoint, store=opened, pictures=pictures, device=device)
        tracking.record(checkpoint.parents[1], _metrics(scores), [out / SCORES, out / REPORT])
    return scores


def folder_name(split: str, draws: int, seed: int) -> str:
    """Name the folder of an evaluation, so that one does not take the place of another."""
    return split + (f"_draws{draws}" if draws != 1 else "") + (f"_seed{seed}" if seed else "")


def source(entry: Mapping[str, Any]) -> str:
    """Tell what a case of a store was prepared from: equal where the simulations are the same files."""
    found = sorted(each["sha256"] for each in entry.get("sources", {}).values())
    return " ".join(found) or str(entry["sha256"])


def _metrics(scores: Mapping[str, Any]) -> dict[str, float]:
    """Name the scores that a tracker compares runs by."""
    metrics: dict[str, float | None] = {}
    for field, entry in scores["fields"].items():
        where = f"{scores['split']}/{field}"
        for name in ("relative_l2", "rmse", "r2"):
            metrics[f"{where}/{name}"] = entry[name]
        metrics[f"{where}/weighted_relative_l2"] = entry["weighted"]["relative_l2"]
        for name, value in entry["baselines"].items():
            metrics[f"{where}/{name}"] = value
        for name in ("ratio", "correlation", "coverage"):
            metrics[f"{where}/spread_{name}"] = entry.get("calibration", {}).get(name)
    for name, entry in coefficients_of(scores).items():
        for key in ("mean_absolute_error", "largest_error", "mean_error", "r2", "rank", "sign_accuracy"):
            metrics[f"{scores['split']}/{name}/{key}"] = entry[key]
        for baseline, judged in entry["baselines"].items():
            if judged is not None:
                metrics[f"{scores['split']}/{name}/{baseline}"] = judged["mean_absolute_error"]
    return {name: value for name, value in metrics.items() if value is not None}


# --- The table


def render(scores: Mapping[str, Any]) -> str:
    """Set the scores as a few short tables, beside the baselines."""
    names = [name.replace("_", " ") for name in NAMES]
    count = len(scores["cases"])
    rows: list[Sequence[str]] = [("field", "points", MODEL, *names, "R²", "RMSE")]
    for field, entry in scores["fields"].items():
        for label, part in shown_parts(entry):
            rows.append(
                (
                    field if label == "all" else "",
                    label,
                    _per_cent(part["relative_l2"]),
                    *(_per_cent(part["baselines"][name]) for name in NAMES),
                    "–" if part["r2"] is None else f"{part['r2']:.4f}",
                    "–" if part["rmse"] is None else f"{part['rmse']:.4g} {entry['unit']}",
                )
            )
    lines = [f"Relative L2, mean over {count} cases of the split {scores['split']}:", *table(rows, left=2)]
    for field, entry in scores["fields"].items():
        for name, reason in entry.get("reasons", {}).items():
            lines.append(f"{field}: no {name.replace('_', ' ')}: {reason}")
    lines += [f"note: {note}" for note in scores["notes"]]
    if judged := coefficients_of(scores):
        rows = [("coefficient", "by", "mean |error|", "largest", "bias", "R²", "rank", "pairs in order")]
        for name, entry in judged.items():
            for who, part in ((MODEL, entry), *entry["baselines"].items()):
                if part is not None:
                    rows.append((name.replace("_", " ") if who == MODEL else "", who.replace("_", " "), *_judged(part)))
        low, high = ([f"{entry[key]:.4f}" for entry in judged.values()] for key in ("lowest", "highest"))
        spans = ", ".join(
            f"{name.replace('_', ' ')} {span[0]} to {span[1]}"
            for name, span in zip(judged, zip(low, high, strict=True), strict=True)
        )
        lines += ["", f"Coefficients over {count} cases, in truth {spans}:", *table(rows, left=2)]
    lines += ["", "Worst cases, and where in them:"]
    rows = [("field", "case", "relative L2", f"at ({', '.join(scores['space'])}) [m]", "in body lengths", "|error|")]
    for field, entry in scores["fields"].items():
        worst = entry["worst_cases"][0]
        rows.append(
            (
                field,
                worst["case"],
                _per_cent(worst["relative_l2"]),
                _vector(worst["position"]),
                _vector(worst["position_in_body_lengths"]),
                f"{worst['error']:.4g} {entry['unit']}",
            )
        )
    lines += table(rows, left=2)
    if over := spread_over(scores):
        rows = [("field", "rms error", "rms spread", "ratio", "correlation", "within ±2 spread", "rank of cases")]
        for field, entry in scores["fields"].items():
            told = entry["calibration"]
            rows.append(
                (
                    field,
                    *(f"{told[name]:.4g} {entry['unit']}" for name in ("rms_error", "rms_spread")),
                    *(_number(told[name]) for name in ("ratio", "correlation")),
                    _per_cent(told["coverage"]),
                    _number(told["rank_of_cases"]),
                )
            )
        lines += ["", f"Error against the spread over {over}:", *table(rows, left=1)]
    if "report" in scores:
        lines += ["", f"{scores['report']}: the same with pictures, to share"]
    return "\n".join(lines)


def _judged(part: Mapping[str, Any]) -> list[str]:
    decided = part["pairs"] - part["ties"]
    return [
        f"{part['mean_absolute_error']:.5f}",
        f"{part['largest_error']:.5f}",
        f"{part['mean_error']:+.5f}",
        _number(part["r2"]),
        _number(part["rank"]),
        f"{part['right']} of {decided}" + (f" ({part['ties']} ties)" if part["ties"] else ""),
    ]


def table(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Set rows as lines, under a header and a rule; the first `left` columns flush left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "─" * max(map(len, lines)), *lines[1:]]


def shown_parts(entry: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Pick what a reader wants first: all points, weighted, and near the wall (of the disturbance, where there is)."""
    yield "all", entry
    yield "weighted", entry["weighted"]
    if "near_wall" in entry.get("disturbance", {}):
        yield "disturbance near wall", entry["disturbance"]["near_wall"]
    elif "near_wall" in entry:
        yield "near wall", entry["near_wall"]


def coefficients_of(scores: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the judged force coefficients by name; none where there are no forces."""
    return (scores["forces"] or {}).get("coefficients", {})


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _vector(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


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


def _notes(names: Sequence[str], surrogate: Surrogate, split: str) -> list[str]:
    """Say what keeps scores from telling how good a surrogate is for new bodies."""
    splits = surrogate.spec.source.get("splits") or {}
    notes = []
    for part, does in (("training", "was trained on"), ("validation", "chose its checkpoint by")):
        known = [name for name in names if name in splits.get(part, ())]
        if part != split and known:
            told = f"{', '.join(known[:LISTED])}{' …' if len(known) > LISTED else ''}"
            what = "cases of these names" if len(known) > 1 else "a case of this name"
            notes.append(
                f"{told}: the run {does} {what}, so scores flatter; the splits have changed since (data.splits)"
            )
    if len(names) < FEW:
        few = "one case tells" if len(names) == 1 else f"{len(names)} cases tell"
        notes.append(f"{few} little of others: give the split {split} more (data.splits), or score more with --store")
    return notes


def _field_names(surrogate: Surrogate, per_case: Mapping[str, Any]) -> list[str]:
    present = {field for case in per_case.values() for field in case["fields"]}
    names = [f"{branch}_{name}" for branch, fields in surrogate.spec.fields.items() for name in fields]
    return [name for name in names if name in present]


def _trained(checkpoint: Path, surrogate: Surrogate) -> dict[str, Any]:
    """Tell what was trained on what, as far as the checkpoint and its run know."""
    from pipelines.checkpoints import load

    loaded, spec = load(checkpoint), surrogate.spec
    described = checkpoint.parents[1] / "environment.json"
    known = json.loads(described.read_text(encoding="utf-8")) if described.exists() else {}
    settings = dict(loaded.state.get("settings", {}))
    seed = settings.pop("training.seed", None)
    return {
        "operator": spec.operator["kind"],
        "parameters": sum(tensor.numel() for tensor in loaded.weights.values()),
        "step": json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))["step"],
        "seconds": loaded.state.get("seconds"),
        "seed": None if seed is None else int(seed),
        "settings": settings,
        "store": spec.source.get("store"),
        "store_digest": spec.source.get("digest"),
        "splits": spec.source.get("splits"),
        "conditions": list(spec.conditions),
        "versions": spec.versions,
        "device": known.get("gpu") or known.get("device"),
        "code": known.get("code"),
    }


def _field(field: str, per_case: Mapping[str, Any]) -> dict[str, Any]:
    """Sum a field up over the cases that have it."""
    entries = {name: case["fields"][field] for name, case in per_case.items() if field in case["fields"]}
    result = _mean(list(entries.values()))
    histograms = [entry["histogram"] for entry in entries.values()]
    result["histogram"] = {
        who: np.sum([each[who] for each in histograms if who in each], axis=0).tolist() for who in histograms[0]
    }
    by_error = sorted(entries, key=lambda name: -(entries[name]["relative_l2"] or 0.0))
    result["worst_cases"] = [
        {"case": name, "relative_l2": entries[name]["relative_l2"], **entries[name]["worst"]}
        for name in by_error[:LISTED]
    ]
    if "calibration" in result:
        told = [entry["calibration"] for entry in entries.values()]
        pairs = [np.array([each[key] for each in told]) for key in ("rms_spread", "rms_error")]
        result["calibration"]["rank_of_cases"] = rank(*pairs)
    if "draws" in result:
        result["draws"] = [
            mean_of([entry["draws"][n] for entry in entries.values()]) for n in range(len(result["draws"]))
        ]
    return result


def _mean(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Average nested scores key by key; texts, and reasons, are taken from the first."""
    mean: dict[str, Any] = {}
    for key in entries[0]:
        values = [entry[key] for entry in entries if key in entry]
        if key in ("worst", "histogram"):
            continue
        if key == "reasons" or isinstance(values[0], str | list):
            mean[key] = values[0]
        elif isinstance(values[0], dict):
            mean[key] = _mean(values)
        elif key == "points":
            mean[key] = int(sum(values))
        else:
            mean[key] = mean_of(values)
    return mean


def _mean_forces(per_case: Mapping[str, dict[str, Any] | None], tie: float) -> dict[str, Any] | None:
    known = {name: forces for name, forces in per_case.items() if forces is not None}
    if not known:
        return None
    result: dict[str, Any] = {"cases": known, "coefficients": {}}
    for name in (each for each in next(iter(known.values()))["truth"] if each.endswith("_coefficient")):
        truth = np.array([forces["truth"][name] for forces in known.values()])
        predicted = np.array([forces["predicted"][name] for forces in known.values()])
        judged = parity(truth, predicted, tie=tie)
        judged["baselines"] = {}
        for baseline in NAMES:
            told = [forces["baselines"][baseline] for forces in known.values()]
            judged["baselines"][baseline] = (
                None if None in told else parity(truth, np.array([each[name] for each in told]), tie=tie)
            )
        result["coefficients"][name] = judged
    return result
