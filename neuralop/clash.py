"""PyPI's `neuraloperator` installs a package called `neuralop` too; what to say when the two meet."""

from importlib.metadata import PackageNotFoundError, version

SENTENCE = (
    "PyPI's distribution 'neuraloperator' also installs a package called 'neuralop', so anchorfield and "
    "neuraloperator need two separate environments."
)

# What `neuraloperator` exports at its top level and this package does not.
NAMES = frozenset(
    {"CODANO", "FNO", "FNO1d", "FNO2d", "FNO3d", "FNOGNO", "GINO", "H1Loss", "LocalNO", "LpLoss", "OTNO", "RNO", "SFNO"}
    | {"TFNO", "TFNO1d", "TFNO2d", "TFNO3d", "Trainer", "UNO", "UQNO"}
    | {"data", "datasets", "get_model", "models", "mpu", "training", "utils"}
)


def clash() -> str | None:
    """Tell whether `neuraloperator` is installed in this environment: one sentence to show, or `None`."""
    try:
        found = version("neuraloperator")
    except PackageNotFoundError:
        return None
    return f"neuraloperator {found} is installed here. {SENTENCE} Uninstall neuraloperator, then reinstall anchorfield."
