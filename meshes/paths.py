"""What to say of a path that leads nowhere."""

import os
from pathlib import Path


def dangling(path: Path) -> str | None:
    """Say that a path, or a folder above it, is a link that leads nowhere; None where all lead on."""
    for each in (path, *path.parents):
        if each.is_symlink() and not each.exists():
            return f"{each} is a link to {os.readlink(each)}, which is not there; mend the link or name another path"
    return None


def absence(path: Path) -> str:
    """Say why there is nothing at a path."""
    return dangling(path) or f"{path} does not exist; check the path"
