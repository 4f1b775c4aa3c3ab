"""Train for some seconds and score: `python -m benchmarks.accuracy EXPERIMENT [key=value…] --seconds 520 --run RUN`.

Scores are relative L2 errors over every cell, mean over the cases, from one draw of anchors among the cells of each
case, which is how the published code was measured. The time is that of the whole training: compiling, validating and
writing count.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from meshes.stores import Store
from pipelines.batches import Sampler
from pipelines.checkpoints import load_surrogate
from pipelines.config import Experiment, load
from pipelines.ensemble import pick_device
from pipelines.planning import plan
from pipelines.train import train
from pipelines.validate import validate


def measure(config: Experiment, run: Path, precision: Any) -> dict[str, Any]:
    """Train, and score the last weights on validation and test cases."""
    began = time.perf_counter()
    report = train(config, run=run)
    seconds = time.perf_counter() - began
    store = Store(config.data.store, resident=2**31)
    surrogate = load_surrogate(run, which="last", device=pick_device(config.training.device), precision=precision)
    sampler = Sampler(store, store.splits["training"], surrogate, queries={}, seed=config.training.seed)
    scores: dict[str, float] = {}
    for split in ("validation", "test"):
        if store.splits[split]:
            scores |= validate(surrogate, sampler, split=split)
    return {"steps": report.step, "seconds": round(seconds, 1), "scores": scores}


def main() -> None:
    """Train once, print one row and append it to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--seconds", type=float, help="of training; by default the steps decide")
    parser.add_argument("--name", default="")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    overrides = ["tracking.kind=none", *asked.overrides]
    if asked.seconds:
        began = time.perf_counter()
        planned = plan(load(asked.experiment, overrides), budget=8)
        left = asked.seconds - (time.perf_counter() - began)  # what was compiled for the plan serves the training
        overrides.append(f"training.steps={int(planned.steps * left / planned.seconds)}")
    config = load(asked.experiment, overrides)
    result = measure(config, asked.run, "bfloat16" if torch.cuda.is_available() else "float32")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    row = {"name": asked.name or asked.experiment, "device": device, "overrides": asked.overrides} | result
    print(json.dumps(row), flush=True)
    if asked.out:
        with asked.out.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
