"""Running moments of fields: what standardisation needs, in one pass and in any order."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean, spread and range of values that were seen once, kept in float64.

    `a.merge(b)` is what `of` would give for the values of both together, to rounding, so chunks and cases may come in
    any order and from any process.

    Attributes:
        count: how many rows were seen.
        mean: per component.
        m2: sum of squared deviations from the mean, per component.
        minimum, maximum: per component.

    Source:
        Chan, Golub, LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances.
    """

    count: int
    mean: Float[np.ndarray, " component"]
    m2: Float[np.ndarray, " component"]
    minimum: Float[np.ndarray, " component"]
    maximum: Float[np.ndarray, " component"]

    @classmethod
    def none(cls, components: int) -> "Moments":
        """Return the moments of no values at all: the identity of `merge`."""
        zero = np.zeros(components)
        return cls(0, zero, zero, np.full(components, np.inf), np.full(components, -np.inf))

    @classmethod
    def of(cls, values: Shaped[np.ndarray, "row component"], *, chunk: int = 1 << 18) -> "Moments":
        """Return the moments of some values, reading `chunk` rows at a time.

        Raises:
            ValueError: a value is NaN or infinite; one such value would spoil every mean.
        """
        moments = cls.none(values.shape[1])
        for start in range(0, len(values), chunk):
            block = np.asarray(values[start : start + chunk], dtype=np.float64)
            bad = len(block) - int(np.isfinite(block).all(axis=1).sum())
            if bad:
                raise ValueError(f"moments need finite values, but {bad} rows after row {start} are NaN or infinite")
            mean = block.mean(axis=0)
            m2 = np.square(block - mean).sum(axis=0)
            moments = moments.merge(cls(len(block), mean, m2, block.min(axis=0), block.max(axis=0)))
        return moments

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of the values of both."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        step = other.mean - self.mean
        return Moments(
            count,
            self.mean + step * (other.count / count),
            self.m2 + other.m2 + np.square(step) * (self.count * other.count / count),
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )

    @property
    def std(self) -> Float[np.ndarray, " component"]:
        """Standard deviation of the values seen (divided by `count`); zero for a constant."""
        return np.sqrt(self.m2 / max(self.count, 1))

    def to_json(self) -> dict[str, Any]:
        """Return numbers and lists only; with `std` beside `m2` for people who read the file."""
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "std", "m2", "minimum", "maximum")}
        return {"count": self.count, **arrays}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Moments":
        """Read what `to_json` wrote."""
        names = ("mean", "m2", "minimum", "maximum")
        return cls(int(values["count"]), *(np.array(values[name], dtype=np.float64) for name in names))


def merge(moments: list[Moments]) -> Moments:
    """Return the moments of everything that a list of at least one saw."""
    return reduce(Moments.merge, moments)
