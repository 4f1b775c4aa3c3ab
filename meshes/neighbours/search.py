"""Neighbours by a k-d tree. Which points are found depends on where points lie, never on their order."""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

# Distances that differ by less than this part are compared again, with ties decided by position. It covers how
# differently the tree and numpy round.
CLOSE = 1e-9


def radius(
    points: Float[np.ndarray, "point space"],
    centres: Float[np.ndarray, "centre space"],
    radius: float,
    max_count: int | None = None,
    points_offsets: Int[np.ndarray, " sample_plus_one"] | None = None,
    centres_offsets: Int[np.ndarray, " sample_plus_one"] | None = None,
) -> tuple[Int[np.ndarray, " centre_plus_one"], Int[np.ndarray, " neighbour"]]:
    """Find the points within a radius of each centre, nearest first.

    Points at equal distance are ordered by their coordinates, and only points in the same place by their index. Cut to
    `max_count`, the neighbours are therefore the same places however the points are listed.

    Args:
        points: positions to find [m].
        centres: positions to look from [m].
        radius: distance to look within, bounds included [m].
        max_count: how many to keep of each centre's neighbours at most, the nearest; None keeps all.
        points_offsets: where each sample's points begin, and the last one's end; None for one sample.
        centres_offsets: likewise for centres; centres see the points of their own sample only.

    Returns:
        The neighbours of centre `i` are `indices[offsets[i]:offsets[i + 1]]`.

    Raises:
        ValueError: a position is not finite, the radius or the count is negative, or offsets do not fit.
    """
    if not radius >= 0:
        raise ValueError(f"the radius is {radius}; expected zero or more [m]")
    if max_count is not None and max_count < 0:
        raise ValueError(f"max_count is {max_count}; expected zero or more")
    return _by_sample(points, centres, radius, max_count, points_offsets, centres_offsets)


def nearest(
    points: Float[np.ndarray, "point space"],
    centres: Float[np.ndarray, "centre space"],
    count: int,
    points_offsets: Int[np.ndarray, " sample_plus_one"] | None = None,
    centres_offsets: Int[np.ndarray, " sample_plus_one"] | None = None,
) -> tuple[Int[np.ndarray, " centre_plus_one"], Int[np.ndarray, " neighbour"]]:
    """Find the nearest points to each centre, nearest first; all of a sample's where it has fewer than `count`.

    Ties and offsets are as in `radius`.

    Raises:
        ValueError: a position is not finite, the count is negative, or offsets do not fit.
    """
    if count < 0:
        raise ValueError(f"count is {count}; expected zero or more")
    return _by_sample(points, centres, np.inf, count, points_offsets, centres_offsets)


def _by_sample(
    points: np.ndarray,
    centres: np.ndarray,
    radius: float,
    max_count: int | None,
    points_offsets: np.ndarray | None,
    centres_offsets: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    points, centres = np.asarray(points, np.float64), np.asarray(centres, np.float64)
    for name, position in (("points", points), ("centres", centres)):
        if not np.isfinite(position).all():
            raise ValueError(f"{name} are not all finite; drop those that are not")
    point_runs, centre_runs = (
        _runs(points_offsets, len(points), "points"),
        _runs(centres_offsets, len(centres), "centres"),
    )
    if len(point_runs) != len(centre_runs):
        raise ValueError(f"points come in {len(point_runs) - 1} samples, centres in {len(centre_runs) - 1}")
    counts, indices = [np.zeros(1, np.int64)], [np.zeros(0, np.int64)]
    for sample in range(len(point_runs) - 1):
        mine = points[point_runs[sample] : point_runs[sample + 1]]
        looking = centres[centre_runs[sample] : centre_runs[sample + 1]]
        if not len(mine) or not len(looking) or max_count == 0:
            counts.append(np.zeros(len(looking), np.int64))
            continue
        found = _all(mine, looking, radius) if max_count is None else _capped(mine, looking, radius, max_count)
        counts.append(found[0])
        indices.append(found[1] + point_runs[sample])
    return np.cumsum(np.concatenate(counts)), np.concatenate(indices)


def _runs(offsets: np.ndarray | None, count: int, name: str) -> np.ndarray:
    if offsets is None:
        return np.array([0, count])
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets of {name} must rise from 0 to {count}, the number of {name}; got {offsets.tolist()}")
    return offsets


def _all(points: np.ndarray, centres: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Count and list everything within the radius."""
    if np.isinf(radius):
        owner, index = np.divmod(np.arange(len(centres) * len(points)), len(points))
    else:
        found = KDTree(centres).sparse_distance_matrix(KDTree(points), radius * (1 + CLOSE), output_type="ndarray")
        owner, index = found["i"].astype(np.int64), found["j"].astype(np.int64)
    return _ordered(points, centres, owner, index, radius)


def _ordered(
    points: np.ndarray, centres: np.ndarray, owner: np.ndarray, index: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the pairs within the radius; sort them by centre, distance, position and at last index."""
    squared = ((points[index] - centres[owner]) ** 2).sum(1)
    within = squared <= radius**2
    owner, index, squared = owner[within], index[within], squared[within]
    order = np.lexsort((index, *points[index].T[::-1], squared, owner))
    return np.bincount(owner, minlength=len(centres)), index[order]


def _capped(points: np.ndarray, centres: np.ndarray, radius: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Count and list the nearest few within the radius."""
    tree = KDTree(points)
    # One more than asked for tells whether the last place is contested. The tree looks strictly within its bound.
    asked = max(2, min(count + 1, len(points)))
    bound = max(radius * (1 + 2 * CLOSE), 1e-150)
    distance, index = map(np.asarray, tree.query(centres, k=asked, distance_upper_bound=bound))
    found = np.isfinite(distance)
    with np.errstate(invalid="ignore"):
        tied = found[:, 1:] & (np.diff(distance, axis=1) <= CLOSE * distance[:, 1:])
    doubtful = np.any(tied, axis=1)
    if np.isfinite(radius):
        doubtful |= np.any(found & (np.abs(distance - radius) <= CLOSE * radius), axis=1)
    kept = found[:, :count] & (distance[:, :count] <= radius) & ~doubtful[:, None]
    counts = kept.sum(1)
    rows = np.flatnonzero(doubtful)
    if not len(rows):
        return counts, index[:, :count][kept]

    reach = np.where(found, distance, 0)[rows, :count].max(1) * (1 + CLOSE)
    balls = tree.query_ball_point(centres[rows], np.maximum(reach, 1e-150), return_sorted=False)
    owner = np.repeat(np.arange(len(rows)), [len(ball) for ball in balls])
    sizes, ordered = _ordered(points, centres[rows], owner, np.concatenate(balls).astype(np.int64), radius)
    place = np.arange(len(ordered)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    counts[rows] = np.minimum(sizes, count)
    indices = np.empty(counts.sum(), np.int64)
    settled = np.repeat(doubtful, counts)
    indices[~settled] = index[:, :count][kept]
    indices[settled] = ordered[place < count]
    return counts, indices
