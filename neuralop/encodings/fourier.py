"""Positions to sines and cosines."""

from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from neuralop.encodings.frequencies import Ladder


class FourierEncoding(nn.Module):
    """Sines and cosines of a position at a ladder of wavelengths.

    For each axis first all `sin(ω_k x)`, then all `cos(ω_k x)`; axes follow one another and channels left over are
    zero. `ω_k = (2π / shortest) base^(−k/K)`. Computed in float32 or better whatever the autocast.

    Args:
        space: number of axes.
        width: number of channels.
        shortest: shortest wavelength, in the unit of the positions. Detail finer than this is invisible.
        base: ratio of the longest wavelength to the shortest.

    Source:
        Vaswani et al. 2017 (arXiv 1706.03762), on continuous positions as in AB-UPT (arXiv 2502.09692), which has
        `shortest=2π` and `base=10000` on boxes 1000 units wide.
    """

    def __init__(self, space: int, width: int, *, shortest: float = 2 * pi, base: float = 10_000.0) -> None:
        super().__init__()
        self.ladder = Ladder(space, width, shortest, base)

    def forward(self, position: Float[Tensor, "batch token space"]) -> Float[Tensor, "batch token channel"]:
        """Encode positions."""
        angle = self.ladder.angles(position)
        encoded = torch.cat((angle.sin(), angle.cos()), -1).flatten(-2)
        return pad(encoded, (0, self.ladder.width - encoded.shape[-1]))

    def extra_repr(self) -> str:
        """Show the settings in `repr`."""
        return repr(self.ladder)
