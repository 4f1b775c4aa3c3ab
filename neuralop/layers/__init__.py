"""The small parts that mixers, encoders and operators are made of."""

from neuralop.layers.blocks import PerceiverBlock, TransformerBlock
from neuralop.layers.initialisation import Initialisation, initialise
from neuralop.layers.mlp import MLP, Activation
from neuralop.layers.normalisation import Modulation, Normalisation, modulate, spread

__all__ = [
    "MLP",
    "Activation",
    "Initialisation",
    "Modulation",
    "Normalisation",
    "PerceiverBlock",
    "TransformerBlock",
    "initialise",
    "modulate",
    "spread",
]
