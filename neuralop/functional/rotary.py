"""Rotation of channel pairs by given angles."""

import torch
from jaxtyping import Float
from torch import Tensor


def rotate(
    x: Float[Tensor, "batch head token width"],
    cos: Float[Tensor, "batch token pair"],
    sin: Float[Tensor, "batch token pair"],
) -> Float[Tensor, "batch head token width"]:
    """Rotate the channels 2i and 2i+1 of every head by the i-th angle of their token.

    `(a, b) → (a cos θ − b sin θ, a sin θ + b cos θ)`

    Dot products of rotated queries and keys then depend on differences of angle alone. It is computed in the precision
    of the angles, float32 or better, and returned in that of `x`. Channels without an angle stay as they are. In memory
    the result has heads after tokens, as linear maps take them and give them: what attends to it needs no copy after.

    Args:
        x: queries or keys.
        cos: cosine of each angle.
        sin: sine of each angle.

    Source:
        Su et al. 2021, RoFormer (arXiv 2104.09864).
    """
    rotated = 2 * cos.shape[-1]
    x, cos, sin = x.transpose(1, 2), cos[:, :, None], sin[:, :, None]
    even, odd = x[..., 0:rotated:2], x[..., 1:rotated:2]
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)
    whole = turned if rotated == x.shape[-1] else torch.cat((turned, x[..., rotated:]), -1)
    return whole.transpose(1, 2)
