"""Attention among named branches: which branch's anchors a token reads."""

from collections.abc import Mapping, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from neuralop.layers.blocks import TransformerBlock
from neuralop.mixers.attention import Memory, Place, join

Pattern = Literal["self", "cross", "joint"]


def visible(pattern: Pattern, branch: str, branches: Sequence[str]) -> tuple[str, ...]:
    """Name the branches whose anchors a token of `branch` reads.

    `self` is its own branch, `cross` all others, `joint` all. A branch that stands alone has no others, and `cross`
    then is `self`.
    """
    if pattern == "self" or len(branches) == 1:
        return (branch,)
    if pattern == "cross":
        return tuple(other for other in branches if other != branch)
    if pattern == "joint":
        return tuple(branches)
    raise ValueError(f"the pattern must be self, cross or joint, got {pattern!r}")


class AnchorAttention(nn.Module):
    """One layer of blocks over the streams of several branches.

    Anchors leave keys and values and read those of the branches they see. Queries read the same and leave nothing:
    adding, dropping or reordering queries changes no other token.

    Args:
        blocks: transformer blocks around a `SelfAttention`: one that all branches share, or one for each branch.
        branches: names of the branches.
        pattern: who sees whom.

    Source:
        Alkin et al. 2025, AB-UPT (arXiv 2502.09692).
    """

    def __init__(self, blocks: Sequence[TransformerBlock], branches: Sequence[str], pattern: Pattern) -> None:
        super().__init__()
        if len(blocks) not in (1, len(branches)):
            raise ValueError(f"{len(branches)} branches need one shared block or one each, got {len(blocks)}")
        self.blocks = nn.ModuleList(blocks)
        self.visible = {branch: visible(pattern, branch, branches) for branch in branches}
        self.number = {branch: min(i, len(blocks) - 1) for i, branch in enumerate(branches)}

    def block(self, branch: str) -> TransformerBlock:
        """Find the block that works on a branch."""
        return self.blocks[self.number[branch]]  # type: ignore[return-value]

    def forward(
        self,
        anchors: Mapping[str, Float[Tensor, "_batch _token width"]],
        places: Mapping[str, Place],
        condition: Float[Tensor, "sample feature"] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Memory]]:
        """Update the anchors of all branches, and give the memory that each leaves."""
        queries, memories, modulations = {}, {}, {}
        for branch, tokens in anchors.items():
            block, place = self.block(branch), places[branch]
            modulations[branch] = block.modulations(condition, place.offsets, tokens.shape[1])
            queries[branch], memories[branch] = block.offer(tokens, place, modulations[branch])
        updated = {}
        for branch, tokens in anchors.items():
            block = self.block(branch)
            memory = join([memories[other] for other in self.visible[branch]])
            attended = block.mixer.attend(queries[branch], memory, places[branch])
            updated[branch] = block.finish(tokens, attended, modulations[branch])
        return updated, memories

    def read(
        self,
        branch: str,
        queries: Float[Tensor, "batch token width"],
        place: Place,
        memories: Mapping[str, Memory],
        condition: Float[Tensor, "sample feature"] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """Update queries of one branch against the memories that its anchors left in this layer."""
        block = self.block(branch)
        modulations = block.modulations(condition, place.offsets, queries.shape[1])
        query = block.ask(queries, place, modulations)
        memory = join([memories[other] for other in self.visible[branch]])
        return block.finish(queries, block.mixer.attend(query, memory, place), modulations)
