"""Tokens to tokens."""

from neuralop.mixers.anchor_attention import AnchorAttention, Pattern, visible
from neuralop.mixers.attention import CrossAttention, Memory, Place, SelfAttention
from neuralop.mixers.geometry_attention import GeometryAttention
from neuralop.mixers.streams import Streams

__all__ = [
    "AnchorAttention",
    "CrossAttention",
    "GeometryAttention",
    "Memory",
    "Pattern",
    "Place",
    "SelfAttention",
    "Streams",
    "visible",
]
