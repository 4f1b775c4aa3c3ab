"""Positions and scalars to features and angles."""

from neuralop.encodings.condition import ConditionEncoding
from neuralop.encodings.fourier import FourierEncoding
from neuralop.encodings.rotary import RotaryEncoding

__all__ = ["ConditionEncoding", "FourierEncoding", "RotaryEncoding"]
