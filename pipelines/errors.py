"""What an error says to the person at the keyboard: one sentence with what to do."""

import errno
import os
from pathlib import Path

from meshes.paths import dangling


def sentence(error: BaseException) -> str:
    """Say an error in one sentence: ours as they are, those of the system and of memory with what to do about them."""
    if isinstance(error, MemoryError):
        return f"the memory does not suffice ({error or 'MemoryError'}); ask for less at once, or use a larger machine"
    if not isinstance(error, OSError) or error.errno is None or error.strerror is None:
        return str(error) or type(error).__name__
    paths = [Path(os.fsdecode(name)) for name in (error.filename2, error.filename) if isinstance(name, str | bytes)]
    path = paths[0] if paths else None
    said = _SAID.get(error.errno)
    where = f"{path}: " if path is not None else ""
    if said is not None:
        return where + said
    if path is None:
        return error.strerror
    if (link := dangling(path)) is not None:
        return link
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"{_in_the_way(path)} is a file where a folder is needed; remove it or name another path"
    if error.errno == errno.EISDIR:
        return f"{path} is a folder where a file is needed; remove it or name another path"
    if error.errno == errno.ENOENT:
        return f"{path} is not there and cannot be made; check the path"
    return f"{path}: {error.strerror}"


def _in_the_way(path: Path) -> Path:
    return next((each for each in (path, *path.parents) if each.exists() and not each.is_dir()), path)


_UNCHANGED = "what was written before is unchanged"
_SAID = {
    errno.ENOSPC: f"no space is left on the disk; free some or write elsewhere ({_UNCHANGED})",
    errno.EDQUOT: f"your quota of the disk is used up; free some or write elsewhere ({_UNCHANGED})",
    errno.EFBIG: f"the file would be larger than the system allows (see ulimit -f); write elsewhere ({_UNCHANGED})",
    errno.EROFS: "the disk is read-only; write elsewhere",
    errno.EACCES: "no permission; change it with chmod, or name another path",
    errno.EPERM: "no permission; change it with chmod, or name another path",
    errno.ENAMETOOLONG: "the name is longer than the system allows; choose a shorter one",
    errno.ELOOP: "the links lead in a circle; mend them",
    errno.EMFILE: "too many files are open; raise the limit with ulimit -n",
    errno.EIO: "the disk cannot be read or written (input/output error); check the disk",
}
