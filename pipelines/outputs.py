"""Folders of results: new ones take the place of older ones whole or not at all, and of nothing else."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meshes.aside import named
from pipelines.settings import ConfigError

# Of the record of a prediction.
FORMAT = 1
_KEYS = ["format", "fields", "files", "space", "parameters", "conventions", "force_settings"]


@contextmanager
def results(out: Path, record: str, names: Sequence[str], inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """Give a folder to write results to; when the block ends well, its files move to `out`, the record last.

    The record is JSON that lists every result under `files`. Results of an earlier record give way, also those that
    have no successor; any other file is somebody's own.

    Args:
        out: the folder that the results are for, made where it is missing.
        record: name of the record.
        names: of the results to come.
        inputs: files that the results are made from.

    Raises:
        ConfigError: as for `refuse_loss`.
        OSError: `out` cannot be written to; what was there is unchanged.
    """
    refuse_loss(out, record, names, inputs)
    earlier = _listed(out / record)
    aside = out / f".{record}.tmp-{os.getpid()}"
    try:
        with named(out, aside):
            aside.mkdir(parents=True)
            yield aside
            new = sorted((path.name for path in aside.iterdir()), key=record.__eq__)
            for name in new:
                (aside / name).replace(out / name)
        for name in earlier.difference(new):
            (out / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def refuse_loss(out: Path, record: str, names: Sequence[str], inputs: Sequence[Path] = ()) -> None:
    """Refuse to write results where something would be lost; `results` explains the arguments.

    Raises:
        ConfigError: a result would take the place of an input, or of a file that no record lists.
    """
    earlier = _listed(out / record)
    for name in (*names, record):
        path = out / name
        for each in inputs:
            if path.exists() and each.exists() and path.samefile(each):
                raise ConfigError(f"the result {path} would take the place of what it is made from; name another --out")
        if path.is_symlink() or (path.exists() and name not in earlier):
            raise ConfigError(
                f"{path} is there already and no result of an earlier call ({out / record} does not list it); "
                "name another --out, or remove it"
            )


def read_record(file: Path) -> dict[str, Any]:
    """Read the record of a prediction.

    Raises:
        ValueError: it is not whole, or of another format.
    """
    try:
        record = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is not whole ({error}); predict again, or remove it") from error
    missing = [key for key in _KEYS if key not in record] if isinstance(record, dict) else _KEYS
    if missing or record["format"] != FORMAT:
        found = f"lacks {', '.join(missing)}" if missing else f"has format {record['format']}"
        message = f"{file} is no record of a prediction of format {FORMAT}, it {found}"
        raise ValueError(f"{message}; predict again with this version, or remove it")
    return record


def _listed(record: Path) -> set[str]:
    """Return the names of the results that a record lists, itself included; none where it is no record."""
    try:
        files = json.loads(record.read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {record.name, *(name for name in files if Path(name).name == name)}
