"""An STL of millions of faces to surface fields and forces: `python benchmarks/large_stl.py --faces 9000000`.

Needs neither VTK nor a trained run: the operator is of the size asked for and has fresh weights, which take as long as
trained ones. What is timed is one process, from its start to the last file, and its stages as `prediction.json` has
them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
# One process, as the command line would start it; the command line itself needs typer, which a bare machine lacks.
COMMAND = "import sys; from pipelines.predict import predict; print(predict(sys.argv[1], geometry=sys.argv[2], \
out=sys.argv[3], device=sys.argv[4]).render())"
# Lengths, widths and heights of the bumps that keep the fields from being those of a sphere.
SIZE, BUMPS = (1.0, 0.4, 0.3), 0.05


def write_stl(path: Path, faces: int) -> int:
    """Write a closed bumpy ellipsoid of about so many triangles; return how many there are."""
    from meshes.reading.stl import RECORD

    around = max(3, round(np.sqrt(faces)))
    rings = max(2, round(faces / (2 * around)) + 1)
    angle = 2 * np.pi * np.arange(around + 1) / around
    angle[-1] = 0  # the last point of a ring is its first, to the last bit
    unit = np.stack([np.cos(angle), np.sin(angle)])
    count = 2 * around * (rings - 1)
    with path.open("wb") as file:
        file.write(b"bumpy ellipsoid".ljust(80))
        file.write(count.to_bytes(4, "little"))
        before = _ring(0, rings, unit)
        for ring in range(1, rings + 1):
            here = _ring(ring, rings, unit)
            lower = np.stack([before[:-1], here[:-1], here[1:]], axis=1)
            upper = np.stack([before[:-1], here[1:], before[1:]], axis=1)
            parts = [lower] * (ring < rings) + [upper] * (ring > 1)
            records = np.zeros(len(parts) * around, RECORD)
            records["corners"] = np.stack(parts, axis=1).reshape(-1, 3, 3)
            records.tofile(file)
            before = here
    return count


def _ring(ring: int, rings: int, unit: np.ndarray) -> np.ndarray:
    height, radius = np.cos(np.pi * ring / rings), np.sin(np.pi * ring / rings) * (0 < ring < rings)
    position = np.stack([np.full(unit.shape[1], height), radius * unit[0], radius * unit[1]], axis=1)
    return (position * (1 + BUMPS * np.sin(7 * position).prod(axis=1, keepdims=True)) * SIZE).astype(np.float32)


def write_run(folder: Path, *, width: int, anchors: int, depth: int, volume: bool) -> None:
    """Write the checkpoint of an operator with fresh weights, as a training would leave it."""
    import torch

    from meshes.fields import FieldSpec
    from neuralop.operators import ABUPTConfig
    from pipelines.checkpoints import FOLDER, Checkpoint, save
    from pipelines.forces import Conventions, ForceConfig
    from pipelines.settings import to_dict
    from pipelines.specification import InputConfig, SurrogateSpec, feature_names
    from pipelines.surrogate import build_operator

    fields = {
        "surface": {
            "pressure": FieldSpec(array="p", unit="m²/s²", scale="speed**2"),
            "wall_shear_stress": FieldSpec(array="wallShearStress", unit="m²/s²", kind="vector", scale="speed**2"),
        },
        "volume": {
            "pressure": FieldSpec(array="p", unit="m²/s²", scale="speed**2"),
            "velocity": FieldSpec(array="U", unit="m/s", kind="vector", scale="speed"),
        },
    }
    kinds = {"surface": "surface", "volume": "volume"}
    if not volume:
        del fields["volume"], kinds["volume"]
    trunk = ("perceiver", "self", *(("cross", "self") * 2 if volume else ("self",) * 4))
    operator = ABUPTConfig(width=width, heads=max(width // 64, 1), trunk=trunk, depth=depth, supernodes=anchors)
    inputs = InputConfig(frame="body")
    spec = SurrogateSpec(
        operator=to_dict(operator),
        space=("x", "y", "z"),
        kinds=kinds,
        fields=fields,
        statistics={
            branch: {
                name: dict(zip(("mean", "std"), ((0.0,) * n, (1.0,) * n), strict=True))
                for name, field in names.items()
                for n in [1 if field.kind == "scalar" else 3]
            }
            for branch, names in fields.items()
        },
        constants={"speed": 30.0},
        inputs=inputs,
        centre=(0.0, 0.0, 0.0),
        length=1.0,
        features={name: feature_names(kind, inputs) for name, kind in ({"geometry": "geometry"} | kinds).items()},
        conventions=Conventions(pressure="kinematic", density=1.2, shear="on_fluid"),
        forces=ForceConfig(reference_area=0.1),
        surface_cell_size=0.02,
        volume_box=((-3.0, -2.0, -2.0), (5.0, 2.0, 2.0)),
        geometry_points=4 * anchors,
        anchors=dict.fromkeys(kinds, anchors),
        placement=dict.fromkeys(kinds, "measure"),
    )
    torch.manual_seed(0)
    weights = build_operator(spec).state_dict()
    generator = np.random.default_rng(0)
    reach = np.abs(generator.normal(0, 0.5, (4 * anchors, 1)))
    # Training points lie around a ball, thickest at its wall; columns are position, wall distance and measure.
    away = generator.normal(size=(4 * anchors, 3))
    position = (0.3 + reach) * away / np.linalg.norm(away, axis=1, keepdims=True)
    template = np.concatenate([position, reach, np.ones_like(reach)], axis=1).astype(np.float32)
    made = Checkpoint(spec=spec, weights=weights, template={"volume": template} if volume else {}, state={})
    save(folder / FOLDER, 1, made)


def measure(stl: Path, run: Path, out: Path, device: str) -> dict[str, float]:
    """Predict in a process of its own: seconds of its start and of each stage, of all, and of all cores together."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", COMMAND, run, stl, out, device], cwd=ROOT, check=True)
    total = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    stages = json.loads((out / "prediction.json").read_text(encoding="utf-8"))["seconds"]
    start = total - stages.pop("total")
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"start and end of the process": start, **stages, "total": total, "all cores together": busy}


def run_all(
    faces: int, *, width: int, anchors: int, depth: int, volume: bool, device: str, folder: Path, repeats: int = 1
) -> dict[str, float]:
    """Make the files that are not there yet, and measure; the stages of the fastest repetition."""
    stl, run = folder / f"{faces}.stl", folder / f"run_{width}_{anchors}_{depth}_{volume}"
    if not stl.exists():
        print(f"{stl}: {write_stl(stl, faces):,} triangles", file=sys.stderr)
    if not run.exists():
        write_run(run, width=width, anchors=anchors, depth=depth, volume=volume)
    results = [measure(stl, run, folder / "out", device) for _ in range(repeats)]
    return min(results, key=lambda result: result["total"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=9_000_000)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--anchors", type=int, default=16_384, help="of each branch, and supernodes")
    parser.add_argument("--depth", type=int, default=6, help="blocks of each branch after a trunk of six")
    parser.add_argument("--surface-only", action="store_true", help="no volume branch: no wall distances, no grid")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=2, help="processes; the fastest counts")
    parser.add_argument("--folder", type=Path, help="keeps the files; by default a temporary one is removed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="anchorfield-bench-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        stages = run_all(
            given.faces,
            width=given.width,
            anchors=given.anchors,
            depth=given.depth,
            volume=not given.surface_only,
            device=given.device,
            folder=folder,
            repeats=given.repeats,
        )
    print(f"\n{given.faces:,} faces, width {given.width}, {given.anchors:,} anchors, {os.cpu_count()} cores\n")
    print("| stage | seconds |\n| --- | ---: |")
    for stage, seconds in stages.items():
        print(f"| {stage} | {seconds:.2f} |")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
