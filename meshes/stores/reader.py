"""Reading a store: its manifest at once, its points as they are asked for."""

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float, Int, Shaped

from meshes.fields import FieldSpec
from meshes.statistics import Moments
from meshes.stores.layout import (
    FIELDS,
    FORMAT,
    GEOMETRY,
    MANIFEST,
    STATISTICS,
    StoreError,
    read_json,
    sha256,
)

_KEYS = ("fields", "space", "branches", "conditions", "splits", "cases")
_STATISTICS = ("fields", "parameters", "body", "bounds", "cell_size")
# A process keeps this many files open; every system allows 256.
OPEN_FILES = 128


class Store:
    """A folder of cases with its manifest and statistics, open for reading.

    It pickles as its path and `resident`, and handles belong to the process that opened them, so it may be handed to
    workers however they start. Files are opened when first read from.

    Args:
        path: the folder.
        resident: a store of at most so many bytes is kept in memory, branch by branch as they are first read from;
            a larger one is read from its files each time.

    Raises:
        StoreError: the folder is no store, or one of a newer format.
    """

    def __init__(self, path: str | os.PathLike[str], *, resident: int = 0) -> None:
        self.path = Path(path)
        self.resident = resident
        self.manifest: dict[str, Any] = read_json(self.path / MANIFEST)
        if (found := self.manifest.get("format")) != FORMAT:
            by = f", written by {self.manifest['written_by']}" if "written_by" in self.manifest else ""
            message = f"{self.path} is a store of format {found}{by}; this version reads format {FORMAT}"
            raise StoreError(f"{message}: run prepare again, or use the version that wrote it")
        if missing := [key for key in _KEYS if key not in self.manifest]:
            message = f"{self.path / MANIFEST} has no {', '.join(missing)}: it is not that of a store, or was altered"
            raise StoreError(f"{message}; name the folder that prepare wrote, or run prepare again")
        try:
            self.fields: dict[str, dict[str, FieldSpec]] = {
                branch: {name: field_spec(spec) for name, spec in specs.items()}
                for branch, specs in self.manifest["fields"].items()
            }
            self.splits: dict[str, list[str]] = {name: list(cases) for name, cases in self.manifest["splits"].items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{self.path / MANIFEST} was altered ({error}); run prepare again") from error
        self._handles = _Handles()

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self)} cases)"

    def __len__(self) -> int:
        return len(self.manifest["cases"])

    def __iter__(self) -> Iterator[str]:
        return iter(self.manifest["cases"])

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "resident": self.resident}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Store.__init__(self, state["path"], resident=state["resident"])

    @property
    def space(self) -> tuple[str, ...]:
        """Names of the axes that positions have, such as `("x", "y")`."""
        return tuple(self.manifest["space"])

    @property
    def kinds(self) -> dict[str, str]:
        """What each branch is: `surface` or `volume`."""
        return dict(self.manifest["branches"])

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the parameters that an operator is given, in order."""
        return tuple(self.manifest["conditions"])

    @cached_property
    def fits_in_memory(self) -> bool:
        """Whether all cases together are at most as large as `resident`."""
        return sum(entry["bytes"] for entry in self.manifest["cases"].values()) <= self.resident

    @property
    def digest(self) -> str:
        """Checksum of the manifest: changes when any case, split or convention does."""
        return sha256(self.path / MANIFEST)

    @cached_property
    def _statistics(self) -> dict[str, Any]:
        statistics = read_json(self.path / STATISTICS)
        if missing := [key for key in _STATISTICS if key not in statistics]:
            raise StoreError(
                f"{self.path / STATISTICS} has no {', '.join(missing)}; run prepare again to write it anew"
            )
        return statistics

    @cached_property
    def statistics(self) -> dict[str, dict[str, Moments]]:
        """Moments of each field of each branch: non-dimensional values of the training split."""
        fields = self._statistics["fields"]
        return {branch: {name: Moments.from_json(m) for name, m in each.items()} for branch, each in fields.items()}

    @cached_property
    def parameter_statistics(self) -> dict[str, Moments]:
        """Moments over the training cases of every parameter that all of them have, conditions included."""
        return {name: Moments.from_json(moments) for name, moments in self._statistics["parameters"].items()}

    @cached_property
    def body_statistics(self) -> dict[str, Moments]:
        """Moments over the training bodies [m]: `lower` and `upper` corner, `extent` and `diagonal` of their boxes."""
        return {name: Moments.from_json(moments) for name, moments in self._statistics["body"].items()}

    @cached_property
    def bounds(self) -> dict[str, Float[np.ndarray, "2 space"]]:
        """Lower and upper corner [m] of the points of each branch, over the training split."""
        return {name: np.array(corners, dtype=np.float64) for name, corners in self._statistics["bounds"].items()}

    @property
    def cell_size(self) -> dict[str, float]:
        """Median size [m] of the cells of each branch (root of the area, cube root of the volume), training split."""
        return dict(self._statistics["cell_size"])

    def case(self, name: str) -> "StoredCase":
        """Return one case.

        Raises:
            StoreError: there is no case of that name.
        """
        if name not in self.manifest["cases"]:
            some = ", ".join(list(self)[:5])
            raise StoreError(f"{self.path} has no case {name!r}; it has {len(self)}, such as {some}")
        return StoredCase(self, name)

    def verify(self, name: str | None = None) -> None:
        """Compare the checksum of one case, or of all, with the manifest.

        Raises:
            StoreError: a file is missing, truncated or altered; the message names it.
        """
        for each in [name] if name is not None else list(self):
            case = self.case(each)
            case.check_size()
            if sha256(case.path) != self.manifest["cases"][each]["sha256"]:
                raise StoreError(f"{case.path} was altered: its sha256 is not the manifest's; {_REMEDY}")

    def close(self) -> None:
        """Close the files that this process has open."""
        self._handles.close()


_REMEDY = "delete the file and run prepare again, which rewrites what is missing"


class StoredCase:
    """One case of a store. Cheap to make: nothing is opened before something is read."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self.entry: dict[str, Any] = store.manifest["cases"][name]
        self.path = store.path / self.entry["file"]

    def __repr__(self) -> str:
        return f"StoredCase({self.name!r}, {self.entry['counts']})"

    def check_size(self) -> None:
        """Check that the file is there and as long as the manifest says."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError as error:
            raise StoreError(f"{self.path} is missing, but the manifest lists it; run prepare again") from error
        if size != self.entry["bytes"]:
            message = f"{self.path} has {size} bytes, the manifest says {self.entry['bytes']}: truncated or replaced"
            raise StoreError(f"{message}; {_REMEDY}")

    @property
    def parameters(self) -> dict[str, float]:
        """Every number that is known of the case."""
        return self._attribute("parameters")

    @property
    def condition(self) -> dict[str, float]:
        """The parameters that an operator is given, in the order of `Store.conditions`."""
        return self._attribute("condition")

    def count(self, branch: str) -> int:
        """Return how many points a branch has; zero if the case lacks it."""
        return self.entry["counts"].get(branch, 0)

    def read(
        self, branch: str, start: int = 0, stop: int | None = None, names: Collection[str] | None = None
    ) -> dict[str, Shaped[np.ndarray, "point ..."]]:
        """Read a block of points: a uniform random subset of the branch, because points are stored shuffled.

        Args:
            branch: name of the branch.
            start: first point of the block.
            stop: one past its last point; by default the whole branch.
            names: which of `position`, `measure`, `normal`, `distance`, `order` and the fields; by default all.

        Returns:
            Arrays by name: float32, fields `(point, component)` in source units; `order` int64, the cell or point
            of the source.

        Raises:
            StoreError: a name is not there, the block is out of range, or the file is truncated.
        """
        stop = self.count(branch) if stop is None else stop
        if not 0 <= start <= stop <= self.count(branch):
            message = f"{self.path}: {branch} has {self.count(branch)} points, asked for {start} to {stop}"
            raise StoreError(message)
        with self.store._handles.lock:
            datasets = self._datasets(branch)
            chosen = list(datasets) if names is None else list(names)
            if missing := [name for name in chosen if name not in datasets]:
                raise StoreError(f"{self.path}: {branch} has no {', '.join(missing)}; it has {', '.join(datasets)}")
            if not self.store.fits_in_memory:
                return {name: self._block(datasets[name], start, stop) for name in chosen}
            kept = self.store._handles.arrays.setdefault((self.name, branch), {})
            for name in set(chosen) - set(kept):
                kept[name] = self._block(datasets[name], 0, self.count(branch))
                kept[name].flags.writeable = False
            return {name: kept[name][start:stop] for name in chosen}

    def scale(self, branch: str, name: str) -> tuple[float, Float[np.ndarray, " component"]]:
        """Return the `scale` and `free_stream` of a field in this case: `(value - free_stream) / scale`."""
        handles, key = self.store._handles, (self.name, branch, name)
        with handles.lock:
            if key not in handles.scales:
                attributes = self._datasets(branch)[name].attrs
                free_stream = np.asarray(attributes["free_stream"], dtype=np.float64)
                handles.scales[key] = float(attributes["scale"]), free_stream
            return handles.scales[key]

    def geometry(self) -> tuple[Float[np.ndarray, "vertex 3"], Int[np.ndarray, "triangle 3"]]:
        """Read the body: vertices [m] in float64, and triangles."""
        body = self._file()[GEOMETRY]
        return body["vertices"][:], body["triangles"][:]

    def _file(self) -> Any:
        return self.store._handles.file(self)

    def _attribute(self, name: str) -> dict[str, Any]:
        handles = self.store._handles
        with handles.lock:
            if (self.name, name) not in handles.attributes:
                handles.attributes[self.name, name] = json.loads(self._file().attrs[name])
            return dict(handles.attributes[self.name, name])

    def _datasets(self, branch: str) -> dict[str, Any]:
        return self.store._handles.datasets(self, branch)

    def _block(self, dataset: Any, start: int, stop: int) -> np.ndarray:
        try:
            values = dataset[start:stop]
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read ({error}); {_REMEDY}") from error
        if values.dtype == np.float16:
            attributes = dataset.attrs
            values = values.astype(np.float32) * np.float32(attributes["scale"])
            values += attributes["free_stream"].astype(np.float32)
        return values


class _Handles:
    """The files and datasets that this process has open, the longest unused closed first.

    Readers hold the lock, so that no thread closes what another reads; HDF5 lets in one thread at a time anyway.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._files: OrderedDict[str, h5py.File] = OrderedDict()
        self._branches: dict[tuple[str, str], dict[str, Any]] = {}
        # What does not change and takes longer to read than to use: by case and attribute, or by case, branch and name.
        self.attributes: dict[tuple[str, str], dict[str, Any]] = {}
        self.scales: dict[tuple[str, str, str], tuple[float, np.ndarray]] = {}
        self.arrays: dict[tuple[str, str], dict[str, np.ndarray]] = {}

    def file(self, case: StoredCase) -> h5py.File:
        with self.lock:
            if self._process != os.getpid():  # forked: the parent's handles share its file positions and caches
                self._forget()
            if case.name in self._files:
                self._files.move_to_end(case.name)
                return self._files[case.name]
            case.check_size()
            try:
                file = h5py.File(case.path, "r", locking=False)
            except OSError as error:
                raise StoreError(f"{case.path} is no whole HDF5 file ({error}); {_REMEDY}") from error
            self._files[case.name] = file
            if len(self._files) > OPEN_FILES:
                oldest, unused = self._files.popitem(last=False)
                self._branches = {key: value for key, value in self._branches.items() if key[0] != oldest}
                unused.close()
            return file

    def datasets(self, case: StoredCase, branch: str) -> dict[str, Any]:
        with self.lock:
            file: Any = self.file(case)
            key = (case.name, branch)
            if key not in self._branches:
                if branch not in file or branch == GEOMETRY:
                    there = ", ".join(name for name in file if name != GEOMETRY)
                    raise StoreError(f"{case.path} has no branch {branch!r}; it has {there}")
                group = file[branch]
                found = {name: group[name] for name in group if name != FIELDS}
                self._branches[key] = found | {name: group[FIELDS][name] for name in group[FIELDS]}
            return self._branches[key]

    def close(self) -> None:
        with self.lock:
            if self._process == os.getpid():
                for file in self._files.values():
                    file.close()
            self._forget()


def field_spec(values: dict[str, Any]) -> FieldSpec:
    """Read a field specification from JSON, where tuples are lists."""
    settings: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return FieldSpec(**settings)
