"""Means over points and components of a function of the error, each point counted by a weight."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import huber_loss


def mse(
    prediction: Float[Tensor, "batch query channel"],
    target: Float[Tensor, "batch query channel"],
    *,
    weight: Float[Tensor, "batch query"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error.

    Args:
        prediction: predicted field.
        target: true field.
        weight: how much each point counts, such as its measure or zero for padding; `None` counts all alike.
    """
    return _mean((prediction - target).square(), weight)


def huber(
    prediction: Float[Tensor, "batch query channel"],
    target: Float[Tensor, "batch query channel"],
    *,
    weight: Float[Tensor, "batch query"] | None = None,
    delta: float = 1.0,
) -> Float[Tensor, ""]:
    """Half the squared error where it is below `delta`, linear beyond: outliers pull with bounded force.

    Args:
        prediction: predicted field.
        target: true field.
        weight: how much each point counts; `None` counts all alike.
        delta: where the parabola becomes a line.

    Source:
        Huber 1964, Robust estimation of a location parameter.
    """
    return _mean(huber_loss(prediction, target, reduction="none", delta=delta), weight)


def symlog(
    prediction: Float[Tensor, "batch query channel"],
    target: Float[Tensor, "batch query channel"],
    *,
    weight: Float[Tensor, "batch query"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error of `sign(x) log(1 + |x|)`: orders of magnitude count alike, as vorticity needs near walls.

    Args:
        prediction: predicted field.
        target: true field.
        weight: how much each point counts; `None` counts all alike.
    """
    return _mean((_compress(prediction) - _compress(target)).square(), weight)


POINTWISE: dict[str, Callable[..., Any]] = {"mse": mse, "huber": huber, "symlog": symlog}


def _compress(x: Tensor) -> Tensor:
    return x.sign() * x.abs().log1p()


def _mean(error: Tensor, weight: Tensor | None) -> Tensor:
    error = error.mean(-1)
    return error.mean() if weight is None else (error * weight).sum() / weight.sum()
