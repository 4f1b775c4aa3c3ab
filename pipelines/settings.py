"""Reading plain values into frozen dataclasses, strictly: every refusal says where, what was expected and what came.

Dataclasses are walked here and pydantic reads what they hold, because settings stand with what they configure, in
packages (and plug-ins) that need not know pydantic: its own walk would let unknown keys pass in a plain dataclass, and
report every member of a union that failed.
"""

import dataclasses
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

UNKNOWN = "UNKNOWN"
Tree = dict[str, Any]


class ConfigError(ValueError):
    """A configuration that cannot be read, or asks for what there is not."""


def read(schema: Any, value: Any, path: str) -> Any:
    """Read a plain value as a type: dataclasses by their fields, unions of them by `kind`, the rest by pydantic.

    Args:
        schema: a dataclass, or any type that pydantic reads.
        value: what YAML gave: dicts, lists, numbers and texts.
        path: where it stands, for messages.

    Raises:
        ConfigError: a key is unknown or missing, a value is of the wrong type or refused by its dataclass, or some are
            still `UNKNOWN`: all of these are named, with what to choose from.
    """
    if len(unknown := list(unknown_settings(schema, value, path))) == 1:
        (one,) = unknown
        raise ConfigError(f"{one.path} is still {UNKNOWN}: no file can tell it; write {one.choices}")
    if unknown:
        listing = "".join(f"\n  {each.path}: {each.choices}" for each in unknown)
        what = f"{len(unknown)} settings are still {UNKNOWN}: no file can tell them"
        raise ConfigError(f"{what}; write what holds for your data{listing}")
    return _read(schema, value, path)


def _read(schema: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(schema) and isinstance(schema, type):
        return _read_dataclass(schema, value, path)
    origin, arguments = typing.get_origin(schema), typing.get_args(schema)
    if origin is typing.Annotated:
        return _read(arguments[0], value, path)
    if origin in (typing.Union, types.UnionType) and any(_holds_dataclass(each) for each in arguments):
        if value is None and type(None) in arguments:
            return None
        return _read(_member(arguments, value, path), value, path)
    if isinstance(value, dict) and origin in (dict, Mapping):
        return {key: _read(arguments[1], each, f"{path}.{key}") for key, each in value.items()}
    if isinstance(value, list) and origin in (list, Sequence) and _holds_dataclass(arguments[0]):
        return [_read(arguments[0], each, f"{path}[{index}]") for index, each in enumerate(value)]
    if isinstance(value, list) and origin is tuple and arguments[1:] == (...,) and _holds_dataclass(arguments[0]):
        return tuple(_read(arguments[0], each, f"{path}[{index}]") for index, each in enumerate(value))
    return _read_leaf(schema, value, path)


def to_dict(settings: Any) -> Tree:
    """Return settings as plain dicts, lists, numbers and texts, for YAML and JSON."""

    def plain(value: Any) -> Any:
        match value:
            case dict():
                return {key: plain(each) for key, each in value.items()}
            case list() | tuple():
                return [plain(each) for each in value]
            case Path():
                return str(value)
        return value

    return plain(dataclasses.asdict(settings))


def _read_dataclass(schema: type, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise ConfigError(f"{path} should be a section with {', '.join(_names(schema))}; got {say(value)}")
    refuse_unknown(value, _names(schema), path)
    if missing := [name for name in required(schema) if name not in value]:
        raise ConfigError(f"{path} needs {', '.join(missing)}")
    hints = _hints(schema)
    settings = {name: _read(hints[name], each, f"{path}.{name}") for name, each in value.items()}
    try:
        return schema(**settings)
    except (ValueError, TypeError) as error:  # what `__post_init__` refuses
        raise error if isinstance(error, ConfigError) else ConfigError(f"{path}: {error}") from error


class Unknown(NamedTuple):
    """A setting that still has to be written, and what it may be."""

    path: str
    choices: str


def unknown_settings(schema: Any, value: Any, path: str, meaning: str = "") -> Iterator[Unknown]:
    """Find every `UNKNOWN`; keys that are no settings are looked into as well, and refused later."""
    if value == UNKNOWN:
        yield Unknown(path, "; ".join(each for each in (schema and _expected(schema), meaning) if each))
    elif isinstance(value, dict):
        section = _section(schema, value, path)
        hints, meanings = (_hints(section), _meanings(section)) if isinstance(section, type) else ({}, {})
        values = typing.get_args(section)[1] if section and not hints else None
        for key, each in value.items():
            yield from unknown_settings(hints.get(key, values), each, f"{path}.{key}", meanings.get(key, ""))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from unknown_settings(_item(schema), each, f"{path}[{index}]", meaning)


def _section(schema: Any, value: Tree, path: str) -> Any:
    """Return the dataclass or mapping that a section is read into; None where it is neither."""
    origin, arguments = typing.get_origin(schema), typing.get_args(schema)
    if origin is typing.Annotated:
        return _section(arguments[0], value, path)
    if origin in (typing.Union, types.UnionType) and any(_holds_dataclass(each) for each in arguments):
        return _section(_member(arguments, value, path), value, path)
    return schema if dataclasses.is_dataclass(schema) or origin in (dict, Mapping) else None


def _item(schema: Any) -> Any:
    """Return what the items of a list are, or None."""
    for each in (schema, *typing.get_args(schema)):
        if typing.get_origin(each) in (list, tuple, Sequence):
            return typing.get_args(each)[0]
    return None


def _meanings(schema: type) -> dict[str, str]:
    """Return what the docstring of a dataclass says of its settings."""
    text = inspect.getdoc(schema) or ""
    listed = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", text.partition("Attributes:")[2], re.MULTILINE)
    return {name: " ".join(said.split()).rstrip(".") for names, said in listed for name in names.split(", ")}


def _read_leaf(schema: Any, value: Any, path: str) -> Any:
    from pydantic import ValidationError

    adapter = _adapter(schema)
    try:
        text = json.dumps(value)
    except TypeError as error:
        raise ConfigError(f"{path} should be {_expected(schema)}; got {say(value)}") from error
    try:
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        texts = _with_texts(schema, value)
        if texts is not None:
            return adapter.validate_python(texts)
        options = typing.get_args(schema) if typing.get_origin(schema) is Literal else ()
        message = f"{path} should be {_expected(schema)}; got {say(value)}"
        raise ConfigError(message + (nearest(str(value), [str(each) for each in options]))) from error


def _with_texts(schema: Any, value: Any) -> Any:
    """Read numbers as texts where only texts are expected, since `unit: 1` and `scale: 9.81` mean just that."""

    def number(each: Any) -> bool:
        return isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each)

    plain = [each for each in typing.get_args(schema) if each is not type(None)]
    if schema is str or plain == [str]:
        return str(value) if number(value) else None
    tuples = [each for each in (schema, *plain) if each == tuple[str, ...]]
    if tuples and isinstance(value, list) and all(number(each) or isinstance(each, str) for each in value):
        return tuple(str(each) for each in value)
    return None


@cache
def _adapter(schema: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


@cache
def _hints(schema: type) -> dict[str, Any]:
    return typing.get_type_hints(schema)


def _names(schema: Any) -> list[str]:
    return [each.name for each in dataclasses.fields(schema) if each.init]


def required(schema: Any) -> list[str]:
    """Return the settings that have no default; a union is as undemanding as its first member."""
    while not dataclasses.is_dataclass(schema):
        schema = next(each for each in typing.get_args(schema) if _holds_dataclass(each))
    missing = dataclasses.MISSING
    return [
        each.name
        for each in dataclasses.fields(schema)
        if each.init and each.default is missing and each.default_factory is missing
    ]


def _holds_dataclass(schema: Any) -> bool:
    return dataclasses.is_dataclass(schema) or any(_holds_dataclass(each) for each in typing.get_args(schema))


def _member(members: Sequence[Any], value: Any, path: str) -> Any:
    """Choose the member of a union that a value is meant for: by `kind`, or by being a section or not."""
    sections = [each for each in members if dataclasses.is_dataclass(each)]
    if not isinstance(value, dict) or len(sections) < 2:
        others = [each for each in members if each is not type(None) and each not in sections]
        fitting = sections if isinstance(value, dict) or not others else others
        return (fitting or others)[0]
    kinds = {kind: each for each in sections for kind in typing.get_args(_hints(each).get("kind"))}
    default = next((each.default for each in dataclasses.fields(sections[0]) if each.name == "kind"), None)
    kind = value.get("kind", default)
    if kind not in kinds:
        raise ConfigError(f"{path}.kind: {say(kind)} is not one of {', '.join(kinds)}{nearest(str(kind), [*kinds])}")
    return kinds[kind]


def refuse_unknown(value: Tree, names: Sequence[str], path: str) -> None:
    """Refuse a key that is not among `names`.

    Raises:
        ConfigError: with the path of the key and the nearest name.
    """
    for key in value:
        if key not in names:
            where = f"{path}.{key}" if path else key
            hint = nearest(key, names) or f"; there are: {', '.join(names)}"
            raise ConfigError(f"{where} is not a setting{hint}")


def nearest(name: Any, names: Sequence[str]) -> str:
    """Return the end of a message that suggests the name that was meant, or nothing."""
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _expected(schema: Any) -> str:
    """Say a type in words."""
    words: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        Path: "a path",
        type(None): "null",
    }
    if schema in words:
        return words[schema]
    origin, arguments = typing.get_origin(schema), typing.get_args(schema)
    if origin is typing.Annotated:
        return _expected(arguments[0])
    if origin is Literal:
        *most, last = map(str, arguments)
        return f"{', '.join(most)} or {last}" if most else last
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_expected(each) for each in arguments)
    if origin is tuple and arguments[1:] != (...,):
        return f"a list of {len(arguments)}: {', '.join(_expected(each) for each in arguments)}"
    if origin in (list, tuple, Sequence):
        return f"a list, each {_expected(arguments[0])}"
    if origin in (dict, Mapping):
        return f"a section, each {_expected(arguments[1])}"
    return getattr(schema, "__name__", str(schema))


def say(value: Any) -> str:
    """Return a value as a message shows it: as JSON, and not too long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) < 60 else text[:57] + "..."
