"""Files in: every format becomes a `Mesh`."""

from meshes.reading.errors import ReadError
from meshes.reading.files import SUFFIXES, read, read_blocks

__all__ = ["SUFFIXES", "ReadError", "read", "read_blocks"]
