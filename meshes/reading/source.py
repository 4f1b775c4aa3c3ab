"""What a file, a collection or a case of a solver offers: blocks by name, perhaps at several times."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from meshes.mesh import Mesh
from meshes.reading.errors import ReadError


class Source(ABC):
    """One path that holds meshes.

    Attributes:
        path: as it was given.
        latest: whether the last time is meant where none is named, as in the case of a solver that iterates.
    """

    latest = False

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def times(self) -> list[float]:
        """Return the times, in order; none where the meshes have no time."""

    @abstractmethod
    def blocks(self, time: float | None) -> list[str]:
        """Return the names of the blocks at a time."""

    @abstractmethod
    def read(self, blocks: Collection[str], arrays: Collection[str] | None, time: float | None) -> dict[str, Mesh]:
        """Read some blocks at a time, leaving out those without cells.

        Raises:
            FileNotFoundError: a file is not there.
            ReadError: a file cannot be read.
        """

    @abstractmethod
    def files(self, arrays: Collection[str] | None, times: Sequence[float]) -> list[Path]:
        """Return the files that decide what is read, the one that stands for all first."""

    def usual(self, blocks: list[str]) -> list[str]:
        """Return those of the blocks that are the mesh, where none are named."""
        return blocks


def choose_blocks(wanted: Collection[str], there: Sequence[str], path: Path) -> list[str]:
    """Return the blocks that names or patterns mean, in the order of the source.

    Raises:
        ReadError: one means none.
    """
    fitting = {pattern: [name for name in there if name == pattern or fnmatchcase(name, pattern)] for pattern in wanted}
    for pattern, names in fitting.items():
        if not names:
            near = get_close_matches(pattern, there, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ReadError(f"{path} has no block {pattern!r}; there are: {', '.join(there) or 'none'}{hint}")
    chosen = {name for names in fitting.values() for name in names}
    return [name for name in there if name in chosen]


def free_name(name: str, taken: Collection[str]) -> str:
    """Return a name that is not taken yet: the name itself, or with a number."""
    if name not in taken:
        return name
    return next(free for number in range(2, len(taken) + 3) if (free := f"{name} ({number})") not in taken)
