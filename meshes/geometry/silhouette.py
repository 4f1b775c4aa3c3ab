"""How large a body looks from one side."""

import numpy as np
from jaxtyping import Float, Int, Shaped


def bounds(
    vertices: Shaped[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"] | None = None
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Give the lower and upper corner [m] of the box around the vertices, or around those that triangles use.

    Raises:
        ValueError: there are none.
    """
    used = np.asarray(vertices, np.float64)
    used = used if triangles is None else used[np.unique(triangles)]
    if not len(used):
        raise ValueError("a box around no points has no corners")
    return used.min(0), used.max(0)


def projected_area(
    vertices: Shaped[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
    direction: Float[np.ndarray, "3"],
    *,
    lines: int = 2000,
) -> float:
    """Compute the area [m²] of a body's silhouette, such as the frontal area of a car; it need not be convex or closed.

    The silhouette is cut by parallel lines. Along each the covered length is exact, overlaps counting once; across
    them the midpoint rule is used, with an error of about `lines`^(-3/2) of the area, and of 1 / `lines` at most where
    long edges run along the lines.

    Args:
        vertices: corner positions [m].
        triangles: rows of three indices into `vertices`.
        direction: of view, of any length.
        lines: how many to cut with.

    Raises:
        ValueError: the direction is zero.
    """
    direction = np.asarray(direction, np.float64)
    length = np.linalg.norm(direction)
    if not length > 0:
        raise ValueError("the direction of view is zero; expected a vector such as (1, 0, 0)")
    view = direction / length
    # Coordinates in the plane of view, along the axes of the laboratory where the view is.
    helper = np.eye(3)[np.abs(view).argmin()]
    right = np.cross(view, helper)
    right /= np.linalg.norm(right)
    plane = (np.asarray(vertices, np.float64)[triangles]) @ np.stack([right, np.cross(view, right)], axis=1)
    if not len(plane):
        return 0.0
    lower, upper = plane[..., 1].min(), plane[..., 1].max()
    step = (upper - lower) / lines
    if not step > 0:
        return 0.0
    # In units of the spacing, lines lie at whole numbers.
    height = (plane[..., 1] - lower) / step - 0.5
    first = np.ceil(height.min(1)).astype(np.int64)
    count = np.maximum(np.floor(height.max(1)).astype(np.int64) - first + 1, 0)
    triangle = np.repeat(np.arange(len(plane)), count)
    line = first[triangle] + np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)

    start, end = plane[triangle], plane[triangle][:, [1, 2, 0]]
    low, high = height[triangle], height[triangle][:, [1, 2, 0]]
    rise = high - low
    crossed = (np.minimum(low, high) <= line[:, None]) & (line[:, None] <= np.maximum(low, high))
    part = np.clip((line[:, None] - low) / np.where(rise == 0, 1, rise), 0, 1)
    at = start[..., 0] + part * (end[..., 0] - start[..., 0])
    level = crossed & (rise == 0)  # the side lies in the line: both its ends count
    left = np.where(crossed, np.where(level, np.minimum(start[..., 0], end[..., 0]), at), np.inf).min(1)
    right_end = np.where(crossed, np.where(level, np.maximum(start[..., 0], end[..., 0]), at), -np.inf).max(1)

    # Union of the intervals of all lines at once: lines are laid one after the other, far enough apart.
    width = np.ptp(plane[..., 0])
    shift = line * (2 * width + 1e-300)
    order = np.lexsort((left, line))
    left, right_end = (left + shift)[order], (right_end + shift)[order]
    reached = np.maximum.accumulate(right_end)
    before = np.concatenate([[-np.inf], reached[:-1]])
    return float(np.maximum(right_end - np.maximum(left, before), 0).sum() * step)
