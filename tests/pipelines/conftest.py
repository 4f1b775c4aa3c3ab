"""Real small cases, stores and runs, made once a session by the verbs themselves."""

from pathlib import Path

import pytest

from pipelines.config import Experiment, load
from pipelines.generate.stokes import generate_stokes

SMALL = [
    "operator.width=24",
    "operator.heads=2",
    "operator.trunk=[perceiver, self, cross]",
    "operator.supernodes=48",
    "operator.radius=0.2",
    "training.steps=40",
    "training.sampling.geometry=128",
    "training.sampling.anchors=64",
    "training.sampling.queries=128",
    "training.validate_every=20",
    "training.checkpoint_every=20",
    "training.validation_points=256",
    "training.device=cpu",
]


@pytest.fixture(scope="session")
def stokes_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write ten coarse Stokes cases to a folder."""
    out = tmp_path_factory.mktemp("stokes") / "cases"
    generate_stokes(out, count=10, seed=1, subdivisions=2, layers=8)
    return out


@pytest.fixture(scope="session")
def tiny_experiment(stokes_cases: Path) -> Experiment:
    """Compose the shipped experiment for these cases, made small: two cases validate, two test."""
    return load(
        "stokes",
        [
            f"data.cases={stokes_cases}/stokes_*",
            f"data.store={stokes_cases.parent}/store",
            "data.splits={validation: [stokes_0006, stokes_0007], test: [stokes_0008, stokes_0009]}",
            "tracking={kind: none}",
            *SMALL,
        ],
    )


@pytest.fixture(scope="session")
def tiny_store(tiny_experiment: Experiment) -> Path:
    """Prepare the store of them."""
    from pipelines.prepare import prepare

    report = prepare(tiny_experiment.data, workers=1, strict=True)
    return Path(report.store)


@pytest.fixture(scope="session")
def tiny_run(tiny_experiment: Experiment, tiny_store: Path) -> Path:
    """Train on that store, too short for good fields: everything else is real."""
    from pipelines.train import train

    run = tiny_store.parent / "run"
    train(tiny_experiment, run=run)
    return run
