"""What a training would take, told from a few of its steps, one validation and one checkpoint that are really done."""

import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from torch import nn

from pipelines import checkpoints
from pipelines.batches import Batch
from pipelines.memory import peak_memory
from pipelines.runs import clock
from pipelines.specify import pool_template
from pipelines.surrogate import Surrogate
from pipelines.tracking import flatten
from pipelines.train import open_store
from pipelines.trainer import Trainer, TrainingConfig, build_trainer
from pipelines.validate import validate

if TYPE_CHECKING:
    from pipelines.config import Experiment

# Steps that are done whatever they take; the first of them warm up and are not counted.
LEAST = 6


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training would take.

    Attributes:
        points_a_step: points of bodies, anchors and queries that a step sees, the median over steps.
        memory: peak bytes, reserved on the GPU where there is one, else of this process, over steps, validation and
            the writing of a checkpoint.
        seconds_a_step: the median, so that warming up, a compilation or another process does not count for every step.
        validations: how many there will be.
        checkpoints: how many are written for certain; a validation that is the best so far writes another.
        disk: bytes of the checkpoints that are kept, at most.
        seconds_before: reading, checking and building before the first step, and what the first ones take longer.
        seconds: in all, every validation the best so far; without the pictures, which a process of its own draws.
    """

    device: str
    precision: str
    parameters: int
    cases: dict[str, int]
    points_a_step: int
    memory: int
    steps: int
    seconds_a_step: float
    validations: int
    seconds_a_validation: float
    checkpoints: int
    checkpoints_at_most: int
    bytes_a_checkpoint: int
    seconds_a_checkpoint: float
    disk: int
    seconds_before: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, as JSON holds them."""
        return dataclasses.asdict(self)

    def render(self) -> str:
        """Say it in words."""
        cases = ", ".join(f"{count} {split}" for split, count in self.cases.items())
        written = f"{self.checkpoints} to {self.checkpoints_at_most} of them, {_bytes(self.disk)} kept at most"
        lines = [
            f"device       {self.device}, {self.precision}",
            f"operator     {self.parameters:,} parameters",
            f"cases        {cases}",
            f"memory       {_bytes(self.memory)}",
            f"before       {clock(self.seconds_before)}",
            f"a step       {self.points_a_step:,} points, {_short(self.seconds_a_step)}; {self.steps:,} of them",
            f"validation   {_short(self.seconds_a_validation)}; {self.validations} of them",
            f"checkpoint   {_short(self.seconds_a_checkpoint)}, {_bytes(self.bytes_a_checkpoint)}; {written}",
            f"in all       about {clock(self.seconds)}",
        ]
        return "\n".join(lines)


def plan(config: "Experiment", *, operator: nn.Module | None = None, budget: float = 5.0) -> Plan:
    """Tell what a training would take, by doing a little of everything in it; nothing is left behind.

    Steps are timed for `budget` seconds, then the validation and the writing of a checkpoint (in a temporary folder)
    twice, as the first of each is slower. What another process takes from this machine meanwhile counts as the
    machine's own.

    Args:
        config: the experiment; its store must be prepared.
        operator: as for `train`.
        budget: how long to do steps [s]; some are done in any case.

    Raises:
        StoreError: a file of the store is missing, truncated or altered.
    """
    settings: TrainingConfig = config.training
    began = time.perf_counter()
    with contextlib.closing(open_store(config)) as store:
        trainer = build_trainer(config, store, operator)
        template = pool_template(store, trainer.units)
        before = time.perf_counter() - began
        if trainer.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.device)

        points: list[int] = []
        took, held = _steps(trainer, points, budget)
        late = took[len(took) // 2 :]
        step = statistics.median(late)
        before += sum(max(0.0, each - step) for each in took[: len(took) // 2])
        validation = [_validation(trainer) for _ in range(2)] if store.splits["validation"] else [0.0, 0.0]
        with tempfile.TemporaryDirectory(prefix="anchorfield-plan-") as folder:
            state = {"best": None, "seconds": 0.0, "settings": flatten(config.to_dict())}
            writing = [_checkpoint(trainer, template, state, Path(folder)) for _ in range(2)]
            size = sum(file.stat().st_size for file in writing[1][1].iterdir())

        validated = _due(settings.validate_every, settings.steps) if store.splits["validation"] else set()
        written = _due(settings.checkpoint_every, settings.steps)
        before += (validation[0] - validation[1] if validated else 0.0) + writing[0][0] - writing[1][0]
        return Plan(
            device=torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else "cpu",
            precision=trainer.precision,
            parameters=sum(parameter.numel() for parameter in trainer.parameters),
            cases={split: len(names) for split, names in store.splits.items()},
            points_a_step=int(statistics.median(points)) * settings.accumulate,
            memory=_memory(
                trainer.device, held, len(store.splits["training"]) / (settings.batch * settings.accumulate)
            ),
            steps=settings.steps,
            seconds_a_step=step,
            validations=len(validated),
            seconds_a_validation=validation[1],
            checkpoints=len(written),
            checkpoints_at_most=len(written | validated),
            bytes_a_checkpoint=size,
            seconds_a_checkpoint=writing[1][0],
            disk=size * min(len(written | validated), settings.keep + 1),
            seconds_before=max(before, 0.0),
            seconds=max(before, 0.0)
            + step * settings.steps
            + validation[1] * len(validated)
            + writing[1][0] * len(written | validated),
        )


def _due(every: int, steps: int) -> set[int]:
    """List the steps after which something is done that is due every so often, and at the end."""
    return {*range(every, steps + 1, every), steps}


def _steps(trainer: Trainer, points: list[int], budget: float) -> tuple[list[float], list[int]]:
    """Do steps for some seconds; tell how long each took, a GPU waited for, and the process' memory after it."""

    def counted(batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            places = [batch.geometry, *batch.anchors.values(), *batch.queries.values()]
            points.append(sum(each.position.shape[0] * each.position.shape[1] for each in places))
            yield batch

    drawn = trainer.batches()
    counting = counted(drawn)
    took, held, process = [], [], psutil.Process()
    try:
        while sum(took) < budget or len(took) < LEAST:
            began = time.perf_counter()
            trainer.update(counting)
            _wait(trainer.device)
            took.append(time.perf_counter() - began)
            held.append(process.memory_info().rss)
    finally:
        drawn.close()  # type: ignore[attr-defined]
    return took, held


def _validation(trainer: Trainer) -> float:
    began = time.perf_counter()
    surrogate = Surrogate(trainer.spec, trainer.best_module, device=trainer.device, precision=trainer.precision)
    validate(surrogate, trainer.sampler, points=trainer.config.validation_points)
    trainer.operator.train()
    return time.perf_counter() - began


def _checkpoint(trainer: Trainer, template: Any, state: dict[str, Any], folder: Path) -> tuple[float, Path]:
    began = time.perf_counter()
    checkpoint = checkpoints.Checkpoint(
        spec=trainer.spec,
        weights=trainer.operator.state_dict(),
        ema=None if trainer.averaged is None else trainer.best_module.state_dict(),
        template=template,
        state=trainer.state() | state,
    )
    saved = checkpoints.save(folder, trainer.step, checkpoint)
    return time.perf_counter() - began, saved


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device, held: list[int], epoch: float) -> int:
    """Tell the peak, and on a CPU what the cases that no step has seen yet will add by staying in memory.

    Args:
        device: where the steps are done.
        held: bytes of the process after each step.
        epoch: steps until every case was seen.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    late = held[len(held) // 3 :]
    growth = max(0.0, float(np.polyfit(range(len(late)), late, 1)[0]))
    return peak_memory() + int(growth * max(0.0, epoch - len(held)))


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 10 else clock(seconds)


def _bytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
