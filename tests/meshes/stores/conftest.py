"""Stores small enough for every test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_cases import make_case

from meshes.statistics import Moments
from meshes.stores import Store, write_case
from meshes.stores.layout import FORMAT, MANIFEST, STATISTICS, sha256, write_json


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Store]:
    """Return a function that writes a store of some cases."""

    def make(counts: dict[str, int], **options) -> Store:
        cases, moments = {}, []
        for seed, (name, count) in enumerate(counts.items()):
            case = make_case(count, seed)
            path = tmp_path / "cases" / f"{name}.h5"
            write_case(path, **case, **options)
            moments.append(Moments.of(case["branches"]["volume"].fields["velocity"].non_dimensional()))
            cases[name] = {
                "file": f"cases/{name}.h5",
                "counts": {"surface": count, "volume": 2 * count},
                "bytes": path.stat().st_size,
                "sha256": sha256(path),
            }
        specs = {
            "surface": {"pressure": {"array": "p", "unit": "Pa"}},
            "volume": {"velocity": {"array": "U", "unit": "m/s", "kind": "vector", "free_stream": ["speed", "0", "0"]}},
        }
        write_json(
            tmp_path / MANIFEST,
            {
                "format": FORMAT,
                "space": ["x", "y", "z"],
                "branches": {"surface": "surface", "volume": "volume"},
                "fields": specs,
                "conditions": ["speed"],
                "splits": {"training": list(counts), "validation": [], "test": []},
                "cases": cases,
            },
        )
        speed = Moments.of(np.arange(30.0, 30 + len(counts))[:, None])
        write_json(
            tmp_path / STATISTICS,
            {
                "format": FORMAT,
                "fields": {"volume": {"velocity": moments[0].to_json()}},
                "parameters": {"speed": speed.to_json()},
                "body": {"length": speed.to_json()},
                "bounds": {"volume": [[0, 0, 0], [1, 1, 1]]},
                "cell_size": {"volume": 0.1},
            },
        )
        return Store(tmp_path)

    return make
