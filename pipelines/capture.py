"""Steps of a training as the GPU likes them: arithmetic compiled in pieces, and launches replayed from graphs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.batches import Batch

# A layout runs as it is this often before it is captured; kernels are compiled and state is made on the way.
WARM = 2
# Layouts that are captured. Draws come in few sizes; each graph keeps the memory of a step.
MOST = 16


class Captured:
    """A function on a GPU, replayed as a CUDA graph: one for each layout (shapes and dtypes) of its arguments.

    The function must do the same kernels whatever the values, and leave its effects in tensors that outlive it: weights
    and what an optimiser keeps, but no gradients. It runs as it is the first times that a layout comes, which are not
    lost: each call does its work exactly once. What it returns is copied out of the graph, so that the next call does
    not overwrite it.

    Args:
        function: takes batches, or nothing, and returns tensors by name, each a scalar.
        device: the GPU.
    """

    def __init__(self, function: Callable[..., dict[str, Tensor]], device: torch.device) -> None:
        self.function, self.device = function, device
        self.seen: dict[Any, int] = {}
        self.graphs: dict[Any, tuple[torch.cuda.CUDAGraph, Any, list[str], Tensor]] = {}
        self.pool: Any = None

    def __call__(self, *arguments: Batch) -> dict[str, Tensor]:
        """Do what the function does."""
        tensors = [tensor for argument in arguments for tensor in argument.tensors()]
        layout = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        if layout not in self.graphs:
            self.seen[layout] = self.seen.get(layout, 0) + 1
            packed = any(argument.packed for argument in arguments)
            if packed or self.seen[layout] <= WARM or len(self.graphs) == MOST:
                return self.function(*[argument.to(self.device) for argument in arguments])
            self.graphs[layout] = self._capture(arguments)
        graph, inputs, names, values = self.graphs[layout]
        kept = [tensor for each in inputs for tensor in each.tensors()]
        for own, tensor in zip(kept, tensors, strict=True):
            own.copy_(tensor, non_blocking=True)
        graph.replay()
        return dict(zip(names, values.clone().unbind(), strict=True))

    def _capture(self, arguments: tuple[Batch, ...]) -> tuple[torch.cuda.CUDAGraph, Any, list[str], Tensor]:
        inputs = [argument.to(self.device) for argument in arguments]
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(self.device)
        try:
            # Threads that pin batches meanwhile do not concern the capture.
            with torch.cuda.graph(graph, pool=self.pool, stream=stream, capture_error_mode="thread_local"):
                results = self.function(*inputs)
                values = torch.stack([value.float() for value in results.values()])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # A capture that failed leaves the generator believing that it goes on; its copy is free to draw again.
            index = torch.cuda.current_device() if self.device.index is None else self.device.index
            generator = torch.cuda.default_generators[index]
            generator.graphsafe_set_state(generator.clone_state())
            raise RuntimeError(
                "a step of this operator cannot be captured as a graph, most likely because its forward asks the GPU "
                f"for sizes or values: set training.capture to false ({str(error).splitlines()[0]})"
            ) from error
        self.pool = graph.pool()
        return graph, inputs, list(results), values


def compile_regions(module: nn.Module) -> None:
    """Compile the methods that the parts of an operator name in `regions`, each by itself.

    A whole operator of thirteen layers takes minutes to compile; its regions are few that differ, and what lies between
    them, attention and plain linear maps, gains nothing.
    """
    # One for each layout of tokens, with and without gradients.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)  # pyright: ignore[reportPrivateImportUsage]
    for part in module.modules():
        for name in getattr(part, "regions", ()):
            setattr(part, name, torch.compile(getattr(part, name), dynamic=False))
