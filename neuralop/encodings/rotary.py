"""Positions to the angles by which queries and keys are rotated."""

from math import pi

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from neuralop.encodings.frequencies import Ladder


class RotaryEncoding(nn.Module):
    """Cosine and sine of one angle for each pair of channels of a head.

    Angles `ω_k x` are ordered axis after axis, and pairs left over have angle zero. After `neuralop.functional.rotate`,
    scores depend on differences of position alone. Computed in float32 or better whatever the autocast.

    Args:
        space: number of axes.
        width: channels of a head, even.
        shortest: shortest wavelength, in the unit of the positions.
        base: ratio of the longest wavelength to the shortest.

    Source:
        Su et al. 2021, RoFormer (arXiv 2104.09864), on continuous positions as in AB-UPT (arXiv 2502.09692), which has
        `shortest=2π` and `base=10000` on boxes 1000 units wide.
    """

    def __init__(self, space: int, width: int, *, shortest: float = 2 * pi, base: float = 10_000.0) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"channels are rotated in pairs, so the head width must be even, got {width}")
        self.ladder = Ladder(space, width, shortest, base)

    def forward(
        self, position: Float[Tensor, "batch token space"]
    ) -> tuple[Float[Tensor, "batch token pair"], Float[Tensor, "batch token pair"]]:
        """Cosine and sine of the angles at each position."""
        angle = self.ladder.angles(position).flatten(-2)
        angle = pad(angle, (0, self.ladder.width // 2 - angle.shape[-1]))
        return angle.cos(), angle.sin()

    def extra_repr(self) -> str:
        """Show the settings in `repr`."""
        return repr(self.ladder)
