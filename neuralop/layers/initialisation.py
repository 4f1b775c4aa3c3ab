"""How weights begin."""

from torch import nn

from neuralop.layers.normalisation import Modulation

# Of the published model. Heads start small, so the first predictions are close to the mean of each field.
STANDARD_DEVIATION = 0.02


def initialise(module: nn.Module) -> None:
    """Draw every linear map from a normal of deviation 0.02, cut at two units, biases zero; modulations become zero."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.trunc_normal_(child.weight, std=STANDARD_DEVIATION)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
    for child in module.modules():
        if isinstance(child, Modulation):
            child.reset_parameters()
