"""Writing a case into a store: shuffled, whole or not at all."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import h5py
import numpy as np
from jaxtyping import Shaped

from meshes.aside import aside
from meshes.stores.layout import (
    CHUNK,
    FIELDS,
    FORMAT,
    GEOMETRY,
    PLACES,
    StoredBranch,
    StoredField,
    StoredGeometry,
    StoreError,
    bad_values,
    permutation,
)

Precision = Literal["float32", "float16"]


def write_case(
    path: Path,
    *,
    branches: Mapping[str, StoredBranch],
    geometry: StoredGeometry,
    parameters: Mapping[str, float],
    condition: Mapping[str, float],
    record: Mapping[str, Any],
    precision: Precision = "float32",
) -> None:
    """Write one case. The name of the file, without suffix, is the name of the case and seeds the shuffle.

    Args:
        path: the file, such as `store/cases/NAME.h5`; written aside and renamed.
        branches: points and fields, in the order of the source.
        geometry: the body.
        parameters: every number that is known of the case.
        condition: those of them that an operator is given, in order.
        record: what else to remember of the case, such as its sources; JSON.
        precision: of the fields; `float16` stores them non-dimensional, which halves the file.

    Raises:
        StoreError: a value is NaN or infinite, lengths differ, or a field overflows float16.
        OSError: it cannot be written; what stood under the name before is still there.
    """
    with aside(path) as stream, _Sink(stream) as sink, h5py.File(sink, "w", libver="v110") as file:
        file.attrs["format"] = FORMAT
        file.attrs["parameters"] = json.dumps(dict(parameters), allow_nan=False)
        file.attrs["condition"] = json.dumps(dict(condition), allow_nan=False)
        file.attrs["record"] = json.dumps(dict(record), allow_nan=False)
        body = file.create_group(GEOMETRY)
        body.create_dataset("vertices", data=geometry.vertices.astype(np.float64))
        body.create_dataset("triangles", data=geometry.triangles.astype(np.int64))
        for name, branch in branches.items():
            _write_branch(file.create_group(name), path.stem, name, branch, precision)


class _Sink:
    """A file for HDF5 to write to, which raises what the system refused only when HDF5 is done.

    HDF5 does not bear a full disk: closing a file that cannot be flushed says nothing and may end the process later.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def __enter__(self) -> "_Sink":
        return self

    def __exit__(self, *_: object) -> None:
        if self.error is not None:
            raise self.error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, data: Any) -> int:
        self._unless_failed(self.stream.write, data)
        return len(data)

    def truncate(self, size: int) -> int:
        self._unless_failed(self.stream.truncate, size)
        return size

    def flush(self) -> None:
        self._unless_failed(self.stream.flush)

    def _unless_failed(self, action: Callable[..., Any], *arguments: Any) -> None:
        if self.error is None:
            try:
                action(*arguments)
            except OSError as error:
                self.error = error


def _write_branch(group: h5py.Group, case: str, name: str, branch: StoredBranch, precision: Precision) -> None:
    count = len(branch.position)
    order = permutation(case, name, count)
    places = {"position": branch.position, "measure": branch.measure}
    places |= {} if branch.normal is None else {"normal": branch.normal}
    places |= {} if branch.distance is None else {"distance": branch.distance}
    for place, values in places.items():
        _write(group, place, values, order, np.dtype(np.float32), f"{case}: {place} of {name}")
    source = order if branch.source is None else branch.source[order]
    group.create_dataset("order", data=source.astype(np.int64), chunks=_chunks(order))
    fields = group.create_group(FIELDS)
    for key, stored in branch.fields.items():
        if key in PLACES:
            raise StoreError(f"a field cannot be called {key!r}, which names a place; call it {name}_{key}")
        _write_field(fields, key, stored, order, precision, f"{case}: field {key} of {name}")


def _write_field(
    group: h5py.Group,
    name: str,
    stored: StoredField,
    order: Shaped[np.ndarray, " point"],
    precision: Precision,
    what: str,
) -> None:
    values: np.ndarray = stored.values
    if precision == "float16":
        if bad := bad_values(values):
            raise StoreError(f"{what} has {bad} values that are NaN or infinite")
        values = stored.non_dimensional()
        largest, limit = float(np.abs(values).max(initial=0.0)), float(np.finfo(np.float16).max)
        if largest > limit:
            message = f"{what} reaches {largest:.3g} in non-dimensional form, beyond float16 ({limit:.5g})"
            raise StoreError(f"{message}; give the field a scale that brings it near one, or store float32")
    dataset = _write(group, name, values, order, np.dtype(precision), what)
    dataset.attrs["scale"] = stored.scale
    dataset.attrs["free_stream"] = stored.offset()
    dataset.attrs["non_dimensional"] = precision == "float16"


def _write(
    group: h5py.Group,
    name: str,
    values: Shaped[np.ndarray, "row ..."],
    order: Shaped[np.ndarray, " point"],
    dtype: np.dtype,
    what: str,
) -> h5py.Dataset:
    if len(values) != len(order):
        raise StoreError(f"{what} has {len(values)} rows for {len(order)} points")
    with np.errstate(over="ignore"):
        stored = values[order].astype(dtype)
    if bad := bad_values(stored):
        raise StoreError(f"{what} has {bad} values that are NaN, infinite or beyond {dtype}; repair them in the source")
    return group.create_dataset(name, data=stored, chunks=_chunks(stored))


def _chunks(values: np.ndarray) -> tuple[int, ...] | None:
    return (min(len(values), CHUNK), *values.shape[1:]) if values.size else None
