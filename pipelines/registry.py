"""The kinds of operator that a configuration can name: a table, so that YAML never names a code path."""

from importlib import import_module
from importlib.metadata import entry_points

from pipelines.settings import ConfigError

# kind -> module and dataclass; imported when chosen, so that listing kinds costs nothing.
OPERATORS: dict[str, tuple[str, str]] = {
    "ab_upt": ("neuralop.operators.ab_upt", "ABUPTConfig"),
    # Answers that cost nothing, as runs to compare with; `train` only remembers the training cases.
    "nearest_case": ("pipelines.baseline_runs", "NearestCaseConfig"),
    "mean_field": ("pipelines.baseline_runs", "MeanFieldConfig"),
    "ridge": ("pipelines.baseline_runs", "RidgeConfig"),
    "quadratic": ("pipelines.baseline_runs", "QuadraticConfig"),
}
# Packages add kinds of their own here: an entry point's name is the kind, its object the dataclass.
GROUP = "anchorfield.operators"


def operator_kinds() -> list[str]:
    """Return the kinds there are: those that ship, then those that installed packages add."""
    return [*OPERATORS, *sorted({entry.name for entry in entry_points(group=GROUP)} - OPERATORS.keys())]


def operator_config(kind: str) -> type:
    """Return the dataclass that configures and builds a kind of operator.

    Raises:
        ConfigError: there is no such kind.
        ValueError: two installed packages add the same kind.
    """
    if kind in OPERATORS:
        module, name = OPERATORS[kind]
        return getattr(import_module(module), name)
    found = list(entry_points(group=GROUP, name=kind))
    if not found:
        kinds = ", ".join(operator_kinds())
        raise ConfigError(f"operator.kind: {kind!r} is not one of {kinds}; install the package that adds it")
    if len(found) > 1:
        packages = ", ".join(str(entry.dist.name if entry.dist else entry.value) for entry in found)
        raise ValueError(f"operator kind {kind!r} comes from several packages ({packages}); remove all but one")
    return found[0].load()
