"""Norms over features, and the shift, scale and gate that a condition puts on them."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, addcmul, nn
from torch.nn.functional import linear

Normalisation = Literal["layer", "rms"]

EPSILON = 1e-6


def normalisation(kind: Normalisation, width: int, *, affine: bool = True) -> nn.Module:
    """Build a norm over the last axis: LayerNorm, or RMSNorm, which keeps the mean."""
    if kind == "layer":
        return nn.LayerNorm(width, eps=EPSILON, elementwise_affine=affine)
    if kind == "rms":
        return nn.RMSNorm(width, eps=EPSILON, elementwise_affine=affine)
    raise ValueError(f"the norm must be layer or rms, got {kind!r}")


class Modulation(nn.Module):
    """Shifts, scales and gates of one block from the condition, zero until trained (adaLN-zero).

    Args:
        condition: features of the condition.
        width: features of a token.
        parts: how many vectors of `width` the block asks for.

    Source:
        Peebles & Xie 2022, Scalable diffusion models with transformers (arXiv 2212.09748).
    """

    def __init__(self, condition: int, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(condition, parts * width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make every part zero, whatever the condition."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @staticmethod
    def together(
        modulations: Sequence["Modulation | None"], condition: Float[Tensor, "sample feature"] | None
    ) -> list[tuple[Float[Tensor, "sample width"], ...]]:
        """Give the parts of many blocks of one width for each sample, by one product; none for blocks without.

        Raises:
            ValueError: a block was built with a condition and there is none.
        """
        some = [each for each in modulations if each is not None]
        if not some:
            return [()] * len(modulations)
        if condition is None:
            raise ValueError("a block was built with a condition and got none")
        weight, bias = (torch.cat([getattr(each.linear, name) for each in some]) for name in ("weight", "bias"))
        parts = iter(linear(condition, weight, bias).chunk(sum(each.parts for each in some), -1))
        return [() if each is None else tuple(next(parts) for _ in range(each.parts)) for each in modulations]


def spread(
    values: Float[Tensor, "sample width"], offsets: Int[Tensor, " sample_plus_one"] | None, total: int
) -> Float[Tensor, "batch token width"]:
    """Lay one vector per sample over its tokens, stacked (by broadcasting) or packed, `total` of them."""
    if offsets is None:
        return values[:, None]
    return values.repeat_interleave(offsets.diff(), 0, output_size=total)[None]


def modulate(
    x: Float[Tensor, "batch token width"],
    scale: Float[Tensor, " batch #token width"],
    shift: Float[Tensor, " batch #token width"],
) -> Float[Tensor, "batch token width"]:
    """Give `x (1 + scale) + shift`."""
    return addcmul(shift, x, 1 + scale)
