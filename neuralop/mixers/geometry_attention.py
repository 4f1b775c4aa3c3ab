"""Attention of the tokens of named branches to those of the geometry."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from neuralop.layers.blocks import Modulations, PerceiverBlock
from neuralop.layers.normalisation import spread
from neuralop.mixers.attention import Memory, Place, remember
from neuralop.mixers.streams import Streams


class GeometryAttention(nn.Module):
    """One layer in which the tokens of every branch read those of the geometry, which do not change.

    Args:
        blocks: perceiver blocks around a `CrossAttention`: one that all branches share, or one for each branch.
        branches: names of the branches.
    """

    def __init__(self, blocks: Sequence[PerceiverBlock], branches: Sequence[str]) -> None:
        super().__init__()
        if len(blocks) not in (1, len(branches)):
            raise ValueError(f"{len(branches)} branches need one shared block or one each, got {len(blocks)}")
        self.blocks = nn.ModuleList(blocks)
        self.number = {branch: min(i, len(blocks) - 1) for i, branch in enumerate(branches)}

    def memories(
        self, tokens: Float[Tensor, "batch token width"], place: Place, modulations: Sequence[Modulations]
    ) -> list[Memory]:
        """Give what each block keeps of the geometry's tokens; `modulations` by block."""
        memories = []
        block: Any
        for block, given in zip(self.blocks, modulations, strict=True):
            laid = [spread(part, place.offsets, tokens.shape[1]) for part in given]
            key, value = block.expose(tokens, place.rotation, laid)
            memories.append(remember(key, value, place))
        return memories

    def forward(
        self, groups: Sequence[Streams], memories: Sequence[Memory], modulations: Sequence[Modulations]
    ) -> list[Streams]:
        """Update all tokens by what `memories` gave."""
        updated = []
        for group in groups:
            branch, *others = group.places
            place = Place(group.rotation, offsets=None if others else group.places[branch].offsets)
            updated.append(replace(group, tokens=self.read(branch, group.tokens, place, memories, modulations)))
        return updated

    def read(
        self,
        branch: str,
        tokens: Float[Tensor, "batch token width"],
        place: Place,
        memories: Sequence[Memory],
        modulations: Sequence[Modulations],
    ) -> Float[Tensor, "batch token width"]:
        """Update tokens of one branch, or of those that share its block."""
        number = self.number[branch]
        block: Any = self.blocks[number]
        laid = [spread(part, place.offsets, tokens.shape[1]) for part in modulations[number]]
        query = block.ask(tokens, place.rotation, laid)
        return block.finish(tokens, [block.mixer.attend(query, memories[number], place.offsets)], laid)
