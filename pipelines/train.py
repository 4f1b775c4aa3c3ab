"""Training: a run folder that holds all of it, resumed as if it had never stopped."""

import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from meshes.stores import Store
from pipelines import checkpoints
from pipelines.baselines import NAMES as BASELINES
from pipelines.errors import sentence
from pipelines.pictures import FOLDER as PICTURES
from pipelines.pictures import Painter
from pipelines.runs import CONFIG, ENVIRONMENT, Progress, RunFolder, clock, environment
from pipelines.settings import ConfigError, to_dict
from pipelines.specify import pool_template
from pipelines.surrogate import Surrogate
from pipelines.tracking import CHECKPOINT, METRICS, NoTracking, Tracker, flatten, start, system_metrics
from pipelines.trainer import Trainer, TrainingConfig, build_trainer
from pipelines.validate import validate

if TYPE_CHECKING:
    from pipelines.config import Experiment

# Stores up to this many bytes are verified by checksum before a training: some ten seconds.
VERIFIED = 4 * 2**30

# Stores up to this many bytes are kept in memory while they are trained on.
RESIDENT = 2 * 2**30

# Settings that a resumed training may change: they decide where and how fast it runs, or when it writes.
FREE = frozenset({"steps", "device", "workers", "validate_every", "checkpoint_every", "log_every", "keep", "capture"})


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a training came to.

    Attributes:
        run: its folder.
        step: steps that are done.
        steps: steps that were asked for.
        seconds: of training in all, over every resume.
        loss: mean over the last steps.
        validation: scores of the best checkpoint, if there is a validation split.
        checkpoint: the best one, or the last where nothing chose.
        stopped: whether a signal ended it early.
        tracked: whether tracking has everything; `None` where there is none.
    """

    run: str
    step: int
    steps: int
    seconds: float
    loss: float | None
    validation: dict[str, float]
    checkpoint: str
    stopped: bool
    tracked: bool | None

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, as JSON holds them."""
        return dataclasses.asdict(self)

    def render(self) -> str:
        """Say it in words."""
        if not self.steps:
            return f"the training cases are remembered in {self.checkpoint}\nnext: anchorfield evaluate {self.run}"
        state = "stopped by a signal; go on with --resume" if self.stopped else "done"
        lines = [f"step {self.step} of {self.steps}, {state} after {clock(self.seconds)} of training"]
        lines += [f"  {name:<44} {value:.4g}" for name, value in self.validation.items()]
        lines.append(f"best checkpoint: {self.checkpoint}")
        if not self.stopped:
            lines.append(f"next: anchorfield evaluate {self.run}")
        return "\n".join(lines)


def train(config: "Experiment", *, run: Path, resume: bool = False, operator: nn.Module | None = None) -> TrainReport:
    """Train an operator on a store.

    On SIGTERM a checkpoint is written and the training ends in good order.

    Args:
        config: the experiment.
        run: folder for everything that the training leaves behind.
        resume: go on from the last checkpoint of `run`; it continues as if it had never stopped.
        operator: a module to train in place of the configured one; it has `encode` and `decode` as operators do, and
            where it has a `forward`, that one takes `(geometry, anchors, queries, *, condition)` and gives the fields
            of each branch at anchors and at queries, in one pass.

    Raises:
        ValueError: the run exists and is not to be resumed, it was made with other settings or another store, or the
            loss became NaN.
    """
    settings: TrainingConfig = config.training
    if operator is None and getattr(config.operator, "kind", None) in BASELINES:
        return _remember(config, Path(run), resume)
    last = _last(Path(run), resume)
    store = open_store(config)
    with _deterministic(settings.deterministic):
        trainer = build_trainer(config, store, operator)
        state: Mapping[str, Any] = {"best": None, "seconds": 0.0}
        template: Mapping[str, Any]
        if last is not None:
            checkpoint = checkpoints.load(last)
            _check_same(config, store, checkpoint, Path(run))
            trainer.restore(checkpoint)
            state, template = checkpoint.state, checkpoint.template
        else:
            template = pool_template(store, trainer.units)
        folder = RunFolder(Path(run))
        folder.cut_metrics(trainer.step)
        _record(config, folder, trainer)
        tracker = start(config.tracking, folder.path, config.to_dict(), folder.log)
        if tracker is not None:
            tracker.artefact(folder.path / CONFIG)
        painter = _painter(config, folder, trainer, tracker)
        status: Literal["FINISHED", "FAILED", "KILLED"] = "FAILED"
        tracked: bool | None = None
        try:
            report = _loop(config, folder, trainer, template, state, painter)
            status = "KILLED" if report.stopped else "FINISHED"
            if tracker is not None:
                tracker.artefact(Path(report.checkpoint), CHECKPOINT)
            if painter is not None and not report.stopped:
                painter.paint(Path(report.checkpoint), last=True)
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            if painter is not None:
                painter.stop()
            if tracker is not None:
                tracked = tracker.close(status)
            store.close()
            error = sys.exception()
            if status == "FAILED" and error is not None:  # last, since the disk may be full
                folder.log(f"the training failed at step {trainer.step}: {sentence(error)}")
    return dataclasses.replace(report, tracked=tracked)


def _remember(config: "Experiment", run: Path, resume: bool) -> TrainReport:
    """Write the run of a baseline, which takes no steps."""
    from pipelines.baseline_runs import remember

    if resume:
        raise ValueError(f"a baseline takes no steps, so there is nothing to resume in {run}")
    began = time.monotonic()
    checkpoint = remember(config, run)
    return TrainReport(
        run=str(run),
        step=0,
        steps=0,
        seconds=time.monotonic() - began,
        loss=None,
        validation={},
        checkpoint=str(checkpoint),
        stopped=False,
        tracked=None,
    )


def _loop(
    config: "Experiment",
    folder: RunFolder,
    trainer: Trainer,
    template: Mapping[str, Any],
    state: Mapping[str, Any],
    painter: Painter | None,
) -> TrainReport:
    settings: TrainingConfig = config.training
    where = folder.path / checkpoints.FOLDER
    best: dict[str, Any] | None = state["best"]
    began = time.monotonic() - state["seconds"]
    progress = Progress(settings.steps, folder.log)
    tracking = not isinstance(config.tracking, NoTracking)
    waiting: list[tuple[dict[str, float], dict[str, Tensor]]] = []
    loss: float | None = None

    def flush() -> None:
        nonlocal loss
        if not waiting:
            return
        # One transfer for all, since each makes a GPU wait.
        names = list(waiting[0][1])
        table = torch.stack([torch.stack([losses[name].float() for name in names]) for _, losses in waiting]).tolist()
        lines = [known | dict(zip(names, row, strict=True)) for (known, _), row in zip(waiting, table, strict=True)]
        waiting.clear()
        if tracking:
            lines[-1] |= system_metrics()
        folder.append_metrics(lines)
        for line in lines:
            if not line["loss"] < float("inf"):
                raise ValueError(
                    f"the loss became {line['loss']} at step {line['step']}: lower training.optimiser.learning_rate or "
                    "training.clip, and look for outliers with inspect"
                )
        loss = sum(line["loss"] for line in lines) / len(lines)
        progress.tell(trainer.step, loss, lines[-1]["learning_rate"])

    def save() -> None:
        flush()
        checkpoint = checkpoints.Checkpoint(
            spec=trainer.spec,
            weights=trainer.operator.state_dict(),
            ema=None if trainer.averaged is None else trainer.averaged.state_dict(),
            template=template,
            state=trainer.state()
            | {"best": best, "seconds": time.monotonic() - began, "settings": flatten(_bound(config))},
        )
        saved = checkpoints.save(where, trainer.step, checkpoint)
        if best is not None and best["step"] == trainer.step:
            checkpoints.mark(where, "best", checkpoints.step_name(trainer.step))
        checkpoints.prune(where, settings.keep)
        if painter is not None and trainer.step < settings.steps and not terminated.is_set():
            painter.paint(saved)

    drawn = trainer.batches()
    with _termination() as terminated:
        try:
            while trainer.step < settings.steps and not terminated.is_set():
                losses = trainer.update(drawn)
                waiting.append(({"step": trainer.step, "time": time.time(), "learning_rate": trainer.rate}, losses))
                step, final = trainer.step, trainer.step == settings.steps
                if step % settings.log_every == 0 or final:
                    flush()
                better = False
                if (step % settings.validate_every == 0 or final) and trainer.store.splits["validation"]:
                    flush()
                    surrogate = Surrogate(
                        trainer.spec, trainer.best_module, device=trainer.device, precision=trainer.precision
                    )
                    scores = validate(surrogate, trainer.sampler, points=settings.validation_points)
                    trainer.operator.train()
                    folder.append_metrics([{"step": step, "time": time.time()} | scores])
                    folder.log(f"step {step}: validation error {scores['validation/score']:.4g}")
                    if best is None or scores["validation/score"] < best["score"]:
                        best, better = {"step": step, "score": scores["validation/score"], "scores": scores}, True
                if better or step % settings.checkpoint_every == 0 or final or terminated.is_set():
                    save()
            if terminated.is_set() and trainer.step < settings.steps:
                if checkpoints.marked(where, "last") != where / checkpoints.step_name(trainer.step):
                    save()
                folder.log(f"told to stop: wrote the checkpoint of step {trainer.step}; go on with --resume")
        finally:
            drawn.close()  # type: ignore[attr-defined]
    chosen = checkpoints.marked(where, "best") or checkpoints.marked(where, "last")
    return TrainReport(
        run=str(folder.path),
        step=trainer.step,
        steps=settings.steps,
        seconds=time.monotonic() - began,
        loss=loss,
        validation={} if best is None else dict(best["scores"]),
        checkpoint=str(chosen),
        stopped=trainer.step < settings.steps,
        tracked=None,
    )


def open_store(config: "Experiment") -> Store:
    """Open the store of an experiment as a training needs it: whole, and in memory where it is small.

    Raises:
        StoreError: a file is missing or truncated, or altered, which is looked for where it takes seconds only.
    """
    store = Store(config.data.store, resident=RESIDENT)
    cases = [store.case(name) for names in store.splits.values() for name in names]
    for case in cases:
        case.check_size()
    if sum(case.entry["bytes"] for case in cases) <= VERIFIED:
        store.verify()
    return store


def _last(run: Path, resume: bool) -> Path | None:
    last = checkpoints.last(run / checkpoints.FOLDER)
    if not resume and (last is not None or (run / METRICS).exists()):
        raise ConfigError(f"{run} already holds a training: go on with --resume, or name another folder with --run")
    if (run / CONFIG).exists() and not (run / ENVIRONMENT).exists():
        raise ConfigError(f"{run / CONFIG} is there already and of no training; name another folder with --run")
    return last


def _check_same(config: "Experiment", store: Store, checkpoint: checkpoints.Checkpoint, run: Path) -> None:
    """Refuse to go on with other settings than before: the result would be neither training.

    Raises:
        ValueError: a setting, or the store, is another.
    """
    saved: Mapping[str, Any] = checkpoint.state["settings"]
    now = flatten(_bound(config))
    for name in sorted(set(saved) | set(now)):
        if saved.get(name) != now.get(name):
            raise ValueError(
                f"{run} was trained with {name}={saved.get(name)}, now it is {now.get(name)}: "
                "a resumed training keeps its settings; start a new run with --run"
            )
    if checkpoint.spec.source["digest"] != store.digest:
        raise ValueError(f"{store.path} has changed since {run} was trained on it: start a new run with --run")


def _bound(config: "Experiment") -> dict[str, Any]:
    training = to_dict(config.training)
    kept = {name: value for name, value in training.items() if name not in FREE}
    return {"operator": to_dict(config.operator), "training": kept}


def _record(config: "Experiment", folder: RunFolder, trainer: Trainer) -> None:
    """Write down what is about to be done, and on what."""
    from pipelines.config import to_yaml

    folder.write(CONFIG, to_yaml(config.to_dict()))
    described = environment(trainer.device) | {"store": trainer.spec.source}
    folder.write(ENVIRONMENT, json.dumps(described, indent=2))
    count = sum(parameter.numel() for parameter in trainer.parameters)
    cases = len(trainer.store.splits["training"])
    action = f"resuming at step {trainer.step}" if trainer.step else "training"
    folder.log(f"{action}: {count:,} parameters on {cases} cases, {trainer.device}, {trainer.precision}")
    if not trainer.store.splits["validation"]:
        folder.log("there is no validation split, so the last checkpoint counts as the best: see data.splits")


def _painter(config: "Experiment", folder: RunFolder, trainer: Trainer, tracker: Tracker | None) -> Painter | None:
    if tracker is None or not config.tracking.pictures:
        return None

    def upload(pictures: Path) -> None:
        tracker.artefact(pictures, f"{PICTURES}/{pictures.name}")

    return Painter(folder.path, trainer.store, trainer.spec, folder.log, upload)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Choose algorithms that give the same bits each time, while the block runs."""
    if not wanted:
        yield
        return
    # cuBLAS reads this when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def _termination() -> Iterator[threading.Event]:
    """Turn SIGTERM into an event while the block runs; signals reach the main thread only."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
