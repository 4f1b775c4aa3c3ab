"""Work that does not need each other's results, side by side on a GPU."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def beside(
    work: Mapping[str, tuple[Callable[[], tuple[Result, Sequence[Tensor]]], Sequence[Tensor]]],
) -> dict[str, Result]:
    """Do several pieces of work, at the same time where a CUDA graph is being captured.

    A graph knows what waits for what and runs the rest together: pieces of small kernels, which leave most of a GPU
    idle, then take the time of the longest. Elsewhere the pieces are done one after the other. The derivatives of each
    piece run beside those of the others too.

    Args:
        work: for each piece a function, which gives its result and the tensors in it, and the tensors made before
            that it reads, parameters aside.

    Returns:
        The result of each piece.
    """
    *first, last = work
    if not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
        return {name: function()[0] for name, (function, _) in work.items()}
    main, done = torch.cuda.current_stream(), {}
    sides = {name: torch.cuda.Stream() for name in first}
    for name, side in sides.items():
        function, reads = work[name]
        side.wait_stream(main)
        for tensor in reads:  # whose memory must not be given away while the other stream may still read it
            tensor.record_stream(side)
        with torch.cuda.stream(side):
            done[name] = function()
    done[last] = work[last][0]()
    for name, side in sides.items():
        main.wait_stream(side)
        for tensor in done[name][1]:
            tensor.record_stream(main)
    return {name: done[name][0] for name in work}
