"""What a plan says is what the training then does: exactly where it is counted, nearly where it is timed."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers
from stokes_store import build_store, experiment

from meshes.stores import Store
from meshes.stores.layout import StoreError
from pipelines import checkpoints
from pipelines.config import Experiment
from pipelines.planning import Plan, plan
from pipelines.train import train
from pipelines.trainer import build_trainer

EVERYTHING = 10**6  # checkpoints to keep, so that all can be counted


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_store(tmp_path_factory.mktemp("planning") / "store")


def size(checkpoint: Path) -> int:
    return sum(file.stat().st_size for file in checkpoint.iterdir())


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 7, "validate_every": 3, "checkpoint_every": 2},
        {"steps": 6, "validate_every": 6, "checkpoint_every": 3, "batch": 1, "accumulate": 3, "ema": None},
        {"steps": 3, "validate_every": 5, "checkpoint_every": 5},
    ],
)
def test_what_is_counted_is_what_the_training_does(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict
) -> None:
    monkeypatch.chdir(tmp_path)
    config = experiment(store, **settings, keep=EVERYTHING)
    outlook = plan(config, budget=0.0)
    assert list(tmp_path.iterdir()) == []
    report = train(config, run=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert outlook.steps == len([line for line in lines if "loss" in line])
    assert outlook.validations == len([line for line in lines if "validation/score" in line])
    written = sorted((tmp_path / "run" / checkpoints.FOLDER).glob("step_*"))
    assert outlook.checkpoints <= len(written) <= outlook.checkpoints_at_most
    for checkpoint in written:
        # The state also holds the scores so far, in text.
        assert size(checkpoint) == pytest.approx(outlook.bytes_a_checkpoint, rel=0.02)
    assert outlook.disk == outlook.bytes_a_checkpoint * outlook.checkpoints_at_most
    opened = Store(store)
    trainer = build_trainer(config, opened)
    assert outlook.parameters == sum(parameter.numel() for parameter in trainer.operator.parameters())
    drawn = trainer.batches()
    batch = next(drawn)
    drawn.close()  # type: ignore[attr-defined]
    opened.close()
    places = [batch.geometry, *batch.anchors.values(), *batch.queries.values()]
    seen = sum(each.position.shape[0] * each.position.shape[1] for each in places)
    assert outlook.points_a_step == config.training.accumulate * seen
    assert outlook.cases == {"training": 4, "validation": 1, "test": 1}
    assert report.step == outlook.steps


@given(steps=integers(1, 50), validate=integers(1, 60), checkpoint=integers(1, 60))
def test_what_is_due_is_what_the_loop_does(steps: int, validate: int, checkpoint: int) -> None:
    from pipelines.planning import _due

    for every in (validate, checkpoint):
        assert _due(every, steps) == {step for step in range(1, steps + 1) if step % every == 0 or step == steps}


def test_the_whole_is_the_sum_of_its_parts(store: Path) -> None:
    outlook = plan(experiment(store), budget=0.0)
    parts = (
        outlook.seconds_before
        + outlook.steps * outlook.seconds_a_step
        + outlook.validations * outlook.seconds_a_validation
        + outlook.checkpoints_at_most * outlook.seconds_a_checkpoint
    )
    assert outlook.seconds == pytest.approx(parts)
    assert outlook.memory > 2**20
    assert Plan(**json.loads(json.dumps(outlook.to_dict()))) == outlook
    assert "6 of them" in outlook.render()


def test_without_a_validation_split_nothing_is_validated(tmp_path: Path) -> None:
    outlook = plan(experiment(build_store(tmp_path / "store", validation=0)), budget=0.0)
    assert (outlook.validations, outlook.seconds_a_validation) == (0, 0.0)
    assert outlook.checkpoints == outlook.checkpoints_at_most == 3


def test_a_plan_on_a_broken_store_says_what_the_training_would(tmp_path: Path) -> None:
    path = build_store(tmp_path / "store", training=1)
    case = next((path / "cases").iterdir())
    case.write_bytes(case.read_bytes()[:-1] + b"\0")
    with pytest.raises(StoreError, match="altered"):
        plan(experiment(path), budget=0.0)


MEASURE = """
import json, pickle, sys, time
from pathlib import Path
from pipelines import planning
from pipelines.memory import peak_memory
from pipelines.train import train

with open(sys.argv[1], "rb") as file:
    config = pickle.load(file)
if sys.argv[2] == "plan":
    # Seconds of this process, whatever else the machine does meanwhile.
    planning.time = type("clock", (), {"perf_counter": time.process_time})
    outlook = planning.plan(config)
    print(json.dumps([outlook.seconds, outlook.memory]))
else:
    began = time.process_time()
    train(config, run=Path(sys.argv[2]))
    print(json.dumps([time.process_time() - began, peak_memory()]))
"""


def measure(config: Experiment, what: str, folder: Path) -> np.ndarray:
    """Plan or train in a process of its own; give its seconds and its peak memory."""
    import pickle

    (folder / "config.pickle").write_bytes(pickle.dumps(config))
    call = [sys.executable, "-c", MEASURE, str(folder / "config.pickle"), what]
    # The configuration pickles as a class of a module beside this one.
    found = subprocess.run(
        call, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    )
    assert found.returncode == 0, found.stderr
    return np.array(json.loads(found.stdout))


@pytest.mark.slow
def test_time_and_memory_are_nearly_those_of_the_training(store: Path, tmp_path: Path) -> None:
    # Large enough that a step is arithmetic, and long enough that the rest is not all there is.
    config = experiment(store, steps=150, validate_every=40, checkpoint_every=50)
    operator = dataclasses.replace(config.operator, width=96, heads=3, supernodes=128)
    config = dataclasses.replace(config, operator=operator)
    plans = [measure(config, "plan", tmp_path) for _ in range(3)]
    trained = measure(config, str(tmp_path / "run"), tmp_path)
    seconds, memory = np.median(plans, axis=0) / trained
    assert 0.7 < seconds < 1.4
    assert 0.8 < memory < 1.2
