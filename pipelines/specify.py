"""What a training knows of its data before the first step: the specification and the template of a surrogate."""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from meshes.stores import Store
from pipelines.batches import SamplingConfig
from pipelines.bodies import Body, measure_body
from pipelines.forces import Conventions, ForceConfig
from pipelines.specification import InputConfig, SurrogateSpec, Units, feature_names

# Anchors around a new body are picked from this many times as many pooled points, since some fall inside it.
TEMPLATE_FACTOR, TEMPLATE_LEAST = 8, 16_384
# Volume points of each case that the box of the data is measured on, where bodies have frames of their own.
BOX_POINTS = 65_536


def specify(
    store: Store,
    *,
    operator: Mapping[str, Any],
    sampling: SamplingConfig,
    inputs: InputConfig,
    conventions: Conventions,
    forces: ForceConfig | None,
) -> SurrogateSpec:
    """Derive the specification of a surrogate from a store and the settings of a training.

    Args:
        store: what is trained on.
        operator: settings of the operator, with `kind`.
        sampling: how many points of each branch a step sees.
        inputs: how places enter the operator.
        conventions: of the store's data.
        forces: how forces become coefficients.

    Raises:
        ValueError: there is no training case, a field never varies, or a parameter is missing.
    """
    names = store.splits["training"]
    if not names:
        raise ValueError(f"{store.path} has no training cases: see data.splits")
    branches, kinds = list(store.fields), store.kinds
    axes = ["xyz".index(axis) for axis in store.space]
    bodies = [
        measure_body(*store.case(name).geometry(), space=tuple(axes), symmetry=conventions.mirrored_axis)
        for name in names
    ]
    centre, length = np.mean([body.centre for body in bodies], axis=0)[axes], float(np.mean([b.length for b in bodies]))
    moments = store.parameter_statistics
    constants = {name: float(m.mean[0]) for name, m in moments.items() if m.minimum[0] == m.maximum[0]}
    missing = [name for name in store.conditions if name not in moments]
    if missing:
        raise ValueError(f"the condition {missing[0]!r} is not known for every training case of {store.path}")
    conditions = tuple(name for name in store.conditions if name not in constants)
    ranges = {name: (float(m.minimum[0]), float(m.maximum[0])) for name, m in moments.items()}
    ranges |= _body_ranges(bodies)
    surface = [store.cell_size[branch] for branch in branches if kinds[branch] == "surface"]
    spec = SurrogateSpec(
        operator=dict(operator),
        space=store.space,
        kinds=kinds,  # type: ignore[arg-type]
        fields=store.fields,
        statistics=_statistics(store),
        conditions=conditions,
        condition_mean=tuple(float(moments[name].mean[0]) for name in conditions),
        condition_std=tuple(float(moments[name].std[0]) for name in conditions),
        constants={name: value for name, value in constants.items() if name not in bodies[0].parameters},
        inputs=inputs,
        centre=tuple(float(value) for value in centre),
        length=length,
        features={
            name: feature_names(kind, inputs)  # type: ignore[arg-type]
            for name, kind in ({"geometry": "geometry"} | kinds).items()
        },
        conventions=conventions,
        forces=forces,
        ranges=ranges,
        surface_cell_size=float(np.median(surface)) / length if surface else 0.05,
        geometry_points=sampling.geometry,
        anchors=sampling.counts("anchors", branches),
        placement=sampling.placements(kinds),
        source={"store": str(store.path.resolve()), "digest": store.digest, "splits": store.splits},
        versions=versions(),
    )
    units = Units(spec)
    _check_scales(store, units, names[0], bodies[0])
    return _with_box(spec, store, units, bodies)


def _statistics(store: Store) -> dict[str, dict[str, dict[str, tuple[float, ...]]]]:
    statistics: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {}
    for branch, each in store.statistics.items():
        statistics[branch] = {}
        for name, moments in each.items():
            if not (moments.std > 0).all():
                component = int(np.argmin(moments.std))
                raise ValueError(
                    f"component {component} of the field {name!r} of {branch!r} is constant over the training cases: "
                    f"leave it out with data.branches.{branch}.fields.{name}.components"
                )
            statistics[branch][name] = {
                "mean": tuple(float(value) for value in moments.mean),
                "std": tuple(float(value) for value in moments.std),
            }
    return statistics


def _body_ranges(bodies: Sequence[Body]) -> dict[str, tuple[float, float]]:
    parameters = [body.parameters for body in bodies]
    return {
        name: (min(each[name] for each in parameters), max(each[name] for each in parameters)) for name in parameters[0]
    }


def _check_scales(store: Store, units: Units, name: str, body: Body) -> None:
    """Make sure that scales can be computed without the store, and are those that it was prepared with."""
    case = store.case(name)
    parameters = units.complete(case.parameters, body)
    for branch, specs in units.spec.fields.items():
        for field in specs:
            free_stream, scale = units.free_stream_and_scale(branch, field, parameters)
            stored, stored_stream = case.scale(branch, field)
            if not (
                np.isclose(scale, stored, rtol=1e-6) and np.allclose(free_stream, stored_stream, atol=1e-6 * scale)
            ):
                raise ValueError(
                    f"{store.path}: {field!r} of {branch!r} in {name} was prepared with scale {stored:.6g} and free "
                    f"stream {stored_stream.tolist()}, its specification gives {scale:.6g} and {free_stream.tolist()}: "
                    "run prepare again with --force"
                )


def _with_box(spec: SurrogateSpec, store: Store, units: Units, bodies: Sequence[Body]) -> SurrogateSpec:
    volumes = [branch for branch, kind in spec.kinds.items() if kind == "volume"]
    if not volumes:
        return spec
    corners = []
    for branch in volumes:
        if spec.inputs.frame == "absolute":
            corners.append(units.scaled(store.bounds[branch], units.frame(bodies[0])))
            continue
        for name, body in zip(store.splits["training"], bodies, strict=True):
            case = store.case(name)
            position = case.read(branch, 0, min(BOX_POINTS, case.count(branch)), ["position"])["position"]
            corners.append(units.scaled(position, units.frame(body)))
    lower = np.min([corner.min(0) for corner in corners], axis=0)
    upper = np.max([corner.max(0) for corner in corners], axis=0)
    return dataclasses.replace(spec, volume_box=(tuple(map(float, lower)), tuple(map(float, upper))))


def pool_template(store: Store, units: Units) -> dict[str, Float[np.ndarray, "point column"]]:
    """Pool volume points of the training cases, that anchors around new bodies are made from.

    Returns:
        For each volume branch, in units of the frame: position, wall distance and measure, one row a point.
    """
    spec, names = units.spec, store.splits["training"]
    template = {}
    for branch in (branch for branch, kind in spec.kinds.items() if kind == "volume"):
        each = -(-max(TEMPLATE_FACTOR * spec.anchors[branch], TEMPLATE_LEAST) // len(names))
        rows = []
        for name in names:
            case = store.case(name)
            frame = units.frame(units.body(*case.geometry()))
            block = case.read(branch, 0, min(each, case.count(branch)), ["position", "distance", "measure"])
            columns = (
                units.scaled(block["position"], frame),
                block["distance"][:, None] / frame.length,
                block["measure"][:, None].astype(np.float64) / frame.length ** len(spec.space),
            )
            rows.append(np.concatenate(columns, axis=1).astype(np.float32))
        template[branch] = np.concatenate(rows)
    return template


def versions() -> dict[str, str]:
    """Name the versions of the software that numbers depend on."""
    from pipelines import __version__

    found = {"anchorfield": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "scipy", "torch-geometric", "h5py"):
        found[name] = importlib.metadata.version(name)
    return found
