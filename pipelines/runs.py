"""The folder of a training run: its configuration, its log, its metrics and the state of what made it."""

import json
import logging
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from meshes.aside import named, write_text
from pipelines.checkpoints import FOLDER
from pipelines.specify import versions
from pipelines.tracking import METRICS

CONFIG, LOG, ENVIRONMENT = "config.yaml", "log.txt", "environment.json"

logger = logging.getLogger(__name__)


class RunFolder:
    """Writes what a training leaves behind beside its checkpoints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / FOLDER).mkdir(parents=True, exist_ok=True)

    def log(self, message: str) -> None:
        """Write a line to `log.txt` and to the log of the program; any thread may."""
        with named(self.path / LOG), (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")
        logger.info(message)

    def write(self, name: str, text: str) -> None:
        """Write a small file, whole or not at all."""
        write_text(self.path / name, text)

    def append_metrics(self, lines: Sequence[Mapping[str, float | int]]) -> None:
        """Append lines to `metrics.jsonl`, each with a `step` and a `time`; values that are not finite are left out."""
        text = "".join(
            json.dumps({name: value for name, value in line.items() if math.isfinite(value)}, allow_nan=False) + "\n"
            for line in lines
        )
        with named(self.path / METRICS), (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(text)

    def cut_metrics(self, step: int) -> None:
        """Drop the metrics of later steps than `step`, and a line that was not finished.

        Raises:
            ValueError: a line holds something else.
        """
        path = self.path / METRICS
        if not path.exists():
            return
        kept = []
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
            try:
                if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                    break
            except (ValueError, KeyError, TypeError) as error:
                message = f"{path}, line {number}, should be JSON with a step; remove the line to go on ({error})"
                raise ValueError(message) from error
            kept.append(line.decode())
        self.write(METRICS, "".join(kept))


def environment(device: torch.device) -> dict[str, Any]:
    """Describe machine, software and the state of the code, so that numbers can be traced to them."""
    described: dict[str, Any] = {
        "versions": versions(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "command": sys.argv,
        "code": code_state(Path(__file__).parent),
    }
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def code_state(folder: Path) -> dict[str, Any] | None:
    """Name the commit that a checkout stands at and whether it was changed since; `None` outside of any."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # Installed into some other project's checkout, that project's commit would say nothing of this code.
        git("ls-files", "--error-unmatch", "runs.py")
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--", str(folder.parent))),
        }
    except (OSError, subprocess.SubprocessError):
        return None


class Progress:
    """Tells how far a training is: one line that is rewritten on a terminal, a line now and then elsewhere."""

    def __init__(self, steps: int, log: Any, *, every: float = 30.0) -> None:
        self.steps, self.log, self.every = steps, log, every
        self.terminal = sys.stderr.isatty()
        self.started = self.told = time.monotonic()
        self.first: int | None = None

    def tell(self, step: int, loss: float, rate: float) -> None:
        """Tell that `step` steps are done."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = step, now
        if not self.terminal and now - self.told < self.every and step < self.steps:
            return
        self.told = now
        done = step - self.first
        left = (self.steps - step) * (now - self.started) / done if done else math.nan
        remaining = f", {clock(left)} left" if math.isfinite(left) else ""
        text = f"step {step} of {self.steps}, loss {loss:.4g}, learning rate {rate:.2e}{remaining}"
        if self.terminal:
            end = "\n" if step == self.steps else ""
            sys.stderr.write(f"\r\x1b[2K{text}{end}")
            sys.stderr.flush()
        else:
            self.log(text)


def clock(seconds: float) -> str:
    """Write a duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
