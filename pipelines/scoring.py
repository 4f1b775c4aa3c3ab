"""Scores of one case: every point of it, looked at in several ways, beside the baselines."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from meshes.mesh import Mesh
from meshes.stores import StoredCase
from pipelines.baselines import NAMES, Answers, Baselines, describe, place
from pipelines.ensemble import Ensemble, combine
from pipelines.forces import PRESSURE, SHEAR, coefficients, in_space, integrate
from pipelines.metrics import Calibration, Errors, Worst, histogram, near_reach, regions, total
from pipelines.shapes import shape
from pipelines.specification import Sites
from pipelines.surrogate import Surrogate

MODEL, TRUTH = "surrogate", "truth"
BLOCK = 131_072


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


@dataclass(frozen=True, kw_only=True)
class How:
    """How a case is scored; see `evaluate`."""

    draws: int
    seed: int
    chunk: int | None
    near: float | None


def score(surrogate: Surrogate, case: StoredCase, baselines: Baselines, how: How) -> dict[str, Any]:
    """Score one case, as one entry of `per_case` in the scores of `evaluate`."""
    spec = surrogate.spec
    vertices, triangles = case.geometry()
    reach = near_reach(vertices, triangles, spec.axes, spec.symmetry_axis) if how.near is None else how.near
    body = shape(Mesh.from_triangles(vertices, triangles, source=f"the geometry of {case.name}"), spec)
    candidates, _ = body.surface_sites("cell")
    surface = {branch: candidates for branch, kind in spec.kinds.items() if kind == "surface"}
    ensemble = Ensemble(
        surrogate,
        surface,
        body.vertices,
        body.triangles,
        case.parameters,
        draws=how.draws,
        seed=how.seed,
        chunk=how.chunk,
    )
    result: dict[str, Any] = {"near_wall_distance": reach, "fields": {}}
    target = describe(surrogate, vertices, triangles, surrogate.complete(case.parameters, body.body))
    forces: dict[str, list[np.ndarray]] = defaultdict(list)
    for branch in spec.fields:
        if not case.count(branch):
            continue
        weights, reasons = baselines.weights(target, branch)
        fields = {name: _Field(case, branch, name, surrogate) for name in spec.fields[branch]}
        for block, sites in _blocks(case, branch, list(fields)):
            by_draw = ensemble.answers(branch, sites)
            draws = [combine(each)[0] for each in by_draw]
            mean, spread = combine([answer for each in by_draw for answer in each])
            answers = {MODEL: mean} | _physical(
                case, branch, baselines.predict(place(surrogate, vertices, triangles, sites.position), branch, weights)
            )
            for name, field in fields.items():
                field.add(
                    block[name],
                    {who: values[name] for who, values in answers.items()},
                    [draw[name] for draw in draws],
                    None if spread is None else spread[name],
                    sites,
                    regions(sites.distance, reach),
                )
            if spec.kinds[branch] == "surface" and PRESSURE in spec.fields[branch]:
                numbered = {f"draw {number}": draw for number, draw in enumerate(draws)}
                for who, values in ({TRUTH: block} | answers | numbered).items():
                    forces[who].append(_force(surrogate, sites, values, ensemble.parameters))
        centre, length = body.body.centre[spec.axes], body.body.length
        for name, field in fields.items():
            entry = field.entry(centre, length)
            result["fields"][f"{branch}_{name}"] = entry | ({"reasons": reasons} if reasons else {})
    result["forces"] = _forces(surrogate, forces, ensemble.parameters, how.draws) if forces else None
    return result


class _Field:
    """What is summed up over the points of one field of one case."""

    def __init__(self, case: StoredCase, branch: str, name: str, surrogate: Surrogate) -> None:
        scale, self.free_stream = case.scale(branch, name)
        self.unit, self.points = surrogate.spec.fields[branch][name].unit, case.count(branch)
        # The unit of histograms: how much the field varies over training, in this case.
        self.typical = scale * float(np.linalg.norm(surrogate.spec.statistics[branch][name]["std"]))
        self.sums: dict[tuple[View, str], list[Errors]] = defaultdict(list)
        self.draws: dict[int, list[Errors]] = defaultdict(list)
        self.histograms: dict[str, np.ndarray] = {}
        self.calibration: Calibration | None = None
        self.worst: Worst | None = None

    def add(
        self,
        truth: np.ndarray,
        answers: Mapping[str, np.ndarray],
        draws: Sequence[np.ndarray],
        spread: np.ndarray | None,
        sites: Sites,
        parts: Mapping[str, np.ndarray],
    ) -> None:
        true = truth.astype(np.float64)
        for view in VIEWS:
            if (view.region and view.region not in parts) or (view.disturbance and not self.free_stream.any()):
                continue
            mask = parts[view.region] if view.region else slice(None)
            weight = sites.measure[mask] if view.weighted and sites.measure is not None else None
            shift = self.free_stream if view.disturbance else 0.0
            for who, values in answers.items():
                self.sums[view, who].append(Errors.of(true[mask] - shift, values[mask] - shift, weight))
        for number, values in enumerate(draws):
            self.draws[number].append(Errors.of(true, values))
        for who, values in answers.items():
            self.histograms[who] = self.histograms.get(who, 0) + histogram(values - true, self.typical)
        if spread is not None:
            part = Calibration.of(answers[MODEL] - true, spread)
            self.calibration = part if self.calibration is None else self.calibration + part
        worst = Worst.of(sites.position, true, answers[MODEL], sites.distance)
        if self.worst is None or worst.error > self.worst.error:
            self.worst = worst

    def entry(self, centre: Float[np.ndarray, " space"], length: float) -> dict[str, Any]:
        """Nest the scores: those of all points outermost, each other view under its name."""
        entry: dict[str, Any] = {"unit": self.unit, "points": self.points}
        for view in VIEWS:
            if (view, MODEL) not in self.sums:
                continue
            inner = entry
            for key in view.path:
                inner = inner.setdefault(key, {})
            inner |= total(self.sums[view, MODEL]).scores()
            known = {name: total(self.sums[view, name]) for name in NAMES if (view, name) in self.sums}
            inner["baselines"] = {name: known[name].relative_l2 if name in known else None for name in NAMES}
        assert self.worst is not None
        entry["worst"] = self.worst.to_dict(centre, length)
        entry["histogram"] = {who: counts.tolist() for who, counts in self.histograms.items()}
        if self.calibration is not None:
            entry["calibration"] = self.calibration.scores()
        if len(self.draws) > 1:
            entry["draws"] = [total(errors).relative_l2 for errors in self.draws.values()]
        return entry


def _blocks(case: StoredCase, branch: str, fields: list[str]) -> Iterator[tuple[dict[str, np.ndarray], Sites]]:
    for start in range(0, case.count(branch), BLOCK):
        block = case.read(branch, start, min(start + BLOCK, case.count(branch)))
        sites = Sites(block["position"], block.get("normal"), block.get("distance"), block["measure"])
        yield {name: block[name] for name in fields}, sites


def _physical(case: StoredCase, branch: str, answers: Answers) -> Answers:
    """Bring what baselines answer into the units of the case's files."""
    physical: Answers = {}
    for who, values in answers.items():
        physical[who] = {}
        for name, array in values.items():
            scale, free_stream = case.scale(branch, name)
            physical[who][name] = array * scale + free_stream
    return physical


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


def _forces(
    surrogate: Surrogate, parts: Mapping[str, list[np.ndarray]], parameters: Mapping[str, float], draws: int
) -> dict[str, Any]:
    spec = surrogate.spec
    empty = integrate(np.zeros((0, 3)), np.zeros(0), None, spec.conventions, parameters)

    def told(who: str) -> dict[str, Any]:
        pressure, friction = np.sum(parts[who], axis=0)
        forces = type(empty)(pressure, friction, empty.unit, empty.density, empty.extent)
        found = forces.to_dict()
        return found if spec.forces is None else found | coefficients(forces, spec.forces, parameters).to_dict()

    both: dict[str, Any] = {"truth": told(TRUTH), "predicted": told(MODEL)}
    if spec.forces is not None:
        both["baselines"] = {name: _only_coefficients(told(name)) if name in parts else None for name in NAMES}
        if draws > 1:
            both["draws"] = [_only_coefficients(told(f"draw {number}")) for number in range(draws)]
    return both


def _only_coefficients(forces: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in forces.items() if name.endswith("_coefficient")}
