"""A binary tree over triangles whose nodes are contiguous runs, searched for many points at once."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt32, UInt64

# Up to this many triangles each is a node of its own. Of more, the last nodes own two to four: making boxes for each
# would take longer than searching for a few hundred thousand places.
SINGLE, LEAF = 1 << 19, 2
# Bits of each coordinate in the number that triangles are sorted by.
BITS = 16
# Places worked on together: enough to amortise numpy's calls, few enough to stay in cache.
CHUNK = 8192
# Shifts and masks that leave two empty places after each bit.
_SPREAD = ((16, 0x0000FF0000FF), (8, 0x00F00F00F00F), (4, 0x0C30C30C30C3), (2, 0x249249249249))


class Pairs(NamedTuple):
    """Points and nodes of one level, paired; sorted by point."""

    point: Int[np.ndarray, " pair"]
    node: Int[np.ndarray, " pair"]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Triangles sorted so that node k of level l owns the k-th of 2^l equal runs, down to runs of a few.

    Attributes:
        order: triangle at each place; the last one is repeated to fill up the runs.
        filled: whether a place is a filler.
        levels: how often the root was halved.
    """

    order: Int[np.ndarray, " place"]
    filled: Bool[np.ndarray, " place"]
    levels: int

    @classmethod
    def build(cls, centre: Float[np.ndarray, "triangle 3"]) -> "Hierarchy":
        """Sort triangles along a curve that fills space and keeps neighbours together: one sort for all levels.

        Source:
            Skilling 2004, Programming the Hilbert curve, AIP Conference Proceedings 707.
        """
        count = len(centre)
        levels = int(np.ceil(np.log2(count))) if count <= SINGLE else int(np.log2(count / LEAF))
        size = -(-count // 2**levels)
        order = _along_curve(centre).argsort(kind="stable")
        fillers = size * 2**levels - count
        order = np.concatenate([order, np.full(fillers, order[-1])])
        return cls(order, np.arange(len(order)) >= count, levels)

    @property
    def leaves(self) -> Int[np.ndarray, "leaf run"]:
        """Triangles of each node of the last level."""
        return self.order.reshape(2**self.levels, -1)

    def root(self, points: int, level: int) -> Pairs:
        """Pair every point with every node of a level."""
        nodes = 2**level
        return Pairs(np.repeat(np.arange(points), nodes), np.tile(np.arange(nodes), points))

    @staticmethod
    def children(pairs: Pairs, keep: Bool[np.ndarray, " pair"], halvings: int = 1) -> Pairs:
        """Descend from the pairs to keep."""
        count = 2**halvings
        point, node = pairs.point[keep], pairs.node[keep]
        return Pairs(np.repeat(point, count), (node[:, None] * count + np.arange(count)).ravel())

    def triangles(
        self, pairs: Pairs, keep: Bool[np.ndarray, " pair"]
    ) -> tuple[Int[np.ndarray, " test"], Int[np.ndarray, " test"]]:
        """List the points and the triangles of the pairs of the last level to keep."""
        leaves, filled = self.leaves, self.filled.reshape(2**self.levels, -1)
        node = pairs.node[keep]
        real = ~filled[node].ravel()
        return np.repeat(pairs.point[keep], leaves.shape[1])[real], leaves[node].ravel()[real]


def by_chunk(work: Callable[[slice], None], count: int, size: int = CHUNK) -> None:
    """Work on some thousand places at a time, on all cores: NumPy lets other threads run."""
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    if len(parts) < 2:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, parts))


def _along_curve(centre: Float[np.ndarray, "triangle 3"]) -> UInt64[np.ndarray, " triangle"]:
    """Give each place its number on Hilbert's curve, on which neighbours are neighbours in space."""
    lower = centre.min(axis=0)
    scale = (2**BITS - 1) / ((centre - lower).max() or 1.0)
    key = np.empty(len(centre), np.uint64)

    def number(part: slice) -> None:
        key[part] = _hilbert([*((centre[part] - lower) * scale).T.astype(np.uint32)])

    by_chunk(number, len(centre))
    return key


def _hilbert(axes: list[UInt32[np.ndarray, " place"]]) -> UInt64[np.ndarray, " place"]:
    """Turn coordinates of `BITS` bits into the number of the place on the curve."""
    first = axes[0]
    for bit in range(BITS - 1, 0, -1):
        below = np.uint32((1 << bit) - 1)
        for axis in axes:
            # All ones where the bit is set: then the first coordinate is reversed below it, else both are exchanged.
            is_set = (axis >> np.uint32(bit) & np.uint32(1)) * np.uint32(0xFFFFFFFF)
            exchange = (first ^ axis) & below & ~is_set
            first ^= exchange | (below & is_set)
            if axis is not first:
                axis ^= exchange
    # Gray code, then the bits of the three coordinates by turns.
    axes[1] ^= axes[0]
    axes[2] ^= axes[1]
    flip = np.zeros_like(first)
    for bit in range(BITS - 1, 0, -1):
        flip ^= (axes[2] >> np.uint32(bit) & np.uint32(1)) * np.uint32((1 << bit) - 1)
    key = np.zeros(len(first), np.uint64)
    for place, axis in enumerate(axes):
        bits = (axis ^ flip).astype(np.uint64)
        for shift, mask in _SPREAD:
            bits = (bits | (bits << np.uint64(shift))) & np.uint64(mask)
        key |= bits << np.uint64(2 - place)
    return key
