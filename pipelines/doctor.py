"""Is this environment able to work: versions, devices, clashes, and a tiny job through every stage."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

DISTRIBUTIONS = ("torch", "torch-geometric", "pyvista", "vtk", "h5py", "dask", "distributed", "mlflow", "pydantic")


def doctor() -> bool:
    """Print what was found, and run a tiny job of each stage in a temporary folder.

    Returns:
        Whether everything worked.
    """
    from neuralop.clash import clash

    print(f"Python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores")
    for name in DISTRIBUTIONS:
        print(f"  {name} {importlib.metadata.version(name)}")
    print(_devices())
    print(f"  free disk here: {shutil.disk_usage('.').free / 2**30:.0f} GiB")
    problem = clash()
    if problem is not None:
        print(f"FAILED  {problem}")
        return False
    with tempfile.TemporaryDirectory(prefix="anchorfield-doctor-") as folder:
        for name, stage in _stages(Path(folder)):
            started = time.monotonic()
            try:
                stage()
            except (OSError, ValueError, RuntimeError, ImportError) as error:
                print(f"FAILED  {name}: {error}")
                return False
            print(f"ok      {name} ({time.monotonic() - started:.1f} s)")
    print("Everything works.")
    return True


def _devices() -> str:
    import torch

    if not torch.cuda.is_available():
        return "  no CUDA device: work runs on the CPU"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"  CUDA {torch.version.cuda}: {', '.join(names)}"


def _stages(folder: Path) -> list[tuple[str, Callable[[], object]]]:
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
    body = folder / "cases" / "stokes_0000" / "body.stl"
    return [
        ("generate", lambda: generate_stokes(folder / "cases", count=8, seed=0, subdivisions=2, layers=6)),
        ("prepare", lambda: prepare(experiment.data, workers=1, strict=True)),
        ("train", lambda: train(experiment, run=folder / "run")),
        (
            "predict",
            lambda: predict(
                folder / "run",
                geometry=body,
                grid=(6, 6, 6),
                conditions={"speed": 1.0, "viscosity": 1.0},
                out=folder / "prediction",
            ),
        ),
        ("evaluate", lambda: evaluate(folder / "run")),
        ("view", lambda: view(folder / "prediction", folder / "pictures")),
    ]
