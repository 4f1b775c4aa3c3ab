"""Grids around a body that nobody meshed: boxes of cells, finer near the body, without those inside it."""

import math

import numpy as np
from jaxtyping import Float

from meshes.mesh import Mesh

QUAD, HEXAHEDRON = 9, 12
# A grid that is told nothing has cells of this part of the body's length around it, in space or in the plane, growing
# by this factor outwards, and is coarsened until it has no more than so many cells.
FINEST, GROWTH, MARGIN, MOST = {3: 1 / 32, 2: 1 / 128}, 1.15, 0.15, 100_000
# A grid of more cells than that is a slip of the pen: its positions alone take 24 GB.
MANY = 1e9


def uniform_edges(
    box: Float[np.ndarray, "2 space"], *, counts: tuple[int, ...] | None, spacing: float | None
) -> list[Float[np.ndarray, " _edge"]]:
    """Cut a box into equal cells.

    Args:
        box: lower and upper corner [m].
        counts: cells along each axis, or None to follow `spacing`.
        spacing: size of a cell [m]; the box grows to hold whole cells. With `counts` it must be None.

    Raises:
        ValueError: the box is empty, both or neither of `counts` and `spacing` are given, one is not positive, or
            there would be too many cells.
    """
    lower, upper = box
    if not (upper > lower).all():
        raise ValueError(f"the box from {lower.tolist()} to {upper.tolist()} is empty; expected lower below upper")
    if (counts is None) == (spacing is None):
        raise ValueError("a uniform grid takes either the number of cells or their size")
    if counts is not None:
        if len(counts) != len(lower) or min(counts) < 1:
            raise ValueError(f"the grid {counts} should have {len(lower)} positive numbers of cells")
        _refuse_many(math.prod(map(float, counts)))
        return [np.linspace(start, stop, count + 1) for start, stop, count in zip(lower, upper, counts, strict=True)]
    assert spacing is not None
    if not spacing > 0:
        raise ValueError(f"the spacing is {spacing}; expected a positive size [m]")
    cells = np.maximum(np.ceil((upper - lower) / spacing - 1e-9), 1)
    _refuse_many(float(cells.prod()))
    return [start + spacing * np.arange(int(count) + 1) for start, count in zip(lower, cells, strict=True)]


def _refuse_many(cells: float) -> None:
    if cells > MANY:
        raise ValueError(f"the grid would have {cells:.3g} cells, more than {MANY:.3g}; choose fewer or larger ones")


def graded_edges(
    box: Float[np.ndarray, "2 space"], body: Float[np.ndarray, "2 space"]
) -> list[Float[np.ndarray, " _edge"]]:
    """Cut a box into cells that are even around the body and grow away from it.

    Args:
        box: lower and upper corner of the whole [m].
        body: lower and upper corner of the body [m].
    """
    length = float(np.ptp(body, axis=0).max())
    inner = np.stack([body[0] - MARGIN * length, body[1] + MARGIN * length])
    inner = np.clip(inner, box[0], box[1])
    size = FINEST[box.shape[1]] * length
    while True:
        edges = [_graded(box[:, axis], inner[:, axis], size) for axis in range(box.shape[1])]
        if np.prod([len(each) - 1 for each in edges]) <= MOST:
            return edges
        size *= 1.1


def _graded(box: Float[np.ndarray, "2"], inner: Float[np.ndarray, "2"], size: float) -> Float[np.ndarray, " _edge"]:
    # What is left thinner than half a cell joins the even part.
    inner = np.where(np.abs(box - inner) < 0.5 * size, box, inner)
    count = max(int(np.ceil((inner[1] - inner[0]) / size)), 1)
    middle = np.linspace(inner[0], inner[1], count + 1) if inner[1] > inner[0] else inner[:1]
    return np.concatenate(
        [(inner[0] - _growing(inner[0] - box[0], size))[::-1], middle, inner[1] + _growing(box[1] - inner[1], size)]
    )


def _growing(reach: float, size: float) -> Float[np.ndarray, " _edge"]:
    """Distances of edges that grow geometrically and end exactly at `reach`."""
    if reach <= 1e-9 * size:
        return np.zeros(0)
    steps = max(round(float(np.log1p((GROWTH - 1) * reach / size / GROWTH) / np.log(GROWTH))), 1)
    distances = np.cumsum(size * GROWTH ** np.arange(1, steps + 1))
    return distances * (reach / distances[-1])


def centres(edges: list[Float[np.ndarray, " _edge"]]) -> Float[np.ndarray, "cell space"]:
    """Centres of the cells of a grid, the last axis fastest."""
    middles = [0.5 * (each[1:] + each[:-1]) for each in edges]
    return np.stack([part.ravel() for part in np.meshgrid(*middles, indexing="ij")], axis=1)


def grid_mesh(edges: list[Float[np.ndarray, " _edge"]], keep: np.ndarray, axes: list[int], level: float = 0.0) -> Mesh:
    """Make a mesh of some cells of a grid: hexahedra, or quadrilaterals in the plane.

    Args:
        edges: of the cells along each axis.
        keep: mask over the cells in the order of `centres`.
        axes: which axis of space each is.
        level: where a plane stands along the axis that it lacks [m].
    """
    shape = tuple(len(each) for each in edges)
    numbers = np.arange(np.prod(shape)).reshape(shape)
    if len(edges) == 2:
        steps = [(0, 0), (1, 0), (1, 1), (0, 1)]
    else:
        steps = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
    corners = [
        numbers[tuple(slice(step, step + count - 1) for step, count in zip(each, shape, strict=True))].ravel()
        for each in steps
    ]
    connectivity = np.stack(corners, axis=1)[np.asarray(keep, bool)]
    used, compact = np.unique(connectivity, return_inverse=True)
    points = np.full((len(used), 3), level)
    for axis, each, index in zip(axes, edges, np.unravel_index(used, shape), strict=True):
        points[:, axis] = each[index]
    count = len(connectivity)
    return Mesh(
        points=points.astype(np.float32),
        connectivity=compact.reshape(-1).astype(np.int64),
        offsets=np.arange(count + 1, dtype=np.int64) * len(steps),
        types=np.full(count, HEXAHEDRON if len(edges) == 3 else QUAD, np.uint8),
    )
