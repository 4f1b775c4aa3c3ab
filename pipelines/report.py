"""One evaluation as one HTML file to send to a colleague: scores, charts, pictures, and how to repeat them."""

import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meshes.aside import write_text
from meshes.stores import Store
from pipelines import charts
from pipelines.baselines import NAMES
from pipelines.metrics import spread_over
from pipelines.pages import Child, Markup, Numbers, element, figures, join, page, per_cent, picture, section, table
from pipelines.runs import clock
from pipelines.tracking import METRICS

# Points of a curve that a chart can show apart.
SHOWN = 300
# Worst cases of each field that are listed; scores.json knows more.
LISTED = 3
# A baseline is better where the error is larger than its own by this factor: a baseline's run is its own equal.
LEAST = 1.001
# A picture that was drawn, or the reason why it was not.
Drawn = bytes | str


def write_report(
    scores: Mapping[str, Any], out: Path, *, checkpoint: Path, store: Store, pictures: int, device: str
) -> None:
    """Write the report of an evaluation.

    Args:
        scores: what `evaluate` found.
        out: the HTML file.
        checkpoint: that was scored; the learning curve stands in its run folder, and pictures are predicted with it.
        store: of the cases.
        pictures: how many of the worst cases are drawn.
        device: that pictures are predicted on.
    """
    drawn = draw_worst(scores, checkpoint, store, pictures, device)
    metrics = checkpoint.parents[1] / METRICS
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
    write_text(out, render(scores, [json.loads(line) for line in lines], drawn))


def render(
    scores: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], drawn: Mapping[tuple[str, str], Drawn]
) -> str:
    """Set an evaluation as a page.

    Args:
        scores: what `evaluate` found.
        metrics: lines of the run's `metrics.jsonl`.
        drawn: for a case and a field a PNG with truth, prediction and difference, or why there is none.
    """
    numbers = Numbers(scores)
    count = len(scores["cases"])
    title = f"{Path(scores['run']).name or scores['run']}: {count} cases of the split {scores['split']}"
    return page(
        title,
        element("h1", title),
        element(
            "p",
            f"Predicted from the body and the conditions alone, and scored on every point of {count} simulated cases.",
            class_="soft",
        ),
        *(element("p", f"Note: {note}.", class_="missing") for note in scores["notes"]),
        _in_short(scores, numbers),
        section("Scores by field", _fields(scores, numbers), *_reasons(scores)),
        *_coefficients(scores, numbers),
        section("How the errors are distributed", _histograms(scores)),
        section("Worst cases", *_worst(scores, numbers, drawn)),
        section("Does the spread of predictions tell the error?", *_calibration(scores, numbers)),
        section("Case by case", _cases(scores, numbers)),
        section("What was trained on what", _trained(scores, numbers), *_learning(metrics)),
        section("How to repeat it", *_repeat(scores)),
        section("What the words mean", _words()),
    )


# --- Pictures


def draw_worst(
    scores: Mapping[str, Any], checkpoint: Path, store: Store, count: int, device: str
) -> dict[tuple[str, str], Drawn]:
    """Draw the worst case of each field, of at most `count` cases, from the files that they were prepared from.

    Returns:
        For each case and field a PNG, or the sentence that says why there is none.
    """
    from pipelines.checkpoints import load
    from pipelines.pictures import drawable
    from pipelines.predict import predict
    from pipelines.visualise import check_renderer, view

    wanted: dict[str, list[str]] = {}
    for field, entry in scores["fields"].items():
        wanted.setdefault(entry["worst_cases"][0]["case"], []).append(field)
    spec = load(checkpoint).spec
    drawn: dict[tuple[str, str], Drawn] = {}
    for case, fields in sorted(wanted.items(), key=lambda pair: -len(pair[1]))[:count]:
        names = {field: _picture_name(spec, field) for field in fields}
        try:
            check_renderer()
            files = drawable(store.case(case), spec)
            with tempfile.TemporaryDirectory() as scratch:
                predict(
                    checkpoint,
                    geometry=files.surface,
                    volume=files.volume,
                    conditions=files.conditions,
                    out=Path(scratch) / "fields",
                    draws=scores["draws"],
                    seed=scores["seed"],
                    device=device,
                )
                only = [name for name in names.values() if name is not None]
                found = view(Path(scratch) / "fields", Path(scratch) / "pictures", only=only)
                pngs = {path.stem: path.read_bytes() for path in found if path.suffix == ".png"}
        except (OSError, ValueError) as error:  # the place of the picture says so
            drawn |= {(case, field): str(error) for field in fields}
            continue
        for field, name in names.items():
            drawn[case, field] = pngs.get(name or "", "only the first surface and the first volume branch are drawn")
    return drawn


def _picture_name(spec: Any, field: str) -> str | None:
    """Name the picture of a field as `view` does; it draws the first branch of each kind."""
    for branch, kind in spec.kinds.items():
        if field.startswith(f"{branch}_") and branch == next(b for b, k in spec.kinds.items() if k == kind):
            return f"{kind}_{spec.fields[branch][field.removeprefix(f'{branch}_')].array}"
    return None


# --- Parts of the page


def _said(name: str) -> str:
    return name.replace("_", " ")


def _in_short(scores: Mapping[str, Any], numbers: Numbers) -> Markup:
    """Say in a few lines what an engineer wants to know first."""
    lines, worse = [], []
    for field, entry in scores["fields"].items():
        best = _best(entry["baselines"])
        at = ("fields", field)
        beside = (
            None if best is None else join(f" ({_said(best)}: ", numbers(*at, "baselines", best, form=per_cent), ")")
        )
        lines.append(_line(field, numbers(*at, "relative_l2", form=per_cent), beside))
        for label, path, part in _parts(entry):
            best = _best(part["baselines"])
            if best is not None and (part["relative_l2"] or 0) > LEAST * part["baselines"][best]:
                own, other = (
                    numbers(*at, *path, *key, form=per_cent) for key in (("relative_l2",), ("baselines", best))
                )
                worse.append(
                    join("; " if worse else "", f"{_said(field)}, {label} (", own, f"; {_said(best)} ", other, ")")
                )
    for name, entry in _judged(scores).items():
        path = ("forces", "coefficients", name)
        off, low, high = (numbers(*path, key) for key in ("mean_absolute_error", "lowest", "highest"))
        right, pairs, ties = (numbers(*path, key, form="d") for key in ("right", "pairs", "ties"))
        order = join("; of ", pairs, " pairs of designs ", right, " in the right order, ", ties, " too close to call")
        beside = None
        known = {who: part for who, part in entry["baselines"].items() if part is not None}
        if known:
            best = min(known, key=lambda who: known[who]["mean_absolute_error"])
            other = numbers(*path, "baselines", best, "mean_absolute_error")
            beside = join(f" ({_said(best)}: ", other, ")")
            if entry["mean_absolute_error"] > LEAST * known[best]["mean_absolute_error"]:
                worse.append(join("; " if worse else "", f"{_said(name)} (", off, f"; {_said(best)} ", other, ")"))
            first = max(known, key=lambda who: known[who]["right"])
            if known[first]["right"] > entry["right"]:
                told = join(right, f"; {_said(first)} ", numbers(*path, "baselines", first, "right", form="d"))
                worse.append(join("; " if worse else "", f"order of designs by {_said(name)} (", told, ")"))
        lines.append(_line(name, off, beside, join(" on average over a range from ", low, " to ", high, order)))
    intro = "Mean error over the cases, and in brackets the best of the answers that cost nothing:"
    beaten = element("p", element("b", "Where one of those is better: "), *worse, ".") if worse else None
    return join(element("p", intro), element("ul", *lines), beaten)


def _line(name: str, *told: Child) -> Markup:
    return element("li", element("b", _said(name)), " off by ", *told)


def _best(baselines: Mapping[str, float | None]) -> str | None:
    known = {name: value for name, value in baselines.items() if value is not None}
    return min(known, key=lambda name: known[name]) if known else None


def _judged(scores: Mapping[str, Any]) -> Mapping[str, Any]:
    return (scores["forces"] or {}).get("coefficients", {})


PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("all", ()),
    ("weighted", ("weighted",)),
    ("near wall", ("near_wall",)),
    ("far", ("far",)),
    ("disturbance", ("disturbance",)),
    ("disturbance near wall", ("disturbance", "near_wall")),
)


def _parts(entry: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], Mapping[str, Any]]]:
    """Give the ways to look at a field's errors that there are: a label, the path to it, and what stands there."""
    for label, path in PARTS:
        part = entry
        for key in path:
            part = part.get(key, {})
        if "relative_l2" in part:
            yield label, path, part


def _fields(scores: Mapping[str, Any], numbers: Numbers) -> Markup:
    rows: list[Sequence[Child]] = []
    for field, entry in scores["fields"].items():
        for label, path, part in _parts(entry):
            at = ("fields", field, *path)
            best = _best(part["baselines"])
            cell = numbers(*at, "relative_l2", form=per_cent)
            wins = (
                best is not None and part["relative_l2"] is not None and part["relative_l2"] < part["baselines"][best]
            )
            rows.append(
                (
                    _said(field) if label == "all" else "",
                    label,
                    element("span", cell, class_="best") if wins else cell,
                    *(numbers(*at, "baselines", name, form=per_cent) for name in NAMES),
                    numbers(*at, "r2", form=".4f"),
                    join(numbers(*at, "rmse"), f" {entry['unit']}"),
                    numbers("fields", field, "points", form=",d") if label == "all" else None,
                )
            )
    caption = (
        f"Relative L2 error, mean over {len(scores['cases'])} cases, of the surrogate and of answers that cost "
        "nothing. Bold: better than all of these."
    )
    header = ("field", "points", "surrogate", *map(_said, NAMES), "R²", "RMSE", "number of points")
    return table(caption, header, rows, text=2)


def _reasons(scores: Mapping[str, Any]) -> list[Markup]:
    return [
        element("p", f"{_said(field)}: no {_said(name)}: {reason}", class_="soft")
        for field, entry in scores["fields"].items()
        for name, reason in entry.get("reasons", {}).items()
    ]


def _coefficients(scores: Mapping[str, Any], numbers: Numbers) -> list[Markup]:
    judged = _judged(scores)
    if not judged:
        return []
    rows: list[Sequence[Child]] = []
    drawings = []
    for name, entry in judged.items():
        known = {who: part for who, part in entry["baselines"].items() if part is not None}
        for who in ("surrogate", *known):
            at = ("forces", "coefficients", name, *(() if who == "surrogate" else ("baselines", who)))
            rows.append(
                (
                    _said(name) if who == "surrogate" else "",
                    _said(who),
                    *(numbers(*at, key) for key in ("mean_absolute_error", "largest_error")),
                    numbers(*at, "mean_error", form="+.4g"),
                    *(numbers(*at, key, form=".3f") for key in ("r2", "rank")),
                    numbers(*at, "sign_accuracy", form=per_cent),
                    *(numbers(*at, key, form="d") for key in ("right", "pairs", "ties")),
                )
            )
        cases = scores["forces"]["cases"]
        points = [(case, each["truth"][name], each["predicted"][name]) for case, each in cases.items()]
        best = min(known, key=lambda who: known[who]["mean_absolute_error"]) if known else ""
        others = [(case, each["truth"][name], each["baselines"][best][name]) for case, each in cases.items() if best]
        drawings.append(
            element("figure", charts.parity(_said(name), points, others, other=_said(best)),
                    element("figcaption", f"{_said(name).capitalize()} of each case. On the line it is right."
                    + (f" Hollow: {_said(best)}, the best baseline." if best else "")))
        )  # fmt: skip
    caption = "Force coefficients: integrals of the predicted fields against those of the simulated ones."
    header = (
        "coefficient", "by", "mean |error|", "largest |error|", "bias", "R²", "rank correlation", "pairs in order",
        "in order", "pairs", "ties",
    )  # fmt: skip
    tie = numbers("forces", "coefficients", next(iter(judged)), "tie")
    return [
        section(
            "Force coefficients",
            table(caption, header, rows, text=2),
            element("p", "A pair of designs is a tie where their true coefficients differ by no more than ", tie, ".",
                    class_="soft"),
            element("div", *drawings, class_="charts"),
        )
    ]  # fmt: skip


def _histograms(scores: Mapping[str, Any]) -> Markup:
    figures = []
    for field, entry in scores["fields"].items():
        best = _best(entry["baselines"]) or ""
        chart = charts.histogram(
            _said(field),
            scores["histogram_edges"],
            entry["histogram"]["surrogate"],
            entry["histogram"].get(best, ()),
            other=_said(best),
        )
        figures.append(element("figure", chart, element("figcaption", _said(field).capitalize())))
    return element("div", *figures, class_="charts")


def _worst(scores: Mapping[str, Any], numbers: Numbers, drawn: Mapping[tuple[str, str], Drawn]) -> list[Markup]:
    rows: list[Sequence[Child]] = []
    for field, entry in scores["fields"].items():
        for number, worst in enumerate(entry["worst_cases"][:LISTED]):
            at = ("fields", field, "worst_cases", number)
            rows.append(
                (
                    _said(field) if number == 0 else "",
                    worst["case"],
                    numbers(*at, "relative_l2", form=per_cent),
                    *(_vector(numbers, *at, key) for key in ("position", "position_in_body_lengths")),
                    numbers(*at, "wall_distance"),
                    _vector(numbers, *at, "truth"),
                    _vector(numbers, *at, "predicted"),
                    join(numbers(*at, "error"), f" {entry['unit']}"),
                )
            )
    axes = ", ".join(scores["space"])
    header = (
        "field", "case", "relative L2", f"worst at ({axes}) [m]", "from the body's centre, in its lengths",
        "wall distance [m]", "truth there", "predicted there", "|error| there",
    )  # fmt: skip
    told = "The cases with the largest relative L2 error of each field, and the point where each is furthest off."
    pictures = []
    for (case, field), found in drawn.items():
        said = f"{_said(field)} of {case}"
        if isinstance(found, str):
            pictures.append(element("p", f"No picture of the {said}: {found}.".replace("..", "."), class_="missing"))
            continue
        alt = f"{said}: simulated, predicted, and the difference, side by side"
        caption = (
            f"{said[0].upper()}{said[1:]}: truth and prediction in the same colours, and the error "
            "(prediction − truth) in colours of its own."
        )
        pictures.append(picture(found, alt, caption))
    if not drawn:
        pictures.append(element("p", "No pictures were asked for.", class_="missing"))
    return [table(told, header, rows, text=2), *pictures]


def _vector(numbers: Numbers, *path: str | int) -> Markup:
    values = numbers.at(*path)
    if len(values) == 1:
        return numbers(*path, 0)
    parts: list[Child] = []
    for index in range(len(values)):
        parts += [", " if index else "(", numbers(*path, index, form=lambda value: figures(value, 3))]
    return element("span", *parts, ")", class_="vector")


def _calibration(scores: Mapping[str, Any], numbers: Numbers) -> list[Markup]:
    over = spread_over(scores)
    if over is None:
        said = "One prediction was made, so there is no spread to compare with: evaluate with --draws 4."
        return [element("p", said)]
    rows = []
    for field, entry in scores["fields"].items():
        at = ("fields", field, "calibration")
        rows.append(
            (
                _said(field),
                *(join(numbers(*at, key), f" {entry['unit']}") for key in ("rms_error", "rms_spread")),
                *(numbers(*at, key, form=".3f") for key in ("ratio", "correlation")),
                numbers(*at, "coverage", form=per_cent),
                numbers(*at, "rank_of_cases", form=".3f"),
            )
        )
    header = (
        "field", "rms error", "rms spread", "ratio", "correlation over points", "within ±2 spread", "rank over cases",
    )  # fmt: skip
    caption = f"Error against the standard deviation over {over}, mean over the cases."
    said = (
        "A ratio near one says that the spread is as large as the error; a larger one, that the surrogate errs in "
        "other ways than those that were varied, and the spread is no error bar. The rank over cases tells whether "
        "cases with a larger spread have a larger error."
    )
    return [table(caption, header, rows), element("p", said, class_="soft")]


def _cases(scores: Mapping[str, Any], numbers: Numbers) -> Markup:
    fields, judged = list(scores["fields"]), list(_judged(scores))
    rows: list[Sequence[Child]] = []
    for case in scores["cases"]:
        known = scores["per_case"][case]["fields"]
        cells: list[Child] = [
            numbers("per_case", case, "fields", field, "relative_l2", form=per_cent) if field in known else "–"
            for field in fields
        ]
        forces = (scores["forces"] or {}).get("cases", {})
        for name in judged:
            cells += [
                numbers("forces", "cases", case, who, name, form=".4f") if case in forces else "–"
                for who in ("truth", "predicted")
            ]
        rows.append((case, *cells))
    header = ["case", *map(_said, fields)]
    for name in judged:
        header += [f"{_said(name)}, truth", "predicted"]
    return table("Relative L2 error of each field, and force coefficients, by case.", header, rows)


def _trained(scores: Mapping[str, Any], numbers: Numbers) -> Markup:
    told = scores["trained"]
    splits = told["splits"] or {}
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    code = told["code"] or {}
    rows: list[Sequence[Child]] = [
        ("run", scores["run"]),
        ("checkpoint", join(scores["checkpoint"], ", after ", numbers("trained", "step", form=",d"), " steps")),
        ("operator", join(told["operator"], ", ", numbers("trained", "parameters", form=",d"), " numbers")),
        ("trained on", f"{told['store']}: " + ", ".join(f"{len(names)} {split}" for split, names in splits.items())),
        ("conditions", ", ".join(told["conditions"]) or "none: only the shape varies"),
        ("training took", "–" if told["seconds"] is None else clock(told["seconds"])),
        ("on", told["device"] or "–"),
        ("seed of the training", numbers("trained", "seed", form="d")),
        ("scored on", f"{scores['store']}, split {scores['split']}"),
        ("anchor draws", join(numbers("draws", form="d"), ", seed ", numbers("seed", form="d"))),
        ("scoring took", clock(scores["seconds"])),
        ("versions", versions),
        ("code", f"{code['commit']}{', changed since' if code['changed'] else ''}" if code else "–"),
    ]
    return table("The training and the evaluation.", ("what", "value"), rows, text=2)


def _learning(metrics: Sequence[Mapping[str, Any]]) -> list[Markup]:
    loss = [(float(line["step"]), line["loss"]) for line in metrics if "loss" in line]
    score = [(float(line["step"]), line["validation/score"]) for line in metrics if "validation/score" in line]
    if not loss:
        return [element("p", "The metrics of the training are not beside its checkpoint: no learning curve.")]
    series = {"validation error": score} if score else {}
    series |= {"training loss": _thinned(loss)}
    chart = charts.curves("Learning curve", series, "step", "error, loss")
    return [
        element("div", element("figure", chart, element("figcaption", "Learning curve: the mean loss over the steps, "
        "and the error on the validation cases, which chose the checkpoint.")), class_="charts")
    ]  # fmt: skip


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average neighbours, so that a curve of any length stays a picture."""
    parts = np.array_split(np.array(points, np.float64), min(len(points), SHOWN))
    return [(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts]


def _repeat(scores: Mapping[str, Any]) -> list[Markup]:
    told = scores["trained"]
    words = ["anchorfield", "evaluate", scores["run"], "--store", scores["store"], "--split", scores["split"]]
    words += ["--draws", str(scores["draws"]), "--seed", str(scores["seed"])]
    commands = shlex.join(words)
    config = Path(scores["run"]) / "config.yaml"
    if config.exists():
        commands = f"{shlex.join(['anchorfield', 'train', str(config), '--run', 'AGAIN'])}\n{commands}"
    sums = (
        f"store (manifest.json): {scores['store_digest']}\ntrained on:            {told['store_digest']}\n"
        f"checkpoint (manifest): {scores['checkpoint_sha256']}"
    )
    return [
        element("pre", commands),
        element("p", "SHA-256 of what went in:", class_="soft"),
        element("pre", sums),
        element("p", "Every number here stands with its full value in scores.json beside this file.", class_="soft"),
    ]


def _words() -> Markup:
    words = {
        "relative L2": "√(Σ|prediction − truth|² / Σ|truth|²) over the points of a case, each counted once.",
        "weighted": "each point counts by the area or volume that it stands for.",
        "near wall, far": "points of the volume closer to the body than the radius of the sphere of its volume (in the "
        "plane, of the circle of its area), and the others.",
        "disturbance": "the error against the field less its free stream, which needs no surrogate.",
        "R²": "one less the squared error over the variance of the truth: one is perfect, zero is its mean.",
        "nearest case": "the fields of the training case with the most similar shape and conditions.",
        "mean field": "the mean over the training cases.",
        "ridge, quadratic": "regressions of the fields on the conditions and the shape's moments; the second also on "
        "their squares and products.",
        "rank correlation": "Spearman's: one where predictions put the designs in the right order.",
    }
    return element("ul", *(element("li", element("b", name), f": {said}") for name, said in words.items()))
