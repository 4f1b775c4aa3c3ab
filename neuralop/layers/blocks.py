"""Residual blocks: a mixer of tokens, then an MLP for each token. A block is given its mixer."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuralop.layers.mlp import MLP, Activation
from neuralop.layers.normalisation import Modulation, Normalisation, modulate, normalisation, spread

# Shifts, scales and gates of a block; empty where nothing conditions it.
Modulations = Sequence[Tensor]


class TransformerBlock(nn.Module):
    """`x ← x + mixer(norm(x))`, then `x ← x + mlp(norm(x))`.

    With a condition the norms lose their own weights, and `norm(x) (1 + scale) + shift` enters and `gate · …` leaves
    both halves. Gates are zero until trained: the block begins as the identity.

    `forward` runs the whole block on one stream of tokens. Where attention connects several streams, its owner calls
    `offer` or `ask`, the mixer's `attend` and `finish` itself.

    Attributes:
        regions: methods worth compiling one by one: all arithmetic of the block but attention, in few kernels. Blocks
            of one layout share what is compiled.

    Args:
        mixer: tokens to tokens, of the same width.
        width: features of a token.
        condition: features of the condition; 0 for none.
        activation: of the MLP.
        norm: `layer` or `rms`.
        ratio: hidden features of the MLP in units of `width`.
    """

    parts = 6
    regions = ("offer", "ask", "finish")
    mixer: Any

    def __init__(
        self,
        mixer: nn.Module,
        width: int,
        *,
        condition: int = 0,
        activation: Activation = "gelu",
        norm: Normalisation = "layer",
        ratio: int = 4,
    ) -> None:
        super().__init__()
        affine = condition == 0
        self.mixer = mixer
        self.mixer_norm = normalisation(norm, width, affine=affine)
        self.mlp_norm = normalisation(norm, width, affine=affine)
        self.mlp = MLP(width, ratio * width, width, activation=activation)
        self.modulation = Modulation(condition, width, self.parts) if condition else None

    def enter(
        self, tokens: Float[Tensor, "batch token width"], modulations: Modulations
    ) -> Float[Tensor, "batch token width"]:
        """Give what the mixer sees."""
        tokens = self.mixer_norm(tokens)
        return modulate(tokens, modulations[0], modulations[1]) if modulations else tokens

    def offer(
        self,
        tokens: Float[Tensor, "batch token width"],
        rotation: Any,
        modulations: Modulations,
        layout: Sequence[tuple[int, int]],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give queries of the tokens, and keys and values of the anchors among them."""
        return self.mixer.project(self.enter(tokens, modulations), rotation, layout)

    def ask(
        self, tokens: Float[Tensor, "batch token width"], rotation: Any, modulations: Modulations
    ) -> Float[Tensor, "batch token head channel"]:
        """Give the queries alone, of tokens that read without being read."""
        return self.mixer.query(self.enter(tokens, modulations), rotation)

    def leave(
        self,
        tokens: Float[Tensor, "batch token width"],
        mixed: Float[Tensor, "batch token width"],
        modulations: Modulations,
    ) -> Float[Tensor, "batch token width"]:
        """Add what the mixer gave to the tokens that entered, then the MLP of the sum."""
        if not modulations:
            tokens = tokens + mixed
            return tokens + self.mlp(self.mlp_norm(tokens))
        gate, scale, shift, mlp_gate = modulations[-4:]
        tokens = tokens.addcmul(gate, mixed)
        return tokens.addcmul(mlp_gate, self.mlp(modulate(self.mlp_norm(tokens), scale, shift)))

    def finish(
        self,
        tokens: Float[Tensor, "batch token width"],
        attended: Sequence[Float[Tensor, "batch _part width"]],
        modulations: Modulations,
    ) -> Float[Tensor, "batch token width"]:
        """Mix the heads of what attention found for the streams of the tokens, and go on as `leave` does."""
        whole = attended[0] if len(attended) == 1 else torch.cat(list(attended), 1)
        return self.leave(tokens, self.mixer.out(whole), modulations)

    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        *mixer_arguments: Any,
        condition: Float[Tensor, "sample feature"] | None = None,
        offsets: Int[Tensor, " sample_plus_one"] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """Run the block on one stream; what follows the tokens goes to the mixer."""
        modulations = [
            spread(part, offsets, tokens.shape[1]) for part in Modulation.together([self.modulation], condition)[0]
        ]
        return self.leave(tokens, self.mixer(self.enter(tokens, modulations), *mixer_arguments), modulations)


class PerceiverBlock(TransformerBlock):
    """`x ← x + mixer(norm(x), norm(g))`, then `x ← x + mlp(norm(x))`: tokens x read other tokens g.

    The mixer's `project(g, rotation)` gives keys and values of g, and `query(x, rotation)` what asks for them.

    Source:
        Jaegle et al. 2021, Perceiver (arXiv 2103.03206), as in AB-UPT (arXiv 2502.09692).
    """

    parts = 8
    regions = ("ask", "expose", "finish")

    def __init__(
        self,
        mixer: nn.Module,
        width: int,
        *,
        condition: int = 0,
        activation: Activation = "gelu",
        norm: Normalisation = "layer",
        ratio: int = 4,
    ) -> None:
        super().__init__(mixer, width, condition=condition, activation=activation, norm=norm, ratio=ratio)
        self.memory_norm = normalisation(norm, width, affine=condition == 0)

    def expose(
        self, tokens: Float[Tensor, "batch token width"], rotation: Any, modulations: Modulations
    ) -> tuple[Tensor, Tensor]:
        """Give keys and values of the tokens that will be read."""
        tokens = self.memory_norm(tokens)
        if modulations:
            tokens = modulate(tokens, modulations[2], modulations[3])
        return self.mixer.project(tokens, rotation)
