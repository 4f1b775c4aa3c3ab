"""What names and ranges tell of a user's arrays and numbers: roles, the free stream, scales, a half body.

Names come first, ranges decide where names do not and speak for or against what only the user knows. Nothing here is
certain, so each guess carries its reason, for a comment in the configuration.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.expressions import evaluate
from pipelines.forces import PRESSURE, SHEAR
from pipelines.survey import Array, Files, Look, Numbers

VELOCITY, VORTICITY = "velocity", "vorticity"
KINDS = {PRESSURE: "scalar", VELOCITY: "vector", SHEAR: "vector", VORTICITY: "pseudovector"}
ROLES = {"surface": (PRESSURE, SHEAR), "volume": (PRESSURE, VELOCITY, VORTICITY)}
# What solvers call them: lower case, without signs and without what marks an average.
_ARRAYS = {
    PRESSURE: ("p", "pressure", "staticpressure", "kinematicpressure", "relativepressure", "gaugepressure",
               "absolutepressure", "pstatic", "pressurestatic", "cp", "pressurecoefficient", "coefficientofpressure"),
    VELOCITY: ("u", "velocity", "vel", "v", "flowvelocity", "velocityvector", "uvw"),
    SHEAR: ("wallshearstress", "wallshear", "wss", "shearstress", "shear", "tauw", "tauwall", "walltau", "tau",
            "skinfriction", "skinfrictioncoefficient", "cf"),
    VORTICITY: ("vorticity", "vort", "vorticityvector", "omega", "curlu", "rotu", "curl"),
}  # fmt: skip
_COEFFICIENTS = ("cp", "pressurecoefficient", "coefficientofpressure", "cf", "skinfrictioncoefficient")
# No coefficient of pressure or friction is larger, whatever an array is called; at a stagnation point it is 1.
LARGEST = 3.0
_AVERAGE = re.compile(r"^(timeaveraged|averaged|average|mean|avg)|(timeaveraged|averaged|average|mean|avg|trim)$")
_NUMBERS = {
    "speed": ("speed", "velocity", "u", "uinf", "uref", "u0", "vinf", "vel", "inletvelocity", "inletspeed", "umag",
              "inflowspeed", "inflowvelocity", "freestreamvelocity", "freestreamspeed", "windspeed", "vehiclespeed"),
    "angle": ("angle", "aoa", "alpha", "angleofattack", "incidence", "angleofincidence"),
    "yaw": ("yaw", "yawangle", "beta", "sideslip", "sideslipangle", "winddirection"),
    "density": ("density", "rho", "rhoinf", "rhoref", "airdensity", "fluiddensity"),
    "viscosity": ("viscosity", "mu", "dynamicviscosity"),
    "nu": ("nu", "kinematicviscosity"),
    "reynolds": ("reynolds", "re", "reynoldsnumber"),
    "mach": ("mach", "ma", "machnumber"),
    "temperature": ("temperature", "tinf", "inlettemperature"),
    "area": ("referencearea", "aref", "arearef", "frontalarea", "sref"),
    "drag_coefficient": ("dragcoefficient", "cd", "cdrag", "dragcoeff"),
    "lift_coefficient": ("liftcoefficient", "cl", "clift", "liftcoeff"),
}  # fmt: skip
_CONDITIONS = ("speed", "angle", "yaw", "density", "viscosity", "nu", "mach", "temperature")
# Below this ratio of spreads another scale than the plainest explains the cases better.
BETTER = 0.5
# A surface that lacks this part of a side of its box is cut there: half a body.
CUT = 0.25
# Degrees that the flow far away may turn from the stream.
TURNED = 5.0


@dataclass(frozen=True)
class Known:
    """Which of the numbers of a case is what: names, where there is one."""

    names: dict[str, str]
    conditions: tuple[str, ...]

    def get(self, what: str) -> str | None:
        """Return the name of a number, or None."""
        return self.names.get(what)


@dataclass(frozen=True)
class Stream:
    """Where the flow comes from.

    Attributes:
        direction: of the stream, one expression for each axis of space; None where nothing tells.
        speed: how fast it is far away, over the cases that were read.
        reason: of the guess.
    """

    direction: tuple[str, str, str] | None
    speed: float | None
    reason: str


def known(numbers: Numbers) -> Known:
    """Tell speed, angle, density … among the numbers of the cases by their names."""
    ranges = numbers.ranges()
    usable = [name for name in ranges if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name)]
    names: dict[str, str] = {}
    for what, words in _NUMBERS.items():
        fitting = [name for name in usable if _plain(name.rpartition(".")[2]) in words]
        if fitting:
            names[what] = min(fitting, key=lambda name: (name.count("."), words.index(_plain(name.rpartition(".")[2]))))
    varying = [names[what] for what in _CONDITIONS if what in names and ranges[names[what]][0] < ranges[names[what]][1]]
    if "speed" not in names and "reynolds" in names:
        low, high = ranges[names["reynolds"]]
        varying += [names["reynolds"]] if low < high else []
    return Known(names, tuple(sorted(varying)))


def roles(files: Files, kind: str, known: Known, numbers: Numbers, dimension: int) -> dict[str, tuple[str, str]]:
    """Return for each role the array that plays it, and why."""
    arrays = files.arrays()
    found: dict[str, tuple[str, str]] = {}
    for role in ROLES[kind]:
        components = (1,) if role == PRESSURE else (1, 3) if role == VORTICITY and dimension == 2 else (3,)
        fitting = [
            name for name, array in arrays.items() if array.components in components and _base(name) in _ARRAYS[role]
        ]
        if fitting:
            best = min(fitting, key=lambda name: (_base(name) == _plain(name), _ARRAYS[role].index(_base(name))))
            rest = [name for name in fitting if name != best]
            found[role] = best, f"by its name; not {', '.join(rest)}" if rest else "by its name"
    taken = {name for name, _ in found.values()}
    for role, tells in _BY_RANGE.items():
        if role in ROLES[kind] and role not in found:
            for name in (name for name in arrays if name not in taken):
                if (reason := tells(files, name, found, known, numbers)) is not None:
                    found[role] = name, reason
                    taken.add(name)
                    break
    return {role: found[role] for role in ROLES[kind] if role in found}


def _base(name: str) -> str:
    """Return the name of an array without what marks an average: `pMeanTrim` is `p`."""
    plain, before = _plain(name), ""
    while plain != before:
        before, plain = plain, _AVERAGE.sub("", plain) or plain
    return plain


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# --- By range


def _each(files: Files, name: str) -> list[tuple[str, Array]]:
    return [(case, look.arrays[name]) for case, look in files.looks.items()]


def _speeds(files: Files, known: Known, numbers: Numbers) -> dict[str, float]:
    name = known.get("speed")
    return {} if name is None else {case: numbers.values[case][name] for case in files.looks if case in numbers.values}


def _pressure_by_range(
    files: Files, name: str, found: dict[str, tuple[str, str]], known: Known, numbers: Numbers
) -> str | None:
    ratios = stagnation(files, name, known, numbers)
    if files.first.arrays[name].components != 1 or files.first.arrays[name].minimum >= 0 or len(ratios) < 2:
        return None
    if max(ratios) / min(ratios) < 1.2 and 0.8 < np.median(ratios) < 1.4:
        return f"by its range: its largest value is {np.median(ratios):.2f} speed²/2 in every case"
    return None


def _velocity_by_range(
    files: Files, name: str, found: dict[str, tuple[str, str]], known: Known, numbers: Numbers
) -> str | None:
    speeds = _speeds(files, known, numbers)
    if files.first.arrays[name].components != 3 or not speeds:
        return None
    ratios = [float(np.linalg.norm(array.mean)) / speeds[case] for case, array in _each(files, name) if case in speeds]
    if all(0.8 < ratio < 1.2 for ratio in ratios):
        return f"by its range: far from the body it is {np.median(ratios):.2f} of the speed"
    return None


def _shear_by_range(
    files: Files, name: str, found: dict[str, tuple[str, str]], known: Known, numbers: Numbers
) -> str | None:
    if PRESSURE not in found or files.first.arrays[name].components != 3 or "normal" in _plain(name):
        return None
    pressures = dict(_each(files, found[PRESSURE][0]))
    if any(array.association != pressures[case].association for case, array in _each(files, name)):
        return None
    parts = [array.rms / (pressures[case].rms or 1) for case, array in _each(files, name)]
    likely = min(parts) > 0 and max(parts) < min(0.1, 3 * min(parts))
    return f"by its range: {np.median(parts):.2g} of the pressure" if likely else None


_BY_RANGE: dict[str, Callable[[Files, str, dict[str, tuple[str, str]], Known, Numbers], str | None]] = {
    PRESSURE: _pressure_by_range,
    VELOCITY: _velocity_by_range,
    SHEAR: _shear_by_range,
}


def stagnation(files: Files, name: str, known: Known, numbers: Numbers) -> list[float]:
    """Return the largest pressure over speed²/2, for each case that was read; none where the speed is not known."""
    speeds = _speeds(files, known, numbers)
    ratios = [2 * array.maximum / speeds[case] ** 2 for case, array in _each(files, name) if speeds.get(case)]
    return ratios if all(ratio > 0 for ratio in ratios) else []


def pressure_reason(files: Files, name: str, known: Known, numbers: Numbers) -> str:
    """Say which convention the range of a pressure speaks for; nothing where it speaks for none."""
    arrays = [array for _, array in _each(files, name)]
    if all(array.minimum > 5e4 and array.maximum < 2e5 for array in arrays):
        return "its range, near 1e5, speaks for absolute"
    if is_coefficient(files, name):
        return "its name speaks for coefficient"
    ratios = stagnation(files, name, known, numbers)
    if not ratios or max(ratios) > 1.3 * min(ratios):
        return ""
    ratio = float(np.median(ratios))
    told = f"its largest value is {ratio:.2f} {known.get('speed')}²/2, as at a stagnation point"
    if all(0.8 < array.maximum < 1.3 for array in arrays) and not 0.8 < ratio < 1.3:
        return "its largest value is near 1, as that of a coefficient"
    if 0.8 < ratio < 1.08:
        return f"{told} where it is over density (kinematic)"
    return f"{told} of a density of {ratio:.3g} kg/m³ (gauge)" if ratio >= 1.08 else ""


def is_coefficient(files: Files, name: str) -> bool:
    """Tell whether an array is called as coefficients of pressure or friction are, and no larger than they can be."""
    fits = all(array.maximum < LARGEST for _, array in _each(files, name))
    return fits and _base(name).startswith(_COEFFICIENTS)


def shear_reason(files: Files, name: str, direction: Sequence[float] | None) -> str:
    """Say which sign the wall shear stress has on the whole: with the stream as the force on the body, or against."""
    if direction is None:
        return ""
    along = [float(np.dot(array.mean, direction)) / (array.rms or 1) for _, array in _each(files, name)]
    if min(along) > 0.05:
        return "it points with the stream, which speaks for on_body"
    return "it points against the stream, which speaks for on_fluid (OpenFOAM)" if max(along) < -0.05 else ""


# --- The free stream


def stream(files: Files | None, velocity: str | None, known: Known, numbers: Numbers, axes: Sequence[int]) -> Stream:
    """Find the direction of the stream from the velocity far from the body."""
    if files is None or velocity is None:
        return Stream(None, None, "no volume file tells it")
    far = {case: np.array(array.mean) for case, array in _each(files, velocity)}
    speed = float(np.median([np.linalg.norm(each) for each in far.values()]))
    plain = [_along(axis, sign) for sign in ("", "-") for axis in axes]
    turning = [
        _turned(first, second, sign, name)
        for name in (known.get("angle"), known.get("yaw"))
        if name is not None
        for first in axes
        for second in axes
        if first != second
        for sign in ("", "-")
    ]
    best, error = plain[0], 180.0
    for candidates in (plain, turning):
        errors = [_error(each, far, numbers) for each in candidates]
        if errors and min(errors) < min(BETTER * error, error - 0.5):
            best, error = candidates[int(np.argmin(errors))], min(errors)
    if error > TURNED:
        told = ", ".join(f"{value:.3g}" for value in next(iter(far.values())))
        return Stream(None, speed, f"far from the body the velocity is ({told}) in the first case")
    return Stream(best, speed, f"far from the body the velocity is within {max(error, 0.1):.1f}° of it")


def _along(axis: int, sign: str) -> tuple[str, str, str]:
    first, second, third = (f"{sign}1" if each == axis else "0" for each in range(3))
    return first, second, third


def _turned(first: int, second: int, sign: str, angle: str) -> tuple[str, str, str]:
    parts = ["0", "0", "0"]
    parts[first], parts[second] = f"cos(radians({angle}))", f"{sign}sin(radians({angle}))"
    return parts[0], parts[1], parts[2]


def _error(direction: Sequence[str], far: dict[str, np.ndarray], numbers: Numbers) -> float:
    """Return the largest angle [°] between a direction and the velocities far away."""
    largest = 0.0
    for case, velocity in far.items():
        unit = np.array([evaluate(each, numbers.values.get(case, {})) for each in direction])
        size = float(np.linalg.norm(velocity)) or 1.0
        largest = max(largest, float(np.degrees(np.arccos(np.clip(velocity @ unit / size, -1, 1)))))
    return largest


# --- Scales


def scale(files: Files, name: str, candidates: Iterable[str], numbers: Numbers, lengths: dict[str, float]) -> str:
    """Choose what makes an array most alike in all cases; the first candidate unless another is much better."""
    best, least = "", np.inf
    for candidate in candidates:
        try:
            sizes = [
                array.rms / evaluate(candidate, numbers.values.get(case, {}) | {"length": lengths[case]})
                for case, array in _each(files, name)
            ]
        except (ValueError, KeyError):  # a case that lacks the number
            continue
        spread = float(np.std(sizes) / np.mean(sizes)) if len(sizes) > 2 and np.mean(sizes) > 0 else 0.0
        if not best or spread < BETTER * least:
            best, least = candidate, spread
    return best or next(iter(candidates))


def stress_scales(known: Known) -> list[str]:
    """Return scales of a pressure or stress, the plainest first."""
    speed, density, viscosity = known.get("speed") or "speed", known.get("density"), known.get("viscosity")
    more = [f"0.5 * {density} * {speed}**2"] if density else []
    return [f"0.5 * {speed}**2", *more, *([f"{viscosity} * {speed} / length"] if viscosity else [])]


# --- The body


def half(body: Files, others: Sequence[Files], skipped: Iterable[int]) -> tuple[int | None, str]:
    """Tell whether surfaces are cut by the plane through the origin across y, z or x: the axis, and the side."""
    for axis in (1, 2, 0):
        if axis in skipped or not all(look.open and look.open[axis] > CUT for look in body.looks.values()):
            continue
        looks = [look for files in (body, *others) for look in files.looks.values()]
        if all(_touches(look.lower[axis], look) for look in looks):
            return axis, "positive"
        if all(_touches(look.upper[axis], look) for look in looks):
            return axis, "negative"
    return None, ""


def _touches(value: float, look: Look) -> bool:
    return abs(value) <= 1e-5 * float(np.linalg.norm(np.subtract(look.upper, look.lower)))
