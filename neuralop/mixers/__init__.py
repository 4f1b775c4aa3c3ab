"""Tokens to tokens."""

from neuralop.mixers.anchor_attention import AnchorAttention, Pattern, Streams, visible
from neuralop.mixers.attention import CrossAttention, Memory, Place, SelfAttention

__all__ = ["AnchorAttention", "CrossAttention", "Memory", "Pattern", "Place", "SelfAttention", "Streams", "visible"]
