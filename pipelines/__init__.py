"""All that runs and leaves something behind: prepare, train, predict, evaluate."""

__version__ = "0.1.0"
