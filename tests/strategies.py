"""Hypothesis strategies: meshes of random cells of mixed kinds with arrays of mixed types."""

import numpy as np
from hypothesis import strategies as st

from meshes.kinds import (
    HEXAHEDRON,
    LINE,
    PIXEL,
    POLY_LINE,
    POLY_VERTEX,
    POLYGON,
    POLYHEDRON,
    PYRAMID,
    QUAD,
    TETRA,
    TRIANGLE,
    TRIANGLE_STRIP,
    VERTEX,
    VOXEL,
    WEDGE,
)
from meshes.mesh import Mesh

SIZES = {
    VERTEX: 1, LINE: 2, TRIANGLE: 3, PIXEL: 4, QUAD: 4, TETRA: 4, VOXEL: 8, HEXAHEDRON: 8, WEDGE: 6, PYRAMID: 5,
    22: 6, 24: 10, 25: 20,
}  # fmt: skip
VARIABLE = {POLY_VERTEX: 2, POLY_LINE: 3, POLYGON: 5, TRIANGLE_STRIP: 4}  # fewest points
SURFACE = (TRIANGLE, QUAD, POLYGON)
DTYPES = [np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")]
NAMES = ["p", "U", "wall shear", "a<b>&\"c'", "τ_w", "yPlus"]


@st.composite
def meshes(draw: st.DrawFn, *, kinds: tuple[int, ...] | None = None, arrays: bool = True) -> Mesh:
    """Draw a mesh of one to six cells; points may be shared, unused or in the same place."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    kinds = kinds or (*SIZES, *VARIABLE, POLYHEDRON)
    types = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=6))
    points = rng.normal(size=(draw(st.integers(30, 40)), 3)).astype(draw(st.sampled_from(["f4", "f8"])))
    corners, faces, face_counts = [], [], []
    for kind in types:
        own = []
        if kind == POLYHEDRON:
            own = _polyhedron(rng, len(points))
            corners.append(np.unique(np.concatenate(own)))
        else:
            size = SIZES.get(kind) or VARIABLE[kind] + int(rng.integers(3))
            corners.append(rng.choice(len(points), size, replace=False))
        faces += own
        face_counts.append(len(own))
    polyhedral = bool(faces)
    n_points, n_cells = len(points), len(types)
    return Mesh(
        points=points,
        connectivity=np.concatenate(corners),
        offsets=offsets_of([len(each) for each in corners]),
        types=np.array(types, np.uint8),
        face_connectivity=np.concatenate(faces) if polyhedral else None,
        face_offsets=offsets_of([len(each) for each in faces]) if polyhedral else None,
        polyhedron_offsets=offsets_of(face_counts) if polyhedral else None,
        point_data=draw(_data(n_points, rng)) if arrays else {},
        cell_data=draw(_data(n_cells, rng)) if arrays else {},
        field_data={"TimeValue": np.array([0.5]), "note": np.array(["RANS", "x≥0"])} if arrays else {},
    )


def offsets_of(sizes: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.array(sizes, np.int64))])


def _polyhedron(rng: np.random.Generator, n_points: int) -> list[np.ndarray]:
    """Faces of a prism on a polygon of three to six corners, some of them turned over."""
    size = int(rng.integers(3, 7))
    low, high = rng.choice(n_points, (2, size), replace=False)
    sides = [np.array([low[i], low[(i + 1) % size], high[(i + 1) % size], high[i]]) for i in range(size)]
    return [face[::-1] if rng.random() < 0.5 else face for face in (low, high, *sides)]


@st.composite
def _data(draw: st.DrawFn, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    arrays = {}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True)):
        dtype = draw(st.sampled_from(DTYPES))
        components = draw(st.sampled_from([None, 2, 3, 6, 9]))
        shape = (count,) if components is None else (count, components)
        values = rng.normal(size=shape) * 50 if dtype.kind == "f" else rng.integers(0, 100, shape)
        arrays[name] = values.astype(dtype)
    return arrays
