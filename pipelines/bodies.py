"""How large a body is and where it stands: what positions are scaled by, and parameters that any geometry has."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

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
    corners = np.asarray(vertices, np.float64)[triangles]
    lower, upper = corners.min((0, 1)), corners.max((0, 1))
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    total = area.sum()
    if not total > 0:
        raise ValueError(f"the geometry of {len(triangles)} triangles has no area; is its surface meshed?")
    centre = area @ corners.mean(1) / total
    if symmetry is not None:
        centre[symmetry] = 0.0
        upper[symmetry] = max(-lower[symmetry], upper[symmetry])
        lower[symmetry] = -upper[symmetry]
    axes = list(space)
    from_centre = corners[:, :, axes] - centre[axes]
    # Exact second moment of a triangle: A/12 (Σ|v|² + |Σv|²).
    moment = area @ ((from_centre**2).sum((1, 2)) + (from_centre.sum(1) ** 2).sum(-1)) / 12
    return Body(centre, float(2 * np.sqrt(3 * moment / total)), lower, upper)
