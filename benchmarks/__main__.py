"""Run the timings and print them as rows of a table: `python -m benchmarks [NAME…]`."""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np

Row = tuple[str, float, str, float | None]  # what, seconds, floor, seconds of the floor


def median(work: Callable[[], object], repeats: int = 9) -> float:
    """Median seconds of a call, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def command_line() -> list[Row]:
    """Start `anchorfield --help` as a process, beside a bare interpreter."""
    program = Path(sys.executable).with_name("anchorfield")
    quiet = {"stdout": subprocess.DEVNULL, "check": True}
    help_time = median(lambda: subprocess.run([program, "--help"], **quiet))
    bare = median(lambda: subprocess.run([sys.executable, "-c", ""], **quiet))
    return [("anchorfield --help", help_time, "python -c ''", bare)]


def store() -> list[Row]:
    """Read 16,384 of 8.8 million points with 8 fields, warm, beside reading the bytes alone."""
    from meshes.stores import layout
    from meshes.stores.reader import StoredCase
    from meshes.stores.writer import write_case

    count, block = 8_800_000, 16_384
    generator = np.random.default_rng(0)
    values = generator.standard_normal((count, 8), dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="anchorfield-bench-") as folder:
        fields = {f"field_{i}": layout.StoredField(values=values[:, i : i + 1]) for i in range(8)}
        branch = layout.StoredBranch(position=values[:, :3], measure=np.ones(count, np.float32), fields=fields)
        body = layout.StoredGeometry(vertices=np.zeros((3, 3)), triangles=np.array([[0, 1, 2]]))
        opened = _one_case_store(Path(folder), branch, body, write_case)
        case: StoredCase = opened.case("big")
        names = ["position", *fields]
        starts = iter(np.random.default_rng(1).integers(0, count - block, 1000))

        def read() -> object:
            start = int(next(starts))
            return case.read("volume", start, start + block, names)

        def whole() -> object:
            return case.read("volume", 0, count, names)

        path = Path(folder) / "cases" / "big.h5"
        size = block * 11 * 4
        descriptor = os.open(path, os.O_RDONLY)
        floor = median(lambda: os.pread(descriptor, size, int(next(starts)) * 4), 50)
        os.close(descriptor)
        return [
            ("16,384 of 8.8 M points, 8 fields", median(read, 50), "the same bytes by pread", floor),
            ("all of 8.8 M points, 8 fields", median(whole, 3), "", None),
        ]


def _one_case_store(folder: Path, branch: object, body: object, write_case: Callable) -> object:
    from meshes.stores.layout import FORMAT, sha256, write_json
    from meshes.stores.reader import Store

    path = folder / "cases" / "big.h5"
    write_case(path, branches={"volume": branch}, geometry=body, parameters={}, condition={}, record={})
    entry = {
        "file": "cases/big.h5",
        "counts": {"volume": len(branch.position)},
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
    }
    write_json(folder / "statistics.json", {})
    write_json(
        folder / "manifest.json",
        {
            "format": FORMAT,
            "space": ["x", "y", "z"],
            "branches": {"volume": "volume"},
            "fields": {"volume": {}},
            "conditions": [],
            "splits": {"training": ["big"], "validation": [], "test": []},
            "cases": {"big": entry},
        },
    )
    return Store(folder)


def neighbours() -> list[Row]:
    """Find the radius neighbours of 16,384 centres among 65,536 points, beside `KDTree` alone."""
    from scipy.spatial import KDTree

    from meshes.neighbours import radius

    generator = np.random.default_rng(0)
    points = generator.random((65_536, 3))
    centres = points[:16_384]
    reach = 0.035  # about 12 neighbours
    ours = median(lambda: radius(points, centres, reach, max_count=32))
    tree = median(lambda: KDTree(points).query(centres, k=32, distance_upper_bound=reach))
    return [("radius, 16,384 centres of 65,536 points", ours, "KDTree(points).query", tree)]


def neighbours_on_gpu() -> list[Row]:
    """Find them on a GPU, beside every distance and `topk`; nothing where there is none."""
    import torch

    from neuralop.functional.radius import cell_list, radius, radius_padded

    if not torch.cuda.is_available():
        return []

    def events(work: Callable[[], object], repeats: int = 200) -> float:
        for _ in range(3):
            work()
        marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
        for begin, end in marks:
            begin.record()
            work()
            end.record()
        torch.cuda.synchronize()
        return statistics.median(1e-3 * begin.elapsed_time(end) for begin, end in marks)

    def captured(work: Callable[[], object]) -> Callable[[], object]:
        work()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay

    def uniform(count: int) -> torch.Tensor:
        return torch.rand(count, 3, generator=torch.Generator().manual_seed(0)).cuda()

    points = uniform(65_536)
    centres = points[:16_384]
    pairs = events(lambda: torch.cdist(centres, points).topk(32, largest=False), 20)
    name, card = "16,384 centres of 65,536 points", torch.cuda.get_device_name()
    rows = []
    for reach in (0.035, 0.1, 0.3):  # about 12, 250 and 5,000 within
        given = (points, centres, reach, 32)
        what = f"{name}, radius {reach}, {card}"
        rows += [
            (
                f"radius_padded, replayed, {what}",
                events(captured(lambda g=given: radius_padded(*g))),
                "cdist, topk",
                pairs,
            ),
            (f"radius_padded, {what}", events(lambda g=given: radius_padded(*g)), "cdist, topk", pairs),
            (f"radius, {what}", events(lambda g=given: radius(*g), 50), "cdist, topk", pairs),
        ]
        if reach < 0.3:
            rows.append((f"cell_list, {what}", events(lambda g=given: cell_list(*g), 10), "cdist, topk", pairs))
    many = uniform(10_000_000)
    given = (many, many[:1_000_000], 0.0066, 32)  # about 12 within
    rows.append(
        (f"radius_padded, 1 M centres of 10 M points, {card}", events(lambda: radius_padded(*given), 20), "", None)
    )
    return rows


def geometry() -> list[Row]:
    """Measure the exact wall distance of 100,000 points from 20,480 triangles, beside the nearest triangle centre."""
    from scipy.spatial import KDTree

    from meshes.geometry.wall_distance import ClosestPoints
    from pipelines.generate.stokes import icosphere

    vertices, triangles = icosphere(5)
    position = np.random.default_rng(0).uniform(-3, 3, (100_000, 3))
    body = ClosestPoints(vertices, triangles)
    centres = KDTree(vertices[triangles].mean(1))
    ours = median(lambda: body.query(position), 5)
    return [
        (
            "wall distance, 100,000 points, 20,480 triangles",
            ours,
            "nearest centre by KDTree",
            median(lambda: centres.query(position), 5),
        )
    ]


def operator() -> list[Row]:
    """Train a step and decode with the small operator, beside their matrix products alone."""
    import torch

    from neuralop.operators import ABUPTConfig
    from neuralop.points import Points

    config = ABUPTConfig(width=96, trunk=("perceiver", "self", "cross", "self"), depth=1, supernodes=256, radius=0.1)
    model = config.build(
        space=3, branches={"surface": {"pressure": 1, "shear": 3}, "volume": {"pressure": 1, "velocity": 3}}
    )
    draw = torch.Generator().manual_seed(0)

    def places(count: int) -> Points:
        return Points(torch.rand(1, count, 3, generator=draw))

    body, anchors = places(1024), {"surface": places(512), "volume": places(512)}
    queries = {"surface": places(1024), "volume": places(1024)}

    def step() -> None:
        context = model.encode(body, anchors)
        loss = sum(
            part.square().mean()
            for branch, where in queries.items()
            for part in model.decode(context, branch, where).values()
        )
        loss.backward()
        model.zero_grad()

    many = places(65_536)
    with torch.no_grad():
        context = model.encode(body, anchors)

    def decode() -> None:
        with torch.no_grad():
            model.decode(context, "volume", many)

    tokens, width = 3 * 1024 + 256, 96
    a, b = torch.rand(tokens, width), torch.rand(width, 4 * width)

    def products() -> None:  # 6 blocks, 3 products of 4 width² each, forward once and backward twice
        for _ in range(6 * 3 * 3):
            a @ b

    wide = torch.rand(65_536, width)

    def decode_products() -> None:
        for _ in range(5 * 3):
            wide @ b

    return [
        ("training step, 96 wide, 1,024 anchors, 2,048 queries", median(step), "its linear maps", median(products)),
        ("decode of 65,536 queries, 96 wide", median(decode, 3), "its linear maps", median(decode_products, 3)),
    ]


BENCHMARKS = (command_line, store, neighbours, neighbours_on_gpu, geometry, operator)


def main(names: list[str]) -> None:
    """Print a table of the benchmarks with these names, or of all."""
    print(f"{date.today()} · {platform.processor() or platform.machine()} · {os.cpu_count()} cores\n")
    print("| what | median | floor | median | ratio |\n| --- | ---: | --- | ---: | ---: |")
    for benchmark in BENCHMARKS:
        if names and benchmark.__name__ not in names:
            continue
        for what, seconds, floor, least in benchmark():
            end = f"{1e3 * least:.2f} ms | {seconds / least:.1f}" if least else " | "
            print(f"| {what} | {1e3 * seconds:.2f} ms | {floor} | {end} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
