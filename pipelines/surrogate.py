"""A trained operator in physical units: numpy in metres goes in, fields as the source files had them come out."""

import dataclasses
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuralop.points import Points
from pipelines.bodies import Body
from pipelines.memory import free_memory
from pipelines.specification import (
    Frame,
    InputConfig,
    Sites,
    SurrogateSpec,
    Units,
    draw,
    triangle_normals,
)

__all__ = ["Encoding", "Frame", "InputConfig", "Sites", "Surrogate", "SurrogateSpec", "Units", "Wall"]

# Volume anchors follow the wall of a new body within about this part of a body length, and the far field not at all.
FOLLOW = 0.25
# The fewest places at once: what a device cannot do for these it cannot do for fewer.
SMALLEST = 128

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Encoding:
    """A body and its anchors as the operator has read them: places can be decoded against it in any number."""

    context: Any
    frame: Frame
    parameters: dict[str, float]


class Surrogate(Units):
    """An operator with the specification that gives its numbers a meaning.

    Attributes:
        spec: what the numbers mean.
        operator: the operator, in evaluation mode, on `device`.
        template: for each volume branch pooled training points, in units of the frame: columns of the position, then
            wall distance and measure. Anchors around a new body are made from them.
        device: where the operator lives.
        precision: `float32`, or `bfloat16` for autocast.
        largest: how many places fit on the device at once, once that has been found out the hard way.
    """

    def __init__(
        self,
        spec: SurrogateSpec,
        operator: nn.Module,
        *,
        template: Mapping[str, Float[np.ndarray, "point column"]] | None = None,
        device: torch.device | str = "cpu",
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__(spec)
        self.device = torch.device(device)
        self.operator: Any = operator.to(self.device).eval()
        self.template = dict(template or {})
        self.precision = precision
        self.largest: int | None = None

    @property
    def members(self) -> int:
        """Count the operators whose mean is predicted."""
        from neuralop.operators.ensemble import Ensemble

        return len(self.operator.members) if isinstance(self.operator, Ensemble) else 1

    def condition(self, parameters: Mapping[str, float]) -> Float[Tensor, "1 condition"] | None:
        """Standardised scalars for the operator, or `None` where it takes none."""
        if not self.spec.conditions:
            return None
        return torch.from_numpy(self.standardised(parameters))[None].to(self.device)

    def points(self, branch: str, sites: Sites, frame: Frame) -> Points:
        """Places as the operator takes them, a batch of one."""
        tensors = {name: torch.from_numpy(array)[None] for name, array in self.arrays(branch, sites, frame).items()}
        if self.device.type == "cuda":  # from pinned memory the copy runs beside the host
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        return Points(**{name: tensor.to(self.device, non_blocking=True) for name, tensor in tensors.items()})

    def volume_sites(
        self,
        position: Float[np.ndarray, "point space"],
        vertices: Float[np.ndarray, "vertex 3"],
        triangles: Int[np.ndarray, "triangle 3"],
        measure: Float[np.ndarray, " point"] | None = None,
    ) -> Sites:
        """Add wall distance and wall direction to places in the fluid."""
        distance, direction, _ = Wall(vertices, triangles, self.spec.axes).look(position)
        return Sites(position, normal=direction, distance=distance, measure=measure)

    def anchors(
        self,
        surface: Mapping[str, Sites],
        vertices: Float[np.ndarray, "vertex 3"],
        triangles: Int[np.ndarray, "triangle 3"],
        generator: np.random.Generator,
        *,
        body: Body | None = None,
    ) -> dict[str, Sites]:
        """Lay anchors on and around a new body, as many and as dense as in training.

        Surface anchors are picked from the given places by measure, or evenly where so trained; volume anchors are
        transported from the training template.

        Args:
            surface: for each surface branch the places to pick from, with their measure: cells of the body.
            vertices: corners of the body, whole where the training bodies were.
            triangles: rows of three indices into `vertices`.
            generator: its state alone decides the anchors.
            body: its place and size, where they are known already.
        """
        frame = self.frame(body or self.body(vertices, triangles))
        anchors = {}
        for branch, count in self.spec.anchors.items():
            if self.spec.kinds[branch] == "volume":
                anchors[branch] = self.transport(branch, vertices, triangles, frame, generator)
                continue
            if branch not in surface:
                raise ValueError(f"places to pick anchors from are missing for the surface branch {branch!r}")
            sites = surface[branch]
            by_measure = self.spec.placement[branch] == "measure"
            picked = sites.take(draw(sites, count, generator, by_measure=by_measure))
            # Drawn in proportion to measure, anchors stand for equal parts of it.
            anchors[branch] = dataclasses.replace(picked, measure=None) if by_measure else picked
        return anchors

    def transport(
        self,
        branch: str,
        vertices: Float[np.ndarray, "vertex 3"],
        triangles: Int[np.ndarray, "triangle 3"],
        frame: Frame,
        generator: np.random.Generator,
    ) -> Sites:
        """Carry volume points of the training cases over to a new body, keeping their distances from the wall.

        A training point y with wall distance d, whose closest point on the new body is c with the outward direction n,
        moves to y + w (c + d n − y) with w = exp(−d / (L/4)): near the wall it stands d above the new wall, far away it
        stays. What still falls inside the body is drawn again.

        Raises:
            ValueError: the checkpoint has no template, or the body fills the whole of it.
        """
        if branch not in self.template:
            raise ValueError(f"this checkpoint keeps no template of the volume branch {branch!r}: give its anchors")
        template, count, space = self.template[branch], self.spec.anchors[branch], len(self.spec.space)
        wall = Wall(vertices, triangles, self.spec.axes)
        found: list[Sites] = []
        left = generator.permutation(len(template))
        while (missing := count - sum(map(len, found))) > 0:
            rows, left = template[left[: 2 * missing]].astype(np.float64), left[2 * missing :]
            if not len(rows):
                raise ValueError(
                    f"only {count - missing} of {count} anchors of {branch!r} could be placed around this geometry; "
                    "is it far larger than the training bodies, or in other units?"
                )
            position = rows[:, :space] * frame.length + np.asarray(frame.centre)
            distance = rows[:, space] * frame.length
            reach, direction, inside = wall.look(position)
            closest = position - np.where(inside, -reach, reach)[:, None] * direction
            weight = np.exp(-distance / (FOLLOW * frame.length))[:, None]
            position = position + weight * (closest + distance[:, None] * direction - position)
            reach, direction, inside = wall.look(position)
            dimensions = space
            sites = Sites(position, direction, reach, rows[:, space + 1] * frame.length**dimensions)
            found.append(sites.take(np.flatnonzero(~inside & (reach > 0))[:missing]))
        return join(found)

    # --- The operator

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    @torch.inference_mode()
    def encode(
        self,
        vertices: Float[np.ndarray, "vertex 3"],
        triangles: Int[np.ndarray, "triangle 3"],
        anchors: Mapping[str, Sites],
        parameters: Mapping[str, float],
        *,
        generator: np.random.Generator,
        body: Body | None = None,
    ) -> Encoding:
        """Let the operator read a body and its anchors, once for any number of places.

        Args:
            vertices: corners of the body [m].
            triangles: rows of three indices into `vertices`, wound outwards.
            anchors: for each branch the anchors, in metres.
            parameters: conditions and whatever scales need; constants of the training are filled in.
            generator: draws the points that stand for the body.
            body: its place and size, where they are known already.
        """
        body = body or self.body(vertices, triangles)
        frame, complete = self.frame(body), self.complete(parameters, body)
        geometry = self.points("geometry", self.geometry_sites(vertices, triangles, generator), frame)
        laid = {branch: self.points(branch, anchors[branch], frame) for branch in self.spec.fields}
        with self._autocast():
            context = self.operator.encode(geometry, laid, condition=self.condition(complete))
        return Encoding(context, frame, complete)

    @torch.inference_mode()
    def decode(
        self,
        encoding: Encoding,
        branch: str,
        sites: Sites | None = None,
        *,
        chunk: int = 65_536,
        member: int | None = None,
    ) -> dict[str, Float[np.ndarray, "point component"]]:
        """Evaluate the fields of a branch at any places, in physical units; at the anchors where none are given.

        A GPU works on one chunk while the fields of the one before come back. Where a chunk is too large for the
        memory of the device, it is halved as often as needed, and `largest` remembers.

        Args:
            encoding: what `encode` gave.
            branch: which fields.
            sites: where.
            chunk: places at once; bounds memory and changes nothing else.
            member: of an ensemble, counted from zero, whose own answer is asked for; by default their mean.

        Raises:
            MemoryError: the device does not even hold the smallest chunk.
        """
        if sites is None:
            answer = self._evaluate(encoding, branch, None, member)
            return {name: self._physical(encoding, branch, name, values) for name, values in answer.arrive().items()}
        fields = {
            name: np.empty((len(sites), self.spec.components(branch, name)), np.float32)
            for name in self.spec.fields[branch]
        }
        under_way: deque[tuple[slice, _Answer]] = deque()

        def land(allowed: int) -> None:
            while len(under_way) > allowed:
                part, answer = under_way.popleft()
                for name, values in answer.arrive().items():
                    fields[name][part] = self._physical(encoding, branch, name, values)

        start = 0
        while start < len(sites):
            part = slice(start, min(start + chunk, start + (self.largest or chunk), len(sites)))
            answer = self._attempt(encoding, branch, sites.take(part), member)
            if answer is None:
                land(0)
                self._settle_for(part.stop - part.start)
                continue
            under_way.append((part, answer))
            land(1)
            start = part.stop
        land(0)
        return fields

    def _attempt(self, encoding: Encoding, branch: str, sites: Sites, member: int | None) -> "_Answer | None":
        """Evaluate places unless the memory does not suffice; what was taken in vain is free again on return."""
        try:
            return self._evaluate(encoding, branch, sites, member)
        except torch.OutOfMemoryError:
            return None

    def _evaluate(self, encoding: Encoding, branch: str, sites: Sites | None, member: int | None) -> "_Answer":
        queries = None
        if sites is not None:
            queries = dataclasses.replace(self.points(branch, sites, encoding.frame), measure=None)
        operator, context = self.operator, encoding.context
        if member is not None and self.members > 1:
            operator, context = operator.members[member], context["members"][member]
        with self._autocast():
            values = operator.decode(context, branch, queries)
        return _Answer({name: values[name][0].float() for name in self.spec.fields[branch]})

    def _settle_for(self, failed: int) -> None:
        """Take half as many places at once from now on."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        free = f"{free_memory(self.device):,} bytes are free on {self.device}"
        if failed <= SMALLEST:
            raise MemoryError(
                f"a chunk of {failed} places does not fit, and smaller ones would not help: {free}; close what else "
                "uses the device, or choose another with --device"
            )
        if self.largest is None:
            log.warning(
                "a chunk of %s places is too large for the memory (%s): smaller ones are taken; set --chunk to avoid "
                "the attempt",
                f"{failed:,}",
                free,
            )
        self.largest = max(failed // 2, SMALLEST)

    def _physical(self, encoding: Encoding, branch: str, name: str, values: np.ndarray) -> np.ndarray:
        return self.denormalise(branch, name, values, encoding.parameters)


class _Answer:
    """Fields of a chunk on their way from the device; the host goes on meanwhile."""

    def __init__(self, values: Mapping[str, Float[Tensor, "point component"]]) -> None:
        # Without waiting, a copy from a GPU goes to pinned memory.
        self.values = {name: value.to("cpu", non_blocking=True) for name, value in values.items()}
        devices = {value.device for value in values.values() if value.is_cuda}
        self.copies = [torch.cuda.current_stream(device).record_event() for device in devices]

    def arrive(self) -> dict[str, Float[np.ndarray, "point component"]]:
        """Wait for the values."""
        for copy in self.copies:
            copy.synchronize()
        return {name: value.numpy() for name, value in self.values.items()}


class Wall:
    """A body as places in the fluid see it; in the plane, the body is a strip and places lie in its middle."""

    def __init__(
        self, vertices: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"], axes: Sequence[int]
    ) -> None:
        from meshes.geometry.wall_distance import ClosestPoints

        self.axes = list(axes)
        self.middle = 0.5 * (np.min(vertices, axis=0) + np.max(vertices, axis=0)).astype(np.float64)
        self.normals = triangle_normals(vertices, triangles)
        self.closest = ClosestPoints(np.asarray(vertices, np.float64), triangles)

    def look(
        self, position: Float[np.ndarray, "point space"]
    ) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, "point space"], Any]:
        """Distance from the wall [m], unit direction out of the nearest point of it, and whether inside the body.

        A place counts as inside when it lies straight behind its nearest triangle, which needs no closed surface: half
        bodies and strips have none. Inside, the direction still points out of the body.
        """
        lifted = np.tile(self.middle, (len(position), 1))
        lifted[:, self.axes] = position
        distance, point, triangle = self.closest.query(lifted)
        normal = self.normals[triangle]
        away = lifted - point
        length = np.linalg.norm(away, axis=1)
        cosine = (away * normal).sum(1) / np.maximum(length, np.finfo(np.float64).tiny)
        inside = (cosine < -0.999) & (length > 0)
        # On the wall itself rounding decides the direction of `away`; the normal does not depend on it.
        touching = length <= 1e-9 * (1 + np.abs(point).max(1))
        direction = np.where(
            touching[:, None], normal, away / np.where(touching, 1, length)[:, None] * np.where(inside, -1, 1)[:, None]
        )[:, self.axes]
        norm = np.linalg.norm(direction, axis=1, keepdims=True)
        return distance, direction / np.where(norm > 0, norm, 1), inside


def join(parts: Sequence[Sites]) -> Sites:
    """Join places one after the other."""

    def joined(name: str) -> Any:
        values = [getattr(sites, name) for sites in parts]
        return None if values[0] is None else np.concatenate(values)

    return Sites(joined("position"), joined("normal"), joined("distance"), joined("measure"))


def build_operator(spec: SurrogateSpec) -> nn.Module:
    """Build the operator of a specification, with fresh weights."""
    from pipelines.registry import operator_config
    from pipelines.settings import read

    config = read(operator_config(spec.operator["kind"]), spec.operator, "operator")
    fields = {branch: {name: spec.components(branch, name) for name in names} for branch, names in spec.fields.items()}
    return config.build(
        space=len(spec.space), branches=fields, features=spec.feature_widths(), condition=len(spec.conditions)
    )
