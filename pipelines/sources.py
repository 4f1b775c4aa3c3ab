"""What raw files hold and which role each array plays: the `data` section of an experiment."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import glob
from hashlib import sha256
from pathlib import Path
from typing import Literal

from meshes.fields import FieldSpec
from meshes.paths import absence
from meshes.reading import is_case
from meshes.stores.layout import GEOMETRY, PLACES, SPLITS
from pipelines.expressions import names_in
from pipelines.forces import Conventions, ForceConfig
from pipelines.settings import ConfigError, nearest

# A time, or several to average over; see `meshes.reading.Time`.
Time = int | float | str | tuple[int | float, ...]
METRES = {"m": 1.0, "mm": 1e-3, "cm": 1e-2, "um": 1e-6, "km": 1e3, "in": 0.0254, "ft": 0.3048}


@dataclass(frozen=True, kw_only=True)
class GeometrySource:
    """The body of a case: a surface file of its own, or some blocks of a file.

    Attributes:
        file: name in the case folder; `{name}` stands for the case, and `*` may stand for what differs. `.` is the case
            folder itself, where it is an OpenFOAM case.
        blocks: as in `BranchSource`.
        time: as in `BranchSource`.
    """

    file: str
    blocks: tuple[str, ...] = ()
    time: Time | None = None


@dataclass(frozen=True, kw_only=True)
class BranchSource:
    """The file that holds the fields of one branch.

    Attributes:
        file: name in the case folder; `{name}` stands for the case, and `*` may stand for what differs. `.` is the case
            folder itself, where it is an OpenFOAM case.
        kind: `surface` for the wall of the body, `volume` for the fluid around it.
        fields: what is read, by the name it gets; other arrays are not loaded.
        blocks: patches of an OpenFOAM case, parts of an EnSight one, blocks of a collection: names, or patterns such as
            `wheel*`, of which one mesh is made. Empty takes all, and of an OpenFOAM case the inner mesh.
        time: a number, `latest`, or the mean over several: a list of numbers, or all in a range such as
            `200 to latest`. None is the only time there is, and of an OpenFOAM case the latest.
    """

    file: str
    kind: Literal["surface", "volume"]
    fields: dict[str, FieldSpec]
    blocks: tuple[str, ...] = ()
    time: Time | None = None

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("fields is empty; name at least one, such as pressure: {array: p, unit: Pa}")
        for name, spec in self.fields.items():
            if name in PLACES:
                raise ValueError(f"a field cannot be called {name!r}, which names a place; choose another name")
            for expression in (spec.scale, *(spec.free_stream or ())):
                names_in(expression)


@dataclass(frozen=True, kw_only=True)
class ParameterSource:
    """Where the numbers of a case come from. Later sources win: values, then pattern, then file.

    Attributes:
        file: JSON or CSV, in the case folder or else for all cases. Nested keys are joined by dots, lists become
            `name_0`, `name_1` …, texts are left out.
        pattern: regular expression searched in the path of the case; its named groups are parameters, such as
            `U(?P<speed>[0-9.]+)`.
        values: numbers that hold for every case.
        name_column: for a CSV of many cases, the column that holds their names.
    """

    file: str | None = None
    pattern: str | None = None
    values: dict[str, float] = field(default_factory=dict)
    name_column: str = "name"

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.pattern or "").groupindex
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is no regular expression: {error}") from error
        if self.pattern is not None and not groups:
            raise ValueError(f"pattern {self.pattern!r} names no parameter; write groups such as (?P<speed>[0-9.]+)")


@dataclass(frozen=True, kw_only=True)
class NamedSplits:
    """Validation and test cases by name; all others train.

    Attributes:
        validation: names of cases, or patterns such as `naca_00_04[5-9]`; they choose the checkpoint.
        test: likewise; they are scored and decide nothing.
    """

    kind: Literal["names"] = "names"
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def assign(self, geometries: Mapping[str, str]) -> dict[str, list[str]]:
        """Return the names of the cases of each split.

        Args:
            geometries: for each case, in order, what tells its geometry from others.

        Raises:
            ConfigError: a name or pattern fits no case, a case is in two splits, or none is left for training.
        """
        return _by_patterns({"validation": self.validation, "test": self.test}, list(geometries))


@dataclass(frozen=True, kw_only=True)
class FractionSplits:
    """Validation and test cases by lot. Cases of one geometry stay together.

    Attributes:
        validation: part of the geometries.
        test: part of the geometries.
        seed: decides the lot, together with the names of the cases.
    """

    kind: Literal["fractions"] = "fractions"
    validation: float = 0.1
    test: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            parts = f"validation {self.validation} and test {self.test}"
            raise ValueError(f"{parts} should not be negative and leave some geometries for training")

    def assign(self, geometries: Mapping[str, str]) -> dict[str, list[str]]:
        """Return the names of the cases of each split; see `NamedSplits.assign`."""
        groups: dict[str, list[str]] = {}
        for name, geometry in geometries.items():
            groups.setdefault(geometry, []).append(name)
        parts = [part for part in (self.validation, self.test) if part]
        if len(groups) <= sum(max(1, round(part * len(groups))) for part in parts):
            message = f"{len(geometries)} cases have {len(groups)} different geometries, which are not split"
            raise ConfigError(f"data.splits: {message}, and none is left for training; name cases with kind: names")
        drawn = sorted(groups.values(), key=lambda names: sha256(f"{self.seed}/{names[0]}".encode()).digest())
        chosen: dict[str, list[str]] = {}
        for split, part in (("test", self.test), ("validation", self.validation)):
            count = max(1, round(part * len(groups))) if part else 0
            chosen[split] = [name for names in drawn[:count] for name in names]
            drawn = drawn[count:]
        return _with_training(chosen, list(geometries))


@dataclass(frozen=True, kw_only=True)
class FileSplits:
    """Splits from a JSON file with lists of names or patterns under `validation`, `test` and, if you like, `training`.

    Attributes:
        file: path of the file.
    """

    kind: Literal["file"] = "file"
    file: str

    def assign(self, geometries: Mapping[str, str]) -> dict[str, list[str]]:
        """Return the names of the cases of each split; see `NamedSplits.assign`."""
        try:
            content = json.loads(Path(self.file).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"data.splits.file: {self.file} cannot be read: {error}") from error
        lists = isinstance(content, dict) and all(isinstance(each, list) for each in content.values())
        if not lists or not set(content) <= set(SPLITS):
            raise ConfigError(f"data.splits.file: {self.file} should hold lists of names under {', '.join(SPLITS)}")
        return _by_patterns(content, list(geometries))


Splits = NamedSplits | FractionSplits | FileSplits


def _by_patterns(patterns: Mapping[str, Sequence[str]], names: list[str]) -> dict[str, list[str]]:
    chosen: dict[str, list[str]] = {}
    taken: dict[str, str] = {}
    for split, each in patterns.items():
        chosen[split] = []
        for pattern in each:
            fitting = [name for name in names if fnmatchcase(name, pattern)]
            if not fitting:
                raise ConfigError(f"data.splits: {pattern!r} of {split} fits no case{nearest(pattern, names)}")
            for name in fitting:
                if taken.setdefault(name, split) != split:
                    raise ConfigError(f"data.splits: case {name!r} is in both {taken[name]} and {split}")
            chosen[split] += [name for name in fitting if name not in chosen[split]]
    return _with_training(chosen, names)


def _with_training(chosen: Mapping[str, Sequence[str]], names: list[str]) -> dict[str, list[str]]:
    """Add to training what no split has, and put names in order."""
    taken = {name: split for split, each in chosen.items() for name in each}
    splits = {split: [name for name in names if taken.get(name, SPLITS[0]) == split] for split in SPLITS}
    if not splits[SPLITS[0]]:
        raise ConfigError(f"data.splits leaves none of {len(names)} cases for training")
    return splits


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Raw cases, what is read from them, and the store that it becomes.

    Attributes:
        store: folder that `prepare` writes and training reads.
        cases: pattern of case folders, or of one file a case, relative to the folder that the command runs in.
        space: axes that positions have; with two, the third is dropped from positions and vectors, and of
            pseudovectors it alone is kept.
        unit_of_length: of the files; the store is in metres.
        geometry: file of the body; None takes the wall of the surface branch.
        branches: what is learnt, by name.
        parameters: where the numbers of a case come from.
        conditions: those that the operator is given.
        conventions: how the solver wrote pressure, shear and symmetry.
        forces: what makes coefficients of forces; None integrates forces only.
        splits: which cases train, which choose the checkpoint and which are scored: by name, by lot or from a file.
        precision: of the fields in the store. `float16` halves it, and keeps three digits.
        beyond_memory: read meshes even where they seem to need more memory than there is.
        not_finite: what to do where a field is NaN or infinite: `refuse` the case, or `drop` the cells or points.
    """

    store: Path
    cases: str
    space: tuple[Literal["x", "y", "z"], ...] = ("x", "y", "z")
    unit_of_length: Literal["m", "mm", "cm", "um", "km", "in", "ft"] = "m"
    geometry: GeometrySource | None = None
    branches: dict[str, BranchSource]
    parameters: ParameterSource = field(default_factory=ParameterSource)
    conditions: tuple[str, ...] = ()
    conventions: Conventions = field(default_factory=Conventions)
    forces: ForceConfig | None = None
    splits: Splits = field(default_factory=FractionSplits)
    precision: Literal["float32", "float16"] = "float32"
    beyond_memory: bool = False
    not_finite: Literal["refuse", "drop"] = "refuse"

    def __post_init__(self) -> None:
        if self.space not in (("x", "y", "z"), ("x", "y"), ("x", "z"), ("y", "z")):
            raise ValueError(f"space is {list(self.space)}; expected [x, y, z], or two of them in this order")
        if not self.branches:
            raise ValueError("branches is empty; name at least one, such as surface")
        if GEOMETRY in self.branches:
            raise ValueError(f"a branch cannot be called {GEOMETRY!r}, which holds the body")
        if self.geometry is None and not self.surfaces:
            raise ValueError("geometry is null and no branch is a surface: name the file of the body under geometry")
        if self.conventions.symmetry is not None and self.conventions.symmetry not in self.space:
            raise ValueError(f"conventions.symmetry is {self.conventions.symmetry}, which is not an axis of space")

    @property
    def surfaces(self) -> list[str]:
        """Names of the branches that lie on the body."""
        return [name for name, branch in self.branches.items() if branch.kind == "surface"]

    @property
    def axes(self) -> tuple[int, ...]:
        """Columns of a three-dimensional position that are kept."""
        return tuple("xyz".index(axis) for axis in self.space)


@dataclass(frozen=True)
class RawCase:
    """One simulation as its files lie there.

    Attributes:
        name: of the folder, or of the file without suffix.
        folder: where its files are.
        path: the folder, or the one file that the pattern found.
    """

    name: str
    folder: Path
    path: Path

    def file(self, name: str) -> Path:
        """Return the file that a source names.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: a pattern fits several files.
        """
        name = name.replace("{name}", self.name)
        if not any(mark in name for mark in "*?["):
            path = self.folder / name
            if is_case(path):
                return path
            if not path.is_file():
                if is_case(self.folder) and path.suffix == ".foam":
                    raise FileNotFoundError(f"{path} is not there; of the OpenFOAM case {self.folder} write file: .")
                if path.is_symlink():
                    raise FileNotFoundError(absence(path))
                if path.is_dir():
                    raise FileNotFoundError(f"{path} is a folder; expected a file of that name")
                there = sorted(each.name for each in self.folder.iterdir() if each.is_file())
                listing = ", ".join(there[:12]) or "no files"
                raise FileNotFoundError(f"{path} is not there; the folder holds {listing}{nearest(name, there)}")
            return path
        found = sorted(self.folder.glob(name))
        if not found:
            raise FileNotFoundError(f"no file in {self.folder} fits {name!r}")
        if len(found) > 1:
            some = ", ".join(str(each.relative_to(self.folder)) for each in found[:5])
            raise ValueError(f"{len(found)} files in {self.folder} fit {name!r} ({some} …); one was expected")
        return found[0]


def find_cases(pattern: str) -> list[RawCase]:
    """Return the cases that a pattern finds, by name.

    Raises:
        ConfigError: it finds none, or two of one name.
    """
    # Links keep their own names, which tell the cases apart.
    found = sorted(Path(os.path.abspath(each)) for each in glob(str(Path(pattern).expanduser()), recursive=True))
    if not found:
        raise ConfigError(f"data.cases: nothing fits {pattern!r}, seen from {Path.cwd()}")
    cases: dict[str, RawCase] = {}
    for path in found:
        if not path.exists():
            raise ConfigError(f"data.cases: {absence(path)}")
        case = RawCase(path.name, path, path) if path.is_dir() else RawCase(path.stem, path.parent, path)
        if case.name in cases:
            message = f"data.cases: {cases[case.name].path} and {path} are both called {case.name!r}"
            raise ConfigError(f"{message}; let the pattern find one file or folder a case")
        cases[case.name] = case
    return [cases[name] for name in sorted(cases)]
