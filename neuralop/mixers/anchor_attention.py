"""Attention among named branches: which branch's anchors a token reads."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from neuralop.layers.blocks import Modulations, TransformerBlock
from neuralop.layers.normalisation import spread
from neuralop.mixers.attention import Memory, Place, join, remember
from neuralop.mixers.streams import Streams

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

    def forward(
        self, groups: Sequence[Streams], modulations: Sequence[Modulations]
    ) -> tuple[list[Streams], dict[str, Memory]]:
        """Update all tokens, and give the memory that the anchors of each branch leave.

        Args:
            groups: of branches that one block works on.
            modulations: of each block.
        """
        work: Any = []
        for group in groups:
            number = self.number[next(iter(group.places))]
            work.append((self.blocks[number], group, group.spread(modulations[number])))
        queries, memories = {}, {}
        for block, group, given in work:
            offered = block.offer(group.tokens, group.rotation, given, group.layout)
            for (name, place), query, key, value in zip(group.places.items(), *group.cut(*offered), strict=True):
                queries[name], memories[name] = query, remember(key, value, place)
        updated = []
        for block, group, given in work:
            attended = [
                block.mixer.attend(queries[name], self._seen(name, memories), place.offsets)
                for name, place in group.places.items()
            ]
            updated.append(replace(group, tokens=block.finish(group.tokens, attended, given)))
        return updated, memories

    def read(
        self,
        branch: str,
        queries: Float[Tensor, "batch token width"],
        place: Place,
        memories: Mapping[str, Memory],
        modulations: Sequence[Modulations],
    ) -> Float[Tensor, "batch token width"]:
        """Update queries of one branch against the memories that anchors left in this layer; `modulations` by block."""
        number = self.number[branch]
        block: Any = self.blocks[number]
        laid = [spread(part, place.offsets, queries.shape[1]) for part in modulations[number]]
        query = block.ask(queries, place.rotation, laid)
        return block.finish(queries, [block.mixer.attend(query, self._seen(branch, memories), place.offsets)], laid)

    def _seen(self, branch: str, memories: Mapping[str, Memory]) -> Memory:
        return join([memories[other] for other in self.visible[branch]])
