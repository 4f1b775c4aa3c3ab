"""Configurations in YAML: fragments composed in order, then overrides; nothing here knows what settings mean."""

import os
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import sentence
from pipelines.settings import ConfigError, Tree, nearest, say

_SUFFIX = ".yaml"


def compose(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Tree:
    """Merge the fragments that a file extends, in order, then the file, then the overrides.

    Sections of files merge key by key, anything else replaces; an override replaces what stands at its path. A changed
    `kind` drops the settings of the old kind, and `null` over a section removes it. Fragments are looked for beside
    the file and among those that ship. Relative paths inside a configuration start at the folder that the command runs
    in.

    Raises:
        ConfigError: a file is not there or no YAML, fragments extend each other in a circle, or an override is not
            `key.path=value` or goes through something that is no section.
    """
    tree = _compose(_find_experiment(path), ())
    changes = [_split(override) for override in overrides]
    # A kind first, since it drops the settings of the old one: the order of overrides should not matter there.
    for keys, text, override in sorted(changes, key=lambda change: change[0][-1] != "kind"):
        _assign(tree, keys, parse(text, f"override {override!r}"), override)
    return tree


def to_yaml(tree: Tree) -> str:
    """Write plain values as YAML that `compose` reads back equal."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def to_flow(value: Any) -> str:
    """Write a plain value as YAML on one line."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=2**20)
    return text.removesuffix("...\n").rstrip("\n")


def parse(text: str, where: str) -> Any:
    """Read YAML 1.2 as plain values.

    Args:
        text: what a file or an override holds.
        where: its name, for messages.

    Raises:
        ConfigError: it is no YAML, or a key stands twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise ConfigError(f"{place} is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def config_roots() -> list[Path]:
    """Return where the configurations that ship are: `configs/` of a checkout, or of the wheel."""
    package = Path(__file__).resolve().parent
    return [folder for folder in (package.parent / "configs", package / "configs") if folder.is_dir()]


def _find_experiment(path: str | os.PathLike[str]) -> Path:
    given = Path(path)
    if given.is_file():
        return given
    roots = config_roots()
    for root in roots:
        for candidate in (root / given, root / "experiments" / given):
            if (found := candidate.with_name(candidate.name.removesuffix(_SUFFIX) + _SUFFIX)).is_file():
                return found
    names = sorted({file.stem for root in roots for file in (root / "experiments").glob(f"*{_SUFFIX}")})
    raise ConfigError(f"{given} is neither a file nor an experiment that ships ({', '.join(names)})")


def _find_fragment(name: str, file: Path) -> Path:
    roots = [file.parent, *config_roots()]
    for root in roots:
        if (found := root / (name.removesuffix(_SUFFIX) + _SUFFIX)).is_file():
            return found
    there = sorted(
        {str(each.relative_to(root).with_suffix("")) for root in roots[1:] for each in root.rglob(f"*{_SUFFIX}")}
    )
    raise ConfigError(
        f"{file} extends {name!r}, which is not beside it nor among those that ship{nearest(name, there)}"
    )


def _compose(file: Path, above: tuple[Path, ...]) -> Tree:
    file = file.resolve()
    if file in above:
        circle = " → ".join(str(each) for each in (*above[above.index(file) :], file))
        raise ConfigError(f"configurations extend each other in a circle: {circle}")
    content = _read_yaml(file)
    extends = content.pop("extends", [])
    extends = [extends] if isinstance(extends, str) else extends
    if not isinstance(extends, list) or not all(isinstance(name, str) for name in extends):
        raise ConfigError(f"{file}: extends should be a list of names such as data/ahmed, got {say(extends)}")
    tree: Tree = {}
    for name in extends:
        tree = _merge(tree, _compose(_find_fragment(name, file), (*above, file)))
    return _merge(tree, content)


def _read_yaml(file: Path) -> Tree:
    try:
        content = parse(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no text in UTF-8; expected the YAML of an experiment") from error
    except OSError as error:
        raise ConfigError(f"the configuration cannot be read: {sentence(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{file} should hold sections such as data and training, got {say(content)}")
    return content


def _split(override: str) -> tuple[list[str], str, str]:
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"override {override!r} should be key.path=value, such as training.steps=2000")
    return keys, text, override


def _assign(tree: Tree, keys: list[str], value: Any, override: str) -> None:
    section = tree
    for depth, key in enumerate(keys[:-1], 1):
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise ConfigError(f"override {override!r}: {'.'.join(keys[:depth])} is {say(section)}, which has no keys")
    if keys[-1] == "kind" and section.get("kind", value) != value:
        section.clear()
    if value is None and isinstance(section.get(keys[-1]), dict):
        del section[keys[-1]]
    else:
        section[keys[-1]] = value


def _merge(below: Tree, above: Tree) -> Tree:
    if "kind" in below and "kind" in above and below["kind"] != above["kind"]:
        below = {}
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict):
            inner = merged.get(key)
            merged[key] = _merge(inner if isinstance(inner, dict) else {}, value)
        elif value is None and isinstance(merged.get(key), dict):
            del merged[key]
        else:
            merged[key] = value
    return merged


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: `1e-4` is a number, `on`, `no`, `1:30` and `2024-01-01` are texts; no key twice."""

    yaml_implicit_resolvers: typing.ClassVar[dict] = {}


class _Dumper(yaml.SafeDumper):
    """Quotes exactly what `_Loader` would read as something else."""

    yaml_implicit_resolvers: typing.ClassVar[dict] = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    """Write what is not printable as escapes: PyYAML loses some line breaks within single quotes."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Tree:
    loader.flatten_mapping(node)
    content: Tree = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(None, None, f"key {key!r} is not a text; quote it", key_node.start_mark)
        if key in content:
            raise yaml.MarkedYAMLError(None, None, f"key {key!r} stands twice", key_node.start_mark)
        content[key] = loader.construct_object(value_node, deep=True)
    return content


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    name = node.value.lower().lstrip("+-")
    return float(node.value.replace(".", "", 1) if name in (".inf", ".nan") else node.value)


_Dumper.add_representer(str, _text)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
for _class in (_Loader, _Dumper):
    for _tag, _pattern, _first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)", "-+.0123456789"),
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("merge", r"<<", "<"),
    ):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
