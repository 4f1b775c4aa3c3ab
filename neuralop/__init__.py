"""Maps between functions: neural operators that take tensors and give tensors."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralop.points import Points

__all__ = ["Points"]


def __getattr__(name: str) -> Any:
    if name == "Points":  # imports torch, which the command line does without until it works
        from neuralop.points import Points

        return Points
    if not name.startswith("__"):
        from neuralop.clash import NAMES, SENTENCE, clash

        problem = SENTENCE if name in NAMES else clash()
        if problem is not None:
            raise ImportError(f"neuralop has no {name!r}. {problem}")
    raise AttributeError(f"module 'neuralop' has no attribute {name!r}")
