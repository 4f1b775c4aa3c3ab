"""The numbers of a case, from JSON, CSV, its path or the configuration."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

from pipelines.sources import ParameterSource, RawCase


def read_parameters(case: RawCase, source: ParameterSource) -> dict[str, float]:
    """Return the numbers of a case.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: the file is no JSON or CSV, lacks the case, or the pattern does not fit its path.
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
        read = _read_csv if path.suffix.lower() == ".csv" else _read_json
        parameters |= read(path, case.name, source.name_column)
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


def _read_json(path: Path, name: str, name_column: str) -> dict[str, float]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} should hold one object with names and numbers, got {type(content).__name__}")
    numbers: dict[str, float] = {}
    _flatten(content, "", numbers)
    return numbers


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


def _read_csv(path: Path, name: str, name_column: str) -> dict[str, float]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0]) if rows else []
    if name_column not in columns:
        message = f"{path} has no column {name_column!r}; it has {', '.join(columns) or 'none'}"
        raise ValueError(f"{message}. Set parameters.name_column")
    fitting = [row for row in rows if (row[name_column] or "").strip() == name]
    if len(fitting) != 1:
        raise ValueError(f"{path} has {len(fitting)} rows where {name_column} is {name!r}; one was expected")
    return {key: number for key, text in fitting[0].items() if key and (number := _number(text)) is not None}


def _number(text: Any) -> float | None:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
