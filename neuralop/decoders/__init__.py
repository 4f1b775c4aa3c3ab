"""Tokens to fields."""

from neuralop.decoders.field_heads import FieldHeads

__all__ = ["FieldHeads"]
