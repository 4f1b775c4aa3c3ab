"""What the files of a user's cases hold: arrays and their ranges, bodies and their sizes, and numbers beside."""

import csv
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from meshes.kinds import dimensions
from meshes.mesh import Mesh
from meshes.reading import ReadError, files_of, find_joins, open_source, read, read_blocks
from meshes.reading.joining import join
from meshes.reading.merging import merge
from meshes.reading.times import LATEST
from pipelines.bodies import measure_body
from pipelines.finding import find_in_folders, shared_files, template_of
from pipelines.parameters import read_parameters
from pipelines.sources import ParameterSource, RawCase

# Cases whose files are read whole, spread evenly over all of them; no further file is read beyond these bytes.
SAMPLED, BUDGET = 5, 4 * 10**9
# Coordinates closer than this part of the diagonal are one level of a mesh one cell thick.
LEVEL = 1e-6
# Part of the volume's cells, the farthest from its middle, that tell the free stream.
FAR = 0.05
PARAMETER_SUFFIXES = (".json", ".yaml", ".yml", ".csv")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Array:
    """One array of one file.

    Attributes:
        association: whether it lies on points or on cells.
        components: columns.
        minimum, maximum: over all components and finite values.
        rms: root mean square of its magnitude.
        mean: of each component: on a surface by area, in a volume the median far from the middle.
        bad: values that are NaN or infinite.
    """

    association: Literal["point", "cell"]
    components: int
    minimum: float
    maximum: float
    rms: float
    mean: tuple[float, ...]
    bad: int


@dataclass(frozen=True, kw_only=True)
class Look:
    """One file, read whole.

    Attributes:
        role: `volume`, `surface`, `geometry` for a surface without arrays, or `none` for lines and points.
        cells: of the highest dimension.
        lower, upper: corners of the bounding box.
        thin: axes along which there are at most two levels of points: a plane, or a strip one cell thick.
        open: area that is missing across each axis, over that side of the box; of surfaces only.
        length: of the body as `measure_body` gives it; None for volumes.
        arrays: by name.
        joined: for each vector that is stored by components, their names.
    """

    path: Path
    role: Literal["volume", "surface", "geometry", "none"]
    cells: int
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    thin: tuple[int, ...]
    open: tuple[float, ...] | None
    length: float | None
    arrays: dict[str, Array]
    joined: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Files:
    """A file that each case has.

    Attributes:
        template: what a configuration writes under `file`.
        part: of a case or collection of several blocks, `volume` or `surface`; empty for a file of one mesh.
        blocks: those that are meant; empty for all, and for the inner mesh of an OpenFOAM case.
        time: `latest` where there are several times and one must be named.
        cases: names of the cases that have it.
        looks: by case, of those that were read.
    """

    template: str
    part: str = ""
    blocks: tuple[str, ...] = ()
    time: str | None = None
    cases: list[str]
    looks: dict[str, Look] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How messages call it."""
        blocks = f" ({', '.join(self.blocks[:3])}{' …' if len(self.blocks) > 3 else ''})" if self.blocks else ""
        return ("the OpenFOAM case" if self.template == "." else self.template) + blocks

    @property
    def first(self) -> Look:
        """What the first case that was read holds."""
        return next(iter(self.looks.values()))

    def arrays(self) -> dict[str, Array]:
        """Arrays that all cases which were read have."""
        return {
            name: array
            for name, array in self.first.arrays.items()
            if all(name in look.arrays for look in self.looks.values())
        }


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Parameters of the cases.

    Attributes:
        file: as `ParameterSource` takes it; None where there is none.
        name_column: of a table of all cases.
        values: by case.
        texts: what the first file says in words.
        others: further files that hold numbers.
    """

    file: str | None = None
    name_column: str = "name"
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of what every case has."""
        shared = set.intersection(*(set(each) for each in self.values.values())) if self.values else set()
        first = next(iter(self.values.values()), {})
        columns = {name: [each[name] for each in self.values.values()] for name in first if name in shared}
        return {name: (min(column), max(column)) for name, column in columns.items()}


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found.

    Attributes:
        pattern: that finds the cases, as `DataConfig.cases` takes it.
        cases: in order of their names.
        files: those whose meshes were read.
        numbers: of the cases.
        notes: what a user should know, one sentence each.
    """

    pattern: str
    cases: list[RawCase]
    files: list[Files]
    numbers: Numbers
    notes: list[str]


def survey(paths: Sequence[str | Path]) -> Survey:
    """Look at a user's files.

    Args:
        paths: a folder of cases, the case folders themselves, files of which each is a case, or patterns of these.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: there are no meshes, the cases cannot be told by one pattern, or none can be read.
    """
    notes: list[str] = []
    cases, pattern = find_in_folders(paths, notes)
    files = _look(cases, shared_files(cases, notes), notes)
    for each in files:
        missing = [case.name for case in cases if case.name not in each.cases]
        if missing:
            notes.append(f"{_some(missing, len(cases))} {'lack' if each.template == '.' else 'have no'} {each.name}")
        _compare(each, notes)
    return Survey(pattern=pattern, cases=cases, files=files, numbers=_numbers(cases, notes), notes=notes)


# --- Files


def _look(cases: Sequence[RawCase], templates: Mapping[str, Mapping[str, Path]], notes: list[str]) -> list[Files]:
    """Read the files of some cases, of those that have most of them."""
    rare = max(1, len(cases) // 10)
    common = {template: paths for template, paths in templates.items() if len(paths) >= min(rare + 1, len(cases))}
    whole = [case for case in cases if all(case.name in paths for paths in common.values())] or list(cases)
    picks = np.unique(np.linspace(0, len(whole) - 1, min(SAMPLED, len(whole))).round().astype(int))
    files: dict[tuple[str, str], Files] = {}
    spent = 0
    for case in (whole[pick] for pick in picks):
        for template, paths in common.items():
            if case.name not in paths:
                continue
            path = paths[case.name]
            try:
                size = sum(file.stat().st_size for file in files_of(path, time=_latest(path)))
                if any(name == template for name, _ in files) and spent + size > BUDGET:
                    continue
                spent += size
                _log.info("%s (%.1f MB)", path, size / 1e6)
                _look_into(path, template, case.name, list(paths), files)
            except (ReadError, FileNotFoundError) as error:  # the second where it names a file that is not there
                notes.append(f"left out: {error}")
    if not files:
        raise ValueError(notes[-1] if notes else "no file could be read")
    return list(files.values())


def _latest(path: Path) -> str | None:
    """Return what a configuration must say where there are several times."""
    source = open_source(path)
    return LATEST if len(source.times()) > 1 else None


def _look_into(path: Path, template: str, case: str, cases: list[str], files: dict[tuple[str, str], Files]) -> None:
    """Read a file, or the blocks of a collection that make up its volume and its body."""
    source, time = open_source(path), _latest(path)
    said = None if source.latest else time
    blocks = source.blocks(source.times()[-1] if source.times() else None)
    if len(blocks) < 2:
        files.setdefault((template, ""), Files(template=template, time=said, cases=cases))
        files[template, ""].looks[case] = look(read(path, time=time), path)
        return
    meshes = read_blocks(path, time=time)
    inner = {name: mesh for name, mesh in meshes.items() if dimensions(mesh.types).max() == 3}
    known = files.get((template, "surface"))
    walls = known.blocks if known else tuple(_bodies(meshes, inner))
    for part, names in (("volume", tuple(inner)), ("surface", walls)):
        there = {name: meshes[name] for name in names if name in meshes}
        if not there:
            continue
        kept = () if part == "volume" and source.usual(blocks) == list(there) else names
        files.setdefault(
            (template, part), Files(template=template, part=part, blocks=kept, time=said, cases=cases)
        ).looks[case] = look(merge(there, str(path)), path)


def _bodies(meshes: Mapping[str, Mesh], inner: Mapping[str, Mesh]) -> list[str]:
    """Return the surfaces that lie within the fluid; with no fluid to tell, all.

    What bounds the fluid itself, such as the inlet, the ground and the sides, lies in a side of its box, or reaches
    from one side to the one across.
    """
    surfaces = {name: mesh for name, mesh in meshes.items() if mesh.is_surface}
    if not inner:
        return list(surfaces)
    points = np.concatenate([mesh.points for mesh in inner.values()]).astype(np.float64)
    lower, upper = points.min(axis=0), points.max(axis=0)
    near = LEVEL * float(np.linalg.norm(upper - lower))
    thin = [axis for axis in range(3) if _levels(points[:, axis], near) <= 2]
    axes = [axis for axis in range(3) if len(thin) != 1 or axis not in thin]
    found = []
    for name, mesh in surfaces.items():
        corners = mesh.points[mesh.connectivity][:, axes]
        low = np.abs(corners.min(axis=0) - lower[axes]) < near
        high = np.abs(corners.max(axis=0) - upper[axes]) < near
        flat = np.ptp(corners, axis=0) < near
        if not (low & high).any() and not (flat & (low | high)).any():
            found.append(name)
    return found


def _levels(values: Float[np.ndarray, " point"], near: float) -> int:
    return len(np.unique(np.round((values - values.min()) / (near or 1))))


def _compare(files: Files, notes: list[str]) -> None:
    """Note arrays that only some cases have."""
    every = {name for look in files.looks.values() for name in look.arrays}
    for name in sorted(every - set(files.arrays())):
        lacking = [case for case, look in files.looks.items() if name not in look.arrays]
        notes.append(f"{files.name} lacks the array {name!r} in {_some(lacking, len(files.looks), 'looked into')}")
    for name, array in files.arrays().items():
        different = {look.arrays[name].components for look in files.looks.values()}
        if len(different) > 1:
            counts = " or ".join(map(str, sorted(different)))
            notes.append(f"{name!r} of {files.name} has {counts} components, not the same in every case")
        bad = sum(look.arrays[name].bad for look in files.looks.values())
        if bad:
            where = next(case for case, look in files.looks.items() if look.arrays[name].bad)
            notes.append(f"{name!r} of {files.name} has {bad} values that are NaN or infinite, first in {where}")
        if array.association != files.first.arrays[name].association:
            notes.append(f"{name!r} of {files.name} lies on points in some cases and on cells in others")


def _some(names: Sequence[str], total: int, what: str = "cases") -> str:
    listing = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    return f"{len(names)} of {total} {what} ({listing})"


def look(mesh: Mesh, path: Path) -> Look:
    """Measure what a configuration is guessed from."""
    joined = _joined(mesh)
    mesh = join(mesh, joined)
    dimension = dimensions(mesh.types)
    highest = int(dimension.max())
    points = mesh.points[np.isfinite(mesh.points).all(axis=1)].astype(np.float64)
    lower, upper = points.min(axis=0), points.max(axis=0)
    near = LEVEL * float(np.linalg.norm(upper - lower))
    thin = tuple(axis for axis in range(3) if _levels(points[:, axis], near) <= 2)
    flat = highest == 2 and any(upper[axis] - lower[axis] <= near for axis in thin)
    role: Literal["volume", "surface", "geometry", "none"] = "none"
    if highest == 3 or (flat and (mesh.cell_data or mesh.point_data)):
        role = "volume"
    elif highest == 2:
        role = "surface" if mesh.cell_data or mesh.point_data else "geometry"
    area, missing, length = None, None, None
    if role in ("surface", "geometry"):
        area, missing, length = _surface(mesh, upper - lower, thin)
    return Look(
        path=path,
        role=role,
        cells=int((dimension == highest).sum()),
        lower=tuple(lower.tolist()),
        upper=tuple(upper.tolist()),
        thin=thin,
        open=missing,
        length=length,
        arrays=_arrays(mesh, role, area),
        joined=joined,
    )


def _joined(mesh: Mesh) -> dict[str, tuple[str, ...]]:
    """Return the vectors that are stored by components, each component in one of them."""
    joined: dict[str, tuple[str, ...]] = {}
    for data in (mesh.cell_data, mesh.point_data):
        for each in find_joins(name for name, array in data.items() if array.size == len(array)):
            taken = {*mesh.cell_data, *mesh.point_data, *joined}
            used = {part for parts in joined.values() for part in parts}
            if each.name not in taken and not used & set(each.parts):
                joined[each.name] = each.parts
    return joined


def _surface(mesh: Mesh, size: Float[np.ndarray, "3"], thin: tuple[int, ...]) -> tuple[np.ndarray, Any, float | None]:
    """Return the area of each cell, how open the surface is across each axis, and its length."""
    from meshes.geometry.cells import area_vectors
    from meshes.geometry.triangulation import triangulate

    vectors = area_vectors(mesh)
    area = np.linalg.norm(vectors, axis=1)
    side = np.array([np.prod(np.delete(size, axis)) for axis in range(3)])
    missing = tuple(float(each) for each in np.abs(vectors.sum(axis=0)) / np.where(side > 0, side, 1))
    if not area.sum() > 0:
        return area, missing, None
    vertices, triangles, _ = triangulate(mesh)
    axes = tuple(axis for axis in range(3) if len(thin) != 1 or axis not in thin)
    return area, missing, measure_body(vertices, triangles, space=axes).length


def _arrays(mesh: Mesh, role: str, area: np.ndarray | None) -> dict[str, Array]:
    from meshes.geometry.cells import cell_centres

    arrays: dict[str, Array] = {}
    data: Iterable[tuple[Literal["point", "cell"], Mapping[str, np.ndarray]]]
    data = (("point", mesh.point_data), ("cell", mesh.cell_data))
    for association, each in data:
        numeric = {name: array for name, array in each.items() if array.dtype.kind in "iuf"}
        weights = None
        if numeric and role == "volume":
            position = cell_centres(mesh) if association == "cell" else mesh.points
            distance = np.linalg.norm(position - np.median(position, axis=0), axis=1)
            weights = (distance >= np.quantile(distance, 1 - FAR)).astype(np.float64)
        elif association == "cell" and area is not None:
            weights = area
        for name, array in numeric.items():
            arrays[name] = _array(association, array.reshape(len(array), -1), weights, far=role == "volume")
    return arrays


def _array(
    association: Literal["point", "cell"], values: np.ndarray, weights: np.ndarray | None, *, far: bool
) -> Array:
    finite = np.isfinite(values).all(axis=1)
    kept = values[finite].astype(np.float64)
    weights = np.ones(len(kept)) if weights is None else weights[finite]
    if not len(kept) or not weights.sum() > 0:
        kept, weights = np.zeros((1, values.shape[1])), np.ones(1)
    mean = np.median(kept[weights > 0], axis=0) if far else np.average(kept, axis=0, weights=weights)
    return Array(
        association=association,
        components=values.shape[1],
        minimum=float(kept.min()),
        maximum=float(kept.max()),
        rms=float(np.sqrt((kept**2).sum(axis=1).mean())),
        mean=tuple(mean.tolist()),
        bad=int((~finite).sum()),
    )


# --- Numbers


def _numbers(cases: Sequence[RawCase], notes: list[str]) -> Numbers:
    """Read the parameters of the cases: of the file in each, or of the table of all, that tells most."""
    found: list[Numbers] = []
    for source in (*_in_each(cases), *_tables(cases)):
        values = {}
        for case in cases:
            try:
                values[case.name] = read_parameters(case, source)
            except (FileNotFoundError, ValueError):  # a file of something else, or not of every case
                continue
        if values and any(values.values()):
            found.append(Numbers(file=source.file, name_column=source.name_column, values=values))
    if not found:
        return Numbers()
    # What lies in the cases themselves comes first, then what more cases have, then what tells more.
    best = max(found, key=lambda each: (len(each.values), each.name_column == "name", len(each.ranges())))
    if missing := [case.name for case in cases if case.name not in best.values]:
        notes.append(f"{_some(missing, len(cases))} have no numbers in {best.file}")
    others = [str(each.file) for each in found if each is not best]
    return replace(best, others=others, texts=_texts(cases, best))


def _in_each(cases: Sequence[RawCase]) -> list[ParameterSource]:
    names: Counter[str] = Counter()
    for case in cases:
        for file in sorted(case.folder.iterdir()):
            if file.is_file() and file.suffix.lower() in PARAMETER_SUFFIXES:
                if not case.path.is_dir() and file.stem != case.name:
                    continue
                names[file.name] += 1
    templates: dict[str, None] = {}
    for name, count in names.items():
        by_case = [template_of(name, case.name) for case in cases if (case.folder / name).is_file()]
        templates[name if count > 1 or len(cases) == 1 else by_case[0]] = None
    return [ParameterSource(file=name) for name in templates]


def _tables(cases: Sequence[RawCase]) -> list[ParameterSource]:
    """Find tables beside or above the cases that have a column with their names."""
    names = {case.name for case in cases}
    parent = cases[0].path.parent
    sources = []
    for file in [*sorted(parent.glob("*.csv")), *sorted(parent.parent.glob("*.csv"))]:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened))
        for column in rows[0] if rows else ():
            if column and len(names & {(row[column] or "").strip() for row in rows}) > len(names) / 2:
                sources.append(ParameterSource(file=str(file), name_column=column))
                break
    return sources


def _texts(cases: Sequence[RawCase], numbers: Numbers) -> dict[str, str]:
    from pipelines.parameters import parameter_file, read_texts

    first = next(case for case in cases if case.name in numbers.values)
    return read_texts(parameter_file(first, str(numbers.file)))
