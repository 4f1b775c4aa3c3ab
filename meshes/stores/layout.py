"""What stands where in a store: names of files, groups and arrays, and the manifest that describes them.

```text
store/
  manifest.json      format, fields, conventions, splits; per case: file, counts, bytes, sha256, sources, forces
  statistics.json    moments over the training split
  cases/NAME.h5      geometry/{vertices,triangles}  BRANCH/{position,measure,normal,distance,order,fields/…}
```

One file a case, because cases are prepared, replaced and verified one by one; no compression, because a draw must cost
what it reads (zlib took ten times as long as the read) and turbulent fields hardly shrink.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from meshes.aside import write_text

FORMAT = 1
CHUNK = 16_384
MANIFEST = "manifest.json"
STATISTICS = "statistics.json"
CASES = "cases"
GEOMETRY = "geometry"
FIELDS = "fields"
PLACES = ("position", "measure", "normal", "distance", "order")
SPLITS = ("training", "validation", "test")


class StoreError(ValueError):
    """A store, or a file of it, is not there, not whole, or not what its manifest says."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredField:
    """Values of one field at the points of a branch, and what makes them non-dimensional.

    Attributes:
        values: in the unit of the source.
        scale, free_stream: this case's `(value - free_stream) / scale` is non-dimensional.
    """

    values: Float[np.ndarray, "point component"]
    scale: float = 1.0
    free_stream: tuple[float, ...] | None = None

    def non_dimensional(self) -> Float[np.ndarray, "point component"]:
        """Return `(value - free_stream) / scale`, in float64."""
        values = self.values.astype(np.float64)
        return (values - self.offset()) / self.scale

    def offset(self) -> Float[np.ndarray, " component"]:
        """Return the free stream, zero where none was told."""
        zero = np.zeros(self.values.shape[1])
        return zero if self.free_stream is None else np.array(self.free_stream, dtype=np.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredBranch:
    """The points of one branch of a case, in the order of the source.

    Attributes:
        position: places [m].
        measure: area [m²] or volume [m³] that each point stands for.
        normal: on a surface, out of the body; in a volume, away from the nearest point of the wall.
        distance: to the wall [m]; for volumes.
        source: the cell or point of the source mesh that each is; by default its place here.
    """

    position: Float[np.ndarray, "point space"]
    measure: Float[np.ndarray, " point"]
    normal: Float[np.ndarray, "point space"] | None = None
    distance: Float[np.ndarray, " point"] | None = None
    source: Int[np.ndarray, " point"] | None = None
    fields: Mapping[str, StoredField] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredGeometry:
    """The body: always in three dimensions, as the file held it (a half model stays half)."""

    vertices: Float[np.ndarray, "vertex 3"]
    triangles: Int[np.ndarray, "triangle 3"]


def permutation(name: str, branch: str, count: int) -> Int[np.ndarray, " point"]:
    """Return the order in which a branch of a case is stored: random, and decided by the names alone."""
    digest = hashlib.sha256(f"{name}/{branch}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little")).permutation(count)


def sha256(path: Path) -> str:
    """Return the checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file aside and rename it when it is whole.

    Raises:
        ValueError: the content holds NaN or infinity, which JSON cannot say.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read one of the JSON files of a store.

    Raises:
        StoreError: it is not there or not whole.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except NotADirectoryError as error:
        raise StoreError(f"{path.parent} is a file; expected the folder of a store, as prepare writes it") from error
    except FileNotFoundError as error:
        message = f"{path.parent} holds no {path.name}: not a store, or prepare has not finished; run prepare again"
        raise StoreError(message) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is not whole ({error}); run prepare again to write it anew") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path} should hold one object, got {type(content).__name__}; run prepare again")
    return content


def bad_values(values: Shaped[np.ndarray, "..."]) -> int:
    """Return how many values are NaN or infinite."""
    return int(values.size - np.isfinite(values).sum())
