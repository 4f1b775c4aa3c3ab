"""A trained operator in physical units: numpy in metres goes in, fields as the source files had them come out.

What training and prediction must agree on lives here and nowhere else: how positions are scaled, which features points
carry, how fields become non-dimensional and standardised, and how anchors are laid around a new body.
"""

import ast
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from meshes.fields import FieldSpec
from neuralop.points import Points
from pipelines.bodies import AXES, Body, measure_body
from pipelines.forces import Conventions, ForceConfig

Feature = Literal["normal", "log_distance", "bounded_distance"]

# Wall distances below this part of a body length look alike to `log_distance`: y+ of about 1 on industrial meshes.
NEAREST = 1e-4
# Volume anchors follow the wall of a new body within about this part of a body length, and the far field not at all.
FOLLOW = 0.25


@dataclass(frozen=True, eq=False)
class Sites:
    """Places to evaluate fields at, in metres, with what is known there.

    Attributes:
        position: places [m].
        normal: on a surface the unit normal out of the body; in a volume the unit direction away from the nearest
            point of the wall.
        distance: distance from the wall [m], in a volume only.
        measure: area or volume that each place stands for [m², m³].
    """

    position: Float[np.ndarray, "point space"]
    normal: Float[np.ndarray, "point space"] | None = None
    distance: Float[np.ndarray, " point"] | None = None
    measure: Float[np.ndarray, " point"] | None = None

    def __len__(self) -> int:
        return len(self.position)

    def take(self, index: slice | Int[np.ndarray, " pick"]) -> "Sites":
        """Keep some of the places."""
        return Sites(
            *(
                None if (value := getattr(self, part.name)) is None else value[index]
                for part in dataclasses.fields(self)
            )
        )


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """How places enter the operator.

    Attributes:
        frame: `absolute` scales every case alike, by the mean body length of the training cases, and keeps where the
            body stands: right above ground or in a tunnel. `body` puts the origin into each body and measures in its
            own length: right for bodies of any size in free flow.
        features: whether points carry the normal and the wall distance beside their position.
    """

    frame: Literal["absolute", "body"] = "absolute"
    features: bool = True


@dataclass(frozen=True)
class Frame:
    """Where the operator's origin lies and what its unit of length is, both in metres."""

    centre: tuple[float, ...]
    length: float


@dataclass(frozen=True, kw_only=True)
class SurrogateSpec:
    """All that a checkpoint knows beside its weights, so that it predicts by itself.

    Attributes:
        operator: the operator's settings, with `kind`.
        space: names of the axes, `("x", "y", "z")` or `("x", "y")`.
        kinds: for each branch, whether it lies on the body or in the fluid.
        fields: for each branch its fields, in the order of the operator's heads.
        statistics: mean and standard deviation of each component of each non-dimensional field, over training.
        conditions: scalars that the operator is given; `condition_mean` and `condition_std` standardise them.
        constants: scalars that never varied in training: recorded, and assumed where a prediction is not told them.
        inputs: how places enter the operator.
        centre, length: the absolute frame [m], means over the training cases.
        features: for each branch, and for `geometry`, the features of its points in order.
        conventions: of pressure, shear and symmetry, as in the source files.
        forces: how forces become coefficients.
        ranges: lowest and highest value in training of each parameter, and of `size_x`, `centre_x`, `length` [m] ….
        surface_cell_size: median size of a surface cell, in body lengths.
        volume_box: lower and upper corner of the volume data, in units of the frame.
        geometry_points, anchors: how many points of the geometry and of each branch the operator was trained with.
        placement: for each branch, whether anchors were drawn evenly over its `measure` or over its `cells`.
        source: of what the training was made: store, digest, splits.
        versions: of the software.
    """

    operator: dict[str, Any]
    space: tuple[str, ...]
    kinds: dict[str, Literal["surface", "volume"]]
    fields: dict[str, dict[str, FieldSpec]]
    statistics: dict[str, dict[str, dict[str, tuple[float, ...]]]]
    conditions: tuple[str, ...] = ()
    condition_mean: tuple[float, ...] = ()
    condition_std: tuple[float, ...] = ()
    constants: dict[str, float] = field(default_factory=dict)
    inputs: InputConfig = InputConfig()
    centre: tuple[float, ...]
    length: float
    features: dict[str, tuple[Feature, ...]]
    conventions: Conventions
    forces: ForceConfig | None = None
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    surface_cell_size: float
    volume_box: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    geometry_points: int
    anchors: dict[str, int]
    placement: dict[str, Literal["measure", "cells"]]
    source: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write as JSON, which `from_json` reads back equal."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "SurrogateSpec":
        """Read what `to_json` wrote.

        Raises:
            ValueError: a key is missing, unknown or of the wrong type.
        """
        from pydantic import TypeAdapter

        return TypeAdapter(cls).validate_json(text)

    @property
    def axes(self) -> list[int]:
        """Columns of a three-dimensional position that are kept."""
        return [AXES.index(axis) for axis in self.space]

    @property
    def symmetry_axis(self) -> int | None:
        """Column of the axis across the plane of symmetry, if the data have one."""
        return None if self.conventions.symmetry is None else AXES.index(self.conventions.symmetry)

    def components(self, branch: str, name: str) -> int:
        """Columns of a field."""
        return len(self.statistics[branch][name]["mean"])

    def feature_widths(self) -> dict[str, dict[str, int]]:
        """Features of each branch and of the geometry with their columns, as operators are built with."""
        widths = {"normal": len(self.space), "log_distance": 1, "bounded_distance": 1}
        return {branch: {name: widths[name] for name in names} for branch, names in self.features.items()}

    def build(self) -> nn.Module:
        """Build the operator, with fresh weights."""
        from pipelines.registry import operator_config

        fields = {
            branch: {name: self.components(branch, name) for name in specs} for branch, specs in self.fields.items()
        }
        return operator_config(self.operator).build(
            space=len(self.space), branches=fields, features=self.feature_widths(), condition=len(self.conditions)
        )


def feature_names(kind: Literal["geometry", "surface", "volume"]) -> tuple[Feature, ...]:
    """Features that points carry by default: the normal, and in a volume the wall distance near and far."""
    return ("normal", "log_distance", "bounded_distance") if kind == "volume" else ("normal",)


@dataclass(frozen=True, eq=False)
class Encoding:
    """A body and its anchors as the operator has read them: places can be decoded against it in any number."""

    context: Any
    frame: Frame
    parameters: dict[str, float]


class Surrogate:
    """An operator with the specification that gives its numbers a meaning.

    Attributes:
        spec: what the numbers mean.
        operator: the operator, in evaluation mode, on `device`.
        template: for each volume branch pooled training points, in units of the frame: columns of the position, then
            wall distance and measure. Anchors around a new body are made from them.
        device: where the operator lives.
        precision: `float32`, or `bfloat16` for autocast.
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
        self.spec = spec
        self.device = torch.device(device)
        self.operator = operator.to(self.device).eval()
        self.template = dict(template or {})
        self.precision = precision

    # --- Bodies and parameters

    def body(self, vertices: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]) -> Body:
        """Measure a body as the training bodies were."""
        return measure_body(vertices, triangles, space=tuple(self.spec.axes), symmetry=self.spec.symmetry_axis)

    def frame(self, body: Body) -> Frame:
        """Tell the origin and the unit of length that the operator sees this body in."""
        if self.spec.inputs.frame == "absolute":
            return Frame(self.spec.centre, self.spec.length)
        return Frame(tuple(float(value) for value in body.centre[self.spec.axes]), body.length)

    @cached_property
    def needed(self) -> frozenset[str]:
        """Parameters that a prediction cannot do without, beside those that any body has."""
        expressions = [
            expression
            for specs in self.spec.fields.values()
            for spec in specs.values()
            for expression in (spec.scale, *(spec.free_stream or ()))
        ]
        used = {name for expression in expressions for name in names_in(expression)} | set(self.spec.conditions)
        derived = {f"{what}_{axis}" for what in ("size", "centre") for axis in AXES} | {"length"}
        return frozenset(used - derived)

    def complete(self, parameters: Mapping[str, float], body: Body) -> dict[str, float]:
        """Add the constants of the training and the parameters that any body has; what is given wins over constants.

        Raises:
            ValueError: a parameter that the operator or a scale needs is not there.
        """
        complete = self.spec.constants | dict(parameters) | body.parameters
        missing = sorted(self.needed - set(complete))
        if missing:
            described = ", ".join(
                f"{name} (from {self.spec.ranges[name][0]:.6g} to {self.spec.ranges[name][1]:.6g} in training)"
                if name in self.spec.ranges
                else name
                for name in missing
            )
            raise ValueError(
                f"the surrogate needs the condition {described}: give it as --condition {missing[0]}=VALUE"
            )
        return complete

    def condition(self, parameters: Mapping[str, float]) -> Float[Tensor, "1 condition"] | None:
        """Standardised scalars for the operator, or `None` where it takes none."""
        spec = self.spec
        if not spec.conditions:
            return None
        values = [
            (parameters[name] - mean) / std
            for name, mean, std in zip(spec.conditions, spec.condition_mean, spec.condition_std, strict=True)
        ]
        return torch.tensor([values], dtype=torch.float32, device=self.device)

    # --- Places

    def scaled(self, position: Float[np.ndarray, "point space"], frame: Frame) -> Float[np.ndarray, "point space"]:
        """Positions as the operator sees them: subtracted and divided in float64, then float32."""
        return ((np.asarray(position, np.float64) - np.asarray(frame.centre)) / frame.length).astype(np.float32)

    def arrays(self, branch: str, sites: Sites, frame: Frame) -> dict[str, Float[np.ndarray, "point ..."]]:
        """Position, features and measure of places as plain arrays in the units of the operator.

        Raises:
            ValueError: the places lack what a feature is made of.
        """
        columns = []
        for name in self.spec.features.get(branch, ()):
            source = sites.normal if name == "normal" else sites.distance
            if source is None:
                what = "normal" if name == "normal" else "wall distance"
                raise ValueError(f"the branch {branch!r} was trained with the {what} of each point: give it in Sites")
            if name == "normal":
                columns.append(source)
            else:
                ratio = np.asarray(source, np.float64)[:, None] / frame.length
                near = np.log(ratio + NEAREST) / 4
                columns.append(near if name == "log_distance" else ratio / (1 + ratio))
        arrays = {"position": self.scaled(sites.position, frame)}
        if columns:
            arrays["features"] = np.concatenate(columns, axis=1).astype(np.float32)
        if sites.measure is not None:
            # As the operator sees it: in powers of its unit of length, which keeps float32 within range.
            dimensions = len(self.spec.space) - (self.spec.kinds.get(branch, "surface") == "surface")
            arrays["measure"] = (np.asarray(sites.measure, np.float64) / frame.length**dimensions).astype(np.float32)
        return arrays

    def points(self, branch: str, sites: Sites, frame: Frame) -> Points:
        """Places as the operator takes them, a batch of one."""
        tensors = {
            name: torch.from_numpy(array)[None].to(self.device)
            for name, array in self.arrays(branch, sites, frame).items()
        }
        return Points(**tensors)

    def geometry_sites(
        self,
        vertices: Float[np.ndarray, "vertex 3"],
        triangles: Int[np.ndarray, "triangle 3"],
        generator: np.random.Generator,
    ) -> Sites:
        """Draw the points that stand for a body, evenly over its area; triangles must wind outwards."""
        from meshes.sampling import sample_surface

        position, triangle = sample_surface(vertices, triangles, count=self.spec.geometry_points, generator=generator)
        axes = self.spec.axes
        return Sites(position[:, axes], normal=triangle_normals(vertices, triangles)[triangle][:, axes])

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
    ) -> dict[str, Sites]:
        """Lay anchors on and around a new body, as many and as dense as in training.

        Surface anchors are picked from the given places by measure, or evenly where so trained; volume anchors are
        transported from the training template.

        Args:
            surface: for each surface branch the places to pick from, with their measure: cells of the body.
            vertices: corners of the body, whole where the training bodies were.
            triangles: rows of three indices into `vertices`.
            generator: its state alone decides the anchors.
        """
        frame = self.frame(self.body(vertices, triangles))
        anchors = {}
        for branch, count in self.spec.anchors.items():
            if self.spec.kinds[branch] == "volume":
                anchors[branch] = self.transport(branch, vertices, triangles, frame, generator)
                continue
            if branch not in surface:
                raise ValueError(f"places to pick anchors from are missing for the surface branch {branch!r}")
            sites = surface[branch]
            anchors[branch] = draw(sites, count, generator, by_measure=self.spec.placement[branch] == "measure")
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

    # --- Fields

    def free_stream_and_scale(
        self, branch: str, name: str, parameters: Mapping[str, float]
    ) -> tuple[Float[np.ndarray, " component"], float]:
        """Evaluate what is subtracted from a field, and what it is then divided by, in the field's unit."""
        return non_dimensional(self.spec.fields[branch][name], self.spec.components(branch, name), parameters)

    def normalise(
        self, branch: str, name: str, values: Float[np.ndarray, "point component"], parameters: Mapping[str, float]
    ) -> Float[np.ndarray, "point component"]:
        """Turn physical values into what the operator is trained to give."""
        free_stream, scale = self.free_stream_and_scale(branch, name, parameters)
        mean, std = (np.asarray(self.spec.statistics[branch][name][key]) for key in ("mean", "std"))
        return (((np.asarray(values, np.float64) - free_stream) / scale - mean) / std).astype(np.float32)

    def denormalise(
        self, branch: str, name: str, values: Float[np.ndarray, "point component"], parameters: Mapping[str, float]
    ) -> Float[np.ndarray, "point component"]:
        """Turn what the operator gives into physical values, as the source files have them."""
        free_stream, scale = self.free_stream_and_scale(branch, name, parameters)
        mean, std = (np.asarray(self.spec.statistics[branch][name][key]) for key in ("mean", "std"))
        return ((np.asarray(values, np.float64) * std + mean) * scale + free_stream).astype(np.float32)

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
    ) -> Encoding:
        """Let the operator read a body and its anchors, once for any number of places.

        Args:
            vertices: corners of the body [m].
            triangles: rows of three indices into `vertices`, wound outwards.
            anchors: for each branch the anchors, in metres.
            parameters: conditions and whatever scales need; constants of the training are filled in.
            generator: draws the points that stand for the body.
        """
        body = self.body(vertices, triangles)
        frame, complete = self.frame(body), self.complete(parameters, body)
        geometry = self.points("geometry", self.geometry_sites(vertices, triangles, generator), frame)
        laid = {branch: self.points(branch, anchors[branch], frame) for branch in self.spec.fields}
        with self._autocast():
            context = self.operator.encode(geometry, laid, condition=self.condition(complete))
        return Encoding(context, frame, complete)

    @torch.inference_mode()
    def decode(
        self, encoding: Encoding, branch: str, sites: Sites | None = None, *, chunk: int = 65_536
    ) -> dict[str, Float[np.ndarray, "point component"]]:
        """Evaluate the fields of a branch at any places, in physical units; at the anchors where none are given.

        Args:
            encoding: what `encode` gave.
            branch: which fields.
            sites: where.
            chunk: places at once; bounds memory and changes nothing else.
        """
        starts: Sequence[int | None] = [None] if sites is None else range(0, max(len(sites), 1), chunk)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.spec.fields[branch]}
        for start in starts:
            queries = None
            if sites is not None and start is not None:
                queries = self.points(branch, sites.take(slice(start, start + chunk)), encoding.frame)
                queries = dataclasses.replace(queries, measure=None)
            with self._autocast():
                values = self.operator.decode(encoding.context, branch, queries)
            for name, part in parts.items():
                part.append(values[name][0].float().cpu().numpy())
        return {
            name: self.denormalise(branch, name, np.concatenate(part), encoding.parameters)
            for name, part in parts.items()
        }


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


def triangle_normals(
    vertices: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]
) -> Float[np.ndarray, "triangle 3"]:
    """Compute unit normals by the winding; zero for triangles without area."""
    corners = np.asarray(vertices, np.float64)[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(normal, axis=1, keepdims=True)
    return normal / np.where(size > 0, size, 1)


def draw(sites: Sites, count: int, generator: np.random.Generator, *, by_measure: bool) -> Sites:
    """Pick places without replacement, with probability by measure or all alike; all of them where there are fewer.

    Places picked by measure stand for equal parts each, so they lose theirs.
    """
    from meshes.sampling import pick

    if by_measure and sites.measure is None:
        raise ValueError("places are to be picked by measure, but have none")
    weights = sites.measure if by_measure and sites.measure is not None else np.ones(len(sites))
    count = min(count, len(sites))
    picked = sites.take(np.sort(pick(np.asarray(weights, np.float64), count, generator)))
    return dataclasses.replace(picked, measure=None) if by_measure else picked


def join(parts: Sequence[Sites]) -> Sites:
    """Join places one after the other."""
    return Sites(
        *(
            None
            if getattr(parts[0], part.name) is None
            else np.concatenate([getattr(sites, part.name) for sites in parts])
            for part in dataclasses.fields(Sites)
        )
    )


def names_in(expression: str) -> set[str]:
    """Find the parameters that an expression uses."""
    tree = ast.parse(expression, mode="eval")
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - called - {"pi"}


def non_dimensional(
    spec: FieldSpec, components: int, parameters: Mapping[str, float]
) -> tuple[Float[np.ndarray, " component"], float]:
    """Evaluate what a field is far away, one value a component, and its scale, both in its unit.

    Raises:
        ValueError: the scale is not a positive number, or the free stream has another number of components.
    """
    from pipelines.expressions import evaluate

    scale = evaluate(spec.scale, parameters)
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"the scale {spec.scale!r} of the array {spec.array!r} is {scale}; it must be positive")
    if spec.free_stream is None:
        return np.zeros(components), scale
    if len(spec.free_stream) != components:
        raise ValueError(
            f"free_stream of the array {spec.array!r} has {len(spec.free_stream)} components, the field {components}"
        )
    return np.array([evaluate(expression, parameters) for expression in spec.free_stream]), scale
