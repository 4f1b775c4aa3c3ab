"""Remake the golden store of format 1: `python tests/meshes/stores/make_golden.py`. Old formats are never remade."""

from pathlib import Path

from small_cases import make_case

from meshes.stores import write_case
from meshes.stores.layout import MANIFEST, STATISTICS, sha256, write_json

if __name__ == "__main__":
    folder = Path(__file__).parent / "golden"
    path = folder / "cases" / "a.h5"
    write_case(path, **make_case(6))
    case = {"file": "cases/a.h5", "counts": {"surface": 6, "volume": 12}, "bytes": path.stat().st_size}
    write_json(
        folder / MANIFEST,
        {
            "format": 1,
            "space": ["x", "y", "z"],
            "branches": {"surface": "surface", "volume": "volume"},
            "fields": {
                "surface": {"pressure": {"array": "p", "unit": "Pa"}},
                "volume": {"velocity": {"array": "U", "unit": "m/s", "kind": "vector"}},
            },
            "conditions": ["speed"],
            "splits": {"training": ["a"], "validation": [], "test": []},
            "cases": {"a": case | {"sha256": sha256(path)}},
        },
    )
    write_json(
        folder / STATISTICS, {"format": 1, "fields": {}, "parameters": {}, "body": {}, "bounds": {}, "cell_size": {}}
    )
