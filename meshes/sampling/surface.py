"""Points drawn from surfaces."""

import numpy as np
from jaxtyping import Float, Int

from meshes.geometry.triangulation import triangle_area_vectors


def sample_surface(
    vertices: Float[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
    *,
    count: int,
    generator: np.random.Generator,
) -> tuple[Float[np.ndarray, "{count} 3"], Int[np.ndarray, " {count}"]]:
    """Draw points uniformly by area from a triangulated surface.

    Args:
        vertices: corner positions [m].
        triangles: rows of three indices into `vertices`.
        count: how many points to draw, with replacement.
        generator: source of randomness; its state alone decides the points.

    Returns:
        The positions [m], and for each the triangle it lies on.

    Raises:
        ValueError: the surface has no area, or `count` is negative.

    Source:
        Osada et al. 2002, Shape distributions, ACM TOG 21(4).
    """
    if count < 0:
        raise ValueError(f"count is {count}; expected zero or more points")
    vectors = triangle_area_vectors(vertices, triangles)
    cumulative = np.cumsum(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))
    if not len(cumulative) or not cumulative[-1] > 0 or not np.isfinite(cumulative[-1]):
        raise ValueError(f"the surface of {len(triangles)} triangles has no finite area to draw points from")
    # From the right, so that a triangle without area is never drawn.
    triangle = np.searchsorted(cumulative, generator.random(count) * cumulative[-1], side="right")
    triangle = np.minimum(triangle, np.searchsorted(cumulative, cumulative[-1]))
    weights = generator.random((count, 2))
    beyond = weights.sum(1) > 1
    weights[beyond] = 1 - weights[beyond]
    corners = np.asarray(vertices, np.float64)[triangles[triangle]]
    edges = corners[:, 1:] - corners[:, :1]
    return corners[:, 0] + np.einsum("pi,pij->pj", weights, edges), triangle
