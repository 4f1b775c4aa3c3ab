"""A binary tree over triangles whose nodes are contiguous runs, searched for many points at once."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Pairs(NamedTuple):
    """Points and nodes of one level, paired; sorted by point."""

    point: Int[np.ndarray, " pair"]
    node: Int[np.ndarray, " pair"]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Triangles sorted so that node k of level l owns the k-th of 2^l equal runs, down to single triangles.

    Attributes:
        order: triangle at each place of the last level; the triangle repeated to fill up the run counts once.
        filled: whether a place of the last level is a filler.
        levels: how often the root was halved.
    """

    order: Int[np.ndarray, " leaf"]
    filled: Bool[np.ndarray, " leaf"]
    levels: int

    @classmethod
    def build(cls, centre: Float[np.ndarray, "triangle 3"]) -> "Hierarchy":
        """Halve the triangles again and again, across the direction in which their centres spread most."""
        count = len(centre)
        levels = max(0, int(np.ceil(np.log2(count))))
        order = np.concatenate([np.arange(count), np.full(2**levels - count, -1)])
        spread = np.concatenate([centre, centre[-1:]])
        for level in range(levels):
            runs = order.reshape(2**level, -1)
            places = spread[runs]
            axis = np.ptp(places, axis=1).argmax(1)
            along = np.take_along_axis(places, axis[:, None, None], axis=2)[:, :, 0]
            # Fillers stay together at the end, so that whole nodes of them are never visited.
            along = np.where(runs < 0, np.inf, along)
            order = np.take_along_axis(runs, along.argsort(axis=1, kind="stable"), axis=1).ravel()
        return cls(np.where(order < 0, count - 1, order), order < 0, levels)

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

    def reduce(self, values: Float[np.ndarray, "triangle column"], operation: np.ufunc) -> list[np.ndarray]:
        """Combine a quantity of the triangles for the nodes of every level, root first."""
        current = values[self.order]
        result = [current]
        for _ in range(self.levels):
            current = operation(current[0::2], current[1::2])
            result.append(current)
        return result[::-1]
