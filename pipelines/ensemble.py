"""A surrogate read several times with other anchors: the mean of its answers, and how far they spread."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from pipelines.bodies import Body
from pipelines.memory import free_memory
from pipelines.settings import ConfigError
from pipelines.specification import Sites
from pipelines.surrogate import Surrogate

Values = dict[str, Float[np.ndarray, "point _component"]]

# Part of the free memory that a chunk of queries may take, and the most queries that pay: beyond, only memory grows.
PART = 0.25
MOST = 131_072
FEWEST = 1024


class Ensemble:
    """A body that the surrogate has read with `draws` sets of anchors, each decided by the seed and its number.

    Args:
        surrogate: the trained operator in physical units.
        surface: for each surface branch the places to pick anchors from, with their measure.
        vertices: corners of the body [m].
        triangles: rows of three indices into `vertices`, wound outwards.
        parameters: conditions and whatever scales need.
        body: its place and size, where they are known already.
        draws: how many sets of anchors.
        seed: decides them all.
        chunk: places at once; by default as many as a part of the free memory holds.

    Raises:
        ValueError: `draws` or `chunk` is not positive, or the surrogate refuses the body or its parameters.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        surface: Mapping[str, Sites],
        vertices: Float[np.ndarray, "vertex 3"],
        triangles: Int[np.ndarray, "triangle 3"],
        parameters: Mapping[str, float],
        *,
        body: Body | None = None,
        draws: int = 1,
        seed: int = 0,
        chunk: int | None = None,
    ) -> None:
        for name, value in (("draws", draws), ("chunk", chunk)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        self.surrogate = surrogate
        self.chunk = chunk_size(surrogate) if chunk is None else chunk
        self.encodings = []
        for draw in range(draws):
            generator = np.random.default_rng([seed, draw])
            anchors = surrogate.anchors(surface, vertices, triangles, generator, body=body)
            try:
                read = surrogate.encode(vertices, triangles, anchors, parameters, generator=generator, body=body)
            except torch.OutOfMemoryError as error:
                raise MemoryError(
                    f"reading the body with {sum(map(len, anchors.values())):,} anchors does not fit: "
                    f"{free_memory(surrogate.device):,} bytes are free on {surrogate.device}; close what else uses "
                    "it, or choose another with --device"
                ) from error
            self.encodings.append(read)

    @property
    def parameters(self) -> dict[str, float]:
        """Parameters that were used: those given, the constants of the training, and those that any body has."""
        return self.encodings[0].parameters

    def decode(self, branch: str, sites: Sites) -> tuple[Values, Values | None]:
        """Evaluate the fields of a branch at places: mean over draws and members, and their standard deviation.

        The spread tells how much the answer depends on where the anchors fell, and of an ensemble also on the weights
        that its members began from. It ranks places and cases, and is smaller than the error.
        """
        return combine([answer for answers in self.answers(branch, sites) for answer in answers])

    def answers(self, branch: str, sites: Sites) -> list[list[Values]]:
        """Evaluate the fields of a branch at places, with each set of anchors, by each member."""
        decode, members = self.surrogate.decode, range(self.surrogate.members)
        return [
            [decode(each, branch, sites, chunk=self.chunk, member=member) for member in members]
            for each in self.encodings
        ]


def combine(answers: Sequence[Values]) -> tuple[Values, Values | None]:
    """Give the mean of several answers, and their standard deviation if there are several."""
    if len(answers) == 1:
        return answers[0], None
    stacked = {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}
    mean = {name: values.mean(axis=0, dtype=np.float64).astype(np.float32) for name, values in stacked.items()}
    spread = {name: values.std(axis=0, ddof=1, dtype=np.float64).astype(np.float32) for name, values in stacked.items()}
    return mean, spread


def pick_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device that is there.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is not known; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not there: PyTorch sees {torch.cuda.device_count()} CUDA devices")
    return device


def pick_precision(name: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Turn `auto`, `float32` or `bfloat16` into one of the latter; `auto` takes bfloat16 on GPUs that have it.

    Raises:
        ConfigError: the precision is not known.
    """
    if name == "auto":
        return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if name == "float32" or name == "bfloat16":
        return name
    raise ConfigError(f"precision {name!r} is not known; expected auto, float32 or bfloat16")


def chunk_size(surrogate: Surrogate) -> int:
    """Choose how many places to decode at once from the free memory.

    A query keeps some 24 vectors of the operator's width alive at the peak of a block; where attention falls back to
    plain products it also keeps one score for each head and anchor.
    """
    settings = surrogate.spec.operator
    width, heads = int(settings.get("width", 192)), int(settings.get("heads", 3))
    anchors = max(surrogate.spec.anchors.values(), default=0)
    bytes_each = 4 * (24 * width + 2 * heads * anchors)
    return int(np.clip(PART * free_memory(surrogate.device) / bytes_each, FEWEST, MOST))
