"""How far predictions are from the truth, accumulated in float64 over any number of chunks."""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from pipelines.bodies import measure_body
from pipelines.forces import is_half


@dataclass(frozen=True, eq=False)
class Errors:
    """Sums from which every score of a field follows; `a + b` is what the points of both together give, to rounding.

    Attributes:
        weight: sum of the weights, the count of points where none were given.
        error: weighted sum of |prediction − truth|².
        square: weighted sum of |truth|².
        mean: weighted mean of the truth, per component.
        spread: weighted sum of |truth − mean|².
    """

    weight: float
    error: float
    square: float
    mean: Float[np.ndarray, " component"]
    spread: float

    @classmethod
    def of(
        cls,
        truth: Shaped[np.ndarray, "point component"],
        prediction: Shaped[np.ndarray, "point component"],
        weight: Shaped[np.ndarray, " point"] | None = None,
    ) -> "Errors":
        """Sum up the errors at some points, each counted once or by its `weight`.

        Raises:
            ValueError: a value is not finite; such a prediction has no error.
        """
        true = np.asarray(truth, np.float64)
        error = np.asarray(prediction, np.float64) - true
        weights = np.ones(len(true)) if weight is None else np.asarray(weight, np.float64)
        total = float(weights.sum())
        mean = weights @ true / total if total > 0 else np.zeros(true.shape[1])
        sums = [float(weights @ np.square(part).sum(1)) for part in (error, true, true - mean)]
        if not np.isfinite(sums).all():
            raise ValueError(f"truth or prediction is NaN or infinite somewhere among {len(true)} points")
        return Errors(total, sums[0], sums[1], mean, sums[2])

    def __add__(self, other: "Errors") -> "Errors":
        total = self.weight + other.weight
        if total == 0:
            return self
        step = other.mean - self.mean
        return Errors(
            total,
            self.error + other.error,
            self.square + other.square,
            self.mean + step * (other.weight / total),
            self.spread + other.spread + float(step @ step) * self.weight * other.weight / total,
        )

    @property
    def relative_l2(self) -> float | None:
        """√(Σ|error|² / Σ|truth|²); `None` where the truth is zero everywhere."""
        return float(np.sqrt(self.error / self.square)) if self.square > 0 else None

    @property
    def rmse(self) -> float | None:
        """Root mean square of the error's length, in the unit of the field; `None` where there are no points."""
        return float(np.sqrt(self.error / self.weight)) if self.weight > 0 else None

    @property
    def r2(self) -> float | None:
        """1 − Σ|error|² / Σ|truth − mean|², `None` where the truth is constant: one is perfect, zero is its mean."""
        return 1 - self.error / self.spread if self.spread > 0 else None

    def scores(self) -> dict[str, float | None]:
        """Give the three scores by name."""
        return {"relative_l2": self.relative_l2, "rmse": self.rmse, "r2": self.r2}


def total(errors: list[Errors]) -> Errors:
    """Sum the errors of at least one chunk."""
    return reduce(Errors.__add__, errors)


def regions(distance: Shaped[np.ndarray, " point"] | None, reach: float) -> dict[str, Bool[np.ndarray, " point"]]:
    """Part the points of a volume into `near_wall`, closer than `reach` [m] to the body, and `far`; else into none."""
    if distance is None:
        return {}
    near = np.asarray(distance) < reach
    return {"near_wall": near, "far": ~near}


def mean_of(values: list[float | None]) -> float | None:
    """Mean of the values that there are; `None` where there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def near_reach(
    vertices: Float[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
    axes: list[int],
    symmetry: int | None,
) -> float:
    """Distance from the wall that counts as near [m]: the radius of the sphere with the body's volume.

    In the plane it is the radius of the circle with the section's area. For an ellipsoid it is (abc)^(1/3). The volume
    follows from the divergence theorem, ∮ x_k n_k dA for each axis k that does not see an open plane of symmetry; where
    these differ by more than a tenth the surface is open elsewhere, and the radius is that of the sphere with the same
    `Body.length` instead.

    Args:
        vertices: corners of the body [m].
        triangles: rows of three indices into `vertices`.
        axes: axes that count.
        symmetry: axis across a plane of symmetry through the origin, if there is one.
    """
    body = measure_body(vertices, triangles, space=tuple(axes), symmetry=symmetry)
    corners = np.asarray(vertices, np.float64)[triangles] - body.centre
    area_vector = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    seen = [axis for axis in axes if axis != symmetry]
    volumes = np.array([corners[:, :, axis].mean(1) @ area_vector[:, axis] for axis in seen])
    volume = abs(float(volumes.mean()))
    if np.ptp(volumes) > 0.1 * volume:
        return body.length / (2 * np.sqrt(3))
    if symmetry is not None and is_half(vertices, symmetry):
        volume *= 2
    if len(axes) == 2:
        (across,) = set(range(3)) - set(axes)
        return float(np.sqrt(volume / np.ptp(vertices[:, across]) / np.pi))
    return float(np.cbrt(3 * volume / (4 * np.pi)))
