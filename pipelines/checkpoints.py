"""Checkpoints: folders that predict by themselves, written whole or not at all, checked when read.

```text
RUN/checkpoints/
  step_00012000/  weights.safetensors  ema.safetensors  template.safetensors
                  operator.json  training_state.pt  manifest.json
  last  best      names of checkpoints, as text
```
"""

import hashlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as arrays_to_bytes
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from meshes.aside import named, write_text
from pipelines.baselines import NAMES as BASELINES
from pipelines.settings import ConfigError
from pipelines.specification import FORMERLY
from pipelines.surrogate import Surrogate, SurrogateSpec, build_operator

FORMAT = 2
Which = Literal["best", "last"]
FOLDER = "checkpoints"
WEIGHTS, EMA, TEMPLATE = "weights.safetensors", "ema.safetensors", "template.safetensors"
STATE, SPEC, MANIFEST = "training_state.pt", "operator.json", "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint is not there, not whole, or not what its manifest says."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """What one folder holds.

    Attributes:
        spec: what the operator's numbers mean.
        weights: of the operator.
        ema: their exponential moving average, if one was kept.
        template: pooled volume points that anchors around new bodies are made from.
        state: what training goes on from; tensors, numbers and text only.
    """

    spec: SurrogateSpec
    weights: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None = None
    template: Mapping[str, Float[np.ndarray, "point column"]]
    state: Mapping[str, Any]


def step_name(step: int) -> str:
    """Name the folder of a step."""
    return f"step_{step:08d}"


def save(folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint beside its final place, flush it to the disk and rename it; then mark it as the last.

    Args:
        folder: the `checkpoints` folder of a run.
        step: how many steps were done.
        checkpoint: what to write.

    Returns:
        The folder of the checkpoint.
    """
    final = folder / step_name(step)
    aside = folder / f".{final.name}.tmp-{os.getpid()}"
    try:
        with named(final, aside):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            _fill(aside, step, checkpoint)
            # A checkpoint of the same step, from before a resume, gives way: a folder cannot be renamed onto a full
            # one.
            if final.exists():
                shutil.rmtree(final)
            aside.rename(final)
            _flush(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    mark(folder, "last", final.name)
    return final


def _fill(folder: Path, step: int, checkpoint: Checkpoint) -> None:
    files = {}

    def put(name: str, content: bytes) -> None:
        files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        with (folder / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    # Through bytes: `save_file` of safetensors makes files that nobody else may read, and torch's own writer meets a
    # full disk with an error that cannot be told from a fault of the program.
    put(WEIGHTS, to_bytes(_plain(checkpoint.weights)))
    if checkpoint.ema is not None:
        put(EMA, to_bytes(_plain(checkpoint.ema)))
    if checkpoint.template:
        put(TEMPLATE, arrays_to_bytes({name: np.ascontiguousarray(a) for name, a in checkpoint.template.items()}))
    put(SPEC, checkpoint.spec.to_json().encode())
    state = io.BytesIO()
    torch.save(dict(checkpoint.state), state)
    put(STATE, state.getvalue())
    put(MANIFEST, json.dumps({"format": FORMAT, "step": step, "files": files}, indent=2).encode())


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory; clones never do.
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mark(folder: Path, which: Which, name: str) -> None:
    """Point `best` or `last` at a checkpoint."""
    write_text(folder / which, name + "\n")


def marked(folder: Path, which: Which) -> Path | None:
    """Find the checkpoint that `best` or `last` points at, if it is there."""
    marker = folder / which
    if not marker.is_file():
        return None
    checkpoint = folder / marker.read_text(encoding="utf-8", errors="replace").strip()
    return checkpoint if checkpoint.parent == folder and checkpoint.is_dir() else None


def last(folder: Path) -> Path | None:
    """Find the checkpoint to go on from: the one marked as last, or the newest where the mark is lost."""
    # Folders take such names when they are whole.
    whole = sorted(path for path in folder.glob("step_*") if path.is_dir())
    return marked(folder, "last") or (whole[-1] if whole else None)


def prune(folder: Path, keep: int) -> None:
    """Remove all but the `keep` newest checkpoints, the best and the last, and leftovers of interrupted writes."""
    whole = sorted(path for path in folder.glob("step_*") if path.is_dir())
    kept = set(whole[-keep:]) | {marked(folder, "best"), marked(folder, "last")}
    for path in [*whole, *folder.glob(".step_*.tmp-*")]:
        if path not in kept:
            shutil.rmtree(path)


def find(run: str | Path, which: Which = "best") -> Path:
    """Find a checkpoint from a run folder, a checkpoint folder or `runs:/ID` of MLflow.

    Args:
        run: what was given on the command line.
        which: `best` on validation (the last, where none was chosen) or `last`.

    Raises:
        CheckpointError: there is none.
    """
    if str(run).startswith("runs:/"):
        from pipelines.tracking import resolve

        run = resolve(str(run))
    path = Path(run)
    if any((path / name).exists() for name in (SPEC, WEIGHTS)):
        return path
    folder = path / FOLDER
    found = marked(folder, which) or last(folder)
    if found is None:
        what = "does not exist" if not path.exists() else "holds no finished checkpoint"
        raise CheckpointError(f"{path} {what}: give the folder of a training run, one of its checkpoints or runs:/ID")
    return found


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint, verifying every file before it is used; no code in it can run.

    Raises:
        CheckpointError: a file is missing, altered or of an unknown format.
    """
    written = verify(folder)
    try:
        weights = load_file(folder / WEIGHTS)
        ema = load_file(folder / EMA) if (folder / EMA).exists() else None
        template = load_arrays(folder / TEMPLATE) if (folder / TEMPLATE).exists() else {}
        content = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        for version in range(written, FORMAT):
            content, state = _UPGRADES[version](content, state)
        spec = SurrogateSpec.from_json(json.dumps(content))
        return Checkpoint(spec=spec, weights=weights, ema=ema, template=template, state=state)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{folder / STATE} holds more than tensors, numbers and text, and was not opened: do not trust this file"
        ) from error
    except (SafetensorError, ValueError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from error


def _name_features(spec: dict[str, Any], state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Format 1 said whether points carry the normal and the distance; later ones name what they carry."""
    features = FORMERLY[bool(spec["inputs"]["features"])]
    settings = state.get("settings", {})
    if _FEATURES in settings:  # texts, as a resumed training compares them
        state = state | {"settings": settings | {_FEATURES: json.dumps(features)}}
    return spec | {"inputs": spec["inputs"] | {"features": features}}, state


_FEATURES = "training.inputs.features"
# How to go from each earlier format to the next one.
_UPGRADES = {1: _name_features}


def verify(folder: Path) -> int:
    """Compare every file of a checkpoint with its manifest; tell its format.

    Raises:
        CheckpointError: a file is missing, of another size, altered or not listed.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["format"], manifest["files"]
        expected = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / MANIFEST} is missing or unreadable; is this a checkpoint? ({error})"
        ) from error
    if version != FORMAT and version not in _UPGRADES:
        raise CheckpointError(
            f"{folder} has checkpoint format {version}, this version reads {FORMAT} and older: "
            f"load it with the version of anchorfield that wrote it{_written_by(folder)}, or train again"
        )
    for required in (WEIGHTS, SPEC, STATE):
        if required not in expected:
            raise CheckpointError(f"{folder / MANIFEST} does not list {required}")
    for name, (size, sha256) in expected.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise CheckpointError(f"{path} is missing; copy the checkpoint folder again, with all of its files")
        if path.stat().st_size != size:
            raise CheckpointError(f"{path} has {path.stat().st_size} bytes where its manifest says {size}: truncated?")
        if digest(path) != sha256:
            raise CheckpointError(f"{path} was altered: its SHA-256 is not the one in the manifest")
    for name in (EMA, TEMPLATE):
        if (folder / name).exists() and name not in expected:
            raise CheckpointError(f"{folder / name} is not in the manifest: it was added later, and is not trusted")
    return version


def _written_by(folder: Path) -> str:
    """Say which version wrote a checkpoint of another format, if that can be read."""
    try:
        return f" ({json.loads((folder / SPEC).read_bytes())['versions']['anchorfield']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def load_surrogate(
    run: str | Path,
    *,
    which: Which = "best",
    ema: bool = True,
    device: torch.device | str = "cpu",
    precision: Literal["float32", "bfloat16"] = "float32",
    operator: torch.nn.Module | None = None,
) -> Surrogate:
    """Load a trained surrogate, ready to predict.

    Args:
        run: a run folder, a checkpoint folder, or `runs:/ID` of MLflow.
        which: the checkpoint with the best validation score, or the last one.
        ema: take the averaged weights where there are any.
        device: where the operator shall live.
        precision: of the operator's arithmetic.
        operator: the module to load weights into, for operators that `train` was handed ready-made.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    folder = find(run, which)
    checkpoint = load(folder)
    if checkpoint.spec.operator["kind"] in BASELINES:
        from pipelines.baseline_runs import BaselineSurrogate

        return BaselineSurrogate(checkpoint.spec, checkpoint.weights)
    weights = checkpoint.ema if ema and checkpoint.ema is not None else checkpoint.weights
    try:
        operator = build_operator(checkpoint.spec) if operator is None else operator
        operator.load_state_dict(dict(weights))
    except ConfigError as error:
        raise CheckpointError(f"{folder / SPEC} cannot be built: {error}") from error
    except RuntimeError as error:
        first, *others = str(error).split("\n")[1:] or [str(error)]
        more = f" (and {len(others)} more)" if others else ""
        message = f"{folder}: the weights do not fit the operator in {SPEC}: {first.strip()}{more}"
        raise CheckpointError(f"{message}; copy the checkpoint again, or give its own module") from error
    return Surrogate(checkpoint.spec, operator, template=checkpoint.template, device=device, precision=precision)
