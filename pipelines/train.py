"""Training: a run folder that holds all of it, resumed as if it had never stopped."""

import dataclasses
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from meshes.stores import Store
from pipelines import checkpoints
from pipelines.batches import Batch, Sampler, SamplingConfig, batches
from pipelines.ensemble import pick_device
from pipelines.optimisers import AdamWConfig, OptimiserConfig, schedule, trainable
from pipelines.pictures import FOLDER as PICTURES
from pipelines.pictures import Painter
from pipelines.runs import CONFIG, ENVIRONMENT, Progress, RunFolder, clock, environment
from pipelines.settings import to_dict
from pipelines.specification import InputConfig, SurrogateSpec, Units
from pipelines.specify import pool_template, specify
from pipelines.surrogate import Surrogate, build_operator
from pipelines.tracking import CHECKPOINT, METRICS, NoTracking, Tracker, flatten, start, system_metrics
from pipelines.validate import validate

if TYPE_CHECKING:
    from pipelines.config import Experiment

# Stores up to this many bytes are verified by checksum before a training: some ten seconds.
VERIFIED = 4 * 2**30

Precision = Literal["float32", "bfloat16"]

# Settings that a resumed training may change: they decide where and how fast it runs, or when it writes.
FREE = frozenset({"steps", "device", "workers", "validate_every", "checkpoint_every", "log_every", "keep"})


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised: errors of standardised fields, averaged over points and summed over fields.

    Attributes:
        kind: `mse`; `huber`, where a few points dominate; `symlog`, where fields span orders of magnitude.
        delta: where `huber` becomes linear, in standard deviations.
        anchors: weight of the error at anchors.
        queries: weight of the error at queries, which are what predictions are made of.
        weights: of single fields, such as `surface_pressure`; one by default.
    """

    kind: Literal["mse", "huber", "symlog"] = "mse"
    delta: float = 1.0
    anchors: float = 0.0
    queries: float = 1.0
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"loss.delta is {self.delta}; it must be positive")
        if min(self.anchors, self.queries, *self.weights.values()) < 0 or self.anchors + self.queries <= 0:
            raise ValueError("weights of the loss must not be negative, and anchors or queries must count")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How an operator is trained.

    Attributes:
        steps: updates of the weights.
        batch: cases at once.
        accumulate: batches before each update.
        seed: decides weights, order and draws.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: of the operator's arithmetic; `auto` takes bfloat16 on GPUs that have it. Weights are float32.
        optimiser: of one kind, with its rates.
        warmup: part of the steps in which the learning rate rises.
        floor: part of the learning rate that is left at the end of its cosine.
        clip: greatest norm of the gradient; null for none.
        ema: decay of the averaged weights, which predict; null for none. It rises to this from the start on.
        loss: what is minimised.
        sampling: what a step sees.
        inputs: how places enter the operator.
        validate_every: steps between two validations.
        validation_points: points of each branch and case that are scored.
        checkpoint_every: steps between two checkpoints.
        log_every: steps between two writings of metrics, and two synchronisations of a GPU.
        keep: newest checkpoints that are kept, beside the best.
        workers: threads that draw batches ahead.
        deterministic: bit-for-bit repetition on GPUs too, at some cost.
        compile: compile the operator; worth it for long trainings on GPUs.
    """

    steps: int = 2000
    batch: int = 1
    accumulate: int = 1
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    optimiser: OptimiserConfig = field(default_factory=AdamWConfig)
    warmup: float = 0.05
    floor: float = 0.01
    clip: float | None = 1.0
    ema: float | None = 0.999
    loss: LossConfig = field(default_factory=LossConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    inputs: InputConfig = field(default_factory=InputConfig)
    validate_every: int = 250
    validation_points: int = 4096
    checkpoint_every: int = 500
    log_every: int = 10
    keep: int = 2
    workers: int = 1
    deterministic: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        positive = ("steps", "batch", "accumulate", "validate_every", "validation_points", "checkpoint_every")
        for name in (*positive, "log_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.workers < 0 or self.seed < 0:
            raise ValueError("workers and seed must not be negative")
        for name in ("warmup", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a part, from 0 to 1")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip is {self.clip}; give a positive norm, or null for none")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema is {self.ema}; give a decay between 0 and 1, or null for none")
        if not self.loss.queries and self.loss.anchors and self.sampling.queries not in (0, {}):
            raise ValueError("loss.queries is 0, but queries are drawn: set sampling.queries to 0")
        if self.loss.queries and self.sampling.queries == 0 and not self.loss.anchors:
            raise ValueError("loss.anchors is 0 and no queries are drawn: nothing would be learned")


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
        state = "stopped by a signal; go on with --resume" if self.stopped else "done"
        lines = [f"step {self.step} of {self.steps}, {state} after {clock(self.seconds)} of training"]
        lines += [f"  {name:<44} {value:.4g}" for name, value in self.validation.items()]
        return "\n".join([*lines, f"best checkpoint: {self.checkpoint}"])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training would take, from a few steps that were really done.

    Attributes:
        memory: peak bytes, of the GPU where there is one, else of this process.
    """

    device: str
    precision: str
    parameters: int
    cases: dict[str, int]
    points_a_step: int
    memory: int
    seconds_a_step: float
    steps: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, as JSON holds them."""
        return dataclasses.asdict(self)

    def render(self) -> str:
        """Say it in words."""
        cases = ", ".join(f"{count} {split}" for split, count in self.cases.items())
        return "\n".join(
            [
                f"device      {self.device}, {self.precision}",
                f"operator    {self.parameters:,} parameters",
                f"cases       {cases}",
                f"a step      {self.points_a_step:,} points, {1000 * self.seconds_a_step:.0f} ms",
                f"memory      {self.memory / 2**30:.2f} GiB",
                f"in all      {self.steps} steps, about {clock(self.seconds)}",
            ]
        )


class Trainer:
    """The operator, its optimisers and averages, and the step that moves them."""

    def __init__(self, config: TrainingConfig, spec: SurrogateSpec, operator: nn.Module, store: Store) -> None:
        self.config, self.spec, self.store = config, spec, store
        self.device = pick_device(config.device)
        self.precision: Precision = _precision(config.precision, self.device)
        self.units = Units(spec)
        self.operator = operator.to(self.device).train()
        self.parameters = trainable(self.operator)
        self.optimisers = config.optimiser.build(self.operator)
        self.rates = [[group["lr"] for group in each.param_groups] for each in self.optimisers]
        self.step, self.rate = 0, 0.0
        self.averaged = None
        if config.ema is not None:
            self.averaged = AveragedModel(self.operator, multi_avg_fn=self._average)
        self.sampler = Sampler(
            store,
            store.splits["training"],
            self.units,
            queries=config.sampling.counts("queries", list(spec.fields)) if config.loss.queries else _none(spec),
            seed=config.seed,
            turn_about=config.sampling.turn_about,
        )
        self.encode: Any = operator.encode
        self.decode: Any = operator.decode
        if config.compile:
            self.encode, self.decode = torch.compile(self.encode), torch.compile(self.decode)

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, _: Any) -> None:
        # A short training would never forget its first weights at the full decay.
        decay = min(self.config.ema or 0.0, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(averaged, current, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @property
    def best_module(self) -> nn.Module:
        """The module that predicts: averaged weights where there are any."""
        return self.operator if self.averaged is None else self.averaged.module

    def batches(self) -> Iterator[Batch]:
        """Draw batches without end from where the training stands."""
        size = self.config.batch
        start = self.step * size * self.config.accumulate
        return batches(self.sampler, start=start, size=size, workers=self.config.workers)

    def update(self, drawn: Iterator[Batch]) -> dict[str, Tensor]:
        """Do one step and tell its losses, still on the device."""
        self.rate = self._set_rates()
        totals: dict[str, Tensor] = {}
        for _ in range(self.config.accumulate):
            batch = next(drawn).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                loss, parts = self.loss(batch)
            (loss / self.config.accumulate).backward()
            for name, value in {"loss": loss, **parts}.items():
                totals[name] = totals.get(name, 0) + value.detach() / self.config.accumulate
        largest = float("inf") if self.config.clip is None else self.config.clip
        totals["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, largest)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if self.averaged is not None:
            self.averaged.update_parameters(self.operator)
        self.step += 1
        return totals

    def _set_rates(self) -> float:
        """Set the learning rates of the step to come; tell the first."""
        part = schedule(self.step, self.config.steps, warmup=self.config.warmup, floor=self.config.floor)
        for optimiser, rates in zip(self.optimisers, self.rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = part * rate
        return part * self.rates[0][0]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a batch, and its parts by field."""
        from neuralop.losses import POINTWISE

        config = self.config.loss
        measure = POINTWISE[config.kind]
        options = {"delta": config.delta} if config.kind == "huber" else {}
        context = self.encode(batch.geometry, batch.anchors, condition=batch.condition)
        parts: dict[str, Tensor] = {}
        for branch in self.spec.fields:
            places: list[tuple[float, Any, dict[str, Tensor]]] = []
            if config.anchors:
                places.append((config.anchors, None, batch.anchor_values[branch]))
            if branch in batch.queries:
                queries = dataclasses.replace(batch.queries[branch], measure=None)
                places.append((config.queries, queries, batch.query_values[branch]))
            whole = sum(weight for weight, _, _ in places)
            for weight, where, values in places:
                fields = self.decode(context, branch, where)
                for name, value in values.items():
                    part = weight / whole * measure(fields[name].float(), value, **options)
                    key = f"loss/{branch}_{name}"
                    parts[key] = parts[key] + part if key in parts else part
        if not parts:
            raise ValueError("nothing to learn: sampling.queries is 0 for every branch and loss.anchors is 0")
        weights = {f"loss/{name}": weight for name, weight in config.weights.items()}
        if unknown := set(weights) - set(parts):
            there = ", ".join(name.removeprefix("loss/") for name in parts)
            raise ValueError(f"training.loss.weights names {min(unknown)[5:]!r}; there are: {there}")
        return torch.stack([weights.get(name, 1.0) * part for name, part in parts.items()]).sum(), parts

    def state(self) -> dict[str, Any]:
        """Give what a resumed training goes on from, beside the weights."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "step": self.step,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "averages": 0 if self.averaged is None else int(self.averaged.n_averaged),
            "random": random,
        }

    def restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Go back to where a checkpoint was written."""
        state = checkpoint.state
        self.operator.load_state_dict(dict(checkpoint.weights))
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        if self.averaged is not None and checkpoint.ema is not None:
            self.averaged.module.load_state_dict(dict(checkpoint.ema))
            self.averaged.n_averaged.fill_(state["averages"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
        self.step = state["step"]


def train(config: "Experiment", *, run: Path, resume: bool = False, operator: nn.Module | None = None) -> TrainReport:
    """Train an operator on a store.

    On SIGTERM a checkpoint is written and the training ends in good order.

    Args:
        config: the experiment.
        run: folder for everything that the training leaves behind.
        resume: go on from the last checkpoint of `run`; it continues as if it had never stopped.
        operator: a module to train in place of the configured one; it has `encode` and `decode` as operators do.

    Raises:
        ValueError: the run exists and is not to be resumed, it was made with other settings or another store, or the
            loss became NaN.
    """
    settings: TrainingConfig = config.training
    folder = RunFolder(Path(run))
    store = Store(config.data.store)
    _verify(store)
    last = _last(folder.path, resume)
    with _deterministic(settings.deterministic):
        trainer = _trainer(config, store, operator)
        state: Mapping[str, Any] = {"best": None, "seconds": 0.0}
        template: Mapping[str, Any]
        if last is not None:
            checkpoint = checkpoints.load(last)
            _check_same(config, store, checkpoint, folder.path)
            trainer.restore(checkpoint)
            state, template = checkpoint.state, checkpoint.template
        else:
            template = pool_template(store, trainer.units)
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
        except Exception as error:
            folder.log(f"the training failed at step {trainer.step}: {error}")
            raise
        finally:
            if painter is not None:
                painter.stop()
            if tracker is not None:
                tracked = tracker.close(status)
            store.close()
    return dataclasses.replace(report, tracked=tracked)


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
            ema=None if trainer.averaged is None else trainer.averaged.module.state_dict(),
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


def plan(config: "Experiment", *, operator: nn.Module | None = None, trials: int = 3) -> Plan:
    """Tell what a training would take, by doing a few of its steps and writing nothing.

    Args:
        config: the experiment; its store must be prepared.
        operator: as for `train`.
        trials: steps that are timed, after one that is not.
    """
    settings: TrainingConfig = config.training
    store = Store(config.data.store)
    trainer = _trainer(config, store, operator)
    drawn = trainer.batches()
    trainer.update(drawn)
    _wait(trainer.device)
    began = time.perf_counter()
    for _ in range(trials):
        trainer.update(drawn)
    _wait(trainer.device)
    seconds = (time.perf_counter() - began) / trials
    drawn.close()  # type: ignore[attr-defined]
    counts = (trainer.spec.anchors, trainer.sampler.queries)
    points = trainer.spec.geometry_points + sum(sum(each.values()) for each in counts)
    store.close()
    return Plan(
        device=torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else "cpu",
        precision=trainer.precision,
        parameters=sum(parameter.numel() for parameter in trainer.parameters),
        cases={split: len(names) for split, names in store.splits.items()},
        points_a_step=points * settings.batch * settings.accumulate,
        memory=_memory(trainer.device),
        seconds_a_step=seconds,
        steps=settings.steps,
        seconds=seconds * settings.steps,
    )


def _trainer(config: "Experiment", store: Store, operator: nn.Module | None) -> Trainer:
    settings: TrainingConfig = config.training
    spec = specify(
        store,
        operator=to_dict(config.operator),
        sampling=settings.sampling,
        inputs=settings.inputs,
        conventions=config.data.conventions,
        forces=config.data.forces,
    )
    torch.manual_seed(settings.seed)
    return Trainer(settings, spec, build_operator(spec) if operator is None else operator, store)


def _verify(store: Store) -> None:
    """Check that the files of a store are whole; also that none was altered, where that takes seconds only.

    Raises:
        StoreError: a file is missing, truncated or altered.
    """
    cases = [store.case(name) for names in store.splits.values() for name in names]
    for case in cases:
        case.check_size()
    if sum(case.entry["bytes"] for case in cases) <= VERIFIED:
        store.verify()


def _last(run: Path, resume: bool) -> Path | None:
    last = checkpoints.marked(run / checkpoints.FOLDER, "last")
    if not resume and (last is not None or (run / METRICS).exists()):
        raise ValueError(f"{run} already holds a training: go on with --resume, or name another folder with --run")
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


def _none(spec: SurrogateSpec) -> dict[str, int]:
    return dict.fromkeys(spec.fields, 0)


def _precision(asked: str, device: torch.device) -> Precision:
    if asked == "auto":
        return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if asked == "bfloat16" else "float32"


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


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
