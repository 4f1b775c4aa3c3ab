"""A small store of exact Stokes flows past ellipsoids, written straight from the formulas."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from meshes.fields import FieldSpec
from meshes.statistics import Moments, merge
from meshes.stores import StoredBranch, StoredField, StoredGeometry, write_case
from meshes.stores.layout import FORMAT, sha256, write_json
from neuralop.operators.ab_upt import ABUPTConfig
from pipelines.batches import SamplingConfig
from pipelines.bodies import measure_body
from pipelines.config import Experiment
from pipelines.forces import Conventions, ForceConfig
from pipelines.generate.ellipsoid import Ellipsoid, StokesFlow
from pipelines.generate.stokes import icosphere
from pipelines.optimisers import AdamWConfig
from pipelines.specification import InputConfig
from pipelines.tracking import NoTracking
from pipelines.trainer import LossConfig, TrainingConfig

STRESS = "viscosity * speed / length"
FIELDS = {
    "surface": {
        "pressure": FieldSpec(array="p", unit="Pa", scale=STRESS),
        "shear": FieldSpec(array="wallShearStress", unit="Pa", kind="vector", scale=STRESS),
    },
    "volume": {
        "velocity": FieldSpec(array="U", unit="m/s", kind="vector", scale="speed", free_stream=("speed", "0", "0")),
        "vorticity": FieldSpec(array="vorticity", unit="1/s", kind="pseudovector", scale="speed / length"),
    },
}


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a training asks of the `data` of an experiment."""

    store: str
    conventions: Conventions = field(default_factory=Conventions)
    forces: ForceConfig | None = None


def build_store(path: Path, *, training: int = 4, validation: int = 1, test: int = 1, layers: int = 6) -> Path:
    """Write a store of flows past ellipsoids of any size, orientation and speed, with two conditions."""
    names = [f"stokes_{number:02d}" for number in range(training + validation + test)]
    splits = {
        "training": names[:training],
        "validation": names[training : training + validation],
        "test": names[training + validation :],
    }
    cases, moments, parameters, positions = {}, [], [], []
    for number, name in enumerate(names):
        rng = np.random.default_rng([77, number])
        speed, viscosity = float(rng.uniform(0.5, 2)), float(rng.uniform(0.5, 2))
        body = Ellipsoid(axes=rng.uniform(0.4, 1.2, 3), rotation=_rotation(rng), centre=np.zeros(3))
        flow = StokesFlow(ellipsoid=body, stream=np.array([speed, 0, 0]), viscosity=viscosity)
        branches, geometry, known = _case(flow, layers)
        known |= {"speed": speed, "viscosity": viscosity, "density": 1.0}
        file = path / "cases" / f"{name}.h5"
        condition = {key: known[key] for key in ("speed", "viscosity", "density")}
        write_case(file, branches=branches, geometry=geometry, parameters=known, condition=condition, record={})
        counts = {branch: len(stored.position) for branch, stored in branches.items()}
        entry = {"file": f"cases/{name}.h5", "counts": counts, "bytes": file.stat().st_size, "sha256": sha256(file)}
        cases[name] = entry
        if name in splits["training"]:
            seen = {branch: stored.fields for branch, stored in branches.items()}
            moments.append(
                {b: {f: Moments.of(v.non_dimensional()) for f, v in each.items()} for b, each in seen.items()}
            )
            parameters.append(known)
            positions.append({branch: stored.position for branch, stored in branches.items()})
    corners = {b: np.concatenate([each[b] for each in positions]) for b in FIELDS}
    statistics = {
        "fields": {
            branch: {name: merge([each[branch][name] for each in moments]).to_json() for name in fields}
            for branch, fields in FIELDS.items()
        },
        "parameters": {
            name: Moments.of(np.array([[each[name]] for each in parameters])).to_json() for name in parameters[0]
        },
        "body": {},
        "bounds": {branch: [corner.min(0).tolist(), corner.max(0).tolist()] for branch, corner in corners.items()},
        "cell_size": {"surface": 0.2, "volume": 0.2},
    }
    manifest = {
        "format": FORMAT,
        "fields": {branch: {name: asdict(spec) for name, spec in each.items()} for branch, each in FIELDS.items()},
        "space": ["x", "y", "z"],
        "branches": {"surface": "surface", "volume": "volume"},
        "conditions": ["speed", "viscosity", "density"],
        "conventions": asdict(Conventions()),
        "splits": splits,
        "cases": cases,
    }
    write_json(path / "statistics.json", statistics)
    write_json(path / "manifest.json", manifest)
    return path


def _case(flow: StokesFlow, layers: int) -> tuple[dict[str, StoredBranch], StoredGeometry, dict[str, float]]:
    body = flow.ellipsoid
    sphere, triangles = icosphere(2)
    vertices = body.from_sphere(sphere)
    corners = vertices[triangles]
    vectors = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    area = np.linalg.norm(vectors, axis=1)
    wall = _project(body, corners.mean(1))
    surface = flow.surface(wall)
    measured = measure_body(vertices, triangles)
    speed = float(np.linalg.norm(flow.stream))
    stress, rate = flow.viscosity * speed / measured.length, speed / measured.length
    distances = body.size * np.geomspace(0.02, 3, layers)
    position = np.concatenate([wall + distance * surface.normal for distance in distances])
    volume = flow.volume(position)
    steps = np.gradient(distances)
    stream = (speed, 0.0, 0.0)
    branches = {
        "surface": StoredBranch(
            position=wall,
            measure=area,
            normal=surface.normal,
            fields={
                "pressure": StoredField(values=surface.pressure[:, None], scale=stress),
                "shear": StoredField(values=surface.wall_shear_stress, scale=stress),
            },
        ),
        "volume": StoredBranch(
            position=position,
            measure=np.concatenate([area * step for step in steps]),
            normal=np.tile(surface.normal, (layers, 1)),
            distance=np.repeat(distances, len(wall)),
            fields={
                "velocity": StoredField(values=volume.velocity, scale=speed, free_stream=stream),
                "vorticity": StoredField(values=volume.vorticity, scale=rate),
            },
        ),
    }
    return branches, StoredGeometry(vertices=vertices, triangles=triangles), dict(measured.parameters)


def _project(body: Ellipsoid, position: np.ndarray) -> np.ndarray:
    """Move points along rays from the centre onto the ellipsoid."""
    inside = body.to_body(position)
    return body.centre + (position - body.centre) / np.linalg.norm(inside / body.axes, axis=1, keepdims=True)


def _rotation(rng: np.random.Generator) -> np.ndarray:
    turned, triangular = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = turned * np.sign(np.diag(triangular))
    return turned * np.linalg.det(turned)


def experiment(store: Path, tracking: object | None = None, **training: object) -> Experiment:
    """Set up a training that takes a second or two."""
    settings: dict = {
        "steps": 6,
        "batch": 2,
        "device": "cpu",
        "precision": "float32",
        "optimiser": AdamWConfig(learning_rate=3e-3),
        "ema": 0.9,
        "loss": LossConfig(anchors=0.5),
        "sampling": SamplingConfig(geometry=128, anchors={"surface": 48, "volume": 64}, queries=96, turn_about="x"),
        "inputs": InputConfig(frame="body"),
        "validate_every": 3,
        "validation_points": 200,
        "checkpoint_every": 2,
        "log_every": 2,
    }
    operator = ABUPTConfig(
        width=24, heads=2, trunk=("perceiver", "self", "cross"), depth=1, supernodes=32, radius=0.2, measure=True
    )
    return Experiment(
        operator=operator,
        data=Data(store=str(store)),
        training=TrainingConfig(**(settings | training)),
        tracking=tracking or NoTracking(),
    )
