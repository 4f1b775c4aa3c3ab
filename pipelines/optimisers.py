"""Optimisers and the course of their learning rate."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.optim import Optimizer

# A matrix with a side below this reads a few inputs or writes a few fields: not hidden, and not for Muon.
HIDDEN = 16


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """AdamW (Loshchilov, Hutter 2019). Vectors and biases do not decay."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)

    def __post_init__(self) -> None:
        _check(self.learning_rate, self.weight_decay, self.betas)

    def build(self, module: nn.Module) -> list[Optimizer]:
        """Build the optimiser of a module."""
        return [_adamw(trainable(module), self)]


@dataclass(frozen=True, kw_only=True)
class LionConfig:
    """Lion: its rate is about a tenth of AdamW's, its decay ten times as strong. Vectors and biases do not decay."""

    kind: Literal["lion"] = "lion"
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        _check(self.learning_rate, self.weight_decay, self.betas)

    def build(self, module: nn.Module) -> list[Optimizer]:
        """Build the optimiser of a module."""
        parameters = trainable(module)
        rate = _rate(self.learning_rate, parameters)
        return [Lion(_groups(parameters, self.weight_decay), lr=rate, betas=self.betas)]


@dataclass(frozen=True, kw_only=True)
class MuonConfig:
    """Muon for hidden matrices, AdamW for all else: vectors, embeddings of few inputs, heads of few fields.

    Attributes:
        learning_rate: of the matrices; steps have the size that AdamW's would have at the same rate.
        rest: AdamW's settings for everything that is not a hidden matrix.
    """

    kind: Literal["muon"] = "muon"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    momentum: float = 0.95
    rest: AdamWConfig = field(default_factory=AdamWConfig)

    def __post_init__(self) -> None:
        _check(self.learning_rate, self.weight_decay, (self.momentum,))

    def build(self, module: nn.Module) -> list[Optimizer]:
        """Build both optimisers of a module."""
        parameters = trainable(module)
        hidden = [each for each in parameters if each.ndim == 2 and min(each.shape) >= HIDDEN]
        chosen = {id(each) for each in hidden}
        others = [each for each in parameters if id(each) not in chosen]
        optimisers: list[Optimizer] = []
        if hidden:
            optimisers.append(
                Muon(hidden, lr=self.learning_rate, weight_decay=self.weight_decay, momentum=self.momentum)
            )
        if others:
            optimisers.append(_adamw(others, self.rest))
        return optimisers


OptimiserConfig = AdamWConfig | LionConfig | MuonConfig


def _adamw(parameters: list[nn.Parameter], config: AdamWConfig) -> Optimizer:
    on_gpu = parameters[0].device.type == "cuda"
    return torch.optim.AdamW(
        _groups(parameters, config.weight_decay),
        lr=_rate(config.learning_rate, parameters),
        betas=config.betas,
        fused=on_gpu,
        capturable=on_gpu,
    )


def _rate(rate: float, parameters: list[nn.Parameter]) -> float | Tensor:
    """Keep the learning rate on the GPU of the weights: a step that reads it there can be captured and replayed."""
    device = parameters[0].device
    return torch.tensor(rate, device=device) if device.type == "cuda" else rate


class Muon(Optimizer):
    """Momentum made orthogonal: `m ← μ m + (1 − μ) g`, then `w ← w − η (0.2 √max(rows, columns) O + λ w)`.

    O is the orthogonal factor of `μ m + (1 − μ) g`. Five Newton-Schulz steps in bfloat16 come near it: singular values
    end between 0.7 and 1.2. Matrices of similar shape go through them together, which takes a small part of the
    kernels of `torch.optim.Muon` and gives the same numbers: an operator of 13 layers has some seventy matrices of
    seven shapes.

    Source:
        Jordan et al. 2024, Muon (kellerjordan.github.io/posts/muon); the factor: Liu et al. 2025 (arXiv 2502.16982).
    """

    STEPS = 5
    COEFFICIENTS = (3.4445, -4.7750, 2.0315)

    def __init__(
        self, params: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        parameters = list(params)
        if wrong := [tuple(each.shape) for each in parameters if each.ndim != 2]:
            raise ValueError(f"Muon takes matrices, got a parameter of shape {wrong[0]}")
        rate = _rate(lr, parameters)  # type: ignore[arg-type]
        super().__init__(parameters, {"lr": rate, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [each for each in group["params"] if each.grad is not None]
            if not parameters:
                continue
            for each in parameters:
                if "momentum" not in self.state[each]:
                    self.state[each]["momentum"] = torch.zeros_like(each, memory_format=torch.preserve_format)
            gradients: list[Any] = [each.grad for each in parameters]
            momenta = [self.state[each]["momentum"] for each in parameters]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])  # pyright: ignore[reportPrivateImportUsage]
            ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # pyright: ignore[reportPrivateImportUsage]
            directions = self._directions(ahead, group["lr"])
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_sub_(parameters, directions)  # pyright: ignore[reportPrivateImportUsage]
        return loss

    @classmethod
    def _directions(cls, matrices: Sequence[Tensor], rate: float | Tensor) -> list[Tensor]:
        """Give the step of each matrix: its orthogonal factor times `0.2 √max(rows, columns)` times the rate."""
        steps: dict[int, Tensor] = {}
        for shapes in _together({each.shape for each in matrices}):
            alike = [[number for number, each in enumerate(matrices) if each.shape == shape] for shape in shapes]
            longest = max(max(shape) for shape in shapes)
            flat = [_wide(torch.stack([matrices[number] for number in numbers]).bfloat16()) for numbers in alike]
            factors = cls.orthogonal(torch.cat([pad(each, (0, longest - each.shape[2])) for each in flat]))
            for shape, numbers, part in zip(shapes, alike, factors.split([len(each) for each in alike]), strict=True):
                part = part[:, :, : max(shape)]
                part = part if shape[0] <= shape[1] else part.mT
                # In the precision and the order of the weights, so that few kernels move them all.
                part = part.to(matrices[0].dtype, memory_format=torch.contiguous_format)
                steps |= dict(zip(numbers, part.mul_(rate * 0.2 * math.sqrt(max(shape))).unbind(), strict=True))
        return [steps[number] for number in range(len(matrices))]

    @classmethod
    def orthogonal(cls, matrices: Float[Tensor, "matrix row column"]) -> Float[Tensor, "matrix row column"]:
        """Come near the orthogonal factor of each matrix, in bfloat16."""
        a, b, c = cls.COEFFICIENTS
        x = _wide(matrices.bfloat16())
        x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
        for _ in range(cls.STEPS):
            gram = x @ x.mT
            polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            x = torch.baddbmm(x, polynomial, x, beta=a)
        return x.mT if matrices.shape[1] > matrices.shape[2] else x


def _wide(matrices: Tensor) -> Tensor:
    """Turn matrices that are tall."""
    return matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices


def _together(shapes: Iterable[torch.Size]) -> list[list[torch.Size]]:
    """Group shapes whose shorter sides are equal and whose longer ones differ by no more than a factor of two.

    Zeros make the shorter ones as long: they change no singular value, and a group costs as many kernels as a shape.
    """
    groups: list[list[torch.Size]] = []
    for shape in sorted(shapes, key=lambda shape: (min(shape), max(shape), shape[0])):
        first = groups[-1][0] if groups else None
        if first is not None and min(first) == min(shape) and max(shape) <= 2 * max(first):
            groups[-1].append(shape)
        else:
            groups.append([shape])
    return groups


class Lion(Optimizer):
    """Evolved sign momentum: w ← w − η (sign(β₁ m + (1 − β₁) g) + λ w), then m ← β₂ m + (1 − β₂) g.

    Source:
        Chen et al. 2023, Symbolic discovery of optimization algorithms, arXiv:2302.06675, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [each for each in group["params"] if each.grad is not None]
            if not parameters:
                continue
            gradients = [each.grad for each in parameters]
            for each in parameters:
                if "momentum" not in self.state[each]:
                    self.state[each]["momentum"] = torch.zeros_like(each, memory_format=torch.preserve_format)
            momenta = [self.state[each]["momentum"] for each in parameters]
            first, second = group["betas"]
            directions = torch._foreach_lerp(momenta, gradients, 1 - first)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_sign_(directions)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_mul_(directions, group["lr"])  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_sub_(parameters, directions)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_lerp_(momenta, gradients, 1 - second)  # pyright: ignore[reportPrivateImportUsage]
        return loss


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """List the parameters that learn, each once."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    matrices = [each for each in parameters if each.ndim >= 2]
    vectors = [each for each in parameters if each.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _check(learning_rate: float, weight_decay: float, decays: tuple[float, ...]) -> None:
    if not learning_rate > 0:
        raise ValueError(f"learning_rate is {learning_rate}; it must be positive")
    if weight_decay < 0:
        raise ValueError(f"weight_decay is {weight_decay}; it must not be negative")
    for decay in decays:
        if not 0 <= decay < 1:
            raise ValueError(f"a decay rate of moments is {decay}; it must be from 0 to below 1")


def schedule(step: int, steps: int, *, warmup: float, floor: float) -> float:
    """Tell which part of the full learning rate holds at a step: a linear rise, then a cosine.

    A function of the step alone, so that a resumed training needs to restore nothing.

    Args:
        step: counted from zero.
        steps: how many there are.
        warmup: part of all steps that the rise takes.
        floor: where the cosine ends, as a part of the full rate.
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    progress = min(1.0, (step - rise) / max(1, steps - rise))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
