"""Where features live: the one type for sets of points that operators take."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Points:
    """A set of points, each with what is known there.

    Samples of equal size are stacked, `(batch, token, space)`. Samples of unequal size are packed one after the
    other, `(1, total, space)`, and `offsets` says where each begins and the last one ends.

    Attributes:
        position: places, in the units that the operator was built for (`pipelines` scales them isotropically).
        measure: length, area or volume that each point stands for; `None` means equal. Zero marks padding.
        features: what is known at each point beside its position, such as a normal or a wall distance.
        offsets: `batch + 1` increasing integers from 0 to `total`, for packed samples only.
    """

    position: Float[Tensor, "batch token space"]
    measure: Float[Tensor, "batch token"] | None = None
    features: Float[Tensor, "batch token feature"] | None = None
    offsets: Int[Tensor, " sample_plus_one"] | None = None
