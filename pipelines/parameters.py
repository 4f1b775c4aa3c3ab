"""The numbers of a case, from JSON, YAML, CSV, its path or the configuration."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

from pipelines.composition import parse
from pipelines.sources import ParameterSource, RawCase

YAML_SUFFIXES = (".yaml", ".yml")


def read_parameters(case: RawCase, source: ParameterSource) -> dict[str, float]:
    """Return the numbers of a case.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: the file is no JSON, YAML or CSV, lacks the case, or the pattern does not fit its path.
    """
    parameters = dict(source.values)
    if source.pattern is not None:
        found = re.search(source.pattern, case.path.as_posix())
        if found is None:
            raise ValueError(f"parameters.pattern {source.pattern!r} does not fit {case.path.as_posix()}")
        parameters |= {
            name: number for name, text in found.groupdict().items() if (number := _number(text)) is not None
        }
    if source.file is not None:
        path = parameter_file(case, source.file)
        if path.suffix.lower() == ".csv":
            own = case.path.is_dir() and path.is_relative_to(case.folder)
            parameters |= _read_csv(path, case.name, source.name_column, own=own)
        else:
            _flatten(_read_object(path), "", parameters)
    return parameters


def parameter_file(case: RawCase, name: str) -> Path:
    """Return the file with the parameters of a case: its own, or one for all.

    Raises:
        FileNotFoundError: neither is there.
    """
    try:
        return case.file(name)
    except FileNotFoundError:
        if (shared := Path(name).expanduser()).is_file():
            return shared
        raise


def read_texts(path: Path) -> dict[str, str]:
    """Return what a JSON or YAML file of a case says in words at its top, such as a unit; a CSV says nothing."""
    if path.suffix.lower() == ".csv":
        return {}
    return {str(name): text for name, text in _read_object(path).items() if isinstance(text, str)}


def _read_object(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() in YAML_SUFFIXES:
        content = parse(text, str(path))
    else:
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} should hold one object with names and numbers, got {type(content).__name__}")
    return content


def _flatten(content: Any, name: str, numbers: dict[str, float]) -> None:
    match content:
        case bool() | None:
            return
        case int() | float() if math.isfinite(content):
            numbers[name] = float(content)
        case dict():
            for key, each in content.items():
                _flatten(each, f"{name}.{key}" if name else str(key), numbers)
        case list():
            for index, each in enumerate(content):
                _flatten(each, f"{name}_{index}", numbers)


def _read_csv(path: Path, name: str, name_column: str, *, own: bool) -> dict[str, float]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0]) if rows else []
    if own and name_column not in columns and len(rows) == 1:  # a table of this case alone needs no names
        return _numbers(rows[0])
    if name_column not in columns:
        message = f"{path} has no column {name_column!r}; it has {', '.join(columns) or 'none'}"
        raise ValueError(f"{message}. Set parameters.name_column")
    fitting = [row for row in rows if (row[name_column] or "").strip() == name]
    if len(fitting) != 1:
        raise ValueError(f"{path} has {len(fitting)} rows where {name_column} is {name!r}; one was expected")
    return _numbers(fitting[0])


def _numbers(row: dict[str, str]) -> dict[str, float]:
    return {key.strip(): number for key, text in row.items() if key and (number := _number(text)) is not None}


def _number(text: Any) -> float | None:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
