"""How far predictions are from the truth, accumulated in float64 over any number of chunks."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from pipelines.bodies import measure_body
from pipelines.forces import is_half

# Edges of the histograms of errors, in standard deviations of a field over training: four bins a decade.
EDGES = np.logspace(-5, 2, 29)


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


@dataclass(frozen=True)
class Calibration:
    """Sums that tell how the spread of predictions goes with the error; `a + b` is that of the points of both.

    Attributes:
        points: how many.
        values: points times components.
        error, spread: sums over the points of the length of each.
        error_square, spread_square, product: sums over the points of the squares and of the product of the lengths.
        covered: values whose error is at most twice their spread.
    """

    points: int
    values: int
    error: float
    spread: float
    error_square: float
    spread_square: float
    product: float
    covered: int

    @classmethod
    def of(
        cls, error: Shaped[np.ndarray, "point component"], spread: Shaped[np.ndarray, "point component"]
    ) -> "Calibration":
        """Sum up errors of a mean over draws, and standard deviations of single draws, at some points."""
        error, spread = np.abs(np.asarray(error, np.float64)), np.asarray(spread, np.float64)
        off, wide = (np.linalg.norm(each, axis=1) for each in (error, spread))
        return cls(
            points=len(error),
            values=error.size,
            error=float(off.sum()),
            spread=float(wide.sum()),
            error_square=float(off @ off),
            spread_square=float(wide @ wide),
            product=float(off @ wide),
            covered=int((error <= 2 * spread).sum()),
        )

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(
            *(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def scores(self) -> dict[str, float | None]:
        """Give what a user reads.

        Returns:
            `rms_error` and `rms_spread` in the unit of the field; their `ratio`, which for M draws is √(1 + 1/M) where
            the truth might have been one more draw, and larger where anchors are not the main source of error;
            `correlation` over the points of the lengths of error and spread; `coverage`, the part of the values with an
            error of at most twice the spread. What is not defined is `None`.
        """
        if self.points == 0:
            return dict.fromkeys(("rms_error", "rms_spread", "ratio", "correlation", "coverage"))
        rms = [float(np.sqrt(square / self.points)) for square in (self.error_square, self.spread_square)]
        means = self.error / self.points, self.spread / self.points
        variances = [each**2 - mean**2 for each, mean in zip(rms, means, strict=True)]
        # Variances this small beside the squares they are differences of are rounding.
        varies = all(variance > 1e-12 * each**2 for variance, each in zip(variances, rms, strict=True))
        covariance = self.product / self.points - means[0] * means[1]
        return {
            "rms_error": rms[0],
            "rms_spread": rms[1],
            "ratio": rms[0] / rms[1] if rms[1] > 0 else None,
            "correlation": float(covariance / np.sqrt(variances[0] * variances[1])) if varies else None,
            "coverage": self.covered / self.values,
        }


def parity(
    truth: Shaped[np.ndarray, " case"], prediction: Shaped[np.ndarray, " case"], *, tie: float = 0.0
) -> dict[str, Any]:
    """Judge one predicted number a case, such as a drag coefficient: its errors, and whether it ranks the cases.

    Args:
        truth: of each case.
        prediction: of each case.
        tie: two cases whose truths differ by no more than this are not told apart, and their pair does not count.

    Returns:
        `mean_error` (prediction − truth), `mean_absolute_error`, `largest_error` (absolute), `r2`, Spearman's `rank`
        correlation; of all `pairs` of cases, those that are `ties`, those whose difference has the `right` sign, and
        `sign_accuracy`, the part these are of the pairs that are no ties; and `tie`, `lowest` and `highest` truth.
        What is not defined, such as the rank of a single case, is `None`.
    """
    truth, prediction = (np.asarray(each, np.float64) for each in (truth, prediction))
    error = prediction - truth
    spread = float(np.square(truth - truth.mean()).sum())
    first, second = np.triu_indices(len(truth), 1)
    difference = truth[first] - truth[second]
    counts = np.abs(difference) > tie
    right = np.sign(prediction[first] - prediction[second])[counts] == np.sign(difference[counts])
    return {
        "mean_error": float(error.mean()),
        "mean_absolute_error": float(np.abs(error).mean()),
        "largest_error": float(np.abs(error).max()),
        "r2": float(1 - error @ error / spread) if spread > 0 else None,
        "rank": rank(truth, prediction),
        "pairs": len(first),
        "ties": int((~counts).sum()),
        "right": int(right.sum()),
        "sign_accuracy": float(right.mean()) if len(right) else None,
        "tie": float(tie),
        "lowest": float(truth.min()),
        "highest": float(truth.max()),
    }


def rank(first: Shaped[np.ndarray, " case"], second: Shaped[np.ndarray, " case"]) -> float | None:
    """Compute Spearman's rank correlation; `None` where there are fewer than two cases or one side is constant."""
    from scipy.stats import spearmanr

    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second)[0])  # type: ignore[arg-type]


def histogram(error: Shaped[np.ndarray, "point component"], scale: float) -> Int[np.ndarray, " bin"]:
    """Count the points by the length of their error over `scale`, between `EDGES`; what lies beyond is in the last."""
    length = np.linalg.norm(np.asarray(error, np.float64), axis=1) / scale
    return np.histogram(np.clip(length, EDGES[0], EDGES[-1]), EDGES)[0]


@dataclass(frozen=True, eq=False)
class Worst:
    """The point where a field is furthest off.

    Attributes:
        error: length of the difference there, in the unit of the field.
        position: where [m].
        truth, predicted: components, in the unit of the field.
        distance: from the wall [m], in a volume.
    """

    error: float
    position: Shaped[np.ndarray, " space"]
    truth: Shaped[np.ndarray, " component"]
    predicted: Shaped[np.ndarray, " component"]
    distance: float | None

    @classmethod
    def of(
        cls,
        position: Shaped[np.ndarray, "point space"],
        truth: Shaped[np.ndarray, "point component"],
        predicted: Shaped[np.ndarray, "point component"],
        distance: Shaped[np.ndarray, " point"] | None = None,
    ) -> "Worst":
        """Find it among some points."""
        error = np.linalg.norm(np.asarray(predicted, np.float64) - truth, axis=1)
        index = int(np.argmax(error))
        away = None if distance is None else float(distance[index])
        return cls(float(error[index]), position[index], truth[index], predicted[index], away)

    def to_dict(self, centre: Float[np.ndarray, " space"], length: float) -> dict[str, Any]:
        """Give plain numbers; the position also from the centre of the body in body lengths."""
        position = np.asarray(self.position, np.float64)
        return {
            "error": self.error,
            "position": position.tolist(),
            "position_in_body_lengths": ((position - centre) / length).tolist(),
            "wall_distance": self.distance,
            "truth": np.asarray(self.truth, np.float64).tolist(),
            "predicted": np.asarray(self.predicted, np.float64).tolist(),
        }


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


def spread_over(scores: Mapping[str, Any]) -> str | None:
    """Say what the spread of predictions is taken over; nothing where there is only one."""
    draws, members = scores["draws"], scores.get("members", 1)
    if draws == 1:
        return f"{members} members" if members > 1 else None
    return f"{draws} anchor draws" + (f" of {members} members" if members > 1 else "")
