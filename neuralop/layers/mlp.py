"""Two linear maps with a nonlinearity between them."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

Activation = Literal["gelu", "swiglu"]


class MLP(nn.Module):
    """`Linear, activation, Linear` on the last axis.

    SwiGLU gates half of its hidden features by the other half, `silu(a) b`; it is given two thirds of the hidden
    features, so that both choices have about as many parameters.

    Args:
        width: features in.
        hidden: features between, for GELU.
        out: features out.
        activation: `gelu`, exact, or `swiglu`.

    Source:
        Hendrycks & Gimpel 2016 (arXiv 1606.08415); Shazeer 2020 (arXiv 2002.05202).
    """

    def __init__(self, width: int, hidden: int, out: int, *, activation: Activation = "gelu") -> None:
        super().__init__()
        if activation not in ("gelu", "swiglu"):
            raise ValueError(f"activation must be gelu or swiglu, got {activation!r}")
        self.gated = activation == "swiglu"
        if self.gated:
            hidden = max(8, round(hidden * 2 / 3 / 8) * 8)
        self.enter = nn.Linear(width, 2 * hidden if self.gated else hidden)
        self.leave = nn.Linear(hidden, out)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch out"]:
        """Map each vector of features."""
        hidden = self.enter(x)
        if self.gated:
            gate, hidden = hidden.chunk(2, -1)
            return self.leave(silu(gate) * hidden)
        return self.leave(gelu(hidden))
