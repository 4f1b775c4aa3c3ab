"""Whole models, one architecture per file."""

from neuralop.operators.ab_upt import ABUPT, ABUPTConfig, Branch

__all__ = ["ABUPT", "ABUPTConfig", "Branch"]
