"""VTK's kinds of cells: names, dimensions, and the linear cell that each has at its corners."""

from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

VERTEX, POLY_VERTEX, LINE, POLY_LINE, TRIANGLE, TRIANGLE_STRIP, POLYGON, PIXEL, QUAD = range(1, 10)
TETRA, VOXEL, HEXAHEDRON, WEDGE, PYRAMID, PENTAGONAL_PRISM, HEXAGONAL_PRISM = range(10, 17)
QUADRATIC_POLYGON, POLYHEDRON = 36, 42

NAMES = {
    0: "empty", VERTEX: "vertex", POLY_VERTEX: "poly-vertex", LINE: "line", POLY_LINE: "poly-line",
    TRIANGLE: "triangle", TRIANGLE_STRIP: "triangle strip", POLYGON: "polygon", PIXEL: "pixel", QUAD: "quad",
    TETRA: "tetrahedron", VOXEL: "voxel", HEXAHEDRON: "hexahedron", WEDGE: "wedge", PYRAMID: "pyramid",
    PENTAGONAL_PRISM: "pentagonal prism", HEXAGONAL_PRISM: "hexagonal prism",
    21: "quadratic edge", 22: "quadratic triangle", 23: "quadratic quad", 24: "quadratic tetrahedron",
    25: "quadratic hexahedron", 26: "quadratic wedge", 27: "quadratic pyramid", 28: "biquadratic quad",
    29: "triquadratic hexahedron", 30: "quadratic-linear quad", 31: "quadratic-linear wedge",
    32: "biquadratic-quadratic wedge", 33: "biquadratic-quadratic hexahedron", 34: "biquadratic triangle",
    35: "cubic line", QUADRATIC_POLYGON: "quadratic polygon", 37: "triquadratic pyramid", POLYHEDRON: "polyhedron",
    68: "Lagrange curve", 69: "Lagrange triangle", 70: "Lagrange quad", 71: "Lagrange tetrahedron",
    72: "Lagrange hexahedron", 73: "Lagrange wedge", 74: "Lagrange pyramid", 75: "Bézier curve",
    76: "Bézier triangle", 77: "Bézier quad", 78: "Bézier tetrahedron", 79: "Bézier hexahedron", 80: "Bézier wedge",
    81: "Bézier pyramid",
}  # fmt: skip

# The corners of a curved cell are its first points, in the order of the linear cell.
LINEAR = {
    **dict.fromkeys((21, 35, 68, 75), LINE),
    **dict.fromkeys((22, 34, 69, 76), TRIANGLE),
    **dict.fromkeys((23, 28, 30, 70, 77), QUAD),
    **dict.fromkeys((24, 71, 78), TETRA),
    **dict.fromkeys((25, 29, 33, 72, 79), HEXAHEDRON),
    **dict.fromkeys((26, 31, 32, 73, 80), WEDGE),
    **dict.fromkeys((27, 37, 74, 81), PYRAMID),
    QUADRATIC_POLYGON: POLYGON,
}
CORNERS = {
    VERTEX: 1, LINE: 2, TRIANGLE: 3, PIXEL: 4, QUAD: 4, TETRA: 4, VOXEL: 8, HEXAHEDRON: 8, WEDGE: 6, PYRAMID: 5,
    PENTAGONAL_PRISM: 10, HEXAGONAL_PRISM: 12,
}  # fmt: skip

_DIMENSION = np.full(256, -1)
_DIMENSION[[0, VERTEX, POLY_VERTEX]] = 0
_DIMENSION[[LINE, POLY_LINE]] = 1
_DIMENSION[[TRIANGLE, TRIANGLE_STRIP, POLYGON, PIXEL, QUAD]] = 2
_DIMENSION[TETRA : HEXAGONAL_PRISM + 1] = 3
_DIMENSION[POLYHEDRON] = 3
for _curved, _linear in LINEAR.items():
    _DIMENSION[_curved] = _DIMENSION[_linear]


def dimensions(types: UInt8[np.ndarray, " cell"]) -> Int[np.ndarray, " cell"]:
    """Return 0, 1, 2 or 3 for each cell; -1 for kinds that are not known here."""
    return _DIMENSION[types]


def name_of(kind: Any) -> str:
    """Name a kind of cell for people."""
    return NAMES.get(int(kind), f"cell type {int(kind)}")
