"""A file is there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


@contextmanager
def aside(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path`, which takes its name when the block ends well and vanishes when it does not.

    The folder is made where it is missing. What the system refuses, such as a write to a full disk, is told with the
    name of `path`.
    """
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{uuid4().hex[:8]}")
    try:
        with named(path, temporary):
            with temporary.open("x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with aside(path) as file:
        file.write(text.encode())


@contextmanager
def named(path: Path, *others: Path) -> Iterator[None]:
    """Name `path` in the system's errors that name no file, as those of a write, or that name one of `others`.

    A file within a folder among `others` is named as the one within `path`.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        for other in others:
            if Path(error.filename).is_relative_to(other):
                meant = path / Path(error.filename).relative_to(other)
                raise OSError(error.errno, error.strerror, str(meant)) from error
        raise
