"""Choices among points that are already there."""

import numpy as np
from jaxtyping import Float, Int


def pick(
    measure: Float[np.ndarray, " point"], count: int, generator: np.random.Generator
) -> Int[np.ndarray, " {count}"]:
    """Pick points without replacement, one after the other with probability by measure.

    Each point draws an exponential time with its measure as the rate, and the earliest are taken. Points of measure
    zero are never picked. The order of the result is that of picking: its first part is a pick of fewer.

    Args:
        measure: what each point stands for, in any one unit.
        count: how many to pick.
        generator: source of randomness; its state alone decides the points.

    Raises:
        ValueError: a measure is negative or not finite, or fewer than `count` points have any.

    Source:
        Efraimidis and Spirakis 2006, Weighted random sampling with a reservoir, Inf. Process. Lett. 97(5).
    """
    measure = np.asarray(measure, np.float64)
    if not (np.isfinite(measure).all() and (measure >= 0).all()):
        raise ValueError("measures to pick by are negative or not finite")
    available = int((measure > 0).sum())
    if not 0 <= count <= available:
        raise ValueError(f"count is {count}; expected 0 to {available}, the number of points with a measure")
    with np.errstate(divide="ignore"):
        time = generator.standard_exponential(len(measure)) / measure
    if count < len(time):
        earliest = np.argpartition(time, count)[:count] if count else np.zeros(0, np.int64)
    else:
        earliest = np.arange(len(time))
    return earliest[time[earliest].argsort(kind="stable")]


def farthest_points(
    points: Float[np.ndarray, "point space"], count: int, start: int = 0
) -> Int[np.ndarray, " {count}"]:
    """Choose points one by one, each the farthest from all that were chosen before.

    Args:
        points: positions [m].
        count: how many to choose.
        start: the first one.

    Raises:
        ValueError: there are fewer than `count` points, or `start` is none of them.

    Source:
        Gonzalez 1985, Clustering to minimize the maximum intercluster distance, Theor. Comput. Sci. 38.
    """
    if not 0 <= count <= len(points):
        raise ValueError(f"count is {count}; expected 0 to {len(points)}, the number of points")
    if count and not 0 <= start < len(points):
        raise ValueError(f"start is {start}; expected an index below {len(points)}")
    points = np.asarray(points, np.float64)
    chosen = np.empty(count, np.int64)
    reach, current = np.full(len(points), np.inf), start
    for place in range(count):
        chosen[place] = current
        np.minimum(reach, ((points - points[current]) ** 2).sum(1), out=reach)
        current = int(reach.argmax())
    return chosen
