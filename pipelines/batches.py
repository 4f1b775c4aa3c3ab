"""What each step of a training sees: a function of seed, epoch and index alone, whatever the workers or restarts."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from meshes.stores import Store, StoredCase
from neuralop.points import Points
from pipelines.specification import Sites, Units, draw

Arrays = dict[str, np.ndarray]
Placement = Literal["measure", "cells"]

# Batches that wait for each worker, so that a slow draw does not hold up the steps.
AHEAD = 2

# A block this many times larger than a draw is read, so that draws from one place of the file differ.
OVERSAMPLE = 4
# Bodies are kept in memory up to this size, since every draw needs its body whole.
GEOMETRY_BYTES = 512 * 1024**2

# First words of the seeds, so that no two uses of randomness share a stream.
_ORDER, _SAMPLE, _CHECK = 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class MirrorConfig:
    """A mirror image of each case that is as true as the case.

    Attributes:
        axis: across which half of the draws are mirrored, with all their vectors.
        conditions: those that change sign, such as an angle of attack; the others stay.
    """

    axis: Literal["x", "y", "z"]
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How many points of a case one step sees.

    Attributes:
        geometry: points that stand for the body, drawn by area. The operator takes its supernodes from the first.
        anchors: of each branch, or one number for all.
        queries: of each branch, or one number for all; drawn evenly over the cells, as errors are counted.
        placement: whether the anchors of a branch are drawn by `measure`, so that they mean the same however the case
            was meshed, or evenly over its `cells`, so that they crowd where the mesh is fine. By default surfaces by
            measure and volumes by cells.
        turn_about: axis of the free stream, for bodies in free flow: each draw is turned about it by a random angle,
            and mirrored or not, with all its vectors. Only where no wall, ground or condition breaks that symmetry.
        mirror: for flows that nothing keeps from being mirrored, whole bodies far from the ground.
        shift: deviation in body lengths of where the origin of each draw lies, for axes along which it does not matter
            where a body stands, such as `{x: 0.3}` in a long tunnel.
        condition_noise: deviation of what each draw adds to a condition, in standard deviations of the training
            cases, such as `{speed: 0.5}`. A few dozen cases have as many values of a condition, by which a network
            tells them apart and learns them by heart; noise leaves it the trend of those that matter little.
    """

    geometry: int = 2048
    anchors: int | dict[str, int] = 1024
    queries: int | dict[str, int] = 1024
    placement: dict[str, Placement] = field(default_factory=dict)
    turn_about: Literal["x", "y", "z"] | None = None
    mirror: MirrorConfig | None = None
    shift: dict[str, float] = field(default_factory=dict)
    condition_noise: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("shift", "condition_noise"):
            if min(getattr(self, name).values(), default=0.0) < 0:
                raise ValueError(f"sampling.{name} is {getattr(self, name)}; deviations are not negative")
        if self.geometry < 1:
            raise ValueError(f"sampling.geometry is {self.geometry}; a body needs at least one point")
        for name, least in (("anchors", 1), ("queries", 0)):
            counts = getattr(self, name)
            for branch, count in (counts if isinstance(counts, dict) else {"all branches": counts}).items():
                if count < least:
                    raise ValueError(f"sampling.{name} of {branch} is {count}; expected at least {least}")

    def counts(self, which: Literal["anchors", "queries"], branches: Sequence[str]) -> dict[str, int]:
        """Tell how many points of each branch are drawn.

        Raises:
            ValueError: a branch has no number, or a number belongs to no branch.
        """
        counts = getattr(self, which)
        if isinstance(counts, int):
            return dict.fromkeys(branches, counts)
        if set(counts) != set(branches):
            raise ValueError(
                f"training.sampling.{which} names the branches {', '.join(sorted(counts))}; "
                f"the store has {', '.join(sorted(branches))}"
            )
        return {branch: counts[branch] for branch in branches}

    def placements(self, kinds: Mapping[str, str]) -> dict[str, Placement]:
        """Tell how the anchors of each branch are drawn.

        Raises:
            ValueError: a placement belongs to no branch.
        """
        if unknown := set(self.placement) - set(kinds):
            there = ", ".join(sorted(kinds))
            raise ValueError(f"training.sampling.placement names {', '.join(sorted(unknown))}; the store has {there}")
        default: dict[str, Placement] = {
            branch: "measure" if kind == "surface" else "cells" for branch, kind in kinds.items()
        }
        return default | self.placement


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """One draw from one case: places as the operator sees them, and the values it should give there."""

    case: str
    geometry: Arrays
    anchors: dict[str, Arrays]
    queries: dict[str, Arrays]
    anchor_values: dict[str, Arrays]
    query_values: dict[str, Arrays]
    condition: Float[np.ndarray, " condition"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Several draws as the operator takes them; values have the shape of their places, packed or stacked."""

    cases: tuple[str, ...]
    geometry: Points
    anchors: dict[str, Points]
    queries: dict[str, Points]
    anchor_values: dict[str, dict[str, Tensor]]
    query_values: dict[str, dict[str, Tensor]]
    condition: Float[Tensor, "batch condition"] | None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply a function to every tensor, in an order that depends on what there is alone."""

        def apply(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else function(tensor)

        def points(of: Points) -> Points:
            return Points(apply(of.position), apply(of.measure), apply(of.features), apply(of.offsets))  # type: ignore[arg-type]

        def values(of: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
            return {branch: {name: function(value) for name, value in each.items()} for branch, each in of.items()}

        return Batch(
            cases=self.cases,
            geometry=points(self.geometry),
            anchors={branch: points(each) for branch, each in self.anchors.items()},
            queries={branch: points(each) for branch, each in self.queries.items()},
            anchor_values=values(self.anchor_values),
            query_values=values(self.query_values),
            condition=apply(self.condition),
        )

    def tensors(self) -> list[Tensor]:
        """List every tensor, in the order of `map`."""
        found: list[Tensor] = []
        self.map(lambda tensor: found.append(tensor) or tensor)
        return found

    @property
    def packed(self) -> bool:
        """Whether samples of unequal size follow one another, which takes a look at their sizes."""
        return any(of.offsets is not None for of in (self.geometry, *self.anchors.values(), *self.queries.values()))

    def to(self, device: torch.device) -> "Batch":
        """Move everything to a device; from pinned memory the host does not wait."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))


class Sampler:
    """Draws samples from the cases of a store.

    Args:
        store: where the cases are.
        names: the cases to draw from.
        units: how places and values become what the operator sees.
        queries: how many queries of each branch; the specification in `units` says how many anchors and where.
        seed: decides the order of the cases and every draw.
        turn_about: axis that draws are turned about, if any.
        mirror: how half of the draws are mirrored, if they are.
        shift: deviation of the origin along axes, in body lengths.
        condition_noise: deviation of what is added to standardised conditions, by name.
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        units: Units,
        *,
        queries: Mapping[str, int],
        seed: int,
        turn_about: Literal["x", "y", "z"] | None = None,
        mirror: MirrorConfig | None = None,
        shift: Mapping[str, float] | None = None,
        condition_noise: Mapping[str, float] | None = None,
    ) -> None:
        if not names:
            raise ValueError(f"{store.path} has no training cases: see data.splits")
        self.store, self.names, self.units = store, list(names), units
        self.queries, self.seed = dict(queries), seed
        self.axis = None if turn_about is None else "xyz".index(turn_about)
        self.mirror = mirror
        if mirror is not None:
            if missing := set(mirror.conditions) - set(units.spec.conditions):
                there = ", ".join(units.spec.conditions) or "none"
                raise ValueError(f"training.sampling.mirror names the condition {min(missing)!r}; there are: {there}")
            if mirror.axis not in units.spec.space or units.spec.symmetry_axis == "xyz".index(mirror.axis):
                raise ValueError(
                    f"training.sampling.mirror.axis is {mirror.axis}, which the store lacks or whose other half it "
                    "mirrors already (conventions.symmetry): name another axis, or leave the mirror out"
                )
        self.shift = _by_name("shift", shift or {}, units.spec.space)
        self.noise = _by_name("condition_noise", condition_noise or {}, units.spec.conditions)
        self._bodies: OrderedDict[str, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def sample(self, number: int) -> Sample:
        """Draw the sample of a number, counted over all epochs from zero."""
        epoch, index = divmod(number, len(self.names))
        order = np.random.default_rng([_ORDER, self.seed, epoch]).permutation(len(self.names))
        generator = np.random.default_rng([_SAMPLE, self.seed, epoch, index])
        return self.draw(self.names[order[index]], generator)

    def draw(self, name: str, generator: np.random.Generator) -> Sample:
        """Draw from one case."""
        spec, case = self.units.spec, self.store.case(name)
        turn = None if self.axis is None else random_turn(self.axis, generator)
        parameters = case.parameters
        if self.mirror is not None and generator.random() < 0.5:
            image = np.eye(3)
            image[(axis := "xyz".index(self.mirror.axis)), axis] = -1
            turn = image if turn is None else image @ turn
            parameters = {**parameters, **{name: -parameters[name] for name in self.mirror.conditions}}
        vertices, triangles = self.body(name)
        if turn is not None:
            vertices = vertices @ turn.T
            triangles = triangles[:, ::-1] if np.linalg.det(turn) < 0 else triangles
        frame = self.units.frame(self.units.body(vertices, triangles))
        if self.shift.any():
            moved = frame.centre + frame.length * self.shift * generator.standard_normal(len(self.shift))
            frame = replace(frame, centre=tuple(moved.tolist()))
        geometry = self.units.geometry_sites(vertices, triangles, generator)
        places: dict[str, dict[str, Arrays]] = {"anchors": {}, "queries": {}}
        values: dict[str, dict[str, Arrays]] = {"anchors": {}, "queries": {}}
        for branch in spec.fields:
            for role, count in (("anchors", spec.anchors[branch]), ("queries", self.queries[branch])):
                if not count:
                    continue
                by_measure = role == "anchors" and spec.placement[branch] == "measure"
                sites, fields = self.points(case, branch, count, generator, by_measure=by_measure)
                if turn is not None:
                    sites = self._turned_sites(sites, turn)
                places[role][branch] = self.units.arrays(branch, sites, frame)
                values[role][branch] = {}
                for quantity, value in fields.items():
                    scale, free_stream = case.scale(branch, quantity)
                    if turn is not None:
                        value, free_stream = (
                            self._turned(branch, quantity, each, turn) for each in (value, free_stream)
                        )
                    values[role][branch][quantity] = self.units.standardise(branch, quantity, value, free_stream, scale)
        condition = self.units.standardised(parameters)
        if self.noise.any():
            condition = condition + self.noise.astype(np.float32) * generator.standard_normal(
                len(condition), np.float32
            )
        return Sample(
            case=name,
            geometry=self.units.arrays("geometry", geometry, frame),
            anchors=places["anchors"],
            queries=places["queries"],
            anchor_values=values["anchors"],
            query_values=values["queries"],
            condition=condition,
        )

    def points(
        self, case: StoredCase, branch: str, count: int, generator: np.random.Generator, *, by_measure: bool
    ) -> tuple[Sites, Arrays]:
        """Draw points of a branch without replacement, with their fields in source units."""
        total = case.count(branch)
        count = count if count <= total else bucket(total)
        size = min(total, OVERSAMPLE * count)
        start = int(generator.integers(total - size + 1))
        block = case.read(branch, start, start + size)
        sites = Sites(
            block["position"], block.get("normal"), block.get("distance"), block["measure"].astype(np.float64)
        )
        fields = {name: block[name] for name in self.units.spec.fields[branch]}
        index = draw(sites, count, generator, by_measure=by_measure)
        picked = sites.take(index)
        if by_measure:
            # Drawn in proportion to measure, points stand for equal parts of it.
            picked = Sites(picked.position, picked.normal, picked.distance)
        return picked, {name: value[index] for name, value in fields.items()}

    def body(self, name: str) -> tuple[Float[np.ndarray, "vertex 3"], Int[np.ndarray, "triangle 3"]]:
        """Read a body, or find it among those read before."""
        with self._lock:
            if name in self._bodies:
                self._bodies.move_to_end(name)
                return self._bodies[name]
        body = self.store.case(name).geometry()
        with self._lock:
            self._bodies[name] = body
            while len(self._bodies) > 1 and sum(v.nbytes + t.nbytes for v, t in self._bodies.values()) > GEOMETRY_BYTES:
                self._bodies.popitem(last=False)
        return body

    def _turned_sites(self, sites: Sites, turn: Float[np.ndarray, "3 3"]) -> Sites:
        within = turn[np.ix_(self.units.spec.axes, self.units.spec.axes)]
        normal = None if sites.normal is None else sites.normal @ within.T
        return Sites(sites.position @ within.T, normal, sites.distance, sites.measure)

    def _turned(
        self, branch: str, name: str, values: Float[np.ndarray, "*point component"], turn: Float[np.ndarray, "3 3"]
    ) -> Float[np.ndarray, "*point component"]:
        spec = self.units.spec
        kind = spec.fields[branch][name].kind
        if kind == "scalar":
            return values
        axes = spec.axes if values.shape[-1] == len(spec.axes) else [axis for axis in range(3) if axis not in spec.axes]
        sign = np.sign(np.linalg.det(turn)) if kind == "pseudovector" else 1.0
        return sign * (values @ turn[np.ix_(axes, axes)].T)


def _by_name(setting: str, values: Mapping[str, float], names: Sequence[str]) -> Float[np.ndarray, " name"]:
    """Order the values of a setting, zero where there is none."""
    if unknown := set(values) - set(names):
        there = ", ".join(names) or "none"
        raise ValueError(f"training.sampling.{setting} names {min(unknown)}; the store has {there}")
    return np.array([values.get(name, 0.0) for name in names])


def bucket(count: int) -> int:
    """Round down to four significant bits, so that draws from cases smaller than a draw come in few sizes."""
    step = 1 << max(count.bit_length() - 4, 0)
    return count // step * step


def random_turn(axis: int, generator: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    """Draw an orthogonal matrix that keeps an axis: a rotation about it, after a mirror half the time."""
    angle, mirrored = generator.uniform(0, 2 * np.pi), generator.random() < 0.5
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    if mirrored:
        turn[:, first] *= -1
    return turn


def check_generator(seed: int, case: int) -> np.random.Generator:
    """Give the source of randomness for scoring a validation case: the same at every step of a training."""
    return np.random.default_rng([_CHECK, seed, case])


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples together: stacked where they are equally large, packed one after the other where not."""
    first = samples[0]
    anchors, queries = list(first.anchors), list(first.queries)

    def values(role: Literal["anchor_values", "query_values"]) -> dict[str, dict[str, Tensor]]:
        return {
            branch: {name: _join([getattr(sample, role)[branch][name] for sample in samples])[0] for name in each}
            for branch, each in getattr(first, role).items()
        }

    return Batch(
        cases=tuple(sample.case for sample in samples),
        geometry=_points([sample.geometry for sample in samples]),
        anchors={branch: _points([sample.anchors[branch] for sample in samples]) for branch in anchors},
        queries={branch: _points([sample.queries[branch] for sample in samples]) for branch in queries},
        anchor_values=values("anchor_values"),
        query_values=values("query_values"),
        condition=torch.from_numpy(np.stack([sample.condition for sample in samples]))
        if first.condition.size
        else None,
    )


def _points(parts: Sequence[Arrays]) -> Points:
    joined = {name: _join([part[name] for part in parts]) for name in parts[0]}
    return Points(offsets=joined["position"][1], **{name: tensor for name, (tensor, _) in joined.items()})


def _join(arrays: Sequence[np.ndarray]) -> tuple[Tensor, Tensor | None]:
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) == 1:
        return torch.from_numpy(np.stack(arrays)), None
    return torch.from_numpy(np.concatenate(arrays))[None], torch.from_numpy(np.cumsum([0, *lengths]).astype(np.int64))


def batches(sampler: Sampler, *, start: int, size: int, workers: int, pinned: bool = False) -> Iterator[Batch]:
    """Draw batches without end, from sample number `start`.

    Threads draw ahead: reading and sorting release the interpreter, and nothing is copied between processes. Their
    number decides when a batch is drawn and never what it holds.

    Args:
        sampler: draws the samples.
        start: number of the first sample.
        size: samples a batch.
        workers: threads; none draws each batch when it is asked for.
        pinned: put batches into memory from which a GPU copies by itself.
    """

    def batch(number: int) -> Batch:
        drawn = collate([sampler.sample(index) for index in range(number, number + size)])
        return drawn.map(Tensor.pin_memory) if pinned else drawn

    if not workers:
        while True:
            yield batch(start)
            start += size
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    pending: deque[Future[Batch]] = deque()
    try:
        while True:
            while len(pending) < AHEAD * workers:
                pending.append(pool.submit(batch, start))
                start += size
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
