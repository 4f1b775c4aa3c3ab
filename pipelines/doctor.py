"""Is this environment able to work: versions, devices, clashes, and a tiny job through every stage."""

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "warning", "failed", "skipped"]

OLDEST_PYTHON = (3, 11)
# Free disk below which a training's checkpoints, or anything at all, will hardly fit [bytes].
LITTLE_DISK, NO_DISK = 5 * 2**30, 200 * 2**20
LITTLE_MEMORY = 2 * 2**30
LITTLE_SHARED_MEMORY = 64 * 2**20
# What a library raises that is missing, broken or of a version that does not fit the others.
BREAKS = (OSError, ValueError, RuntimeError, ImportError, AttributeError, TypeError, MemoryError)
REINSTALL = "install anchorfield again, in an environment of its own: pip install --force-reinstall anchorfield"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        said: what was found.
        remedy: what to do about it, where something is wrong.
        seconds: how long it took.
    """

    name: str
    status: Status
    said: str
    remedy: str
    seconds: float

    def render(self) -> str:
        """Say it in a line or two."""
        mark = self.status.upper() if self.status == "failed" else self.status
        line = f"{mark:<8} {self.name:<10} {self.said}".rstrip()
        return f"{line}\n{'':<8} → {self.remedy}" if self.remedy else line


@dataclass(frozen=True)
class Diagnosis:
    """All that was looked at, in order."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return all(check.status != "failed" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, as JSON holds them."""
        return {"healthy": self.healthy, "checks": [dataclasses.asdict(check) for check in self.checks]}

    def verdict(self) -> str:
        """Say in a sentence what it comes to."""
        failed = [check.name for check in self.checks if check.status == "failed"]
        warned = [check.name for check in self.checks if check.status == "warning"]
        if failed:
            return f"Broken: {', '.join(failed)}. See the arrows above."
        return f"Everything works; worth a look: {', '.join(warned)}." if warned else "Everything works."


class Finding(Exception):
    """Something that the user should know, and what to do about it."""

    def __init__(self, said: str, remedy: str, *, status: Status = "failed") -> None:
        super().__init__(said)
        self.said, self.remedy = said, remedy
        self.status: Status = status


def doctor(tell: Callable[[Check], None] = lambda _: None) -> Diagnosis:
    """Look at everything that the stages need, and run a tiny job of each stage in a temporary folder.

    Args:
        tell: takes each check as soon as it is done.

    Returns:
        What was found; nothing is raised for what is broken.
    """
    checks: list[Check] = []

    def look(name: str, check: Callable[[], str]) -> bool:
        began = time.monotonic()
        status: Status = "ok"
        remedy = ""
        try:
            said = check()
        except Finding as finding:
            said, remedy, status = finding.said, finding.remedy, finding.status
        except BREAKS as error:
            if os.environ.get("ANCHORFIELD_TRACEBACK"):
                raise
            status = "failed"
            said = f"{type(error).__name__}: {error}"
            remedy = REINSTALL if isinstance(error, ImportError) else "ANCHORFIELD_TRACEBACK=1 shows where it came from"
        checks.append(Check(name, status, said, remedy, round(time.monotonic() - began, 3)))
        tell(checks[-1])
        return status in ("ok", "warning")

    sound = look("Python", _python)
    sound &= look("packages", _packages)
    sound &= look("neuralop", _clash)
    sound &= look("devices", _devices)
    look("threads", _threads)
    look("memory", _memory)
    look("folder", lambda: _folder(Path.cwd()))
    sound &= look("temporary", _temporary)
    look("HDF5", lambda: _hdf5(Path.cwd()))
    look("MLflow", _mlflow)
    draws = look("renderer", _renderer)
    for name, stage in _job(sound):
        look(name, _skip if name == "view" and not draws else stage)
    return Diagnosis(tuple(checks))


# --- The environment


def _python() -> str:
    said = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    if sys.version_info < OLDEST_PYTHON:
        raise Finding(said, f"anchorfield needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    return said


def _packages() -> str:
    try:
        requirements = importlib.metadata.requires("anchorfield") or []
        found = [f"anchorfield {importlib.metadata.version('anchorfield')}"]
    except importlib.metadata.PackageNotFoundError:
        remedy = "pip install --editable . in the checkout, or pip install anchorfield"
        raise Finding("anchorfield itself is not installed, only found on the path", remedy) from None
    wrong = []
    for requirement in requirements:
        name, least = _requirement(requirement)
        if "extra ==" in requirement:
            continue
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        found.append(f"{name} {version}")
        if _numbers(version) < _numbers(least):
            wrong.append(f"{name} is {version}, {least} or newer is needed")
    if wrong:
        names = " ".join(f"'{sentence.split()[0]}'" for sentence in wrong)
        raise Finding(f"{'; '.join(wrong)}; there are {', '.join(found)}", f"pip install --upgrade {names}")
    return ", ".join(found)


def _requirement(text: str) -> tuple[str, str]:
    """Split `name>=1.2` into name and version, `0` where any will do."""
    name = re.match(r"[\w.\-]+", text)
    least = re.search(r">=\s*([\w.]+)", text)
    assert name is not None
    return name.group(), "0" if least is None else least.group(1)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def name_clash() -> str | None:
    """Tell whether another package called `neuralop` is installed here: sentences to show, or `None`."""
    # Looked for and not imported, since another package would run.
    spec = importlib.util.find_spec("neuralop")
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
    if folder is None or not (folder / "clash.py").exists():
        return (
            f"'import neuralop' finds {folder or 'nothing'}, not the package of anchorfield. "
            "Uninstall neuraloperator, then reinstall anchorfield: the two need separate environments."
        )
    from neuralop.clash import clash

    return clash()


def _clash() -> str:
    if (problem := name_clash()) is not None:
        raise Finding(problem, "python -m venv .venv makes an environment for anchorfield alone")
    return "is anchorfield's"


def _devices() -> str:
    import torch

    driver = _driver()
    if not torch.cuda.is_available():
        if driver:
            built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
            remedy = "install the torch that fits this driver: see 'get started' on pytorch.org"
            said = f"there is a GPU ({driver}), but torch {torch.__version__} {built} and does not use it"
            raise Finding(said, remedy, status="warning")
        return f"no GPU: work runs on the CPU ({platform.processor() or platform.machine()})"
    told = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        bf16 = "bfloat16" if torch.cuda.get_device_capability(index) >= (8, 0) else "no bfloat16"
        name = torch.cuda.get_device_name(index)
        told.append(f"{name}, {_gib(free)} of {_gib(total)} free, {bf16}")
        # A card may be listed and yet refuse work: of another architecture, or held by another process alone.
        torch.ones(2, device=f"cuda:{index}").sum().item()
    return f"{'; '.join(told)}; CUDA {torch.version.cuda}, driver {driver or 'not told by nvidia-smi'}"


def _driver() -> str:
    """Ask the driver of NVIDIA for its version and its cards; empty where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    call = [program, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    asked = subprocess.run(call, capture_output=True, text=True, check=False, timeout=30)
    return "; ".join(asked.stdout.split("\n")).strip("; ") if asked.returncode == 0 else ""


def _threads() -> str:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS")
    setting = "OMP_NUM_THREADS is not set" if asked is None else f"OMP_NUM_THREADS={asked}"
    said = f"{setting}, torch takes {torch.get_num_threads()} of {cores} cores"
    if asked is not None and not (asked.isdecimal() and int(asked) > 0):
        raise Finding(said, f"set it to a whole number, such as OMP_NUM_THREADS={cores}", status="warning")
    if torch.get_num_threads() > cores:
        remedy = f"more threads than cores wait for each other: OMP_NUM_THREADS={cores}"
        raise Finding(said, remedy, status="warning")
    return said


def _memory() -> str:
    import psutil

    memory = psutil.virtual_memory()
    said = f"{_gib(memory.available)} of {_gib(memory.total)} free"
    if memory.available < LITTLE_MEMORY:
        raise Finding(said, "end other programs, or take smaller settings: train --plan says what is needed")
    shared = Path("/dev/shm")
    if not shared.is_dir():
        return said
    said += f", shared memory {_gib(shutil.disk_usage(shared).total)}"
    if shutil.disk_usage(shared).total < LITTLE_SHARED_MEMORY:
        remedy = "processes that share tensors need more: docker run --shm-size=1g"
        raise Finding(said, remedy, status="warning")
    return said


# --- Places to write to


def _folder(folder: Path) -> str:
    if (refusal := _refusal(folder)) is not None:
        remedy = "stores and runs are written here: change to a folder of your own, or ask for write permission"
        raise Finding(refusal, remedy)
    free = shutil.disk_usage(folder).free
    said = f"{folder}, {_gib(free)} free"
    if free < NO_DISK:
        raise Finding(said, "free some disk space: nothing of use fits here")
    if free < LITTLE_DISK:
        raise Finding(said, "stores and checkpoints may not fit: train --plan says what is needed", status="warning")
    return said


def _refusal(folder: Path) -> str | None:
    """Tell why a folder cannot be written to, by trying: permissions alone do not tell of read-only file systems."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"anchorfield")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"{folder} cannot be written to ({error.strerror})"
    return None


def _temporary() -> str:
    try:
        return _folder(Path(tempfile.gettempdir()))
    except FileNotFoundError as error:
        raise Finding(str(error), "set TMPDIR to a folder that may be written to") from None


def _hdf5(folder: Path) -> str:
    import h5py

    said = f"HDF5 {h5py.version.hdf5_version}"
    if (refusal := _refusal(folder)) is not None:
        raise Finding(f"{said}; not tried, since {refusal}", "", status="skipped")
    with tempfile.TemporaryDirectory(prefix=".anchorfield-doctor-", dir=folder) as inside:
        path = Path(inside) / "locked.h5"
        try:
            with h5py.File(path, "w") as file:
                file["x"] = [1.0]
            with h5py.File(path, "r"), h5py.File(path, "r"):
                pass
        except OSError as error:
            remedy = "the file system does not lock files: set HDF5_USE_FILE_LOCKING=FALSE"
            raise Finding(f"{said} cannot write and lock files in {folder} ({error})", remedy) from None
    return f"{said} writes and locks files in {folder}"


def _mlflow() -> str:
    from pipelines.tracking import absolute_uri, quieten

    uri = absolute_uri(None)
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not Path(uri.removeprefix(prefix)).exists():
        folder = next(parent for parent in Path(uri.removeprefix(prefix)).parents if parent.is_dir())
        if (refusal := _refusal(folder)) is not None:
            remedy = "set MLFLOW_TRACKING_URI to a store that you may write to, or tracking={kind: none}"
            raise Finding(f"{uri} cannot be made: {refusal}", remedy)
        return f"{uri}, made by the first training"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    quieten()
    try:
        experiments = MlflowClient(tracking_uri=uri).search_experiments()
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = str(error).strip().split("\n")[0][:300]
        remedy = "start the server, or set MLFLOW_TRACKING_URI to a store that is there; trainings go on without"
        raise Finding(f"{uri} does not answer ({first})", remedy) from None
    if uri.startswith(prefix) and not os.access(uri.removeprefix(prefix), os.W_OK):
        raise Finding(f"{uri} may only be read", "ask for write permission, or set MLFLOW_TRACKING_URI")
    return f"{uri}, {len(experiments)} experiments"


def _renderer() -> str:
    from pipelines.visualise import NoRendererError, check_renderer

    try:
        check_renderer()
    except NoRendererError as error:
        said, _, remedy = str(error).partition("; ")
        raise Finding(said, remedy) from None
    display = os.environ.get("DISPLAY")
    return f"draws {f'on the display {display}' if display else 'off-screen'}"


# --- A tiny job


def _job(sound: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    """Give the stages, each with the work of it; `sound` tells whether they can work at all."""
    names = ("generate", "prepare", "train", "evaluate", "predict", "view")
    if not sound:
        yield from ((name, _skip) for name in names)
        return
    with tempfile.TemporaryDirectory(prefix="anchorfield-doctor-") as folder:
        failed = False
        for name in names:

            def work(name: str = name) -> str:
                nonlocal failed
                if failed:
                    return _skip()
                failed = True
                began = time.monotonic()
                _stage(name, Path(folder))
                failed = False
                return f"{time.monotonic() - began:.1f} s"

            yield name, work


def _skip() -> str:
    raise Finding("not tried, since it needs what failed above", "", status="skipped")


def _stage(name: str, folder: Path) -> None:
    from pipelines.config import load
    from pipelines.evaluate import evaluate
    from pipelines.generate.stokes import generate_stokes
    from pipelines.predict import predict
    from pipelines.prepare import prepare
    from pipelines.train import train
    from pipelines.visualise import view

    experiment = load(
        "stokes",
        [f"data.cases={folder}/cases/*", f"data.store={folder}/store", "training.steps=2", "tracking={kind: none}"],
    )
    body, conditions = folder / "cases" / "stokes_0000" / "body.stl", {"speed": 1.0, "viscosity": 1.0}
    run, prediction = folder / "run", folder / "prediction"
    if name == "generate":
        generate_stokes(folder / "cases", count=8, seed=0, subdivisions=2, layers=6)
    elif name == "prepare":
        prepare(experiment.data, workers=1, strict=True)
    elif name == "train":
        train(experiment, run=run)
    elif name == "evaluate":
        evaluate(run)
    elif name == "predict":
        predict(run, geometry=body, grid=(6, 6, 6), conditions=conditions, out=prediction)
    else:
        view(prediction, folder / "pictures")


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
