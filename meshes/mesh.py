"""One immutable value for everything that is meshed: points, cells, and data on either."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8


@dataclass(frozen=True, eq=False, kw_only=True)
class Mesh:
    """Points, cells of any kind, and arrays on points, on cells or on the whole.

    Cell `c` uses the points `connectivity[offsets[c]:offsets[c + 1]]`; `types` holds VTK's cell types. A polyhedron
    (type 42) also has faces: cell `c` owns the faces `polyhedron_offsets[c]:polyhedron_offsets[c + 1]` (an empty run
    for every other cell), and face `f` uses the points `face_connectivity[face_offsets[f]:face_offsets[f + 1]]`.

    Attributes:
        points: positions [m], float32 or float64 as the file had them.
        point_data, cell_data: arrays whose first axis runs over points or cells.
        field_data: arrays of any length that belong to the whole mesh.
        source: the file it came from, for messages.
    """

    points: Float[np.ndarray, "point 3"]
    connectivity: Int[np.ndarray, " corner"]
    offsets: Int[np.ndarray, " cell_plus_one"]
    types: UInt8[np.ndarray, " cell"]
    face_connectivity: Int[np.ndarray, " face_corner"] | None = None
    face_offsets: Int[np.ndarray, " face_plus_one"] | None = None
    polyhedron_offsets: Int[np.ndarray, " cell_plus_one"] | None = None
    point_data: Mapping[str, Shaped[np.ndarray, "point ..."]] = field(default_factory=dict)
    cell_data: Mapping[str, Shaped[np.ndarray, "cell ..."]] = field(default_factory=dict)
    field_data: Mapping[str, np.ndarray] = field(default_factory=dict)
    source: str = ""
