"""One step of a training, and all that it moves: weights, moments, averages."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from meshes.stores import Store
from neuralop.functional.beside import beside
from pipelines import checkpoints
from pipelines.batches import Batch, Sampler, SamplingConfig, batches
from pipelines.capture import Captured, compile_regions
from pipelines.ensemble import pick_device, pick_precision
from pipelines.optimisers import AdamWConfig, OptimiserConfig, schedule, trainable
from pipelines.rounded import Rounded
from pipelines.settings import to_dict
from pipelines.specification import InputConfig, SurrogateSpec, Units
from pipelines.specify import specify
from pipelines.surrogate import build_operator

if TYPE_CHECKING:
    from pipelines.config import Experiment


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
        compile: compile the operator's arithmetic between attentions; about a minute, worth it for long trainings on
            GPUs.
        capture: replay steps on a GPU as graphs, so that small operators do not wait for Python; an operator of your
            own that asks the GPU for sizes or values in `forward` needs false.
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
    capture: bool = True

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


class Trainer:
    """The operator, its optimisers and averages, and the step that moves them."""

    def __init__(self, config: TrainingConfig, spec: SurrogateSpec, operator: nn.Module, store: Store) -> None:
        self.config, self.spec, self.store = config, spec, store
        self.device = pick_device(config.device)
        self.precision: Literal["float32", "bfloat16"] = pick_precision(config.precision, self.device)
        self.units = Units(spec)
        self.operator: Any = operator.to(self.device).train()
        self.parameters = trainable(self.operator)
        self.optimisers = config.optimiser.build(self.operator)
        self.rates = [[float(group["lr"]) for group in each.param_groups] for each in self.optimisers]
        self.step, self.rate = 0, 0.0
        self.averaged: nn.Module | None = None
        if config.ema is not None:
            self.averaged = copy.deepcopy(self.operator).requires_grad_(False)
        self.decay = torch.zeros((), device=self.device)  # of the averages, in the step to come
        self.sampler = Sampler(
            store,
            store.splits["training"],
            self.units,
            queries=config.sampling.counts("queries", list(spec.fields)) if config.loss.queries else _none(spec),
            seed=config.seed,
            turn_about=config.sampling.turn_about,
            mirror=config.sampling.mirror,
            shift=config.sampling.shift,
            condition_noise=config.sampling.condition_noise,
        )
        rounds = self.precision == "bfloat16" and getattr(operator, "rounds", False)
        self.rounded = Rounded(self.operator) if rounds else None
        self.worker: Any = self.operator if self.rounded is None else self.rounded.module  # what computes losses
        self.errors: Any = torch.compile(self._errors, dynamic=False) if config.compile else self._errors
        if config.compile:
            compile_regions(self.worker)
        on_gpu = self.device.type == "cuda"
        self.advance = Captured(self._advance, self.device) if on_gpu and config.capture else self._advance
        # A captured step must not touch the default stream, which waits for all others.
        self.stream = torch.cuda.Stream(self.device) if on_gpu and config.capture else None

    @property
    def best_module(self) -> nn.Module:
        """The module that predicts: averaged weights where there are any."""
        return self.operator if self.averaged is None else self.averaged

    def batches(self) -> Iterator[Batch]:
        """Draw batches without end from where the training stands."""
        size, pinned = self.config.batch, self.device.type == "cuda"
        start = self.step * size * self.config.accumulate
        return batches(self.sampler, start=start, size=size, workers=self.config.workers, pinned=pinned)

    def update(self, drawn: Iterator[Batch]) -> dict[str, Tensor]:
        """Do one step and tell its losses, still on the device."""
        with self._side_stream():
            self.rate = self._set_rates()
            totals = self.advance(*[next(drawn) for _ in range(self.config.accumulate)])
        self.step += 1
        return totals

    def _advance(self, *batches: Batch) -> dict[str, Tensor]:
        """Move weights and averages by the mean gradient of some batches."""
        names, summed = [], torch.zeros((), device=self.device)
        for batch in batches:
            batch = batch.to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                loss, parts = self.loss(batch)
            (loss / len(batches)).backward()
            if self.rounded is not None:
                self.rounded.hand_over()
            names = ["loss", *parts]
            summed = summed + torch.stack([loss, *parts.values()]).detach() / len(batches)
        totals = dict(zip(names, summed.unbind(), strict=True))
        # The gradient of each of several members is a part of what it would be alone.
        largest = float("inf") if self.config.clip is None else self.config.clip / len(_members(self.operator)) ** 0.5
        totals["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, largest)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if self.rounded is not None:
            self.rounded.refresh()
        if self.averaged is not None:
            self._average(self.averaged)
        return totals

    @torch.no_grad()
    def _average(self, averaged: nn.Module) -> None:
        ours: list[Tensor] = list(averaged.parameters())
        theirs: list[Tensor] = list(self.operator.parameters())
        difference = torch._foreach_sub(theirs, ours)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_mul_(difference, 1 - self.decay)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_add_(ours, difference)  # pyright: ignore[reportPrivateImportUsage]
        for copied, buffer in zip(averaged.buffers(), self.operator.buffers(), strict=True):
            copied.copy_(buffer)

    def _set_rates(self) -> float:
        """Set the learning rates and the decay of the averages for the step to come; tell the first rate."""
        part = schedule(self.step, self.config.steps, warmup=self.config.warmup, floor=self.config.floor)
        for optimiser, rates in zip(self.optimisers, self.rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(part * rate)
                else:
                    group["lr"] = part * rate
        # A short training would never forget its first weights at the full decay.
        decay = min(self.config.ema or 0.0, (1 + self.step) / (10 + self.step))
        self.decay.fill_(decay if self.step else 0.0)
        return part * self.rates[0][0]

    @contextlib.contextmanager
    def _side_stream(self) -> Iterator[None]:
        """Work on the stream of captured steps, after all that was asked for before and before all that follows."""
        if self.stream is None:
            yield
            return
        outer = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(outer)
        with torch.cuda.stream(self.stream):
            yield
        outer.wait_stream(self.stream)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a batch, and its parts by field."""
        config = self.config.loss
        terms: dict[str, list[tuple[float, Tensor, Tensor]]] = {}
        members = _members(self.worker)
        work = {f"member {number}": (partial(self._fields, each, batch), ()) for number, each in enumerate(members)}
        for anchored, asked in beside(work).values():
            for branch in self.spec.fields:
                places: list[tuple[float, dict[str, Tensor], dict[str, Tensor]]] = []
                if config.anchors:
                    places.append((config.anchors, anchored[branch], batch.anchor_values[branch]))
                if branch in batch.queries:
                    places.append((config.queries, asked[branch], batch.query_values[branch]))
                whole = len(members) * sum(weight for weight, _, _ in places)
                for weight, fields, values in places:
                    for name, value in values.items():
                        terms.setdefault(f"loss/{branch}_{name}", []).append((weight / whole, fields[name], value))
        if not terms:
            raise ValueError("nothing to learn: sampling.queries is 0 for every branch and loss.anchors is 0")
        weights = {f"loss/{name}": weight for name, weight in config.weights.items()}
        if unknown := set(weights) - set(terms):
            there = ", ".join(name.removeprefix("loss/") for name in terms)
            raise ValueError(f"training.loss.weights names {min(unknown)[5:]!r}; there are: {there}")
        total, parts = self.errors(list(terms.values()), [weights.get(name, 1.0) for name in terms])
        return total, dict(zip(terms, parts.unbind(), strict=True))

    def _errors(self, terms: list[list[tuple[float, Tensor, Tensor]]], weights: list[float]) -> tuple[Tensor, Tensor]:
        """Give the weighted sum of the errors of all fields, and the error of each: a sum of weighted terms."""
        from neuralop.losses import POINTWISE

        options = {"delta": self.config.loss.delta} if self.config.loss.kind == "huber" else {}
        measure = POINTWISE[self.config.loss.kind]
        parts = [
            sum(weight * measure(predicted.float(), true, **options) for weight, predicted, true in each)
            for each in terms
        ]
        total = sum(weight * part for weight, part in zip(weights, parts, strict=True))
        return total, torch.stack(parts)  # type: ignore[return-value]

    def _fields(self, operator: Any, batch: Batch) -> tuple[Any, list[Tensor]]:
        """Evaluate an operator at the anchors and queries of a batch, in one pass where it can; list the tensors."""
        queries = {branch: dataclasses.replace(points, measure=None) for branch, points in batch.queries.items()}
        if type(operator).forward is not nn.Module.forward:
            anchored, asked = operator(batch.geometry, batch.anchors, queries, condition=batch.condition)
        else:
            context = operator.encode(batch.geometry, batch.anchors, condition=batch.condition)
            anchored = {branch: operator.decode(context, branch) for branch in self.spec.fields}
            asked = {branch: operator.decode(context, branch, points) for branch, points in queries.items()}
        fields = [*anchored.values(), *asked.values()]
        return (anchored, asked), [tensor for each in fields for tensor in each.values()]

    def state(self) -> dict[str, Any]:
        """Give what a resumed training goes on from, beside the weights."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "step": self.step,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "random": random,
        }

    def restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Go back to where a checkpoint was written."""
        state = checkpoint.state
        self.operator.load_state_dict(dict(checkpoint.weights))
        if self.rounded is not None:
            self.rounded.refresh()
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            # Where the learning rate lives, and by which kernels it steps, belongs to this device and not to the last.
            here = [{key: group[key] for key in _LOCAL & set(group)} for group in optimiser.param_groups]
            groups = [group | own for group, own in zip(saved["param_groups"], here, strict=True)]
            optimiser.load_state_dict(saved | {"param_groups": groups})
        if self.averaged is not None and checkpoint.ema is not None:
            self.averaged.load_state_dict(dict(checkpoint.ema))
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
        self.step = state["step"]


def _members(operator: nn.Module) -> list[nn.Module]:
    """List what is trained by itself: the members of an ensemble, or the operator."""
    from neuralop.operators.ensemble import Ensemble

    return list(operator.members) if isinstance(operator, Ensemble) else [operator]


_LOCAL = frozenset({"lr", "fused", "capturable", "foreach"})


def build_trainer(config: "Experiment", store: Store, operator: nn.Module | None = None) -> Trainer:
    """Build what trains the operator of an experiment, or another module, on a store."""
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


def _none(spec: SurrogateSpec) -> dict[str, int]:
    return dict.fromkeys(spec.fields, 0)
