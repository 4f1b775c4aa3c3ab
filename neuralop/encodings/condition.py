"""Scalars that hold for a whole sample, to features."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralop.encodings.fourier import FourierEncoding
from neuralop.layers.mlp import MLP


class ConditionEncoding(nn.Module):
    """An embedding of standardised scalars: each with its sines and cosines, all through one MLP.

    Wavelengths run from 4 to 64 standard deviations: short ones would let an operator tell a few dozen training
    conditions apart by heart. The scalars themselves are kept, so that the embedding does not fold back far outside.

    Args:
        condition: number of scalars.
        width: number of features.
        frequencies: sines and as many cosines for each scalar.
    """

    def __init__(self, condition: int, width: int, *, frequencies: int = 4) -> None:
        super().__init__()
        waves = 2 * frequencies * condition
        self.fourier = FourierEncoding(condition, waves, shortest=4.0, base=16.0)
        self.mlp = MLP(condition + waves, width, width)

    def forward(self, condition: Float[Tensor, "batch condition"]) -> Float[Tensor, "batch feature"]:
        """Embed the scalars of each sample."""
        waves = self.fourier(condition[:, None])[:, 0]
        return self.mlp(torch.cat((condition.to(waves.dtype), waves), -1))
