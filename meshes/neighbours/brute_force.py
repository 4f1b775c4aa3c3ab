"""Neighbours by comparing everything with everything: slow, plain, and what the fast search must agree with."""

import numpy as np
from jaxtyping import Float, Int


def radius(
    points: Float[np.ndarray, "point space"],
    centres: Float[np.ndarray, "centre space"],
    radius: float,
    max_count: int | None = None,
    points_offsets: Int[np.ndarray, " sample_plus_one"] | None = None,
    centres_offsets: Int[np.ndarray, " sample_plus_one"] | None = None,
) -> tuple[Int[np.ndarray, " centre_plus_one"], Int[np.ndarray, " neighbour"]]:
    """Find the points within a radius of each centre; arguments and result as in `meshes.neighbours.radius`."""
    points, centres = np.asarray(points, np.float64), np.asarray(centres, np.float64)
    points_offsets = np.array([0, len(points)]) if points_offsets is None else points_offsets
    centres_offsets = np.array([0, len(centres)]) if centres_offsets is None else centres_offsets
    runs: list[list[int]] = []
    for sample in range(len(points_offsets) - 1):
        candidates = range(points_offsets[sample], points_offsets[sample + 1])
        for centre in centres[centres_offsets[sample] : centres_offsets[sample + 1]]:
            squared = {index: float(((points[index] - centre) ** 2).sum()) for index in candidates}
            within = [index for index in candidates if squared[index] <= radius**2]
            within.sort(key=lambda index: (squared[index], *points[index], index))
            runs.append(within[:max_count])
    offsets = np.cumsum([0, *map(len, runs)], dtype=np.int64)
    return offsets, np.array([index for run in runs for index in run], np.int64)


def nearest(
    points: Float[np.ndarray, "point space"],
    centres: Float[np.ndarray, "centre space"],
    count: int,
    points_offsets: Int[np.ndarray, " sample_plus_one"] | None = None,
    centres_offsets: Int[np.ndarray, " sample_plus_one"] | None = None,
) -> tuple[Int[np.ndarray, " centre_plus_one"], Int[np.ndarray, " neighbour"]]:
    """Find the nearest points to each centre; arguments and result as in `meshes.neighbours.nearest`."""
    return radius(points, centres, np.inf, count, points_offsets, centres_offsets)
