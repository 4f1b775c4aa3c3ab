"""What the numbers of an operator mean: how positions are scaled, what points carry, how fields are standardised.

Training and prediction must agree on this, and both take it from here.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from meshes.fields import FieldSpec
from pipelines.bodies import AXES, Body, measure_body
from pipelines.expressions import evaluate, names_in
from pipelines.forces import Conventions, ForceConfig
from pipelines.settings import ConfigError, read

Feature = Literal["normal", "log_distance", "bounded_distance", "box"]

# Widths, in body lengths, over which `box` tells one side of a face of the body's box from the other.
STEEP = (1.0, 0.25, 0.0625)

# Wall distances below this part of a body length look alike to `log_distance`: y+ of about 1 on industrial meshes.
NEAREST = 1e-4


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

        def part(values: Any) -> Any:
            return None if values is None else values[index]

        return Sites(self.position[index], part(self.normal), part(self.distance), part(self.measure))


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """How places enter the operator.

    Attributes:
        frame: `absolute` scales every case alike, by the mean body length of the training cases, and keeps where the
            body stands: right above ground or in a tunnel. `body` puts the origin into each body and measures in its
            own length: right for bodies of any size in free flow.
        features: what points carry beside their position. `normal`: out of the wall, in a volume that of the nearest
            point of it. `distance`: from the wall, in a volume. `box`: where they lie from each face of the body's
            bounding box, so that what happens behind a body is found behind it however long the body is; for bodies
            that stand alike, such as cars.
    """

    frame: Literal["absolute", "body"] = "absolute"
    features: tuple[Literal["normal", "distance", "box"], ...] = ("normal", "distance")


# What `features` meant when it only said whether points carry any.
FORMERLY: dict[bool, list[str]] = {True: ["normal", "distance"], False: []}


@dataclass(frozen=True)
class Frame:
    """Where the operator's origin lies, its unit of length, and the corners of the body's box, all in metres."""

    centre: tuple[float, ...]
    length: float
    lower: tuple[float, ...]
    upper: tuple[float, ...]


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
    inputs: InputConfig = field(default_factory=InputConfig)
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
            ValueError: it is no JSON, or a key is missing, unknown or of the wrong type.
        """
        return read(cls, json.loads(text), "operator.json")

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
        space = len(self.space)
        widths: dict[str, int] = {
            "normal": space,
            "log_distance": 1,
            "bounded_distance": 1,
            "box": 2 * space * len(STEEP),
        }
        return {branch: {name: widths[name] for name in names} for branch, names in self.features.items()}


def feature_names(kind: Literal["geometry", "surface", "volume"], inputs: InputConfig) -> tuple[Feature, ...]:
    """Name the features of the points of a branch: a distance is near and far, and of a volume only."""
    names: list[Feature] = []
    if "normal" in inputs.features:
        names.append("normal")
    if "distance" in inputs.features and kind == "volume":
        names.extend(("log_distance", "bounded_distance"))
    if "box" in inputs.features:
        names.append("box")
    return tuple(names)


class Units:
    """Arithmetic between physical units and what the operator sees, as a specification lays down."""

    def __init__(self, spec: SurrogateSpec) -> None:
        self.spec = spec

    # --- Bodies and parameters

    def body(self, vertices: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]) -> Body:
        """Measure a body as the training bodies were."""
        return measure_body(vertices, triangles, space=tuple(self.spec.axes), symmetry=self.spec.symmetry_axis)

    def frame(self, body: Body) -> Frame:
        """Tell the origin and the unit of length that the operator sees this body in."""
        centre, lower, upper = (
            tuple(float(value) for value in corner[self.spec.axes]) for corner in (body.centre, body.lower, body.upper)
        )
        if self.spec.inputs.frame == "absolute":
            return Frame(self.spec.centre, self.spec.length, lower, upper)
        return Frame(centre, body.length, lower, upper)

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
            ConfigError: a parameter that the operator or a scale needs is not there.
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
            raise ConfigError(
                f"the surrogate needs the condition {described}: give it as --condition {missing[0]}=VALUE"
            )
        return complete

    def standardised(self, parameters: Mapping[str, float]) -> Float[np.ndarray, " condition"]:
        """Standardise the scalars that the operator is given."""
        spec = self.spec
        values = np.array([parameters[name] for name in spec.conditions], np.float64)
        return ((values - np.array(spec.condition_mean)) / np.array(spec.condition_std)).astype(np.float32)

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
            if name == "box":
                columns.append(self._from_box(sites.position, frame))
                continue
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

    def _from_box(self, position: Float[np.ndarray, "point space"], frame: Frame) -> Float[np.ndarray, "point feature"]:
        """Tell how far places lie from the faces of the body's box, each distance at several widths."""
        corners = np.array([frame.lower, frame.upper])
        ratio = (np.asarray(position, np.float64)[:, None] - corners).reshape(len(position), -1) / frame.length
        return np.concatenate([np.tanh(ratio / width) for width in STEEP], 1)

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
        return Sites(position[:, axes], normal=triangle_normals(vertices, triangles[triangle])[:, axes])

    # --- Fields

    def free_stream_and_scale(
        self, branch: str, name: str, parameters: Mapping[str, float]
    ) -> tuple[Float[np.ndarray, " component"], float]:
        """Evaluate what is subtracted from a field, and what it is then divided by, in the field's unit."""
        return non_dimensional(self.spec.fields[branch][name], self.spec.components(branch, name), parameters)

    def standardise(
        self,
        branch: str,
        name: str,
        values: Float[np.ndarray, "point component"],
        free_stream: Float[np.ndarray, " component"],
        scale: float,
    ) -> Float[np.ndarray, "point component"]:
        """Turn physical values into what the operator is trained to give, with free stream and scale at hand."""
        mean, std = (np.asarray(self.spec.statistics[branch][name][key]) for key in ("mean", "std"))
        return (((np.asarray(values, np.float64) - free_stream) / scale - mean) / std).astype(np.float32)

    def normalise(
        self, branch: str, name: str, values: Float[np.ndarray, "point component"], parameters: Mapping[str, float]
    ) -> Float[np.ndarray, "point component"]:
        """Turn physical values into what the operator is trained to give."""
        free_stream, scale = self.free_stream_and_scale(branch, name, parameters)
        return self.standardise(branch, name, values, free_stream, scale)

    def denormalise(
        self, branch: str, name: str, values: Float[np.ndarray, "point component"], parameters: Mapping[str, float]
    ) -> Float[np.ndarray, "point component"]:
        """Turn what the operator gives into physical values, as the source files have them."""
        free_stream, scale = self.free_stream_and_scale(branch, name, parameters)
        mean, std = (np.asarray(self.spec.statistics[branch][name][key]) for key in ("mean", "std"))
        return ((np.asarray(values, np.float64) * std + mean) * scale + free_stream).astype(np.float32)


def triangle_normals(
    vertices: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]
) -> Float[np.ndarray, "triangle 3"]:
    """Compute unit normals by the winding; zero for triangles without area."""
    from meshes.geometry.triangulation import triangle_area_vectors

    normal = triangle_area_vectors(vertices, triangles)
    size = np.sqrt(np.einsum("ij,ij->i", normal, normal))[:, None]
    return normal / np.where(size > 0, size, 1)


def draw(sites: Sites, count: int, generator: np.random.Generator, *, by_measure: bool) -> Int[np.ndarray, " pick"]:
    """Pick places without replacement, with probability by measure or all alike; all of them where there are fewer."""
    from meshes.sampling import pick

    if by_measure and sites.measure is None:
        raise ValueError("places are to be picked by measure, but have none")
    weights = sites.measure if by_measure and sites.measure is not None else np.ones(len(sites))
    return np.sort(pick(np.asarray(weights, np.float64), min(count, len(sites)), generator))


def non_dimensional(
    spec: FieldSpec, components: int, parameters: Mapping[str, float]
) -> tuple[Float[np.ndarray, " component"], float]:
    """Evaluate what a field is far away, one value a component, and its scale, both in its unit.

    Raises:
        ValueError: the scale is not a positive number, or the free stream has another number of components.
    """
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
