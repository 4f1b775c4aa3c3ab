"""Raw cases to a store, in parallel: each case by itself, then statistics and the manifest."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from meshes.statistics import Moments, merge
from meshes.stores.layout import CASES, FORMAT, MANIFEST, SPLITS, STATISTICS, sha256, write_json
from meshes.stores.writer import write_case
from pipelines import __version__
from pipelines.errors import sentence
from pipelines.memory import peak_memory
from pipelines.prepare_case import announce_cases, read_case, sources_of
from pipelines.progress import progress
from pipelines.settings import to_dict
from pipelines.soundness import other_units
from pipelines.sources import (
    BranchSource,
    DataConfig,
    GeometrySource,
    ParameterSource,
    RawCase,
    find_cases,
)

__all__ = [
    "BranchSource",
    "DataConfig",
    "GeometrySource",
    "ParameterSource",
    "PrepareReport",
    "prepare",
]

# Raised when the same sources and settings should give other files, so that stores are not half old.
REVISION = 1
# What is said of more cases than this is told of one, with the names of some others.
ALIKE = 3
_Entry = dict[str, Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PrepareReport:
    """What `prepare` did.

    Attributes:
        store: the folder.
        prepared: names of the cases that were read and written.
        kept: names of those that were there and had not changed.
        failed: for each case that could not be prepared, why.
        splits: how many cases each split has.
        notes: what a user should know, one sentence each.
        workers: processes that worked.
        memory_limit: bytes that each was allowed; None where nothing was limited.
        memory_peak: bytes that the largest of them held.
    """

    store: str
    prepared: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    workers: int = 1
    memory_limit: int | None = None
    memory_peak: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them."""
        return asdict(self)

    def render(self) -> str:
        """Say it in words."""
        splits = ", ".join(f"{count} {split}" for split, count in self.splits.items())
        lines = [f"{self.store}: {len(self.prepared)} cases prepared, {len(self.kept)} unchanged ({splits})"]
        limit = f" of {self.memory_limit / 2**30:.1f} GiB" if self.memory_limit else ""
        lines.append(f"{self.workers} workers, at most {self.memory_peak / 2**30:.2f} GiB{limit} each")
        names = [*self.prepared, *self.kept, *self.failed]
        lines += [f"note: {note}" for note in _alike_once(self.notes, names)]
        lines += [f"failed: {each}" for each in _alike_once([f"{n}: {why}" for n, why in self.failed.items()], names)]
        return "\n".join(lines)


def _alike_once(sentences: Sequence[str], names: Sequence[str]) -> list[str]:
    """Say once what is said of many cases with other numbers only."""
    name = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or r"(?!)")
    groups: dict[str, list[str]] = {}
    for each in sentences:
        like = re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "#", name.sub("#", each))
        groups.setdefault(like, []).append(each)
    said = []
    for group in groups.values():
        if len(group) <= ALIKE:
            said += group
            continue
        others = [found[0] for each in group[1:] if (found := name.search(each))]
        some = f": {', '.join(others[:ALIKE])}{' …' if len(others) > ALIKE else ''}" if others else ""
        said.append(f"{group[0]} (likewise {len(group) - 1} more{some})")
    return said


def prepare(
    config: DataConfig,
    *,
    cluster: str | None = None,
    workers: int | None = None,
    strict: bool = False,
    force: bool = False,
) -> PrepareReport:
    """Turn raw cases into a store.

    A case whose files and settings have not changed is left as it is. A case that fails is reported, and the store
    is made of the others. Statistics and the manifest are written last, so a store that opens is whole.

    Args:
        config: the cases, and what is read from them.
        cluster: address of a Dask scheduler, whose workers see the same files; None starts local processes.
        workers: local processes, by default one a core; 1 works in this process.
        strict: stop at the first case that fails.
        force: read every case again.

    Raises:
        ConfigError: the configuration finds no cases, or splits that cannot be.
        ValueError: no case could be prepared, or one failed and `strict` is on.
    """
    cases = find_cases(config.cases)
    config.splits.assign({case.name: case.name for case in cases})  # refuse before the work rather than after it
    announce_cases(cases, config)
    cases_folder = config.store / CASES
    cases_folder.mkdir(parents=True, exist_ok=True)
    processes = 1 if cluster is None and len(cases) == 1 else min(workers or os.cpu_count() or 1, len(cases))
    entries: dict[str, _Entry] = {}
    report = PrepareReport(store=str(config.store), workers=processes)
    settings = _anywhere(config, cases)
    with _team(cluster, processes) as team, progress("prepare", len(cases)) as tell:
        report = replace(report, workers=team.workers, memory_limit=team.memory_limit)
        jobs = ((case.name, (_work, case, settings, force)) for case in cases)
        for name, outcome in team.run(jobs):
            if isinstance(outcome, str):
                report.failed[name] = outcome
                tell(f"{name} failed: {outcome}")
                if strict:
                    raise ValueError(f"case {name} failed, and strict is on: {outcome}")
                continue
            entries[name] = outcome
            (report.prepared if outcome.pop("fresh") else report.kept).append(name)
            report = replace(report, memory_peak=max(report.memory_peak, outcome.pop("memory")))
            tell(f"{name}: " + ", ".join(f"{each} {points}" for each, points in outcome["counts"].items()))
    lengths = {name: entry["body"]["length"][0] for name, entry in entries.items()}
    for name, why in other_units(lengths).items():
        if strict:
            raise ValueError(f"case {name} failed, and strict is on: {why}")
        report.failed[name] = why
        (report.prepared if name in report.prepared else report.kept).remove(name)
        del entries[name]
    if not entries:
        raise ValueError(f"none of {len(cases)} cases could be prepared; the first failed so: {_first(report.failed)}")
    entries = {case.name: entries[case.name] for case in cases if case.name in entries}
    splits = _splits(config, [case.name for case in cases], entries)
    report.notes.extend(_notes(entries, splits, config))
    report.splits.update({split: len(names) for split, names in splits.items()})
    for names in (report.prepared, report.kept):
        names.sort()
    write_json(config.store / STATISTICS, _statistics(entries, splits))
    write_json(config.store / MANIFEST, _manifest(config, entries, splits))
    return report


def _first(failed: Mapping[str, str]) -> str:
    name = next(iter(failed))
    return f"{name}: {failed[name]}"


def _anywhere(config: DataConfig, cases: Sequence[RawCase]) -> DataConfig:
    """Return settings whose paths mean the same to a worker in another folder."""
    parameters, file = config.parameters, config.parameters.file
    if file is not None and not (cases[0].folder / file).is_file() and (shared := Path(file).expanduser()).is_file():
        parameters = replace(parameters, file=str(shared.resolve()))
    return replace(config, store=config.store.resolve(), parameters=parameters)


# --- one case


def _work(case: RawCase, config: DataConfig, force: bool) -> _Entry | str:
    """Prepare one case in a worker; return its entry in the manifest, or why it failed."""
    try:
        return _prepare_case(case, config, force)
    except (OSError, ValueError, MemoryError) as error:
        return sentence(error)


def _prepare_case(case: RawCase, config: DataConfig, force: bool) -> _Entry:
    sources = sources_of(case, config)
    digest = _digest(config, sources, case)
    path = config.store / CASES / f"{case.name}.h5"
    record = None if force else _record(path)
    fresh = record is None or record.get("digest") != digest
    if fresh:
        prepared = read_case(case, config)
        specs = {name: {key: asdict(spec) for key, spec in each.items()} for name, each in prepared.specs.items()}
        record = prepared.summary() | {"digest": digest, "sources": sources, "specs": specs}
        write_case(
            path,
            branches=prepared.branches,
            geometry=prepared.geometry,
            parameters=prepared.parameters,
            condition=prepared.condition,
            record=record,
            precision=config.precision,
        )
    assert record is not None
    file = {"file": f"{CASES}/{path.name}", "bytes": path.stat().st_size, "sha256": sha256(path)}
    return file | record | {"fresh": fresh, "memory": peak_memory()}


def _digest(config: DataConfig, sources: Mapping[str, Mapping[str, str]], case: RawCase) -> str:
    """Return the checksum of all that decides the file of a case."""
    settings = to_dict(config)
    for name in ("store", "cases", "splits", "beyond_memory"):
        del settings[name]
    files = {role: source["sha256"] for role, source in sources.items()}
    del settings["parameters"]["file"]
    found = re.search(config.parameters.pattern or "", case.path.as_posix())
    decides = [FORMAT, REVISION, settings, files, found and found.groupdict()]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _record(path: Path) -> _Entry | None:
    """Return what a file of the store says of itself; None where there is no whole file."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return json.loads(str(file.attrs["record"]))
    except (OSError, KeyError, json.JSONDecodeError):
        return None


# --- parallel


@dataclass(frozen=True)
class _Team:
    """Who works: runs jobs and yields what came of each, in any order."""

    workers: int
    memory_limit: int | None
    run: Callable[[Iterator[tuple[str, Sequence[Any]]]], Iterator[tuple[str, _Entry | str]]]


@contextmanager
def _team(cluster: str | None, processes: int) -> Iterator[_Team]:
    if cluster is None and processes == 1:
        yield _Team(1, None, lambda jobs: ((name, work(*arguments)) for name, (work, *arguments) in jobs))
        return
    import dask.config
    from distributed import Client, LocalCluster

    if cluster is not None:
        with Client(cluster, timeout="30s", set_as_default=False) as client:
            yield _dask_team(client)
        return
    settings: dict[str, Any] = {"n_workers": processes, "threads_per_worker": 1, "processes": True}
    # A page that nobody asked for: no dashboard, and the server that remains takes any free port of this machine.
    private: dict[str, Any] = {"dashboard_address": "127.0.0.1:0"}
    routes = {f"distributed.{each}.http.routes": [] for each in ("scheduler", "worker")}
    with (
        _quiet("distributed"),
        dask.config.set(routes),
        LocalCluster(**settings, **private) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield _dask_team(client)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a library's account of its own doings out of the log."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _dask_team(client: Any) -> _Team:
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    limit = min((int(worker["memory_limit"]) for worker in workers if worker["memory_limit"]), default=None)

    def run(jobs: Iterator[tuple[str, Sequence[Any]]]) -> Iterator[tuple[str, _Entry | str]]:
        futures = {client.submit(*job, pure=False, retries=0): name for name, job in jobs}
        try:
            for future in as_completed(futures, loop=client.loop):
                error = future.exception()
                if isinstance(error, KilledWorker):
                    most = f" of {limit / 2**30:.1f} GiB" if limit else ""
                    yield (
                        futures[future],
                        f"its worker died, most likely over the memory limit{most}; use fewer workers",
                    )
                elif error is not None:
                    raise error
                else:
                    yield futures[future], future.result()
        finally:
            client.cancel(list(futures), force=True)

    return _Team(len(workers), limit, run)


# --- the whole


def _splits(config: DataConfig, names: Sequence[str], entries: Mapping[str, _Entry]) -> dict[str, list[str]]:
    """Assign all cases, so that a failure moves no other case, then leave out what failed."""
    geometries = {name: entries[name]["geometry"] if name in entries else name for name in names}
    splits = {
        split: [name for name in each if name in entries] for split, each in config.splits.assign(geometries).items()
    }
    if not splits[SPLITS[0]]:
        raise ValueError("every case of the training split failed; see what prepare reported of each")
    return splits


def _statistics(entries: Mapping[str, _Entry], splits: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    training = [entries[name] for name in splits[SPLITS[0]]]
    branches = {branch: list(fields) for branch, fields in training[0]["moments"].items()}
    shared = set.intersection(*(set(entry["parameters"]) for entry in training))

    def over_cases(rows: list[Any]) -> dict[str, Any]:
        return Moments.of(np.array(rows, dtype=np.float64).reshape(len(rows), -1)).to_json()

    corners = {branch: np.array([entry["bounds"][branch] for entry in training]) for branch in branches}
    return {
        "format": FORMAT,
        "fields": {
            branch: {
                name: merge([Moments.from_json(entry["moments"][branch][name]) for entry in training]).to_json()
                for name in names
            }
            for branch, names in branches.items()
        },
        "parameters": {
            name: over_cases([entry["parameters"][name] for entry in training])
            for name in training[0]["parameters"]
            if name in shared
        },
        "body": {name: over_cases([entry["body"][name] for entry in training]) for name in training[0]["body"]},
        "bounds": {
            branch: [each[:, 0].min(axis=0).tolist(), each[:, 1].max(axis=0).tolist()]
            for branch, each in corners.items()
        },
        "cell_size": {
            branch: float(np.median([entry["cell_size"][branch] for entry in training])) for branch in branches
        },
    }


def _manifest(config: DataConfig, entries: Mapping[str, _Entry], splits: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    settings = to_dict(config)
    listed = ("file", "counts", "bytes", "sha256", "sources", "geometry", "body", "forces")
    return {
        "format": FORMAT,
        "written_by": f"anchorfield {__version__}",
        "space": list(config.space),
        "branches": {name: branch.kind for name, branch in config.branches.items()},
        "fields": next(iter(entries.values()))["specs"],
        "conditions": list(config.conditions),
        "conventions": settings["conventions"],
        "force_settings": settings["forces"],
        "splits": {split: list(names) for split, names in splits.items()},
        "cases": {name: {key: entry[key] for key in listed} for name, entry in entries.items()},
    }


def _notes(entries: Mapping[str, _Entry], splits: Mapping[str, Sequence[str]], config: DataConfig) -> list[str]:
    notes = [note for entry in entries.values() for note in entry["notes"]]
    for split in SPLITS[1:]:
        if not splits[split]:
            notes.append(f"no case is in the split {split}; see data.splits")
    training = {entries[name]["geometry"]: name for name in splits[SPLITS[0]]}
    for split in SPLITS[1:]:
        for name in splits[split]:
            if (twin := training.get(entries[name]["geometry"])) is not None:
                notes.append(f"{name} ({split}) has the same geometry as {twin} (training): scores will flatter")
    for condition in config.conditions:
        values = {entries[name]["parameters"][condition] for name in splits[SPLITS[0]]}
        if len(values) == 1 and len(splits[SPLITS[0]]) > 1:
            notes.append(f"condition {condition} is {values.pop():g} in all of training: it is recorded, not learnt")
    return notes
