"""A first configuration from a user's files: what they hold, what is guessed from it, and what only the user knows."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from meshes.aside import write_text
from pipelines.composition import parse, to_flow
from pipelines.forces import PRESSURE, SHEAR
from pipelines.guesses import (
    KINDS,
    ROLES,
    VELOCITY,
    VORTICITY,
    Known,
    Stream,
    half,
    is_coefficient,
    known,
    pressure_reason,
    roles,
    scale,
    shear_reason,
    stream,
    stress_scales,
)
from pipelines.settings import UNKNOWN, unknown_settings
from pipelines.sources import DataConfig
from pipelines.survey import Array, Files, Survey, survey

_WIDTH = 118
_UNITS = {
    PRESSURE: "Pa; m²/s² where over density; 1 for a coefficient",
    SHEAR: "as the pressure",
    VELOCITY: "m/s",
    VORTICITY: "1/s",
}


@dataclass(frozen=True, kw_only=True)
class InitReport:
    """What `initialise` found and wrote.

    Attributes:
        out: the configuration.
        cases: how many there are.
        read: files that were read whole.
        fields: for each branch the array that plays each role.
        unknown: paths of the settings that the user has to write.
        notes: what a user should know, one sentence each.
    """

    out: str
    cases: int
    read: int
    fields: dict[str, dict[str, str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them."""
        return asdict(self)

    def render(self) -> str:
        """Say it in words."""
        lines = [f"{self.out}: {_count(self.cases, 'case')}, {_count(self.read, 'file')} read"]
        for branch, fields in self.fields.items():
            lines.append(f"{branch}: " + ", ".join(f"{name} from {array}" for name, array in fields.items()))
        lines += [f"note: {note}" for note in self.notes]
        if self.unknown:
            lines.append(f"Write what no file can tell, {_count(len(self.unknown), 'setting')} that say {UNKNOWN}:")
            lines += [f"  {path}" for path in self.unknown]
        lines.append(f"Check the rest, then: anchorfield prepare {self.out}")
        return "\n".join(lines)


def initialise(paths: Sequence[str | Path], *, out: str | Path = "anchorfield.yaml", force: bool = False) -> InitReport:
    """Look at a user's files and write a commented configuration for them.

    Names of all files are looked at; the meshes of a few cases, spread evenly, are read whole. What no file can tell
    (conventions, units, density, reference area) is written as `UNKNOWN`, which `prepare` refuses; what is guessed
    carries its reason in a comment.

    Args:
        paths: a folder of cases, the case folders themselves, files of which each is a case, or patterns of these.
        out: the file to write.
        force: replace it where it is there.

    Raises:
        FileExistsError: the file is there, and `force` is off.
        FileNotFoundError: there is no such path.
        ValueError: there are no cases, or none that a surrogate could learn from.
    """
    out = Path(out)
    if out.exists() and not force:
        raise FileExistsError(f"{out} is there already; give another --out, or --force to replace it")
    found = survey(paths)
    page = _Page(found, out, paths)
    text = page.text()
    tree = parse(text, str(out))
    unknown = [each.path for each in unknown_settings(DataConfig, tree["data"], "data")]
    write_text(out, text)
    return InitReport(
        out=str(out),
        cases=len(found.cases),
        read=sum(len(files.looks) for files in found.files),
        fields={
            name: {role: spec["array"] for role, spec in branch["fields"].items()}
            for name, branch in tree["data"]["branches"].items()
        },
        unknown=unknown,
        notes=found.notes,
    )


class _Page:
    """The configuration, line by line."""

    def __init__(self, found: Survey, out: Path, paths: Sequence[str | Path]) -> None:
        self.found, self.out, self.paths = found, out, paths
        self.numbers = found.numbers
        self.known: Known = known(found.numbers)
        self.lines: list[str] = []
        self.anchored = False
        self.volume, self.surface, self.geometry = self._choose()
        self.axes = self._axes()
        chosen = (("surface", self.surface), ("volume", self.volume))
        self.roles = {
            kind: (files, roles(files, kind, self.known, self.numbers, len(self.axes)))
            for kind, files in chosen
            if files is not None
        }
        self.roles = {kind: each for kind, each in self.roles.items() if each[1]}
        if not self.roles:
            raise ValueError(self._nothing_to_learn())
        velocity = self.roles["volume"][1].get(VELOCITY, (None,))[0] if "volume" in self.roles else None
        self.stream: Stream = stream(self.volume, velocity, self.known, self.numbers, self.axes)

    # --- Which file is what

    def _choose(self) -> tuple[Files | None, Files | None, Files | None]:
        """Return the volume, the surface and the body among the files."""
        by_role: dict[str, list[Files]] = {"volume": [], "surface": [], "geometry": []}
        for files in self.found.files:
            by_role.setdefault(files.first.role, []).append(files)
        chosen = []
        for role, several in by_role.items():
            if role not in ROLES and role != "geometry":
                continue

            def worth(files: Files, role: str = role) -> tuple[int, int, int]:
                named = len(roles(files, role, self.known, self.numbers, 3)) if role in ROLES else 0
                return named, len(files.cases), files.first.cells

            best = max(several, key=worth, default=None)
            rest = [files.name for files in several if files is not best]
            if best is not None and rest:
                told = "further ones" if len(rest) > 1 else "a further one"
                self.found.notes.append(f"{best.name} is taken for the {role}; {told}: {', '.join(rest[:6])}")
            chosen.append(best)
        volume, surface, geometry = chosen
        return volume, surface, geometry

    def _axes(self) -> tuple[int, ...]:
        """Return the axes of space: two where all meshes are a plane or a strip one cell thick."""
        looks = [look for files in (self.volume, self.surface) if files for look in files.looks.values()]
        thin = set.intersection(*(set(look.thin) for look in looks)) if looks else set()
        return tuple(axis for axis in range(3) if len(thin) != 1 or axis not in thin)

    def _nothing_to_learn(self) -> str:
        there = [f"{files.name} ({', '.join(files.first.arrays) or 'no arrays'})" for files in self.found.files[:6]]
        names = "pressure, velocity, wall shear stress or vorticity"
        return f"no file holds an array that looks like {names}; there are: {'; '.join(there)}"

    # --- Writing

    def put(self, depth: int, text: str, comment: str = "") -> None:
        """Add a line, with its comment behind it or, where that is long, above it."""
        line = "  " * depth + text
        if comment and len(line) + 3 + len(comment) > _WIDTH:
            self.say(depth, comment)
            comment = ""
        self.lines.append(f"{line} # {comment}" if comment else line)

    def say(self, depth: int, comment: str) -> None:
        """Add a comment on lines of its own."""
        indent = "  " * depth + "# "
        self.lines += textwrap.wrap(comment, _WIDTH, initial_indent=indent, subsequent_indent=indent)

    def text(self) -> str:
        """Write the whole configuration."""
        self._head()
        self.put(0, "data:")
        self.put(1, f"store: {to_flow(f'stores/{self.out.stem}')}", "folder that prepare writes and training reads")
        kind = "folders" if self.found.cases[0].path.is_dir() else "files"
        self.put(1, f"cases: {to_flow(self.found.pattern)}", f"{len(self.found.cases)} {kind}")
        self._space()
        self._geometry()
        self.put(1, "branches:")
        for kind, (files, fields) in self.roles.items():
            self._branch(kind, files, fields)
        self._parameters()
        self._conventions()
        self._forces()
        self._splits()
        self.put(0, f"tracking: {to_flow({'kind': 'mlflow', 'experiment': self.out.stem})}")
        return "\n".join(self.lines) + "\n"

    def _head(self) -> None:
        looked = len(set(chain.from_iterable(files.looks for files in self.found.files)))
        told = " ".join(str(path) for path in self.paths[:3]) + (" …" if len(self.paths) > 3 else "")
        told = (
            f"Written by `anchorfield init {told}` from {_count(len(self.found.cases), 'case')}, {looked} of them read."
        )
        self.say(0, told)
        self.say(0, f"Replace every {UNKNOWN}, which no file can tell, and check what is guessed.")
        for note in self.found.notes:
            self.say(0, f"Note: {note}.")
        small, large = "[operators/ab_upt_small, training/cpu]", "[operators/ab_upt, training/one_gpu]"
        if _has_gpu():
            self.put(0, f"extends: {large}", f"without a GPU: {small}")
        else:
            self.put(0, f"extends: {small}", f"without a GPU; with one: {large}")
        self.say(
            0,
            "configs/experiments/ahmed.yaml shows settings for bodies that stand alike, such as cars, and airfoil.yaml "
            "for thin boundary layers; docs/own_cases.md tells how to judge a surrogate and what to change.",
        )

    def _space(self) -> None:
        if len(self.axes) == 2:
            self.put(1, f"space: {to_flow(['xyz'[axis] for axis in self.axes])}", "the meshes are one cell thick")
        look = self.geometry or self.surface or self.volume
        assert look is not None
        size = np.subtract(look.first.upper, look.first.lower)
        told = " × ".join(f"{value:.3g}" for value in size)
        longest = float(size.max())
        likely = "mm" if longest > 150 else "m" if longest > 0.02 else "km or any other large unit"
        what = "body" if look is not self.volume else "volume"
        choices = "m, mm, cm, um, km, in or ft"
        self.put(1, f"unit_of_length: {UNKNOWN}", f"{choices}; the first {what} is {told} of it: {likely}?")

    def _geometry(self) -> None:
        if self.geometry is not None:
            self.put(1, f"geometry: {to_flow(_source(self.geometry))}", f"{self.geometry.first.cells} faces")
        elif self.surface is not None:
            self.put(1, "geometry: null", "the wall of the surface branch")
            if "surface" not in self.roles:
                self.lines[-1] = f"  geometry: {to_flow(_source(self.surface))}"
        else:
            self.put(1, f"geometry: {{file: {UNKNOWN}}}", "no file holds the body: its surface, such as body.stl")

    def _branch(self, kind: str, files: Files, fields: Mapping[str, tuple[str, str]]) -> None:
        self.put(2, f"{kind}:")
        self.put(3, f"file: {to_flow(files.template)}", f"{files.first.cells} cells in the first case")
        for key, value in list(_source(files).items())[1:]:
            self.put(3, f"{key}: {to_flow(value)}", "a number, or several to average over" if key == "time" else "")
        self.put(3, f"kind: {kind}")
        self.put(3, "fields:")
        arrays = files.arrays()
        for role, (name, reason) in fields.items():
            self._field(files, role, name, reason)
        taken = {name for name, _ in fields.values()}
        rest = [f"{name} {_said(array)}" for name, array in arrays.items() if name not in taken]
        if rest:
            self.say(4, f"Not taken: {'; '.join(rest)}.")

    def _field(self, files: Files, role: str, name: str, reason: str) -> None:
        array = files.arrays()[name]
        unit = UNKNOWN
        if role in (PRESSURE, SHEAR):
            unit = "*stress" if self.anchored else f"&stress {UNKNOWN}"
        choice = _UNITS[role]
        if unit == "*stress":
            choice = "as above"
        self.anchored = self.anchored or role in (PRESSURE, SHEAR)
        self.put(4, f"{role}:", f"{_said(array)}; {reason}")
        self.put(5, f"array: {to_flow(name)}")
        if name in files.first.joined:
            self.put(5, f"parts: {to_flow(list(files.first.joined[name]))}")
        self.put(5, f"unit: {unit}", choice)
        if KINDS[role] != "scalar":
            self.put(5, f"kind: {KINDS[role]}")
        self.put(5, f"scale: {to_flow(self._scale(files, role, name))}", "makes the field non-dimensional")
        if role == VELOCITY:
            self._free_stream()

    def _scale(self, files: Files, role: str, name: str) -> str:
        speed = self.known.get("speed") or "speed"
        lengths = self._lengths()
        if role in (PRESSURE, SHEAR):
            if is_coefficient(files, name):
                return "1"
            return scale(files, name, stress_scales(self.known), self.numbers, lengths)
        if role == VORTICITY:
            return scale(files, name, [speed, f"{speed} / length"], self.numbers, lengths)
        return speed

    @property
    def body(self) -> Files | None:
        """The file that holds the body."""
        return self.geometry or self.surface

    def _lengths(self) -> dict[str, float]:
        looks = self.body.looks.items() if self.body else ()
        return {case: look.length for case, look in looks if look.length is not None}

    def _free_stream(self) -> None:
        speed = self.known.get("speed") or "speed"
        if self.stream.direction is None:
            self.put(5, f"free_stream: {UNKNOWN}", f"such as [{speed}, 0, 0]; {self.stream.reason}")
            return
        parts = [self.stream.direction[axis] for axis in self.axes]
        told = {"0": 0, "1": speed, "-1": f"-{speed}"}
        self.put(
            5, f"free_stream: {to_flow([told.get(part, f'{speed} * {part}') for part in parts])}", self.stream.reason
        )

    # --- The rest

    def _parameters(self) -> None:
        numbers, ranges = self.numbers, self.numbers.ranges()
        source: dict[str, Any] = {} if numbers.file is None else {"file": numbers.file}
        if numbers.name_column != "name":
            source["name_column"] = numbers.name_column
        comment = ""
        if "speed" not in self.known.names:
            source["values"] = {"speed": UNKNOWN}
            far = "" if self.stream.speed is None else f"; far from the body the velocity is {self.stream.speed:.4g}"
            comment = f"inflow speed, if it is the same in all cases{far}"
        if numbers.others:
            comment = f"there are also {', '.join(numbers.others[:4])}"
        self.put(1, f"parameters: {to_flow(source)}", comment)
        if numbers.file is None and any(map(str.isdigit, self.found.cases[0].name)):
            example = self.found.cases[-1].name
            self.say(1, f"Where names such as {example} hold a number: pattern: 'speed_(?P<speed>[-0-9.]+)'.")
        if numbers.texts:
            told = "; ".join(f"{name}: {text}" for name, text in list(numbers.texts.items())[:8])
            self.say(1, f"The first of these files also says: {told}.")
        conditions = self.known.conditions
        self.put(1, f"conditions: {to_flow(list(conditions))}", "what the operator is given beside the shape")
        for name, (low, high) in ranges.items():
            if name in conditions:
                self.say(1, f"  {name}: {low:.4g} to {high:.4g}")
        varying = [f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in ranges.items() if low < high]
        varying = [each for each in varying if each.split(" ")[0] not in conditions]
        if varying:
            more = f"; {len(varying) - 24} more" if len(varying) > 24 else ""
            self.say(1, f"Others that vary: {'; '.join(varying[:24])}{more}.")

    def _conventions(self) -> None:
        surface, fields = self.roles.get("surface", (None, {}))
        self.put(1, "conventions:")
        if surface is not None and PRESSURE in fields:
            reason = pressure_reason(surface, fields[PRESSURE][0], self.known, self.numbers)
            choices = "kinematic (over density), gauge or absolute [Pa], coefficient"
            self.put(2, f"pressure: {UNKNOWN}", f"{choices}; {reason}" if reason else choices)
            if SHEAR in fields:
                reason = shear_reason(surface, fields[SHEAR][0], self._stream_numbers())
                choices = "on_body (force of the fluid) or on_fluid (OpenFOAM)"
                self.put(2, f"shear: {UNKNOWN}", f"{choices}; {reason}" if reason else choices)
            density = self.known.get("density")
            self.put(2, f"density: {density or UNKNOWN}", "kg/m³, a number or a parameter; it counts in forces")
        axis, side = self._half()
        if axis is not None and side == "positive":
            self.put(2, f"symmetry: {'xyz'[axis]}", f"the surface is cut at {'xyz'[axis]} = 0: a half body")
        elif self.lines[-1].strip() == "conventions:":
            self.lines[-1] = "  conventions: {}"

    def _half(self) -> tuple[int | None, str]:
        body = self.surface or self.geometry
        if body is None:
            return None, ""
        others = [self.volume] if self.volume is not None else []
        return half(body, others, [axis for axis in range(3) if axis not in self.axes])

    def _stream_numbers(self) -> tuple[float, ...] | None:
        """Return the direction of the stream in the mean of the cases, to be compared with a force."""
        if self.volume is None or self.stream.direction is None:
            return None
        velocity = self.roles["volume"][1][VELOCITY][0]
        mean = np.mean([look.arrays[velocity].mean for look in self.volume.looks.values()], axis=0)
        return tuple((mean / (np.linalg.norm(mean) or 1)).tolist())

    def _forces(self) -> None:
        if PRESSURE not in self.roles.get("surface", (None, {}))[1]:
            return
        self.put(1, "forces:", "for drag and lift coefficients; without this section forces are in newtons only")
        area = self.known.get("area")
        box = "size_y * size_z / 2 for the half that the files hold"
        box = box if self._half()[0] is not None else "size_y * size_z for the box around the body"
        hint = "m²: chord times the thickness of the strip" if len(self.axes) == 2 else f"m², such as {box}"
        self.put(2, f"reference_area: {area or UNKNOWN}", hint)
        self.put(2, f"speed: {self.known.get('speed') or 'speed'}")
        direction = self.stream.direction
        drag: Any = UNKNOWN if direction is None else [_plain_number(each) for each in direction]
        self.put(2, f"drag_direction: {to_flow(drag)}", self._drag_reason())
        across = "across the stream" if len(self.axes) == 2 else "a guess: no file tells what is up"
        self.put(2, f"lift_direction: {to_flow(self._lift())}", across)
        reported = {
            name: parameter
            for name in ("drag_coefficient", "lift_coefficient")
            if (parameter := self.known.get(name)) is not None
        }
        if reported:
            self.put(2, f"reported: {to_flow(reported)}", "prepare compares what it integrates with these")

    def _drag_reason(self) -> str:
        if self.stream.direction is not None:
            return "along the stream"
        surface, fields = self.roles["surface"]
        if SHEAR not in fields:
            return "such as [1, 0, 0]"
        shear = surface.arrays()[fields[SHEAR][0]].mean
        return f"such as [1, 0, 0]; the mean wall shear is largest along {'xyz'[int(np.argmax(np.abs(shear)))]}"

    def _lift(self) -> list[Any]:
        direction = self.stream.direction
        if len(self.axes) == 3 or direction is None:
            up = 1 if direction is not None and direction[2].lstrip("-") == "1" else self.axes[-1]
            return [int(axis == up) for axis in range(3)]
        first, second = self.axes
        lift: list[Any] = [0, 0, 0]
        lift[first], lift[second] = _plain_number(_minus(direction[second])), _plain_number(direction[first])
        return lift

    def _splits(self) -> None:
        count = len(self.found.cases)
        if count == 1:
            self.found.notes.append("one case is enough to check files, but a surrogate needs several to learn from")
        names = [case.name for case in self.found.cases]
        looks = self.body.looks.values() if self.body else ()
        shapes = {(look.lower, look.upper, look.length) for look in looks}
        if count > 1 and len(shapes) == 1:
            drawn = [names[index] for index in np.random.default_rng(0).permutation(count)]
            held = max(1, round(0.1 * count))
            test, validation = sorted(drawn[:held]), sorted(drawn[held : 2 * held] if count > 2 else [])
            self.say(1, "The body seems to be the same in every case, so cases are drawn by lot and named.")
            self.put(1, f"splits: {to_flow({'kind': 'names', 'validation': validation, 'test': test})}")
            return
        validation, test = (0.1, 0.1) if count > 2 else (0.0, 0.5 if count > 1 else 0.0)
        comment = "by case; validation chooses the checkpoint, test is scored"
        self.put(
            1, f"splits: {to_flow({'kind': 'fractions', 'validation': validation, 'test': test, 'seed': 0})}", comment
        )


def _source(files: Files) -> dict[str, Any]:
    """Say which file is meant, and what of it."""
    source: dict[str, Any] = {"file": files.template}
    source |= {"blocks": list(files.blocks)} if files.blocks else {}
    return source | ({"time": files.time} if files.time else {})


def _minus(expression: str) -> str:
    return (
        expression.removeprefix("-") if expression.startswith("-") else f"-{expression}" if expression != "0" else "0"
    )


def _plain_number(expression: str) -> str | int:
    return int(expression) if expression.lstrip("-").isdigit() else expression


def _said(array: Array) -> str:
    kind = "1 component" if array.components == 1 else f"{array.components} components"
    return f"({kind} on {array.association}s, {array.minimum:.4g} to {array.maximum:.4g})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
