"""Large meshes are announced before they are opened, and refused where the memory does not suffice."""

import logging
import sys
from pathlib import Path

import psutil

from meshes.reading.sizes import Size, say_bytes

# Meshes below are opened without a word.
WORTH_SAYING = 10**9

_log = logging.getLogger(__name__)


def announce(path: Path, size: Size) -> None:
    """Log what a mesh takes, if that is much."""
    if size.memory >= WORTH_SAYING:
        _log.info("%s: %s", path, size)


def worker_memory() -> int | None:
    """Return how many bytes the Dask worker that runs this may take; None where there is none, or no limit."""
    if "distributed.worker" not in sys.modules:
        return None
    from distributed.worker import get_worker

    try:
        worker = get_worker()
    except ValueError:  # this process is no worker
        return None
    return worker.memory_manager.memory_limit


def refuse_too_large(path: Path, size: Size, setting: str, limit: int | None = None) -> None:
    """Refuse a mesh that needs more memory than there is.

    Args:
        path: of the mesh.
        size: what it takes.
        setting: what to say to go on nevertheless, such as `set data.beyond_memory: true`.
        limit: bytes that this process may take; None for all that is available.

    Raises:
        ValueError: it needs more.
    """
    available = psutil.virtual_memory().available
    allowed = min(available, limit or available)
    if size.memory >= max(allowed, WORTH_SAYING):
        whose = "this worker may take" if limit and limit < available else "are available"
        advice = "use fewer workers or " if limit and limit < available else ""
        message = f"{path} takes {size}, but {say_bytes(allowed)} {whose}"
        raise ValueError(f"{message}; {advice}a larger machine, or {setting} to go on")
