"""How far predictions are from the truth."""

from neuralop.losses.pointwise import POINTWISE, huber, mse, symlog
from neuralop.losses.relative import relative_l2

__all__ = ["POINTWISE", "huber", "mse", "relative_l2", "symlog"]
