"""Experiments: a YAML file with its fragments and overrides becomes one dataclass.

`pipelines.composition` merges files, `pipelines.settings` reads the result strictly; this module says which sections
there are, and which dataclass stands for each.
"""

import dataclasses
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import registry
from pipelines.composition import compose, to_yaml
from pipelines.settings import ConfigError, Tree, nearest, read, refuse_unknown, required, say, to_dict

__all__ = ["ConfigError", "Experiment", "compose", "from_dict", "load", "load_data", "to_dict", "to_yaml"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment, whole: what is trained, on what, how, and where it is recorded.

    Attributes:
        operator: the settings of one kind of operator, such as `ABUPTConfig`.
        data: a `pipelines.prepare.DataConfig`.
        training: a `pipelines.trainer.TrainingConfig`.
        tracking: one of the kinds of `pipelines.tracking.TrackingConfig`.
    """

    operator: Any
    data: Any
    training: Any
    tracking: Any

    def to_dict(self) -> Tree:
        """Return plain values that `read` turns into an equal experiment: what a run saves as its configuration."""
        return to_dict(self)


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Experiment:
    """Compose an experiment and read it strictly.

    Args:
        path: a YAML file, or the name of an experiment that ships, such as `ahmed`.
        overrides: `key.path=value`, the value in YAML; they win over every file.

    Raises:
        ConfigError: a file, key, type or combination is wrong; the message gives the path and what was expected.
    """
    return from_dict(compose(path, overrides))


def load_data(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Any:
    """Compose and read the `data` of an experiment alone, as `load` does; the rest need not be there.

    Raises:
        ConfigError: as for `load`.
    """
    tree = compose(path, overrides)
    refuse_unknown(tree, [section.name for section in dataclasses.fields(Experiment)], "")
    return _section(tree, "data")


def from_dict(tree: Tree) -> Experiment:
    """Read a composed configuration strictly.

    Raises:
        ConfigError: as for `load`.
    """
    sections = [section.name for section in dataclasses.fields(Experiment)]
    refuse_unknown(tree, sections, "")
    tree = _upgraded(tree)
    return Experiment(**{name: _section(tree, name) for name in sections})


def _upgraded(tree: Tree) -> Tree:
    """Write what an earlier version wrote otherwise, such as the configuration of an old run, as it is written now."""
    from pipelines.specification import FORMERLY

    match tree:
        case {"training": {"inputs": {"features": bool(had), **inputs}, **training}, **sections}:
            features = FORMERLY[had]
            _log.warning(
                "training.inputs.features was true or false once; %s is read as [%s], which is how to write it now",
                say(had),
                ", ".join(features),
            )
            return {**sections, "training": {**training, "inputs": {**inputs, "features": features}}}
    return tree


def _section(tree: Tree, name: str) -> Any:
    value = tree.get(name, {})
    schema = _schema(name, value)
    if name not in tree and required(schema):
        raise ConfigError(f"section {name!r} is missing; extend a fragment that has it, as experiments/ahmed does")
    return read(schema, value, name)


def _schema(name: str, value: Any) -> Any:
    """Return the dataclass, or union of dataclasses, that a section is read into; most of them import this module."""
    if name == "operator":
        kinds = registry.operator_kinds()
        kind = value.get("kind", kinds[0]) if isinstance(value, dict) else kinds[0]
        if kind not in kinds:
            raise ConfigError(f"operator.kind: {say(kind)} is not one of {', '.join(kinds)}{nearest(kind, kinds)}")
        return registry.operator_config(kind)
    if name == "data":
        from pipelines.prepare import DataConfig

        return DataConfig
    if name == "training":
        from pipelines.trainer import TrainingConfig

        return TrainingConfig
    from pipelines.tracking import TrackingConfig

    return TrackingConfig
