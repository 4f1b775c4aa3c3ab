"""Baselines as runs: what costs nothing to predict, in a folder that every verb takes as a trained operator's."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor, nn

from meshes.stores import Store
from pipelines.baselines import KEPT, Baselines, Cloud, Descriptors, StoredCases, TrainingCases, describe
from pipelines.bodies import Body
from pipelines.checkpoints import FOLDER, Checkpoint, mark, save, step_name
from pipelines.runs import CONFIG, ENVIRONMENT, RunFolder, environment
from pipelines.settings import to_dict
from pipelines.specification import Sites, SurrogateSpec, Units
from pipelines.specify import specify
from pipelines.surrogate import Encoding, Surrogate
from pipelines.tracking import CHECKPOINT, flatten, start

if TYPE_CHECKING:
    from pipelines.config import Experiment


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """Settings of every baseline.

    Attributes:
        points: how many points of all training cases together the checkpoint keeps.
    """

    points: int = KEPT

    def __post_init__(self) -> None:
        if self.points < 1:
            raise ValueError(f"points is {self.points}; expected at least 1")

    def build(self, **_: Any) -> nn.Module:
        """Refuse: a baseline remembers the training cases, and has nothing to train.

        Raises:
            ValueError: always.
        """
        raise ValueError("a baseline has no weights to train or to plan for: train it without --plan")


@dataclass(frozen=True, kw_only=True)
class NearestCaseConfig(BaselineConfig):
    """The fields of the training case with the most similar shape and conditions."""

    kind: Literal["nearest_case"] = "nearest_case"


@dataclass(frozen=True, kw_only=True)
class MeanFieldConfig(BaselineConfig):
    """The mean of the fields of the training cases."""

    kind: Literal["mean_field"] = "mean_field"


@dataclass(frozen=True, kw_only=True)
class RidgeConfig(BaselineConfig):
    """A ridge regression of the fields on the conditions and the shape's moments."""

    kind: Literal["ridge"] = "ridge"


@dataclass(frozen=True, kw_only=True)
class QuadraticConfig(BaselineConfig):
    """A ridge regression on these and on their squares and products."""

    kind: Literal["quadratic"] = "quadratic"


def remember(config: "Experiment", run: Path) -> Path:
    """Write a run whose checkpoint keeps the training cases of a store, and answers as a baseline does.

    Args:
        config: the experiment; its operator is one of the baselines.
        run: folder of the run.

    Returns:
        The checkpoint.

    Raises:
        ValueError: the run is there already, or the store has no training cases.
    """
    began = time.monotonic()
    if (run / FOLDER).exists():
        raise ValueError(f"{run} already holds a training: name another folder with --run")
    store, folder = Store(config.data.store), RunFolder(run)
    spec = specify(
        store,
        operator=to_dict(config.operator),
        sampling=config.training.sampling,
        inputs=config.training.inputs,
        conventions=config.data.conventions,
        forces=config.data.forces,
    )
    from pipelines.config import to_yaml

    folder.write(CONFIG, to_yaml(config.to_dict()))
    described = environment(torch.device("cpu")) | {"store": spec.source}
    folder.write(ENVIRONMENT, json.dumps(described, indent=2))
    tracker = start(config.tracking, folder.path, config.to_dict(), folder.log)
    status: Literal["FINISHED", "FAILED"] = "FAILED"
    try:
        weights = _arrays(StoredCases(store, Units(spec), kept=config.operator.points), spec)
        state = {"best": None, "seconds": time.monotonic() - began}
        state |= {"settings": flatten({"operator": to_dict(config.operator)})}
        checkpoint = save(run / FOLDER, 0, Checkpoint(spec=spec, weights=weights, template={}, state=state))
        mark(run / FOLDER, "best", step_name(0))
        folder.log(f"{config.operator.kind}: {len(store.splits['training'])} training cases are remembered")
        if tracker is not None:
            tracker.artefact(run / CONFIG)
            tracker.artefact(checkpoint, CHECKPOINT)
        status = "FINISHED"
    finally:
        if tracker is not None:
            tracker.close(status)
        store.close()
    return checkpoint


def _arrays(cases: StoredCases, spec: SurrogateSpec) -> dict[str, Tensor]:
    arrays: dict[str, np.ndarray] = {}
    for number, described in enumerate(cases.described):
        for part in dataclasses.fields(described):
            arrays[f"{number}/{part.name}"] = getattr(described, part.name)
    for branch in spec.fields:
        for number in cases.having(branch):
            cloud = cases.cloud(number, branch)
            arrays[f"{number}/{branch}/position"] = np.asarray(cloud.tree.data, np.float32)
            for field, values in cloud.values.items():
                arrays[f"{number}/{branch}/fields/{field}"] = values.astype(np.float32)
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


class RememberedCases(TrainingCases):
    """Training cases that a checkpoint kept."""

    def __init__(self, arrays: Mapping[str, Tensor], spec: SurrogateSpec) -> None:
        self.arrays, self.spec = arrays, spec
        self._described = []
        while f"{len(self._described)}/shape" in arrays:
            number = len(self._described)
            parts = {part.name: arrays[f"{number}/{part.name}"].numpy() for part in dataclasses.fields(Descriptors)}
            self._described.append(Descriptors(**parts))
        self._clouds: dict[tuple[int, str], Cloud] = {}

    @property
    def described(self) -> Sequence[Descriptors]:
        """Descriptors of every training case."""
        return self._described

    def having(self, branch: str) -> list[int]:
        """Numbers of the training cases that have a branch."""
        return [number for number in range(len(self._described)) if f"{number}/{branch}/position" in self.arrays]

    def cloud(self, number: int, branch: str, *, whole: bool = False) -> Cloud:
        """Points of a training case; no more than are kept, whatever is asked for."""
        key = (number, branch)
        if key not in self._clouds:
            position = self.arrays[f"{number}/{branch}/position"].numpy().astype(np.float64)
            names = self.spec.fields[branch]
            values = {name: self.arrays[f"{number}/{branch}/fields/{name}"].numpy() for name in names}
            self._clouds[key] = Cloud(KDTree(position), values)
        return self._clouds[key]


class BaselineSurrogate(Surrogate):
    """A baseline in physical units: it reads a body and answers at places, as a trained operator does.

    It needs no anchors, so every draw is the same. Nearest points are sought on the CPU.
    """

    def __init__(self, spec: SurrogateSpec, arrays: Mapping[str, Tensor]) -> None:
        super().__init__(spec, nn.Module())
        self.kind = spec.operator["kind"]
        self.baselines = Baselines(RememberedCases(arrays, spec), self, names=(self.kind,))

    def anchors(self, *_: Any, **__: Any) -> dict[str, Sites]:
        """Lay none."""
        return {}

    def encode(
        self,
        vertices: Float[np.ndarray, "vertex 3"],
        triangles: Int[np.ndarray, "triangle 3"],
        anchors: Mapping[str, Sites],
        parameters: Mapping[str, float],
        *,
        generator: np.random.Generator,
        body: Body | None = None,
    ) -> Encoding:
        """Weigh the training cases for a body.

        Raises:
            ValueError: a regression has too few training cases, or nothing varies over them.
        """
        body = self.body(vertices, triangles) if body is None else body
        complete = self.complete(parameters, body)
        target = describe(self, vertices, triangles, complete)
        context = {}
        for branch in self.spec.fields:
            context[branch], reasons = self.baselines.weights(target, branch)
            for reason in reasons.values():
                raise ValueError(f"the baseline {self.kind} cannot answer for the branch {branch}: {reason}")
        return Encoding(context, self.frame(body), complete)

    def decode(
        self,
        encoding: Encoding,
        branch: str,
        sites: Sites | None = None,
        *,
        chunk: int = 65_536,
        member: int | None = None,
    ) -> dict[str, Float[np.ndarray, "point component"]]:
        """Answer at places, in physical units; the only member is the baseline itself.

        Raises:
            ValueError: no places are given; there are no anchors to stand in for them.
        """
        if sites is None:
            raise ValueError("a baseline has no anchors: give the places to predict at")
        position = self.scaled(sites.position, encoding.frame).astype(np.float64)
        answers = self.baselines.predict(position, branch, encoding.context[branch])[self.kind]
        physical = {}
        for name, values in answers.items():
            free_stream, scale = self.free_stream_and_scale(branch, name, encoding.parameters)
            physical[name] = (values * scale + free_stream).astype(np.float32)
        return physical
