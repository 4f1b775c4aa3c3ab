"""How much memory this process has taken."""

import resource
import sys


def peak_memory() -> int:
    """Return the largest memory that this process has held [bytes]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
