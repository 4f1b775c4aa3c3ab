"""Time AB-UPT on a GPU beside its attention alone: `python -m benchmarks.gpu STORE [step small decode]`.

STORE is the store of `anchorfield prepare ahmed`, which says which fields there are; places and values are random.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from meshes.stores import Store
from neuralop.points import Points
from pipelines.batches import Batch
from pipelines.capture import compile_regions
from pipelines.config import compose, from_dict
from pipelines.trainer import Trainer, build_trainer

TRUNK = ["perceiver", "self", "cross", "self", "cross", "self"]
REFERENCE = {"geometry": 65_536, "supernodes": 16_384, "surface": 16_384, "volume": 16_384}
# Queries of 3 heads that the 132 processors of an H100 attend to at once, 128 in each.
WAVE = 132 * 128 // 3
SMALL = {"geometry": 2_048, "supernodes": 512, "surface": 144, "volume": 4_096}


def milliseconds(work: Callable[[], object], repeats: int = 20, warm: int = 5) -> float:
    """Median time of a call between two events on the GPU, after some that warm up."""
    for _ in range(warm):
        work()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def trainer(store: Path, sizes: dict[str, int], **settings: Any) -> Trainer:
    """Build the trainer of the published layout: width 192, 3 heads, 6 blocks in the trunk and 6 for each branch."""
    operator = {"kind": "ab_upt", "trunk": TRUNK, "depth": 6, "supernodes": sizes["supernodes"], "radius": 0.035}
    training = {
        "steps": 1000,
        "precision": "bfloat16",
        "optimiser": {"kind": "muon"},
        "loss": {"anchors": 1.0, "queries": 0.0},
        "sampling": {"geometry": 64, "anchors": 64, "queries": 0},
        "device": "cuda",
        **settings,
    }
    tree = compose("ahmed", [f"data.store={store}", "tracking.kind=none"])
    return build_trainer(from_dict(tree | {"operator": operator, "training": training}), Store(store))


def batch(of: Trainer, sizes: dict[str, int], seed: int) -> Batch:
    """Draw random places and values of these sizes, in pinned memory."""
    generator = torch.Generator().manual_seed(seed)
    spec, space = of.spec, len(of.spec.space)
    widths = {name: sum(each.values()) for name, each in spec.feature_widths().items()}

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def points(name: str) -> Points:
        count, width = sizes[name], widths.get(name, 0)
        return Points(random(1, count, space), features=random(1, count, width) if width else None)

    values = {
        branch: {name: random(1, sizes[branch], spec.components(branch, name)) for name in fields}
        for branch, fields in spec.fields.items()
    }
    return Batch(
        cases=("random",),
        geometry=points("geometry"),
        anchors={branch: points(branch) for branch in spec.fields},
        queries={},
        anchor_values=values,
        query_values={},
        condition=random(1, len(spec.conditions)) if spec.conditions else None,
    ).map(Tensor.pin_memory)


def step(store: Path, sizes: dict[str, int]) -> None:
    """Train a step as it is, captured, and captured after compiling."""
    for capture, compiled in ((False, False), (True, False), (True, True)):
        began = time.perf_counter()
        one = trainer(store, sizes, capture=capture, compile=compiled)
        drawn = [batch(one, sizes, seed) for seed in range(4)]

        def cycle(drawn: list[Batch] = drawn) -> Iterator[Batch]:
            while True:
                yield from drawn

        stream = cycle()
        torch.cuda.reset_peak_memory_stats()
        one.update(stream)
        torch.cuda.synchronize()
        first = time.perf_counter() - began
        median = milliseconds(lambda one=one, stream=stream: one.update(stream))
        how = "captured, compiled" if compiled else "captured" if capture else "as it is"
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"| training step, {how} | {median:.2f} ms | {peak:.1f} GiB | first after {first:.0f} s |", flush=True)
        del one


def attentions(sizes: dict[str, int]) -> list[tuple[int, int]]:
    """List the attentions of one pass of the published layout as numbers of queries and keys."""
    surface, volume, body = sizes["surface"], sizes["volume"], sizes["supernodes"]
    own, other = [(surface, surface), (volume, volume)], [(surface, volume), (volume, surface)]
    return [(body, body), (surface, body), (volume, body), *(own + other) * 2, *own, *own * 6]


def floor(sizes: dict[str, int]) -> None:
    """Do the attentions alone, forward and backward."""
    tensors = {
        count: [torch.randn(1, 3, count, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in "qkv"]
        for count in {count for pair in attentions(sizes) for count in pair}
    }

    def work() -> None:
        for queries, keys in attentions(sizes):
            out = scaled_dot_product_attention(tensors[queries][0], tensors[keys][1], tensors[keys][2])
            out.backward(out.detach())

    print(f"| its attentions alone | {milliseconds(work):.2f} ms | | |", flush=True)


@torch.inference_mode()
def decode(store: Path, sizes: dict[str, int], count: int = 1 << 20) -> None:
    """Decode queries of both branches against a cached context, beside its attentions and linear maps alone."""
    one = trainer(store, sizes, capture=False)
    operator = one.operator.eval()
    given = batch(one, sizes, 0).to(one.device)
    for how, chunk in (("as it is", 1 << 17), *(("compiled", WAVE * waves) for waves in (4, 6, 8, 12, 24))):
        if how == "compiled" and chunk == 4 * WAVE:
            compile_regions(operator)
        queries = {
            branch: batch(one, sizes | {branch: chunk}, 1).to(one.device).anchors[branch] for branch in one.spec.fields
        }
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            context = operator.encode(given.geometry, given.anchors, condition=given.condition)

            def work(context: Any = context, queries: Any = queries) -> None:
                for branch, where in queries.items():
                    operator.decode(context, branch, where)

            replay = work
            if how == "compiled":
                for _ in range(3):
                    work()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    work()
                replay = graph.replay
            calls = round(count / chunk)
            median = milliseconds(lambda replay=replay, n=calls: [replay() for _ in range(n)], repeats=5, warm=2)
        done, rate = calls * chunk, 2e-3 * calls * chunk / median
        print(f"| decode 2 × {done:,} in chunks of {chunk:,}, {how} | {median:.0f} ms | {rate:.3f} M/s | |", flush=True)

    chunk = 12 * WAVE
    width, keys = 192, {name: sizes[name] for name in ("supernodes", "surface", "volume")}
    cached = {
        name: [torch.randn(1, 3, size, 64, device="cuda", dtype=torch.bfloat16) for _ in "kv"]
        for name, size in keys.items()
    }
    x = torch.randn(chunk, width, device="cuda", dtype=torch.bfloat16)
    maps = [
        torch.nn.Linear(a, b, device="cuda", dtype=torch.bfloat16)
        for a, b in ((192, 192), (192, 192), (192, 1024), (512, 192))
    ]
    hidden = torch.randn(chunk, 512, device="cuda", dtype=torch.bfloat16)
    query = x.view(1, chunk, 3, 64).transpose(1, 2)

    def bare() -> None:
        for _ in range(2 * round(count / chunk)):
            for name in ("supernodes", *["surface", "volume"] * 5, "volume"):
                scaled_dot_product_attention(query, cached[name][0], cached[name][1])
                for linear in maps[:3]:
                    linear(x)
                maps[3](hidden)

    median = milliseconds(bare, repeats=5, warm=2)
    rate = 2e-3 * round(count / chunk) * chunk / median
    print(f"| its attentions and linear maps alone | {median:.0f} ms | {rate:.3f} M/s | |", flush=True)


def profile(store: Path, sizes: dict[str, int]) -> None:
    """Show which kernels a captured, compiled step spends its time in."""
    one = trainer(store, sizes, capture=False, compile=True)
    drawn = [batch(one, sizes, 0)]
    for _ in range(3):
        one.update(iter(drawn))
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        one.update(iter(drawn))
        torch.cuda.synchronize()
    events = seen.key_averages()
    for order in (lambda event: -event.self_device_time_total, lambda event: -event.count):
        for event in sorted(events, key=order)[:40]:
            print(f"{event.self_device_time_total / 1e3:8.3f} ms {event.count:5d} × {event.key[:110]}")
        print()
    total, launches = (sum(getattr(event, name) for event in events) for name in ("self_device_time_total", "count"))
    print(f"{total / 1e3:8.3f} ms, {launches} launches")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("what", nargs="*", default=["step", "small", "decode"])
    asked = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    for what in asked.what:
        print(f"\n{what}")
        if what in ("step", "small"):
            sizes = REFERENCE if what == "step" else SMALL
            step(asked.store, sizes)
            floor(sizes)
        elif what == "profile":
            profile(asked.store, REFERENCE)
        elif what == "profile_small":
            profile(asked.store, SMALL)
        else:
            decode(asked.store, REFERENCE)


if __name__ == "__main__":
    main()
