"""How large a body is and where it stands: what positions are scaled by, and parameters that any geometry has."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from meshes.geometry.triangulation import corners_by_chunk

AXES = ("x", "y", "z")


@dataclass(frozen=True, eq=False)
class Body:
    """The place and the size of a body, whole even where only half of it is modelled.

    Attributes:
        centre: centroid of the surface by area [m].
        length: 2√3 times the root mean square distance of the surface from `centre` [m]. A sphere and a rod have the
            diagonal of their bounding box; unlike the diagonal it changes neither when the body turns nor when its
            surface is meshed again.
        lower: lower corner of the bounding box [m].
        upper: upper corner of the bounding box [m].
    """

    centre: Float[np.ndarray, "3"]
    length: float
    lower: Float[np.ndarray, "3"]
    upper: Float[np.ndarray, "3"]

    @property
    def parameters(self) -> dict[str, float]:
        """What expressions may use beside a case's own parameters: `size_x`, `centre_x`, …, `length`, all in metres."""
        size = self.upper - self.lower
        values = {f"size_{axis}": float(size[index]) for index, axis in enumerate(AXES)}
        values |= {f"centre_{axis}": float(self.centre[index]) for index, axis in enumerate(AXES)}
        return values | {"length": self.length}


def measure_body(
    vertices: Float[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
    *,
    space: tuple[int, ...] = (0, 1, 2),
    symmetry: int | None = None,
) -> Body:
    """Measure a triangulated body.

    Args:
        vertices: corner positions [m].
        triangles: rows of three indices into `vertices`.
        space: axes that count for `length`; `(0, 1)` for the flow past a strip one cell thick.
        symmetry: axis whose plane through the origin mirrors the body; half a body is then measured as a whole one.

    Raises:
        ValueError: the surface has no area.
    """
    lower, upper = np.full(3, np.inf), np.full(3, -np.inf)
    total, first, second = 0.0, np.zeros(3), np.zeros(3)
    # Moments about a point of the body, so that little cancels when they are moved to its centre.
    origin = np.asarray(vertices, np.float64)[triangles[:1]].reshape(-1, 3)[:1].sum(axis=0)
    for _, corners in corners_by_chunk(vertices, triangles):
        lower, upper = np.minimum(lower, corners.min((0, 2))), np.maximum(upper, corners.max((0, 2)))
        a, b, c = corners = corners - origin[:, None]
        area = 0.5 * np.linalg.norm(np.cross(b - a, c - a, axis=0), axis=0)
        middle = a + b + c
        total += area.sum()
        first += middle @ area / 3
        # Exact second moment of a triangle along each axis: A/12 (Σ v² + (Σ v)²).
        second += ((corners**2).sum(0) + middle**2) @ area / 12
    if not total > 0:
        raise ValueError(f"the geometry of {len(triangles)} triangles has no area; is its surface meshed?")
    centre = origin + first / total
    if symmetry is not None:
        centre[symmetry] = 0.0
        upper[symmetry] = max(-lower[symmetry], upper[symmetry])
        lower[symmetry] = -upper[symmetry]
    shift = centre - origin
    moment = (second - 2 * shift * first + shift**2 * total)[list(space)].sum()
    return Body(centre, float(2 * np.sqrt(3 * moment / total)), lower, upper)
