"""Multi-head attention in two halves: what tokens offer to be read, kept as a memory, and how tokens read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from neuralop.functional.attention import attention, split
from neuralop.functional.rotary import rotate
from neuralop.layers.normalisation import EPSILON

# Cosine and sine of the rotary angles of tokens.
Rotation = tuple[Float[Tensor, "batch token pair"], Float[Tensor, "batch token pair"]]
# Of streams of tokens that follow one another, how many anchors each has, and how many queries come after them.
Layout = Sequence[tuple[int, int]]
# Keys, values and what attention needs to know of them: `key`, `value` and, where there is any, `log_measure` and
# `offsets`. A plain dictionary of tensors, to be saved, moved and split.
Memory = dict[str, Tensor]


@dataclass(frozen=True)
class Place:
    """What attention knows of tokens beside their features.

    Attributes:
        rotation: cosine and sine of the rotary angles; `None` leaves queries and keys as they are.
        log_measure: natural logarithm of the measure that each token stands for; `None` means equal.
        offsets: where each sample begins, for packed tokens.
    """

    rotation: Rotation | None = None
    log_measure: Float[Tensor, "batch token"] | None = None
    offsets: Int[Tensor, " sample_plus_one"] | None = None


class _Attention(nn.Module):
    """What self- and cross-attention share: heads, their norm and rotation, and reading.

    Args:
        width: features of a token.
        heads: how many heads share them.
        qk_norm: normalise queries and keys within each head, with a learned scale for each channel. LayerNorm as in
            Dehghani et al. 2023 (arXiv 2302.05442): on CPU it is one kernel and RMSNorm, its equal here, is seven.
        reserved: channels of each head's queries and keys left to carry the measure, 0 or 2.
    """

    def __init__(self, width: int, heads: int, *, qk_norm: bool = False, reserved: int = 0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} features cannot be shared by {heads} heads; take a multiple of {heads}")
        if reserved not in (0, 2) or width // heads <= reserved:
            raise ValueError(f"cannot reserve {reserved} of {width // heads} channels of a head; reserve 0 or 2")
        self.width, self.heads, self.reserved = width, heads, reserved
        self.matched = width // heads - reserved  # channels of queries and keys that are compared
        self.query_norm = nn.LayerNorm(self.matched, eps=EPSILON, bias=False) if qk_norm else None
        self.key_norm = nn.LayerNorm(self.matched, eps=EPSILON, bias=False) if qk_norm else None
        self.out = nn.Linear(width, width)

    def _matched(self, x: Tensor, norm: nn.Module | None, rotation: Rotation | None) -> Tensor:
        """Make queries or keys out of their features: split into heads, normalised and rotated."""
        x = x.unflatten(-1, (self.heads, self.matched))
        dtype = x.dtype
        if norm is not None:
            x = norm(x)
        if rotation is not None:
            x = rotate(x.transpose(1, 2), *rotation).transpose(1, 2)
        x = x.to(dtype)  # norms leave autocast in float32
        return pad(x, (0, self.reserved)) if self.reserved else x

    def _values(self, x: Tensor) -> Tensor:
        x = x.unflatten(-1, (self.heads, -1))
        # A compiled region wants gradients in one piece of memory, and copies them where values were a part of more.
        return x.clone(memory_format=torch.contiguous_format) if torch.compiler.is_compiling() else x

    def attend(
        self,
        query: Float[Tensor, "batch token head channel"],
        memory: Memory,
        offsets: Int[Tensor, " sample_plus_one"] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """Attend to a memory: what each head finds, side by side. `offsets` are those of the queries."""
        attended: Any = attention(
            query.transpose(1, 2),
            memory["key"],
            memory["value"],
            log_measure=memory.get("log_measure"),
            query_offsets=offsets,
            key_offsets=memory.get("offsets"),
            reserved=self.reserved,
        )
        return attended.transpose(1, 2).flatten(2)

    def read(
        self,
        query: Float[Tensor, "batch token head channel"],
        memory: Memory,
        offsets: Int[Tensor, " sample_plus_one"] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """Attend to a memory, and mix the heads."""
        return self.out(self.attend(query, memory, offsets))


class SelfAttention(_Attention):
    """Attention of tokens to tokens of their own kind, by one fused map to queries, keys and values.

    `read(query(x), memory)` lets tokens read without being read; their keys and values are never computed.
    """

    def __init__(self, width: int, heads: int, *, qk_norm: bool = False, reserved: int = 0) -> None:
        super().__init__(width, heads, qk_norm=qk_norm, reserved=reserved)
        self.sizes = (heads * self.matched, heads * self.matched, width)
        self.qkv = nn.Linear(width, sum(self.sizes))

    def project(
        self, tokens: Float[Tensor, "batch token width"], rotation: Rotation | None, layout: Layout
    ) -> tuple[
        Float[Tensor, "batch token head channel"],
        Float[Tensor, "batch anchor head channel"],
        Float[Tensor, "batch anchor head value"],
    ]:
        """Give queries of all tokens, and keys and values of the anchors among them."""
        if not any(queries for _, queries in layout):
            query, key, value = self.qkv(tokens).split(self.sizes, -1)
            turn = rotation
        else:
            query = self._part(tokens, slice(None, self.sizes[0]))
            key, value = self._part(anchors_of(tokens, layout), slice(self.sizes[0], None)).split(self.sizes[1:], -1)
            turn = None if rotation is None else (anchors_of(rotation[0], layout), anchors_of(rotation[1], layout))
        query = self._matched(query, self.query_norm, rotation)
        return query, self._matched(key, self.key_norm, turn), self._values(value)

    def query(
        self, tokens: Float[Tensor, "batch token width"], rotation: Rotation | None
    ) -> Float[Tensor, "batch token head channel"]:
        """Give the queries alone."""
        return self._matched(self._part(tokens, slice(None, self.sizes[0])), self.query_norm, rotation)

    def _part(self, tokens: Tensor, rows: slice) -> Tensor:
        return linear(tokens, self.qkv.weight[rows], self.qkv.bias[rows])

    def forward(self, tokens: Float[Tensor, "batch token width"], place: Place) -> Float[Tensor, "batch token width"]:
        """Let all tokens of a sample read each other."""
        query, key, value = self.project(tokens, place.rotation, [(tokens.shape[1], 0)])
        return self.read(query, remember(key, value, place), place.offsets)


class CrossAttention(_Attention):
    """Attention of tokens to tokens of another kind, which leave a memory."""

    def __init__(self, width: int, heads: int, *, qk_norm: bool = False, reserved: int = 0) -> None:
        super().__init__(width, heads, qk_norm=qk_norm, reserved=reserved)
        self.q = nn.Linear(width, heads * self.matched)
        self.kv = nn.Linear(width, heads * self.matched + width)

    def project(
        self, tokens: Float[Tensor, "batch token width"], rotation: Rotation | None
    ) -> tuple[Float[Tensor, "batch token head channel"], Float[Tensor, "batch token head value"]]:
        """Give keys and values of the tokens to be read."""
        key, value = self.kv(tokens).split((self.heads * self.matched, self.width), -1)
        return self._matched(key, self.key_norm, rotation), self._values(value)

    def memory(self, tokens: Float[Tensor, "batch token width"], place: Place) -> Memory:
        """Give what is kept of the tokens to be read."""
        return remember(*self.project(tokens, place.rotation), place)

    def query(
        self, tokens: Float[Tensor, "batch token width"], rotation: Rotation | None
    ) -> Float[Tensor, "batch token head channel"]:
        """Give the queries of the tokens that read."""
        return self._matched(self.q(tokens), self.query_norm, rotation)

    def forward(
        self, tokens: Float[Tensor, "batch token width"], place: Place, memory: Memory
    ) -> Float[Tensor, "batch token width"]:
        """Let tokens read a memory."""
        return self.read(self.query(tokens, place.rotation), memory, place.offsets)


def anchors_of(tokens: Float[Tensor, "batch token channel"], layout: Layout) -> Float[Tensor, "batch anchor channel"]:
    """Take the anchors out of tokens where each stream has anchors first, then queries."""
    parts = tokens.split([count for pair in layout for count in pair], 1)
    return torch.cat(parts[::2], 1)


def remember(
    key: Float[Tensor, "batch token head channel"], value: Float[Tensor, "batch token head value"], place: Place
) -> Memory:
    """Put keys and values, heads first, together with what attention needs to know of them."""
    memory = {"key": key.transpose(1, 2), "value": value.transpose(1, 2)}
    if place.log_measure is not None:
        memory["log_measure"] = place.log_measure
    if place.offsets is not None:
        memory["offsets"] = place.offsets
    return memory


def join(memories: Sequence[Memory]) -> Memory:
    """Make several memories of the same samples one, to be read at once.

    Measures of different kinds, such as areas and volumes, cannot be compared: each memory is given a total measure of
    one per sample, shared evenly among its tokens where it has none of its own.
    """
    if len(memories) == 1:
        return memories[0]
    parts = [_samples(memory) for memory in memories]
    weighted = any("log_measure" in memory for memory in memories)
    packed = any("offsets" in memory for memory in memories)
    if not packed:  # one concatenation for the whole batch
        parts = [[memory] for memory in memories]
    joined = []
    for sample in zip(*parts, strict=True):
        whole = {name: torch.cat([memory[name] for memory in sample], 2) for name in ("key", "value")}
        if weighted:
            whole["log_measure"] = torch.cat([_shares(memory) for memory in sample], 1)
        joined.append(whole)
    if not packed:
        return joined[0]
    memory = {name: torch.cat([whole[name] for whole in joined], 2) for name in ("key", "value")}
    if weighted:
        memory["log_measure"] = torch.cat([whole["log_measure"] for whole in joined], 1)
    lengths = torch.tensor([0] + [whole["key"].shape[2] for whole in joined], device=memory["key"].device)
    memory["offsets"] = lengths.cumsum(0)
    return memory


def _samples(memory: Memory) -> list[Memory]:
    """One memory for each sample, stacked with a batch axis of one."""
    offsets = memory.get("offsets")
    parts = {
        name: split(memory[name], offsets, dim=1 if name == "log_measure" else 2)
        for name in ("key", "value", "log_measure")
        if name in memory
    }
    return [dict(zip(parts, sample, strict=True)) for sample in zip(*parts.values(), strict=True)]


def _shares(memory: Memory) -> Float[Tensor, "batch token"]:
    """Log of the share that each token has in the measure of its memory."""
    key = memory["key"]
    if "log_measure" not in memory:
        tokens = key.shape[2]
        return torch.full((key.shape[0], tokens), 1 / tokens, device=key.device).log()
    return memory["log_measure"].log_softmax(-1)
