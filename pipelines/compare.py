"""Runs side by side on the same cases: paired differences, how sure they are, and who wins each case."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from meshes.aside import write_text
from meshes.stores.layout import write_json
from pipelines.evaluate import FOLDER, FORMAT, SCORES, coefficients_of, evaluate, folder_name, table
from pipelines.pages import Child, Numbers, element, join, page, section
from pipelines.pages import table as html_table

COMPARISON, REPORT = "comparison.json", "comparison.html"
# A difference is told apart from the luck of the anchors beyond this many standard deviations of it.
BEYOND = 2.0
# Fewer cases tell no two runs apart: were they equal, all would agree by luck in more than one of twenty comparisons.
FEWEST = 6


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed alone, or one run.

    Attributes:
        name: what it is called in tables.
        runs: as they were given.
        scores: of each.
    """

    name: str
    runs: tuple[str, ...]
    scores: tuple[Mapping[str, Any], ...]


def compare(
    runs: Sequence[str | Path],
    *,
    store: Path | None = None,
    split: str = "test",
    draws: int = 4,
    seed: int = 0,
    device: str = "auto",
    resamples: int = 4000,
    out: Path | None = None,
) -> dict[str, Any]:
    """Compare runs on the same cases, the first with each other.

    Scores that `evaluate` left in a run with the same draws and seed are taken as they are; others are made and left
    there. Runs whose settings differ by the seed of the training alone count as one, by the mean of their errors.

    Args:
        runs: folders of training runs, checkpoints or `runs:/ID`; at least two.
        store: where the cases are; by default each run's own store.
        split: which cases.
        draws: anchor draws to average over; their spread tells which differences are luck.
        seed: decides the anchors, and the resampling.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        resamples: of the cases, for the intervals of the differences.
        out: folder for `comparison.json` and `comparison.html`; by default neither is written.

    Returns:
        `groups` (name, runs), `cases`, `notes`, and `quantities`: for each field (relative L2; `…_weighted` by area or
        volume) and coefficient (absolute error) the `mean` of each group, its `seed_spread` and `draw_spread` (standard
        deviations of the mean over seeds and over single draws), the `wins` in cases, and `differences` of each other
        group from the first: `mean`, `low` and `high` of the 95 % interval of the paired bootstrap over cases, cases
        that are `better` and `worse`, and whether it is `beyond_draws`: more than two standard deviations of what the
        anchors alone make of it.

    Raises:
        ValueError: there are fewer than two runs, or they have no cases or no fields in common.
    """
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} runs were given; comparing needs at least two")
    told = [_scores(str(run), store=store, split=split, draws=draws, seed=seed, device=device) for run in runs]
    notes: list[str] = []
    cases = _common_cases([str(run) for run in runs], told, notes)
    groups = _groups([str(run) for run in runs], told)
    quantities = {}
    for name, unit in _quantities(told, notes).items():
        having = [case for case in cases if all(_error(scores, name, case) is not None for scores in told)]
        if not having:
            notes.append(f"no common case has {name}")
            continue
        errors = [np.array([[_error(scores, name, case) for case in having] for scores in g.scores]) for g in groups]
        spreads = [_draw_spread(group, name, having) for group in groups]
        judged = paired(errors, spreads, resamples=resamples, seed=seed)
        quantities[name] = {"unit": unit, "cases": having, **judged}
    comparison = {
        "format": FORMAT,
        "split": split,
        "draws": draws,
        "seed": seed,
        "resamples": resamples,
        "groups": [{"name": group.name, "runs": list(group.runs)} for group in groups],
        "cases": cases,
        "notes": notes,
        "quantities": quantities,
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / COMPARISON, comparison)
        write_text(out / REPORT, render_page(comparison))
    return comparison


def paired(
    errors: Sequence[Float[np.ndarray, "_run case"]],
    spreads: Sequence[float | None],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Compare the errors of groups of runs on the same cases.

    Args:
        errors: of each group, one row a run and one column a case.
        spreads: standard deviation of each group's mean error over single draws of the anchors, where it is known.
        resamples: of the cases.
        seed: of the resampling.

    Returns:
        One entry of `quantities` of `compare`.

    Source:
        Efron and Tibshirani 1993, An introduction to the bootstrap, section 13.3: the percentile interval.
    """
    by_case = np.array([each.mean(axis=0) for each in errors])
    count = by_case.shape[1]
    best = by_case.min(axis=0)
    alone = (by_case == best).sum(axis=0) == 1  # cases that several share are nobody's
    picks = np.random.default_rng(seed).integers(count, size=(resamples, count))
    differences = []
    for number in range(1, len(errors)):
        difference = by_case[number] - by_case[0]
        low, high = np.quantile(difference[picks].mean(axis=1), [0.025, 0.975])
        first, other = spreads[0], spreads[number]
        luck = None if first is None or other is None else math.hypot(first, other)
        differences.append(
            {
                "mean": float(difference.mean()),
                "low": float(low),
                "high": float(high),
                "better": int((difference < 0).sum()),
                "worse": int((difference > 0).sum()),
                "beyond_draws": None if luck is None else bool(abs(difference.mean()) > BEYOND * luck),
            }
        )
    return {
        "mean": by_case.mean(axis=1).tolist(),
        "seed_spread": [float(each.mean(axis=1).std(ddof=1)) if len(each) > 1 else None for each in errors],
        "draw_spread": list(spreads),
        "wins": [int((alone & (row == best)).sum()) for row in by_case],
        "differences": differences,
        "per_case": by_case.tolist(),
    }


# --- Scores


def _scores(run: str, *, store: Path | None, split: str, draws: int, seed: int, device: str) -> Mapping[str, Any]:
    """Take the scores that are there, or make them."""
    from meshes.stores import Store
    from pipelines.checkpoints import digest, find

    manifest = digest(find(run) / "manifest.json")
    file = Path(run) / FOLDER / folder_name(split, draws, seed) / SCORES
    if file.exists():
        known = json.loads(file.read_text(encoding="utf-8"))
        same = known.get("format") == FORMAT and known["checkpoint_sha256"] == manifest and known["near"] is None
        path = Path(known["store"]) if store is None else store
        if same and path.exists() and Store(path).digest == known["store_digest"]:
            return known
    return evaluate(run, store=store, split=split, draws=draws, seed=seed, device=device, pictures=0)


def _common_cases(runs: Sequence[str], told: Sequence[Mapping[str, Any]], notes: list[str]) -> list[str]:
    """Find the cases that all runs were scored on, from the same simulations, and none was trained on.

    Raises:
        ValueError: there are none.
    """
    sets = [set(scores["sources"].items()) for scores in told]
    common = set.intersection(*sets)
    if not common:
        stores = ", ".join(dict.fromkeys(str(scores["store"]) for scores in told))
        raise ValueError(
            f"the runs have no case of the split {told[0]['split']} in common (stores: {stores}): "
            "score them all on one store with --store"
        )
    for run, each in zip(runs, sets, strict=True):
        if left := len(each) - len(common):
            notes.append(f"{left} of the {len(each)} cases of {run} are not among those of every run and do not count")
    seen: dict[str, str] = {}
    for run, scores in zip(runs, told, strict=True):
        for case in (scores["trained"]["splits"] or {}).get("training", ()):
            seen.setdefault(case, run)
    cases = [case for case in told[0]["cases"] if (case, told[0]["sources"][case]) in common]
    trained_on = [case for case in cases if case in seen]
    if trained_on:
        notes.append(f"{', '.join(trained_on)} do not count: {seen[trained_on[0]]} was trained on such a case")
    cases = [case for case in cases if case not in seen]
    if not cases:
        raise ValueError(f"every common case was trained on by one of the runs, such as {trained_on[0]}: no comparison")
    return cases


def _groups(runs: Sequence[str], told: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Put together what differs by the seed of the training alone; the same run twice stays two."""
    keys: dict[str, list[int]] = {}
    for number, scores in enumerate(told):
        trained = scores["trained"]
        key = json.dumps({name: trained[name] for name in ("operator", "step", "settings", "store_digest")})
        twin = any(told[n]["checkpoint_sha256"] == scores["checkpoint_sha256"] for n in keys.get(key, ()))
        keys.setdefault(f"{key} {number}" if twin or trained["seed"] is None else key, []).append(number)
    names = _names(runs)
    groups = []
    for numbers in keys.values():
        name = names[numbers[0]] if len(numbers) == 1 else f"{names[numbers[0]]} ({len(numbers)} seeds)"
        groups.append(Group(name, tuple(runs[n] for n in numbers), tuple(told[n] for n in numbers)))
    if len(groups) == 1:
        # Seeds of one thing: then it is the seeds that are compared.
        return [Group(names[n], (runs[n],), (told[n],)) for n in range(len(runs))]
    return groups


def _names(runs: Sequence[str]) -> list[str]:
    """Call each run by its folder, or by all that was given where these are alike."""
    short = [Path(run).name or run for run in runs]
    names = [name if short.count(name) == 1 else run for name, run in zip(short, runs, strict=True)]
    return [name if names.count(name) == 1 else f"{name} #{n + 1}" for n, name in enumerate(names)]


def _quantities(told: Sequence[Mapping[str, Any]], notes: list[str]) -> dict[str, str]:
    """Name what is compared, and its unit: errors of fields (relative, so none) and of coefficients.

    Raises:
        ValueError: the runs have no field in common.
    """
    every = [dict.fromkeys(scores["fields"]) for scores in told]
    common = [name for name in every[0] if all(name in each for each in every)]
    if not common:
        raise ValueError("the runs have no field in common: there is nothing to compare")
    if left := [name for name in dict.fromkeys(itertools.chain(*every)) if name not in common]:
        notes.append(f"not every run has {', '.join(left)}")
    names = dict.fromkeys(common, "") | {f"{name}_weighted": "" for name in common}
    shared = set.intersection(*(set(coefficients_of(scores)) for scores in told))
    return names | {name: "|error|" for name in coefficients_of(told[0]) if name in shared}


def _error(scores: Mapping[str, Any], name: str, case: str) -> float | None:
    """Look up the error of a case; `None` where the case lacks the field, or its truth is zero."""
    if name in coefficients_of(scores):
        forces = scores["forces"]["cases"].get(case)
        return None if forces is None else abs(forces["predicted"][name] - forces["truth"][name])
    entry = scores["per_case"][case]["fields"].get(name.removesuffix("_weighted"))
    if entry is None:
        return None
    return entry["weighted"]["relative_l2"] if name.endswith("_weighted") else entry["relative_l2"]


def _draw_spread(group: Group, name: str, cases: Sequence[str]) -> float | None:
    """Compute the standard deviation over single draws of the mean error over cases and over the group's runs."""
    variances = []
    for scores in group.scores:
        if scores["draws"] < 2 or name.endswith("_weighted"):
            return None
        if name in coefficients_of(scores):
            forces = [scores["forces"]["cases"][case] for case in cases]
            each = [[abs(draw[name] - case["truth"][name]) for draw in case["draws"]] for case in forces]
        else:
            each = [scores["per_case"][case]["fields"][name]["draws"] for case in cases]
        variances.append(np.mean(each, axis=0).var(ddof=1))
    return float(np.sqrt(np.mean(variances) / len(variances)))


# --- The table and the page


def render(comparison: Mapping[str, Any]) -> str:
    """Set a comparison as a table."""
    groups = comparison["groups"]
    rows: list[Sequence[str]] = [
        ("error of", "run", "mean", "difference", "95 % interval", "better : worse", "wins", "")
    ]
    for name, entry in comparison["quantities"].items():
        for number, group in enumerate(groups):
            spread = entry["seed_spread"][number]
            mean = _amount(entry, entry["mean"][number]) + ("" if spread is None else f" ± {_amount(entry, spread)}")
            row = [_said(name) if number == 0 else "", group["name"], mean]
            if number == 0:
                row += ["", "", ""]
            else:
                told = entry["differences"][number - 1]
                low, high = (_amount(entry, told[key], signed=True) for key in ("low", "high"))
                row += [_amount(entry, told["mean"], signed=True), f"{low} to {high}"]
                row.append(f"{told['better']} : {told['worse']}")
            verdict = "" if number == 0 else verdict_of(entry["differences"][number - 1])
            rows.append((*row, str(entry["wins"][number]), verdict))
    title = f"Mean over {len(comparison['cases'])} cases of the split {comparison['split']}"
    lines = [
        f"{title}, anchor draws: {comparison['draws']}; differences from {groups[0]['name']}:",
        *table(rows, left=2),
        *(f"note: {note}" for note in comparison["notes"]),
    ]
    return "\n".join(lines)


def verdict_of(difference: Mapping[str, Any]) -> str:
    """Say in a word or two what a difference is worth."""
    if difference["low"] <= 0 <= difference["high"]:
        return "not told apart"
    if difference["better"] + difference["worse"] < FEWEST:
        return "too few cases"
    said = "better" if difference["mean"] < 0 else "worse"
    return f"{said}, within the anchors' luck" if difference["beyond_draws"] is False else said


def _amount(entry: Mapping[str, Any], value: float, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{value:{sign}.4g}" if entry["unit"] else f"{100 * value:{sign}.2f} %"


def _said(name: str) -> str:
    return name.replace("_", " ")


def render_page(comparison: Mapping[str, Any]) -> str:
    """Set a comparison as one HTML file."""
    numbers, groups = Numbers(comparison), comparison["groups"]
    title = f"{len(groups)} runs on {len(comparison['cases'])} cases of the split {comparison['split']}"
    rows: list[Sequence[Child]] = []
    per_case: list[Sequence[Child]] = []
    for name, entry in comparison["quantities"].items():
        at = ("quantities", name)

        def form(value: float, entry: Mapping[str, Any] = entry) -> str:
            return _amount(entry, value)

        def signed(value: float, entry: Mapping[str, Any] = entry) -> str:
            return _amount(entry, value, signed=True)

        for number, group in enumerate(groups):
            spread = None
            if entry["seed_spread"][number] is not None:
                spread = join(" ± ", numbers(*at, "seed_spread", number, form=form))
            told: list[Child] = [None] * 4
            if number:
                where = (*at, "differences", number - 1)
                low, high = (numbers(*where, key, form=signed) for key in ("low", "high"))
                better, worse = (numbers(*where, key, form="d") for key in ("better", "worse"))
                verdict = verdict_of(entry["differences"][number - 1])
                told = [
                    numbers(*where, "mean", form=signed),
                    join(low, " to ", high),
                    join(better, " : ", worse),
                    verdict,
                ]
            wins = numbers(*at, "wins", number, form="d")
            mean = join(numbers(*at, "mean", number, form=form), spread)
            rows.append((_said(name) if number == 0 else "", group["name"], mean, *told[:3], wins, told[3]))
            places = {case: n for n, case in enumerate(entry["cases"])}
            values = (
                numbers(*at, "per_case", number, places[case], form=form) if case in places else "–"
                for case in comparison["cases"]
            )
            per_case.append((_said(name) if number == 0 else "", group["name"], *values))
    caption = (
        f"Errors, mean over the cases, of predictions averaged over anchor draws ({comparison['draws']}). Differences "
        f"are from {groups[0]['name']}, case by case; a win is a case with the smallest error of all."
    )
    header = ("error of", "run", "mean", "difference", "95 % interval", "better : worse", "wins", "")
    listed = [join(group["name"], ": ", ", ".join(group["runs"])) for group in groups]
    return page(
        title,
        element("h1", title),
        element("ul", *(element("li", each) for each in listed)),
        *(element("p", f"Note: {note}.", class_="missing") for note in comparison["notes"]),
        section("Side by side", html_table(caption, header, rows, text=2)),
        section(
            "Case by case",
            html_table("Error of each case.", ("error of", "run", *comparison["cases"]), per_case, text=2),
        ),
        section("What the words mean", element("p", _WORDS)),
    )


_WORDS = (
    "Fields are compared by their relative L2 error, each point counted once, or (weighted) by its area or volume; "
    "coefficients by their absolute error. The interval holds the mean difference in 95 % of resamplings of the cases: "
    "where it holds zero, the runs are not told apart. Fewer than six cases are too few: were both runs equal, all of "
    "them would agree by luck in more than one of twenty comparisons. A difference is within the anchors' luck where "
    "it is less than twice what single draws of the anchors alone make of it. Runs that differ by their seed alone "
    "count as one; ± is their standard deviation."
)
