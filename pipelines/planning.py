"""What a training would take, told from a few of its steps."""

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from meshes.stores import Store
from pipelines.memory import peak_memory
from pipelines.runs import clock
from pipelines.trainer import TrainingConfig, build_trainer

if TYPE_CHECKING:
    from pipelines.config import Experiment


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


def plan(config: "Experiment", *, operator: nn.Module | None = None, trials: int = 3) -> Plan:
    """Tell what a training would take, by doing a few of its steps and writing nothing.

    Args:
        config: the experiment; its store must be prepared.
        operator: as for `train`.
        trials: steps that are timed, after one that is not.
    """
    settings: TrainingConfig = config.training
    store = Store(config.data.store)
    trainer = build_trainer(config, store, operator)
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


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
