"""Neighbours within a radius, found on the device where the points are."""

from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# Candidate pairs held at once by the cell list: about 200 MiB with their distances and orders.
CENTRES_AT_ONCE = 16_384
# Where the kernels of `radius_triton` can run, and the longest list that they hold in registers.
HAS_TRITON, MOST_IN_KERNEL = find_spec("triton") is not None, 256


def radius(
    points: Float[Tensor, "point space"],
    centres: Float[Tensor, "centre space"],
    radius: float,
    max_count: int | None = None,
    points_offsets: Int[Tensor, " sample_plus_one"] | None = None,
    centres_offsets: Int[Tensor, " sample_plus_one"] | None = None,
) -> tuple[Int[Tensor, " centre_plus_one"], Int[Tensor, " neighbour"]]:
    """Find for each centre the points within a radius, nearest first.

    Where more than `max_count` lie within, the nearest are kept; equal distances are ordered by position, axis after
    axis, so the neighbours as a set of positions do not depend on the order of the points. Distances are compared in
    float64. On CPU a k-d tree finds them, on CUDA what `radius_padded` says, elsewhere and without `max_count` a cell
    list.

    Args:
        points: places to find.
        centres: places to find them around.
        radius: largest distance, inclusive, in the unit of the positions.
        max_count: most neighbours per centre; `None` keeps all.
        points_offsets: where each sample begins among the points; only points of the same sample are neighbours.
        centres_offsets: where each sample begins among the centres.

    Returns:
        `offsets` and `indices`: the neighbours of centre i are `indices[offsets[i]:offsets[i + 1]]`.

    Raises:
        ValueError: the radius is not positive, `max_count` is below 1, or only one of the offsets is given.
    """
    _check(radius, max_count, points_offsets, centres_offsets)
    return _ragged(points.detach(), centres.detach(), radius, max_count, points_offsets, centres_offsets)


def radius_padded(
    points: Float[Tensor, "point space"],
    centres: Float[Tensor, "centre space"],
    radius: float,
    max_count: int,
    points_offsets: Int[Tensor, " sample_plus_one"] | None = None,
    centres_offsets: Int[Tensor, " sample_plus_one"] | None = None,
) -> tuple[Int[Tensor, "centre {max_count}"], Int[Tensor, " centre"]]:
    """Find what `radius` finds, in rows of `max_count`.

    On CUDA with Triton, in up to three axes and for up to 256 neighbours, nothing waits for the device, so the search
    can be captured in a CUDA graph or compiled. Offsets must then be on the device too. Elsewhere it is `radius`,
    padded.

    Args:
        points: places to find.
        centres: places to find them around.
        radius: largest distance, inclusive, in the unit of the positions.
        max_count: most neighbours per centre.
        points_offsets: where each sample begins among the points; only points of the same sample are neighbours.
        centres_offsets: where each sample begins among the centres.

    Returns:
        `indices`, nearest first and zero after the last, which there is a point for unless there is none; and how many
        neighbours each centre has.

    Raises:
        ValueError: the radius is not positive, `max_count` is below 1, or only one of the offsets is given.
    """
    _check(radius, max_count, points_offsets, centres_offsets)
    given = (points.detach(), centres.detach(), radius, max_count, points_offsets, centres_offsets)
    if _has_kernels(points, max_count):
        return _nearest(*given)
    offsets, found = _ragged(*given)
    counts = offsets.diff()
    indices = found.new_zeros(len(centres), max_count)
    indices[_filled(counts, max_count)] = found
    return indices, counts


def _check(radius: float, max_count: int | None, points_offsets: object, centres_offsets: object) -> None:
    if not radius > 0:
        raise ValueError(f"the radius must be positive, got {radius}")
    if max_count is not None and max_count < 1:
        raise ValueError(f"max_count must be at least 1, got {max_count}")
    if (points_offsets is None) != (centres_offsets is None):
        raise ValueError("give the offsets of points and of centres, or neither")


def _has_kernels(points: Tensor, max_count: int | None) -> bool:
    return (
        HAS_TRITON
        and points.device.type == "cuda"
        and points.shape[1] <= 3
        and max_count is not None
        and max_count <= MOST_IN_KERNEL
    )


def _nearest(
    points: Tensor,
    centres: Tensor,
    radius: float,
    max_count: int,
    points_offsets: Tensor | None,
    centres_offsets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    from neuralop.functional.radius_triton import nearest_within

    return nearest_within(points, centres, radius, max_count, points_offsets, centres_offsets)


def _filled(counts: Tensor, max_count: int) -> Tensor:
    """Tell which slots of padded rows hold a neighbour."""
    return torch.arange(max_count, device=counts.device) < counts[:, None]


def _ragged(
    points: Tensor,
    centres: Tensor,
    radius: float,
    max_count: int | None,
    points_offsets: Tensor | None,
    centres_offsets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    if max_count is not None and _has_kernels(points, max_count):
        indices, counts = _nearest(points, centres, radius, max_count, points_offsets, centres_offsets)
        return torch.cat((counts.new_zeros(1), counts.cumsum(0))), indices[_filled(counts, max_count)]
    find = _tree if points.device.type == "cpu" else cell_list
    return find(points, centres, radius, max_count, points_offsets, centres_offsets)


def _tree(
    points: Tensor,
    centres: Tensor,
    radius: float,
    max_count: int | None,
    points_offsets: Tensor | None,
    centres_offsets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    sources, targets = points.double().numpy(), centres.double().numpy()
    starts = [0, len(sources)] if points_offsets is None else points_offsets.tolist()
    ends = [0, len(targets)] if centres_offsets is None else centres_offsets.tolist()
    counts, indices = [], []
    for sample in range(len(starts) - 1):
        found = _tree_of_sample(
            sources[starts[sample] : starts[sample + 1]], targets[ends[sample] : ends[sample + 1]], radius, max_count
        )
        counts.append(found[0])
        indices.append(found[1] + starts[sample])
    offsets = np.concatenate(([0], np.cumsum(np.concatenate(counts)))) if counts else np.zeros(1)
    return torch.from_numpy(offsets.astype(np.int64)), torch.from_numpy(np.concatenate(indices).astype(np.int64))


def _tree_of_sample(
    points: np.ndarray, centres: np.ndarray, radius: float, max_count: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Find counts and indices for one sample."""
    from scipy.spatial import KDTree

    if not len(points) or not len(centres):
        return np.zeros(len(centres), np.int64), np.zeros(0, np.int64)
    tree = KDTree(points)
    slack = radius * (1 + 1e-9)  # the tree's own rounding must not decide what lies on the sphere
    if max_count is None:
        counts = tree.query_ball_point(centres, slack, return_length=True)
        lists = tree.query_ball_point(centres, slack, return_sorted=False)
        indices = np.concatenate([np.asarray(row, np.int64) for row in lists])
        return _nearest_first(points, centres, np.repeat(np.arange(len(centres)), counts), indices, radius, None)
    reach = min(max_count + 1, len(points))
    distance, index = (part.reshape(len(centres), reach) for part in tree.query(centres, reach, 0, 2, slack))
    # The tree gives the nearest first. Among equals, and on the sphere, it decides by its own order and rounding: such
    # rows are looked at again.
    close = distance[:, 1:] <= distance[:, :-1] * (1 + 1e-12)
    doubtful = (close & np.isfinite(distance[:, 1:])).any(1)
    doubtful |= (np.isfinite(distance) & (distance > radius * (1 - 1e-9))).any(1)
    index, found = index[:, :max_count], np.isfinite(distance[:, :max_count])
    if doubtful.any():
        again = np.flatnonzero(doubtful)
        reached = np.where(np.isfinite(distance[again]), distance[again], 0).max(1)
        lists = tree.query_ball_point(centres[again], reached * (1 + 1e-9), return_sorted=False)
        row = np.repeat(np.arange(len(again)), [len(some) for some in lists])
        candidates = np.concatenate([np.asarray(some, np.int64) for some in lists])
        counts, nearest = _nearest_first(points, centres[again], row, candidates, radius, max_count)
        found[again] = np.arange(found.shape[1]) < counts[:, None]
        rows, columns = np.nonzero(found[again])
        index[again[rows], columns] = nearest
    return found.sum(1), index[found]


def _nearest_first(
    points: np.ndarray, centres: np.ndarray, row: np.ndarray, index: np.ndarray, radius: float, max_count: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Order candidate pairs by centre, distance and position; keep the first of each centre within the radius."""
    places = points[index]
    squared = ((places - centres[row]) ** 2).sum(-1)
    within = squared <= radius**2
    row, index, squared, places = row[within], index[within], squared[within], places[within]
    order = np.lexsort((*places.T[::-1], squared, row))
    row, index = row[order], index[order]
    counts = np.bincount(row, minlength=len(centres))
    if max_count is not None:
        rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        index, counts = index[rank < max_count], np.minimum(counts, max_count)
    return counts, index


def cell_list(
    points: Float[Tensor, "point space"],
    centres: Float[Tensor, "centre space"],
    radius: float,
    max_count: int | None = None,
    points_offsets: Int[Tensor, " sample_plus_one"] | None = None,
    centres_offsets: Int[Tensor, " sample_plus_one"] | None = None,
) -> tuple[Int[Tensor, " centre_plus_one"], Int[Tensor, " neighbour"]]:
    """Do what `radius` does in tensor operations alone: sort points into cells as wide as the radius, look in 3^space.

    Memory grows with the number of points in neighbouring cells, not with the number of pairs.
    """
    device, space = points.device, points.shape[1]
    points, centres = points.double(), centres.double()
    if not len(points) or not len(centres):
        return torch.zeros(len(centres) + 1, dtype=torch.int64, device=device), points.new_zeros(0, dtype=torch.int64)
    point_sample, centre_sample = (
        _sample_of(len(points), points_offsets, device),
        _sample_of(len(centres), centres_offsets, device),
    )

    # Sorting by position first makes the order of equals that of their positions, since later sorts are stable.
    by_position = torch.arange(len(points), device=device)
    for axis in reversed(range(space)):
        by_position = by_position[points[by_position, axis].argsort(stable=True)]
    points, point_sample = points[by_position], point_sample[by_position]

    low = torch.minimum(points.amin(0), centres.amin(0))
    width = radius * (1 + 1e-9)
    point_cell = ((points - low) / width).floor().long() + 1
    centre_cell = ((centres - low) / width).floor().long() + 1
    extent = torch.maximum(point_cell.amax(0), centre_cell.amax(0)) + 2
    stride = torch.cat((extent.flip(0).cumprod(0).flip(0)[1:], extent.new_ones(1)))
    per_sample = extent.prod()
    point_key = point_sample * per_sample + (point_cell * stride).sum(-1)
    point_key, by_cell = point_key.sort(stable=True)
    around = torch.cartesian_prod(*[torch.arange(-1, 2, device=device)] * space).reshape(-1, space)
    around = (around * stride).sum(-1)

    counts, indices = [], []
    for first in range(0, len(centres), CENTRES_AT_ONCE):
        part = slice(first, first + CENTRES_AT_ONCE)
        key = (centre_sample[part] * per_sample + (centre_cell[part] * stride).sum(-1))[:, None] + around
        begin = torch.searchsorted(point_key, key)
        length = torch.searchsorted(point_key, key, right=True) - begin
        flat = length.flatten()
        row = torch.arange(len(key), device=device).repeat_interleave(length.sum(1))
        within_run = torch.arange(len(row), device=device) - (flat.cumsum(0) - flat).repeat_interleave(flat)
        index = by_cell[begin.flatten().repeat_interleave(flat) + within_run]
        squared = ((points[index] - centres[part][row]) ** 2).sum(-1)
        near = squared <= radius**2
        row, index, squared = row[near], index[near], squared[near]
        order = index.argsort(stable=True)
        order = order[squared[order].argsort(stable=True)]
        order = order[row[order].argsort(stable=True)]
        row, index = row[order], index[order]
        count = torch.bincount(row, minlength=len(key))
        if max_count is not None:
            rank = torch.arange(len(row), device=device) - (count.cumsum(0) - count)[row]
            index, count = index[rank < max_count], count.clamp(max=max_count)
        counts.append(count)
        indices.append(by_position[index])
    offsets = torch.cat((extent.new_zeros(1), torch.cat(counts).cumsum(0)))
    return offsets, torch.cat(indices)


def _sample_of(total: int, offsets: Tensor | None, device: torch.device) -> Tensor:
    """Give the number of the sample that each point belongs to."""
    if offsets is None:
        return torch.zeros(total, dtype=torch.int64, device=device)
    return torch.searchsorted(offsets.to(device), torch.arange(total, device=device), right=True) - 1
