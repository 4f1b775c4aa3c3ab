"""Tokens to named fields."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralop.layers.normalisation import Normalisation, normalisation


class FieldHeads(nn.Module):
    """One linear map from the features of a token to the components of all fields there.

    Computed in float32 whatever the autocast, since rounding a prediction to eight bits is an error of 0.2 %.

    Args:
        width: features of a token.
        fields: number of components of each field.
        norm: norm before the map, or `None`, which is how the model was published.
    """

    # Its linear map stays in float32 where others are kept in the precision of an autocast.
    full_precision = True

    def __init__(self, width: int, fields: Mapping[str, int], *, norm: Normalisation | None = None) -> None:
        super().__init__()
        if not fields or min(fields.values()) < 1:
            raise ValueError(f"expected fields of one component or more, got {dict(fields)}")
        self.fields = dict(fields)
        self.norm = nn.Identity() if norm is None else normalisation(norm, width)
        self.linear = nn.Linear(width, sum(fields.values()))

    def forward(self, tokens: Float[Tensor, "batch query width"]) -> dict[str, Float[Tensor, "batch query channel"]]:
        """Read off the fields at each token."""
        with torch.autocast(tokens.device.type, enabled=False):
            values = self.linear(self.norm(tokens.to(self.linear.weight.dtype)))
        return dict(zip(self.fields, values.split(list(self.fields.values()), -1), strict=True))
