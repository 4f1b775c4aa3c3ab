"""Files in: every format becomes a `Mesh`."""

from meshes.reading.errors import ReadError
from meshes.reading.joining import Join, find_joins
from meshes.reading.open import SUFFIXES, files_of, open_source, read, read_blocks
from meshes.reading.openfoam import is_case
from meshes.reading.source import Source
from meshes.reading.times import Time

__all__ = [
    "SUFFIXES",
    "Join",
    "ReadError",
    "Source",
    "Time",
    "files_of",
    "find_joins",
    "is_case",
    "open_source",
    "read",
    "read_blocks",
]
