"""What files hold: meshes, folders of cases, stores, runs and checkpoints, told for people and for programs."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from meshes.paths import absence
from meshes.reading import SUFFIXES, is_case, open_source, read, read_blocks
from meshes.reading.times import LATEST, told

COLLECTIONS = (".vtm", ".pvd", ".case", ".encas", ".foam")
# Where the folder of an OpenFOAM case keeps the surfaces that it was meshed from.
SURFACES = ("constant/triSurface", "constant/geometry")


def inspect(paths: Iterable[Path | str], *, beyond_memory: bool = False) -> list[dict[str, Any]]:
    """Look into files and folders.

    A mesh is read whole, a series at its latest time. Of a folder of cases, all files are counted, but only those of
    the first case are read. The files of a store are checked for their size, those of a checkpoint for their checksums.

    Args:
        paths: mesh files, OpenFOAM cases, folders of cases, stores, runs or checkpoints, or `runs:/ID` of MLflow.
        beyond_memory: read a mesh even where it seems to need more memory than there is.

    Returns:
        For each path a report that `render` turns into text and `json.dumps` into JSON; its `kind` is `mesh`, `blocks`,
        `cases`, `store` or `checkpoint`.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: a path is none of these, cannot be read, or needs more memory than there is.
    """
    return [_inspect(path, beyond_memory) for path in paths]


def _inspect(given: Path | str, beyond_memory: bool) -> dict[str, Any]:
    path = Path(given)
    if str(given).startswith(("runs:/", "runs:\\")):
        return _checkpoint("runs:/" + path.name)
    if not path.exists():
        raise FileNotFoundError(absence(path))
    if path.name in ("manifest.json", "operator.json"):
        path = path.parent
    if path.is_file() or is_case(path):
        return _mesh(path, beyond_memory)
    if (path / "operator.json").exists() or (path / "checkpoints").is_dir():
        return _checkpoint(path)
    if (path / "manifest.json").exists():
        return _store(path)
    return _cases(path, beyond_memory)


def _mesh(path: Path, beyond_memory: bool) -> dict[str, Any]:
    from meshes.inspection import inspect_mesh
    from meshes.reading.openfoam import OpenFOAM
    from meshes.reading.sizes import size_of
    from pipelines.announcing import announce, refuse_too_large

    size = size_of(path, time=LATEST)
    announce(path, size)
    if not beyond_memory:
        refuse_too_large(path, size, "say --beyond-memory")
    if path.suffix.lower() not in COLLECTIONS and not is_case(path):
        return {"kind": "mesh", "path": str(path), **inspect_mesh(read(path)).to_json()}
    source = open_source(path)
    blocks = {name: inspect_mesh(mesh).to_json() for name, mesh in read_blocks(path, time=LATEST).items()}
    processors = len(source.processors) if isinstance(source, OpenFOAM) and source.decomposed else None
    return {
        "kind": "blocks",
        "path": str(path),
        "times": source.times(),
        "processors": processors,
        "blocks": blocks,
    }


def _cases(path: Path, beyond_memory: bool) -> dict[str, Any]:
    """Report a folder that holds mesh files, or folders with mesh files."""
    folders = [folder for folder in (path, *sorted(path.iterdir())) if folder.is_dir() and readable(folder)]
    if not folders:
        endings = ", ".join(SUFFIXES)
        raise ValueError(
            f"{path} is no store, run or checkpoint, and it and its folders hold no files ending in {endings}, "
            "and no OpenFOAM case"
        )
    first = folders[0]
    files = Counter(name for folder in folders for name in readable(folder))
    parameters: dict[str, list[float]] = {}
    for folder in folders:
        for name, value in _numbers(folder).items():
            parameters.setdefault(name, []).append(value)
    return {
        "kind": "cases",
        "path": str(path),
        "cases": [folder.name for folder in folders],
        "files": dict(files),
        "parameters": {
            name: {"cases": len(values), "minimum": min(values), "maximum": max(values)}
            for name, values in parameters.items()
        },
        "first": {name: _mesh(first / name, beyond_memory) for name in readable(first)},
    }


def readable(folder: Path) -> list[str]:
    """Return what can be read in the folder of a case, as a configuration names it under `file`.

    `.` stands for the folder itself, where it is an OpenFOAM case; the surfaces that it was meshed from follow.
    """
    here = is_case(folder)
    places = [folder, *(folder / each for each in SURFACES if here and (folder / each).is_dir())]
    found = [file for place in places for file in sorted(place.iterdir()) if file.is_file()]
    names = [file.relative_to(folder).as_posix() for file in found if file.suffix.lower() in SUFFIXES]
    return [".", *(name for name in names if not name.endswith(".foam"))] if here else names


def _numbers(folder: Path) -> dict[str, float]:
    """Finite numbers at the top of the JSON files of a case."""
    numbers: dict[str, float] = {}
    for file in sorted(folder.glob("*.json")):
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is no JSON ({error})") from error
        if isinstance(values, dict):
            known = {key: float(value) for key, value in values.items() if type(value) in (int, float)}
            numbers |= {key: value for key, value in known.items() if math.isfinite(value)}
    return numbers


def _store(path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from meshes.stores import Store, StoreError

    store = Store(path)
    points: Counter[str] = Counter()
    defects = []
    for name in store:
        case = store.case(name)
        points.update(case.entry["counts"])
        try:
            case.check_size()
        except StoreError as error:
            defects.append({"kind": "damaged_case", "count": 1, "message": str(error)})
    statistics = store.statistics
    return {
        "kind": "store",
        "path": str(path),
        "cases": list(store),
        "splits": {name: len(cases) for name, cases in store.splits.items()},
        "space": list(store.space),
        "points": dict(points),
        "bytes": sum(entry["bytes"] for entry in store.manifest["cases"].values()),
        "fields": {
            branch: {
                name: {**asdict(spec), "non_dimensional": statistics[branch][name].to_json()}
                for name, spec in specs.items()
            }
            for branch, specs in store.fields.items()
        },
        "conditions": {name: _range(store.parameter_statistics[name].to_json()) for name in store.conditions},
        "digest": store.digest,
        "defects": defects,
    }


def _range(moments: dict[str, Any]) -> dict[str, float]:
    return {key: moments[key][0] for key in ("minimum", "maximum", "mean")}


def _checkpoint(run: Path | str) -> dict[str, Any]:
    from dataclasses import asdict

    from safetensors import safe_open

    from pipelines.checkpoints import MANIFEST, SPEC, WEIGHTS, find, verify
    from pipelines.specification import SurrogateSpec

    folder = find(run)
    verify(folder)
    spec = asdict(SurrogateSpec.from_json((folder / SPEC).read_text(encoding="utf-8")))
    with safe_open(folder / WEIGHTS, framework="numpy") as weights:
        parameters = sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    step = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["step"]
    return {"kind": "checkpoint", "path": str(folder), "step": step, "weights": parameters, **spec}


def render(report: dict[str, Any]) -> str:
    """Write a report of `inspect` as plain text."""
    return _RENDERERS[report["kind"]](report)


def _render_mesh(report: dict[str, Any]) -> str:
    return "\n".join([report["path"], *_mesh_lines(report)])


def _render_blocks(report: dict[str, Any]) -> str:
    times, processors = report["times"], report["processors"]
    head = f"{report['path']}: {_count(len(report['blocks']), 'block')}"
    head += f" at time {times[-1]:g}" if times else ""
    head += f", the last of {len(times)} ({told(times)})" if len(times) > 1 else ""
    lines = [head + (f", of {processors} processors" if processors else "")]
    for name, block in report["blocks"].items():
        lines += [f"block {name}", *_mesh_lines(block)]
    return "\n".join(lines)


def _mesh_lines(report: dict[str, Any]) -> list[str]:
    kinds = ", ".join(f"{count:,} {name}" for name, count in report["kinds"].items())
    lines = [f"  {_count(report['points'], 'point')}, {_count(report['cells'], 'cell')} ({kinds})"]
    if report["lower"] is not None:
        axes = zip("xyz", report["lower"], report["upper"], strict=True)
        lines.append("  box       " + "   ".join(f"{axis} {low:.5g} … {high:.5g}" for axis, low, high in axes))
    for size in report["sizes"]:
        numbers = ", ".join(f"{key} {size[key]:.4g}" for key in ("minimum", "median", "maximum", "total"))
        lines.append(f"  {size['quantity']:<9} {numbers} [{size['unit']} if positions are in m]")
    if report["arrays"]:
        rows = [("array", "on", "components", "type", "from", "to", "")]
        for array in report["arrays"]:
            notes = "; ".join(defect["message"] for defect in array["defects"])
            low, high = _bound(array["minimum"], min), _bound(array["maximum"], max)
            rows.append(
                (array["name"], array["association"], str(array["components"]), array["dtype"], low, high, notes)
            )
        lines += [f"  {line}" for line in _table(rows)]
    for each in report["joins"]:
        parts = ", ".join(each["parts"])
        write = f"array: {each['name']}" + ("" if each["certain"] else f", parts: [{parts}]")
        lines.append(f"  {parts} look like one vector: write {write}, kind: vector")
    return lines + [f"  ! {defect['message']}" for defect in report["defects"]]


def _bound(values: Sequence[float] | None, extreme: Callable[[Sequence[float]], float]) -> str:
    return "-" if not values else f"{extreme(values):.5g}"


def _render_cases(report: dict[str, Any]) -> str:
    cases = report["cases"]
    lines = [f"{report['path']}: {_count(len(cases), 'case')}, {cases[0]} to {cases[-1]}"]
    for name, count in report["files"].items():
        there = "in every case" if count == len(cases) else f"in {count} of {len(cases)} cases"
        lines.append(f"  {'OpenFOAM case (file: .)' if name == '.' else name}  {there}")
    if report["parameters"]:
        rows = [("parameter", "cases", "from", "to")]
        for name, each in report["parameters"].items():
            rows.append((name, str(each["cases"]), f"{each['minimum']:.5g}", f"{each['maximum']:.5g}"))
        lines += [f"  {line}" for line in _table(rows)]
    lines.append(f"The first case, {cases[0]}:")
    return "\n".join([*lines, *(render(mesh) for mesh in report["first"].values())])


def _render_store(report: dict[str, Any]) -> str:
    splits = ", ".join(f"{count} {name}" for name, count in report["splits"].items())
    points = ", ".join(f"{count:,} {branch} points" for branch, count in report["points"].items())
    size = f"{report['bytes'] / 1e6:,.1f} MB"
    lines = [
        f"{report['path']}: store of {_count(len(report['cases']), 'case')} ({splits})",
        f"  {points}, {size}, axes {' '.join(report['space'])}",
    ]
    rows = [("field", "array", "unit", "kind", "scale", "mean / scale", "deviation / scale")]
    for branch, fields in report["fields"].items():
        for name, each in fields.items():
            moments = each["non_dimensional"]
            mean, std = (" ".join(f"{value:.3g}" for value in moments[key]) for key in ("mean", "std"))
            rows.append((f"{branch}_{name}", each["array"], each["unit"], each["kind"], each["scale"], mean, std))
    lines += [f"  {line}" for line in _table(rows)]
    for name, each in report["conditions"].items():
        lines.append(f"  condition {name}: {each['minimum']:.5g} … {each['maximum']:.5g}")
    return "\n".join(lines + [f"  ! {defect['message']}" for defect in report["defects"]])


def _render_checkpoint(report: dict[str, Any]) -> str:
    lines = [
        f"{report['path']}: {report['operator']['kind']} with {report['weights']:,} weights, step {report['step']:,}",
        f"  axes {' '.join(report['space'])}, body length {report['length']:.5g} m, frame {report['inputs']['frame']}",
    ]
    rows = [("field", "array", "unit", "kind", "scale")]
    for branch, fields in report["fields"].items():
        for name, each in fields.items():
            rows.append((f"{branch}_{name}", each["array"], each["unit"], each["kind"], each["scale"]))
    lines += [f"  {line}" for line in _table(rows)]
    for name in report["conditions"]:
        low, high = report["ranges"].get(name, (float("nan"), float("nan")))
        lines.append(f"  condition {name}: {low:.5g} … {high:.5g} in training")
    lines += [f"  {name} was always {value:.5g}" for name, value in report["constants"].items()]
    conventions = ", ".join(f"{key} {value}" for key, value in report["conventions"].items() if value is not None)
    versions = ", ".join(f"{key} {value}" for key, value in report["versions"].items())
    return "\n".join([*lines, f"  conventions: {conventions}", f"  written with {versions}"])


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


_RENDERERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "mesh": _render_mesh,
    "blocks": _render_blocks,
    "cases": _render_cases,
    "store": _render_store,
    "checkpoint": _render_checkpoint,
}
