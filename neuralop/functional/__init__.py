"""Functions without parameters."""

from neuralop.functional.attention import attention
from neuralop.functional.radius import radius, radius_padded
from neuralop.functional.rotary import rotate

__all__ = ["attention", "radius", "radius_padded", "rotate"]
