"""Whole models, one architecture per file."""

from neuralop.operators.ab_upt import ABUPT, ABUPTConfig, Branch
from neuralop.operators.ensemble import Ensemble

__all__ = ["ABUPT", "ABUPTConfig", "Branch", "Ensemble"]
