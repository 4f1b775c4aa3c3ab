"""Cases small enough for every test."""

import numpy as np

from meshes.stores import StoredBranch, StoredField, StoredGeometry

SCALE, FREE_STREAM = 30.0, (30.0, 0.0, -1.5)


def make_case(count: int, seed: int = 0) -> dict:
    """Draw what `write_case` takes: a surface of `count` points and a volume of twice as many."""
    rng = np.random.default_rng(seed)
    velocity = StoredField(
        values=(np.array(FREE_STREAM) + 5 * rng.normal(size=(2 * count, 3))).astype(np.float32),
        scale=SCALE,
        free_stream=FREE_STREAM,
    )
    pressure = StoredField(values=rng.normal(size=(count, 1)).astype(np.float32))
    normal = rng.normal(size=(count, 3))
    return {
        "branches": {
            "surface": StoredBranch(
                position=rng.random((count, 3)), measure=rng.random(count), normal=normal, fields={"pressure": pressure}
            ),
            "volume": StoredBranch(
                position=rng.random((2 * count, 3)),
                measure=rng.random(2 * count),
                normal=rng.normal(size=(2 * count, 3)),
                distance=rng.random(2 * count),
                source=np.arange(2 * count) * 3,
                fields={"velocity": velocity},
            ),
        },
        "geometry": StoredGeometry(vertices=rng.random((4, 3)), triangles=np.array([[0, 1, 2], [0, 2, 3]])),
        "parameters": {"speed": 30.0 + seed, "angle": 1e-4},
        "condition": {"speed": 30.0 + seed},
        "record": {"digest": "none"},
    }
