"""Points drawn from the space around a body."""

import numpy as np
from jaxtyping import Float, Int

from meshes.geometry.wall_distance import ClosestPoints

# Boxes tried for each point still missing before giving up on a body that fills its box.
TRIES = 1000


def sample_volume(
    lower: Float[np.ndarray, "3"],
    upper: Float[np.ndarray, "3"],
    vertices: Float[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
    *,
    count: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, "{count} 3"]:
    """Draw points uniformly from a box, outside a closed body.

    Args:
        lower: lower corner of the box [m].
        upper: upper corner of the box [m].
        vertices: corner positions of the body [m].
        triangles: rows of three indices into `vertices`.
        count: how many points to draw.
        generator: source of randomness; its state alone decides the points.

    Raises:
        ValueError: the box is empty, `count` is negative, or the body leaves no room in the box.
    """
    if count < 0:
        raise ValueError(f"count is {count}; expected zero or more points")
    lower, upper = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
    if not (upper > lower).all():
        raise ValueError(f"the box from {lower.tolist()} to {upper.tolist()} is empty")
    body = ClosestPoints(vertices, triangles)
    found: list[np.ndarray] = []
    missing, drawn = count, 0
    while missing:
        if drawn > TRIES * count:
            raise ValueError(f"the body leaves no room in the box from {lower.tolist()} to {upper.tolist()}")
        position = generator.uniform(lower, upper, (missing, 3))
        drawn += missing
        found.append(position[~body.contains(position)])
        missing -= len(found[-1])
    return np.concatenate(found) if found else np.zeros((0, 3))
