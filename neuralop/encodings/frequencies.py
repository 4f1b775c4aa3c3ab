"""Geometric ladders of angular frequencies, one for each axis of space."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


class Ladder:
    """Angles `ω_k x` of each axis, `ω_k = (2π / shortest) base^(−k/K)` for k below K, axis after axis.

    The frequencies are computed from four numbers where they are needed and are no buffer, so that casting a module to
    half precision leaves them exact.

    Args:
        space: number of axes.
        width: channels at hand for sines and cosines; K is the largest with `2 K space <= width`.
        shortest: shortest wavelength, in the unit of the positions.
        base: ratio of the longest wavelength, which is not quite reached, to the shortest.

    Raises:
        ValueError: a wavelength or a number of axes that makes no sense, or too few channels for one frequency an axis.
    """

    def __init__(self, space: int, width: int, shortest: float, base: float) -> None:
        if space < 1:
            raise ValueError(f"space must have at least one axis, got {space}")
        if shortest <= 0 or base < 1:
            raise ValueError(f"expected shortest > 0 and base >= 1, got shortest={shortest} and base={base}")
        self.space, self.width, self.shortest, self.base = space, width, shortest, base
        self.count = width // space // 2
        if self.count < 1:
            raise ValueError(f"{width} channels hold no sine and cosine for each of {space} axes; give {2 * space}")

    def angles(self, position: Float[Tensor, "batch token space"]) -> Float[Tensor, "batch token space frequency"]:
        """Angles in radians, in float32 or better."""
        if position.shape[-1] != self.space:
            raise ValueError(f"expected positions with {self.space} axes, got shape {tuple(position.shape)}")
        dtype = torch.promote_types(position.dtype, torch.float32)
        step = torch.arange(self.count, dtype=torch.float64, device=position.device) / self.count
        frequency = (step * -math.log(self.base)).exp() * (2 * math.pi / self.shortest)
        return position.to(dtype)[..., None] * frequency.to(dtype)

    def __repr__(self) -> str:
        return f"space={self.space}, width={self.width}, shortest={self.shortest:g}, base={self.base:g}"
