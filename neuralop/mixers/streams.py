"""Tokens of several branches as one tensor, and where each branch begins in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neuralop.layers.blocks import Modulations
from neuralop.layers.normalisation import spread
from neuralop.mixers.attention import Layout, Place, Rotation


@dataclass(frozen=True)
class Streams:
    """Tokens of branches that share weights, one branch after the other: what a token does by itself all do at once.

    Packed tokens stand alone, a branch by itself and without queries.

    Attributes:
        tokens: of each branch its anchors, which are read, then its queries, which only read.
        rotation: of all tokens; none where nothing is rotated.
        places: of each branch.
        layout: how many anchors and queries each branch has.
    """

    tokens: Float[Tensor, "batch token width"]
    rotation: Rotation | None
    places: Mapping[str, Place]
    layout: Layout

    @classmethod
    def of(
        cls,
        tokens: Mapping[str, Float[Tensor, "batch _token width"]],
        places: Mapping[str, Place],
        queries: Mapping[str, tuple[int, Rotation | None]] | None = None,
    ) -> "Streams":
        """Put branches together; of some, so many of the last tokens are queries, which are rotated so."""
        counts, turns = [], []
        for name, part in tokens.items():
            count, turn = (queries or {}).get(name, (0, None))
            counts.append((part.shape[1] - count, count))
            turns += [each for each in (places[name].rotation, turn) if each is not None]
        return cls(
            _joined(list(tokens.values())),
            (_joined([cos for cos, _ in turns]), _joined([sin for _, sin in turns])) if turns else None,
            places,
            counts,
        )

    def tensors(self) -> list[Tensor]:
        """List every tensor."""
        about = [(place.log_measure, place.offsets) for place in self.places.values()]
        some = [self.tokens, *(self.rotation or ()), *(each for pair in about for each in pair)]
        return [tensor for tensor in some if tensor is not None]

    def apart(self) -> dict[str, "Streams"]:
        """Give each branch by itself."""
        sizes = [sum(pair) for pair in self.layout]
        turns: Any = [None] * len(sizes)
        if self.rotation is not None:
            turns = list(zip(*(part.split(sizes, 1) for part in self.rotation), strict=True))
        each = zip(self.tokens.split(sizes, 1), turns, self.places.items(), self.layout, strict=True)
        return {name: Streams(part, turn, {name: place}, [pair]) for part, turn, (name, place), pair in each}

    def cut(
        self, queries: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """Give each branch its own of what all tokens ask, and of what all anchors offer."""
        if len(self.layout) == 1:
            return [queries], [keys], [values]
        anchors = [count for count, _ in self.layout]
        whole = [sum(pair) for pair in self.layout]
        return queries.split(whole, 1), keys.split(anchors, 1), values.split(anchors, 1)

    def spread(self, modulations: Modulations) -> Modulations:
        """Lay shifts, scales and gates of each sample over its tokens."""
        place, *others = self.places.values()
        return [spread(part, None if others else place.offsets, self.tokens.shape[1]) for part in modulations]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), 1)
