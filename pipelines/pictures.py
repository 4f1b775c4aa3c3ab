"""Pictures of one validation case, drawn beside a training by a process of its own.

A process, because drawing takes seconds, and because a graphics driver that fails must not take a training with it.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meshes.stores import Store, StoredCase
from pipelines.specification import SurrogateSpec, Units

FOLDER = "pictures"
# Pictures may take this part of the time of a training; the last ones are always drawn.
PART = 0.05
# Seconds after which a process that draws is given up.
LONGEST = 180.0


class Painter:
    """Draws truth, prediction and error of one validation case at checkpoints, as often as costs little.

    Args:
        run: the run folder; pictures go to `pictures/step_…` in it.
        store: its manifest says where the files of the case are.
        spec: of the surrogate.
        log: takes a line where something cannot be drawn.
        done: takes each folder of pictures when it is finished.
    """

    def __init__(
        self, run: Path, store: Store, spec: SurrogateSpec, log: Callable[[str], None], done: Callable[[Path], None]
    ) -> None:
        self.folder, self.log, self.done = run / FOLDER, log, done
        self._copy = self.folder / f".checkpoint.tmp-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._target = self.folder
        self._began, self._seconds, self._ended = 0.0, 0.0, float("-inf")
        self.command = _command(store, spec, log)

    def paint(self, checkpoint: Path, *, last: bool = False) -> None:
        """Start to draw a checkpoint, unless another is being drawn or the last pictures cost too much time.

        Args:
            checkpoint: its folder.
            last: draw in any case, and wait for it.
        """
        if self.command is None:
            return
        self.look(wait=last)
        spent_enough = time.monotonic() - self._ended < self._seconds / PART
        if self._process is not None or (spent_enough and not last):
            return
        self._target, self._began = self.folder / checkpoint.name, time.monotonic()
        if self._target.is_dir():
            return
        # A copy, since the training may remove the checkpoint before it was read.
        shutil.copytree(checkpoint, self._copy)
        with (self.folder / "log.txt").open("wb") as errors:
            command = [sys.executable, "-m", "pipelines.pictures", str(self._copy), str(self._target), self.command]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        if last:
            self.look(wait=True)

    def look(self, *, wait: bool = False) -> None:
        """See whether the pictures that were started are finished, and hand them on."""
        if self._process is None:
            return
        try:
            code = self._process.wait(LONGEST if wait else 0)
        except subprocess.TimeoutExpired:
            if not wait and time.monotonic() - self._began < LONGEST:
                return
            self.stop()
            self.log(f"drawing {self._target.name} took more than {LONGEST:.0f} s and was given up")
            return
        self.stop()
        self._ended = time.monotonic()
        self._seconds = self._ended - self._began
        if code:
            lines = (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            self.log(f"no pictures of {self._target.name}: {lines[-1] if lines else f'exit code {code}'}")
            return
        self.done(self._target)

    def stop(self) -> None:
        """End a process that is still drawing, and remove what it worked on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self._copy, ignore_errors=True)


def _command(store: Store, spec: SurrogateSpec, log: Callable[[str], None]) -> str | None:
    """Say as JSON what to draw; `None` where nothing can be drawn."""
    if not store.splits["validation"]:
        return None
    if importlib.util.find_spec("pyvista") is None:
        log("pyvista is not installed: no pictures are drawn")
        return None
    try:
        found = drawable(store.case(store.splits["validation"][0]), spec)
    except ValueError as error:
        log(f"{error}: no pictures are drawn")
        return None
    files = {"surface": str(found.surface), "volume": str(found.volume or "")}
    return json.dumps(files | {"conditions": found.conditions})


@dataclass(frozen=True)
class Drawable:
    """A simulated case that can be predicted on its own files, and drawn beside its truth.

    Attributes:
        surface: simulated surface.
        volume: simulated volume, if there is one.
        conditions: of the case, those that the surrogate knows.
    """

    surface: Path
    volume: Path | None
    conditions: dict[str, float]


def drawable(case: StoredCase, spec: SurrogateSpec) -> Drawable:
    """Find the files of a case: of its first surface and its first volume branch.

    Raises:
        ValueError: they are parts of larger files, or not where the case was prepared from.
    """
    sources = case.entry.get("sources", {})
    if any({"blocks", "time"} & set(source) for source in sources.values()):
        raise ValueError(f"{case.name} was made from blocks or times of larger files")
    files: dict[str, Path | None] = dict.fromkeys(("surface", "volume"))
    for branch, kind in spec.kinds.items():
        if files[kind] is None and branch in sources:
            files[kind] = Path(sources[branch]["path"]).resolve()
    surface, volume = files["surface"], files["volume"]
    if surface is None or not all(file.is_file() for file in (surface, volume) if file is not None):
        raise ValueError(f"the files of {case.name} are not where they were prepared from")
    known = Units(spec).needed | set(spec.constants)
    return Drawable(surface, volume, {name: value for name, value in case.parameters.items() if name in known})


def draw(checkpoint: Path, out: Path, *, surface: Path, volume: Path | None, conditions: dict[str, float]) -> None:
    """Predict a simulated case from its files and draw it.

    Args:
        checkpoint: folder of a checkpoint.
        out: folder for the pictures.
        surface: simulated surface.
        volume: simulated volume, if there is one.
        conditions: of the case.
    """
    from pipelines.predict import predict
    from pipelines.visualise import view

    with tempfile.TemporaryDirectory() as scratch:
        fields, pictures = Path(scratch) / "fields", Path(scratch) / "pictures"
        predict(checkpoint, geometry=surface, volume=volume, conditions=conditions, out=fields, device="cpu")
        aside = out.with_name(f".{out.name}.tmp-{os.getpid()}")
        aside.mkdir(parents=True)
        for picture in view(fields, pictures):
            if picture.suffix == ".png":
                shutil.copy(picture, aside)
        aside.rename(out)


def main(checkpoint: str, out: str, command: str) -> None:
    """Draw what `Painter` asked for, giving way to everything else that runs."""
    os.nice(10)
    asked = json.loads(command)
    volume = Path(asked["volume"]) if asked["volume"] else None
    draw(Path(checkpoint), Path(out), surface=Path(asked["surface"]), volume=volume, conditions=asked["conditions"])


if __name__ == "__main__":
    main(*sys.argv[1:])
