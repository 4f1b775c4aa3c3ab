"""Which times of a series are read, and the mean over several."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from meshes.mesh import Mesh
from meshes.reading.errors import ReadError

# A time; `latest`; a mean over several times; or over all from the first to the last of a text such as `200 to latest`.
Time = int | float | str | Sequence[int | float]

LATEST = "latest"
# Solvers write times with six digits.
SAME = 1e-5
NAMED = 8


def choose_times(time: Time | None, there: Sequence[float], path: Path, *, latest: bool = False) -> list[float]:
    """Return the times of a series that are meant, in order; none where there are none.

    Args:
        time: what is asked for; `None` means the only time there is.
        there: times of the series, in order.
        path: the series, for messages.
        latest: let `None` mean the last of several.

    Raises:
        ReadError: a time is not there, or none is asked for where there are several.
    """
    if not there:
        if time is None or time == LATEST:
            return []
        raise ReadError(f"{path} is a single mesh without times, but time {_say(time)} was asked for; leave it out")
    if time is None:
        if len(there) > 1 and not latest:
            raise ReadError(f"{path} is a series; say which of its times to read: {told(there)}")
        return [there[-1]]
    if isinstance(time, str):
        return _by_text(time, there, path)
    if isinstance(time, Sequence):
        if not time:
            raise ReadError(f"{path}: the list of times is empty; there are: {told(there)}")
        return sorted({_nearest(each, there, path) for each in time})
    return [_nearest(time, there, path)]


def told(times: Sequence[float]) -> str:
    """List times for a message, the middle of many left out."""
    names = [f"{each:g}" for each in times]
    return ", ".join(names if len(names) <= NAMED else [*names[: NAMED // 2], "…", *names[-NAMED // 2 :]])


def _say(time: Time) -> str:
    return time if isinstance(time, str) else told(time) if isinstance(time, Sequence) else f"{time:g}"


def _by_text(text: str, there: Sequence[float], path: Path) -> list[float]:
    if text.strip() == LATEST:
        return [there[-1]]
    first, _, last = (part.strip() for part in text.partition(" to "))
    try:
        low = float(first)
        high = there[-1] if last == LATEST else float(last)
    except ValueError as error:
        raise ReadError(
            f"{path}: the time {text!r} is neither a number nor latest, nor a range such as '200 to latest'"
        ) from error
    slack = SAME * max(abs(low), abs(high))
    if fitting := [each for each in there if low - slack <= each <= high + slack]:
        return fitting
    raise ReadError(f"{path} has no time from {low:g} to {high:g}; there are: {told(there)}")


def _nearest(time: int | float, there: Sequence[float], path: Path) -> float:
    nearest = min(there, key=lambda each: abs(each - time))
    if abs(nearest - time) > SAME * max(abs(nearest), abs(time)):
        raise ReadError(f"{path} has no time {time:g}; there are: {told(there)}")
    return nearest


def average(meshes: Iterator[tuple[float, dict[str, Mesh]]], path: Path) -> dict[str, Mesh]:
    """Return blocks whose numbers are the mean over several times, each counting the same.

    Sums run in float64. Whole numbers and texts are those of the first time.

    Args:
        meshes: for each time the blocks, one time after the other.
        path: the series, for messages.

    Raises:
        ReadError: a mesh or the set of its arrays is not the same at all times.
    """
    start, first = next(meshes)
    sums = {name: (_floats(mesh.point_data), _floats(mesh.cell_data)) for name, mesh in first.items()}
    count = 1
    for time, blocks in meshes:
        count += 1
        if (different := _difference(first, blocks)) is not None:
            raise ReadError(f"{path}: {different} at time {time:g} and at {start:g}; no mean can be taken over them")
        for name, mesh in blocks.items():
            for into, data in zip(sums[name], (mesh.point_data, mesh.cell_data), strict=True):
                for array in into:
                    into[array] += data[array]
    return {
        name: replace(
            mesh,
            point_data={**mesh.point_data, **_means(mesh.point_data, sums[name][0], count)},
            cell_data={**mesh.cell_data, **_means(mesh.cell_data, sums[name][1], count)},
        )
        for name, mesh in first.items()
    }


def _floats(data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.astype(np.float64) for name, array in data.items() if array.dtype.kind == "f"}


def _means(data: Mapping[str, np.ndarray], sums: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {name: (total / count).astype(data[name].dtype) for name, total in sums.items()}


def _difference(first: dict[str, Mesh], second: dict[str, Mesh]) -> str | None:
    """Say how blocks differ in their mesh or arrays; None where only values do."""
    if first.keys() != second.keys():
        return "the blocks are not the same"
    for name, mesh in first.items():
        other = second[name]
        if not (np.array_equal(mesh.points, other.points) and np.array_equal(mesh.connectivity, other.connectivity)):
            return f"the mesh of {name!r} is not the same"
        for data, others in ((mesh.point_data, other.point_data), (mesh.cell_data, other.cell_data)):
            if {k: v.shape for k, v in data.items()} != {k: v.shape for k, v in others.items()}:
                return f"{name!r} has not the same arrays"
    return None
