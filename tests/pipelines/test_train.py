import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stokes_store import build_store, experiment

from meshes.stores import Store
from pipelines import checkpoints, pictures
from pipelines.batches import SamplingConfig
from pipelines.checkpoints import load_surrogate
from pipelines.optimisers import AdamWConfig, LionConfig, MuonConfig
from pipelines.train import train
from pipelines.trainer import LossConfig, Trainer, TrainingConfig, build_trainer


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("train") / "store")


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run, which="weights"):
    folder = checkpoints.marked(run / "checkpoints", "last")
    return load_file(folder / f"{which}.safetensors")


def assert_same_run(first, second):
    for which in ("weights", "ema"):
        a, b = weights(first, which), weights(second, which)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a), which
    lines = [[{k: v for k, v in line.items() if k != "time"} for line in metrics(run)] for run in (first, second)]
    assert lines[0] == lines[1]
    assert len({checkpoints.marked(run / "checkpoints", "best").name for run in (first, second)}) == 1
    states = [
        torch.load(checkpoints.marked(run / "checkpoints", "last") / "training_state.pt", weights_only=True)
        for run in (first, second)
    ]
    assert states[0]["best"] == states[1]["best"]


def stop_at(monkeypatch, step):
    """Send this process SIGTERM while it does a step."""
    update = Trainer.update

    def telling(self, drawn):
        if self.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, drawn)

    monkeypatch.setattr(Trainer, "update", telling)


@pytest.mark.parametrize(
    "optimiser", [AdamWConfig(learning_rate=3e-3), LionConfig(), MuonConfig()], ids=lambda o: o.kind
)
def test_stop_and_resume_equals_never_stopping(store, tmp_path, monkeypatch, optimiser):
    config = experiment(store, optimiser=optimiser, steps=5, accumulate=2, checkpoint_every=10)
    whole = train(config, run=tmp_path / "whole")
    assert (whole.step, whole.stopped) == (5, False)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        report = train(config, run=tmp_path / "parts")
    assert (report.step, report.stopped) == (3, True)
    assert "go on with --resume" in report.render()
    rest = train(config, run=tmp_path / "parts", resume=True)
    assert (rest.step, rest.stopped) == (5, False)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_stop_and_resume_equals_never_stopping(store, tmp_path, monkeypatch, precision):
    config = experiment(store, steps=5, checkpoint_every=10, device="cuda", precision=precision, deterministic=True)
    train(config, run=tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        train(config, run=tmp_path / "parts")
    train(config, run=tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


KILLED = """
import sys, pipelines.train
from pathlib import Path
from typing import ClassVar
from stokes_store import experiment
update = pipelines.train.Trainer.update
def slow(self, drawn):
    if self.step == 5:
        print("ready", flush=True)
        sys.stdin.read()
    return update(self, drawn)
pipelines.train.Trainer.update = slow
pipelines.train.train(experiment(Path(sys.argv[1]), steps=8), run=Path(sys.argv[2]))
"""


def test_a_killed_training_goes_on_as_if_it_had_not_been(store, tmp_path):
    """SIGKILL at step 5, after metrics that no checkpoint knows of, and with a line half written."""
    folder = Path(__file__).parent
    environment = os.environ | {
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "PYTHONPATH": os.pathsep.join([str(folder), str(folder.parents[1])]),
    }
    command = [sys.executable, "-c", KILLED, str(store), str(tmp_path / "killed")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout.readline().strip() == "ready"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    last = checkpoints.marked(tmp_path / "killed" / "checkpoints", "last")
    assert last.name == "step_00000004"
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "time": 1.0, "lo')
    config = experiment(store, steps=8)
    train(config, run=tmp_path / "killed", resume=True)
    train(config, run=tmp_path / "whole")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_workers_change_nothing(store, tmp_path):
    for workers in (0, 3):
        train(experiment(store, workers=workers), run=tmp_path / f"{workers}")
    assert_same_run(tmp_path / "0", tmp_path / "3")


def test_a_run_folder_holds_what_it_should(store, tmp_path):
    config = experiment(store)
    report = train(config, run=tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.yaml", "metrics.jsonl", "log.txt", "environment.json", "checkpoints"}
    steps = metrics(tmp_path / "run")
    assert [line["step"] for line in steps if "loss" in line] == list(range(1, 7))
    assert [line["step"] for line in steps if "validation/score" in line] == [3, 6]
    described = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert described["store"]["digest"] == Store(store).digest
    assert {"versions", "device", "code"} <= described.keys()
    assert json.loads(json.dumps(report.to_dict()))["step"] == 6
    assert report.validation["validation/score"] == min(
        line["validation/score"] for line in steps if "validation/score" in line
    )
    assert len(list((tmp_path / "run" / "checkpoints").glob("step_*"))) <= 3


def test_training_learns(store, tmp_path):
    config = experiment(store, steps=60, validate_every=60, checkpoint_every=60, log_every=20)
    train(config, run=tmp_path / "run")
    losses = [line.get("loss") for line in metrics(tmp_path / "run")]
    losses = [loss for loss in losses if loss is not None]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])


def test_an_existing_run_is_neither_overwritten_nor_mixed(store, tmp_path):
    config = experiment(store, steps=2)
    train(config, run=tmp_path / "run")
    with pytest.raises(ValueError, match="already holds a training: go on with --resume"):
        train(config, run=tmp_path / "run")
    other = experiment(store, steps=2, seed=1)
    with pytest.raises(ValueError, match=r"was trained with training\.seed=0, now it is 1"):
        train(other, run=tmp_path / "run", resume=True)
    longer = train(experiment(store, steps=3, checkpoint_every=7), run=tmp_path / "run", resume=True)
    assert longer.step == 3


def test_another_store_is_not_resumed_on(tmp_path):
    path = build_store(tmp_path / "store", training=2)
    train(experiment(path, steps=2), run=tmp_path / "run")
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"note": "changed"}))
    with pytest.raises(ValueError, match="has changed since"):
        train(experiment(path, steps=3), run=tmp_path / "run", resume=True)


def test_a_damaged_store_is_not_trained_on(tmp_path):
    path = build_store(tmp_path / "store", training=2)
    case = path / "cases" / "stokes_01.h5"
    data = bytearray(case.read_bytes())
    data[len(data) // 2] ^= 1
    case.write_bytes(data)
    with pytest.raises(ValueError, match=r"stokes_01\.h5 was altered"):
        train(experiment(path), run=tmp_path / "run")
    case.write_bytes(data[:-100])
    with pytest.raises(ValueError, match=r"stokes_01\.h5 has \d+ bytes, the manifest says"):
        train(experiment(path), run=tmp_path / "run")
    case.unlink()
    with pytest.raises(ValueError, match=r"stokes_01\.h5 is missing"):
        train(experiment(path), run=tmp_path / "run")


def test_a_loss_that_is_no_number_stops_the_training(store, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "loss", lambda self, batch: (torch.tensor(float("nan"), requires_grad=True), {}))
    with pytest.raises(ValueError, match=r"the loss became nan at step 1: lower training\.optimiser"):
        train(experiment(store), run=tmp_path / "run")
    assert "the training failed" in (tmp_path / "run" / "log.txt").read_text()
    assert checkpoints.marked(tmp_path / "run" / "checkpoints", "last") is None


def test_without_a_validation_split_the_last_checkpoint_counts(tmp_path):
    path = build_store(tmp_path / "store", training=2, validation=0)
    report = train(experiment(path, steps=2), run=tmp_path / "run")
    assert report.checkpoint.endswith("step_00000002")
    assert report.validation == {}
    assert "no validation split" in (tmp_path / "run" / "log.txt").read_text()
    assert load_surrogate(tmp_path / "run").spec.anchors == {"surface": 48, "volume": 64}


class Mean(torch.nn.Module):
    """An operator of one's own: the same value everywhere."""

    def __init__(self):
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(3))
        self.widths = {"surface": {"pressure": 1, "shear": 3}, "volume": {"velocity": 3, "vorticity": 3}}

    def encode(self, geometry, anchors, *, condition=None):
        return {branch: points.position for branch, points in anchors.items()}

    def decode(self, context, branch, queries=None):
        place = context[branch] if queries is None else queries.position
        shape = place.shape[:2]
        return {name: self.value[:width].expand(*shape, width) for name, width in self.widths[branch].items()}


def test_any_module_can_be_trained(store, tmp_path):
    report = train(experiment(store), run=tmp_path / "run", operator=Mean())
    assert report.step == 6
    surrogate = load_surrogate(tmp_path / "run", operator=Mean(), ema=False)
    assert surrogate.operator.value.abs().sum() > 0


@pytest.mark.parametrize("kind", ["mse", "huber", "symlog"])
def test_losses_are_sums_over_weighted_fields(store, kind):
    config = experiment(store, loss=LossConfig(kind=kind, weights={"surface_pressure": 3.0}))
    trainer = build_trainer(config, Store(store))
    drawn = trainer.batches()
    total, parts = trainer.loss(next(drawn))
    drawn.close()
    assert set(parts) == {
        "loss/surface_pressure", "loss/surface_shear", "loss/volume_velocity", "loss/volume_vorticity",
    }  # fmt: skip
    expected = sum(parts.values()) + 2 * parts["loss/surface_pressure"]
    torch.testing.assert_close(total, expected)


def test_anchors_and_queries_both_count(store):
    values = []
    for anchors, queries in ((1.0, 0.0), (0.0, 1.0), (1.0, 3.0)):
        sampling = SamplingConfig(geometry=64, anchors=32, queries=16 if queries else 0)
        config = experiment(store, loss=LossConfig(anchors=anchors, queries=queries), sampling=sampling)
        trainer = build_trainer(config, Store(store))
        # Anchors of all branches are drawn before the queries of the next: draw both, whatever counts.
        trainer.sampler.queries = dict.fromkeys(trainer.spec.fields, 16)
        batch = next(drawn := trainer.batches())
        drawn.close()
        batch = batch if queries else dataclasses.replace(batch, queries={})
        values.append(trainer.loss(batch)[0].item())
    assert values[2] == pytest.approx((values[0] + 3 * values[1]) / 4, rel=1e-5)


def test_members_of_an_ensemble_are_trained_as_if_alone(store):
    """Each by the gradient of its own loss, from weights of its own, and not by that of their mean."""
    config = experiment(store)
    config = dataclasses.replace(config, operator=dataclasses.replace(config.operator, members=2))
    trainer = build_trainer(config, Store(store))
    members = list(trainer.operator.members)
    with torch.no_grad():  # gates open
        for parameter in trainer.operator.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = next(drawn := trainer.batches())
    drawn.close()
    total, _ = trainer.loss(batch)
    total.backward()
    gradients = [[parameter.grad.clone() for parameter in member.parameters()] for member in members]
    assert not torch.allclose(gradients[0][0], gradients[1][0])
    losses = []
    for member, expected in zip(members, gradients, strict=True):
        trainer.worker = member
        member.zero_grad()
        alone, _ = trainer.loss(batch)
        alone.backward()
        losses.append(alone.detach())
        for parameter, gradient in zip(member.parameters(), expected, strict=True):
            torch.testing.assert_close(gradient, parameter.grad / 2, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(total.detach(), torch.stack(losses).mean())


def test_an_ensemble_is_trained_saved_and_loaded(store, tmp_path):
    config = experiment(store)
    config = dataclasses.replace(config, operator=dataclasses.replace(config.operator, members=2))
    train(config, run=tmp_path / "run")
    first, second = load_surrogate(tmp_path / "run").operator.members
    assert first.state_dict().keys() == second.state_dict().keys()
    weights = [member.trunk[0].blocks[0].mlp.enter.weight for member in (first, second)]
    assert not torch.allclose(*weights, atol=1e-3)


def test_unknown_weights_of_the_loss_are_refused(store, tmp_path):
    config = experiment(store, loss=LossConfig(weights={"surface_presure": 2.0}))
    with pytest.raises(ValueError, match=r"names 'surface_presure'; there are: surface_pressure, surface_shear"):
        train(config, run=tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"warmup": 2.0}, "warmup is 2.0"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"sampling": SamplingConfig(queries=0)}, "nothing would be learned"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**settings)


def test_averaged_weights_are_averages(store):
    trainer = build_trainer(experiment(store, ema=0.5), Store(store))
    drawn = trainer.batches()
    name, parameter = next(iter(trainer.operator.named_parameters()))
    expected = None
    for step in range(4):
        trainer.update(drawn)
        decay = min(0.5, (1 + step) / (10 + step))
        current = parameter.detach().clone()
        expected = current if expected is None else decay * expected + (1 - decay) * current
    drawn.close()
    torch.testing.assert_close(dict(trainer.best_module.named_parameters())[name].detach(), expected)


class Process:
    """Stands for a process that draws, and is finished when told."""

    made: ClassVar[list["Process"]] = []

    def __init__(self, command, **_):
        self.checkpoint, self.target, self.code = Path(command[-3]), Path(command[-2]), None
        assert (self.checkpoint / "operator.json").exists()
        Process.made.append(self)

    def wait(self, timeout=None):
        if self.code is None:
            raise subprocess.TimeoutExpired("draw", timeout or 0)
        return self.code

    def kill(self):
        self.code = -9 if self.code is None else self.code


def test_pictures_are_drawn_one_at_a_time_and_seldom(store, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures.subprocess, "Popen", Process)
    monkeypatch.setattr(pictures, "_command", lambda *_: "{}")
    clock = iter(np.arange(0, 10000, 10.0))
    monkeypatch.setattr(pictures.time, "monotonic", lambda: next(clock))
    Process.made.clear()
    said, done = [], []
    steps = [tmp_path / "checkpoints" / f"step_{number}" for number in range(4)]
    for step in steps:
        step.mkdir(parents=True)
        (step / "operator.json").write_text("{}")
    spec = build_trainer(experiment(store), opened := Store(store)).spec
    opened.close()
    painter = pictures.Painter(tmp_path, opened, spec, said.append, done.append)
    painter.paint(steps[0])
    painter.paint(steps[1])  # while the first is being drawn
    assert [process.target.name for process in Process.made] == ["step_0"]
    Process.made[0].code = 0
    painter.paint(steps[2])  # right after pictures that took long
    assert done == [tmp_path / "pictures" / "step_0"]
    assert len(Process.made) == 1
    assert not Process.made[0].checkpoint.exists()
    painter._ended = float("-inf")
    painter.paint(steps[3])
    (tmp_path / "pictures" / "log.txt").write_text("Traceback\nOSError: no display\n")
    Process.made[1].code = 1
    painter.look()
    assert said == ["no pictures of step_3: OSError: no display"]
    assert len(done) == 1
    painter.stop()
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["log.txt"]
