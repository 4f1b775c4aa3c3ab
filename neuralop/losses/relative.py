"""Errors in units of the field's own size."""

from jaxtyping import Float
from torch import Tensor, finfo


def relative_l2(
    prediction: Float[Tensor, "batch query channel"],
    target: Float[Tensor, "batch query channel"],
    *,
    weight: Float[Tensor, "batch query"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over samples of `‖prediction − target‖ / ‖target‖`, unchanged by a change of units.

    Args:
        prediction: predicted field.
        target: true field; where a sample is zero everywhere, its error is measured in units of the smallest number.
        weight: how much each point counts in both norms; `None` counts all alike.
    """
    error, size = (prediction - target).square().sum(-1), target.square().sum(-1)
    if weight is not None:
        error, size = error * weight, size * weight
    error, size = error.sum(-1), size.sum(-1)
    # A root has no gradient at zero, where both agree exactly, so it is kept off zero.
    tiny = finfo(error.dtype).tiny
    return (error.clamp(min=tiny).sqrt() / size.clamp(min=tiny).sqrt()).mean()
