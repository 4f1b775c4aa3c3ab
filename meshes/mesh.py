"""One immutable value for everything that is meshed: points, cells, and data on either."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from meshes.kinds import POLYHEDRON, TRIANGLE, dimensions, name_of

if TYPE_CHECKING:
    import pyvista


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

    Raises:
        ValueError: the parts do not fit together: lengths, offsets that decrease, indices of points that are not there.
    """

    points: Float[np.ndarray, "point 3"]
    connectivity: Int[np.ndarray, " corner"]
    offsets: Int[np.ndarray, " cell_plus_one"]
    types: UInt8[np.ndarray, " cell"]
    face_connectivity: Int[np.ndarray, " face_corner"] | None = None
    face_offsets: Int[np.ndarray, " face_plus_one"] | None = None
    polyhedron_offsets: Int[np.ndarray, " cell_plus_one"] | None = None
    point_data: Mapping[str, Shaped[np.ndarray, "..."]] = field(default_factory=dict)
    cell_data: Mapping[str, Shaped[np.ndarray, "..."]] = field(default_factory=dict)
    field_data: Mapping[str, np.ndarray] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        if len(self.offsets) != self.n_cells + 1:
            raise ValueError(f"{self._who} has {self.n_cells} types but {len(self.offsets)} offsets; expected one more")
        self._check_runs("offsets", self.offsets, len(self.connectivity))
        self._check_indices("connectivity", self.connectivity)
        self._check_polyhedra()
        for place, arrays, count in (("point", self.point_data, self.n_points), ("cell", self.cell_data, self.n_cells)):
            for name, array in arrays.items():
                if array.ndim == 0 or len(array) != count:
                    message = f"the {place} array {name!r} of {self._who} has shape {array.shape}"
                    raise ValueError(f"{message}; expected {count} rows, one for each {place}")

    @property
    def _who(self) -> str:
        return self.source or "the mesh"

    def _check_runs(self, name: str, offsets: np.ndarray, total: int) -> None:
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
            ends = f"{offsets[0]} to {offsets[-1]}" if len(offsets) else "empty"
            raise ValueError(f"{name} of {self._who} run from {ends}; expected increasing numbers from 0 to {total}")

    def _check_indices(self, name: str, indices: np.ndarray) -> None:
        if len(indices) and (indices.min() < 0 or indices.max() >= self.n_points):
            message = f"{name} of {self._who} holds indices from {indices.min()} to {indices.max()}"
            raise ValueError(f"{message}, but there are {self.n_points} points")

    def _check_polyhedra(self) -> None:
        faces, face_offsets, polyhedron_offsets = self.face_connectivity, self.face_offsets, self.polyhedron_offsets
        if faces is None or face_offsets is None or polyhedron_offsets is None:
            given = [part for part in (faces, face_offsets, polyhedron_offsets) if part is not None]
            if given or (self.types == POLYHEDRON).any():
                names = "face_connectivity, face_offsets and polyhedron_offsets"
                raise ValueError(f"{self._who} has polyhedra but not all of {names}")
            return
        if len(polyhedron_offsets) != self.n_cells + 1:
            message = f"{self._who} has {self.n_cells} cells but {len(polyhedron_offsets)} polyhedron_offsets"
            raise ValueError(f"{message}; expected one more than cells")
        self._check_runs("face_offsets", face_offsets, len(faces))
        self._check_runs("polyhedron_offsets", polyhedron_offsets, len(face_offsets) - 1)
        self._check_indices("face_connectivity", faces)
        has_faces = np.diff(polyhedron_offsets) > 0
        if (has_faces != (self.types == POLYHEDRON)).any():
            cell = int(np.flatnonzero(has_faces != (self.types == POLYHEDRON))[0])
            state = "no faces" if self.types[cell] == POLYHEDRON else "faces of its own"
            raise ValueError(f"cell {cell} of {self._who} is a {name_of(self.types[cell])} and has {state}")

    @property
    def n_points(self) -> int:
        """How many points there are, used by a cell or not."""
        return len(self.points)

    @property
    def n_cells(self) -> int:
        """How many cells there are."""
        return len(self.types)

    @property
    def is_surface(self) -> bool:
        """Whether there are cells and all of them are two-dimensional."""
        return self.n_cells > 0 and bool((dimensions(self.types) == 2).all())

    def with_data(
        self,
        *,
        point_data: Mapping[str, Shaped[np.ndarray, "point ..."]] | None = None,
        cell_data: Mapping[str, Shaped[np.ndarray, "cell ..."]] | None = None,
        field_data: Mapping[str, np.ndarray] | None = None,
    ) -> "Mesh":
        """Return the same mesh with arrays added; those of the same name are replaced."""
        return replace(
            self,
            point_data={**self.point_data, **(point_data or {})},
            cell_data={**self.cell_data, **(cell_data or {})},
            field_data={**self.field_data, **(field_data or {})},
        )

    @classmethod
    def from_triangles(
        cls,
        vertices: Float[np.ndarray, "vertex 3"],
        triangles: Int[np.ndarray, "triangle 3"],
        *,
        point_data: Mapping[str, Shaped[np.ndarray, "vertex ..."]] | None = None,
        cell_data: Mapping[str, Shaped[np.ndarray, "triangle ..."]] | None = None,
        source: str = "",
    ) -> "Mesh":
        """Make a surface of triangles.

        Args:
            vertices: corner positions [m].
            triangles: rows of three indices into `vertices`.
            point_data: arrays on vertices.
            cell_data: arrays on triangles.
            source: where it came from, for messages.
        """
        return cls(
            points=vertices,
            connectivity=np.ascontiguousarray(triangles, np.int64).reshape(-1),
            offsets=3 * np.arange(len(triangles) + 1),
            types=np.full(len(triangles), TRIANGLE, np.uint8),
            point_data=point_data or {},
            cell_data=cell_data or {},
            source=source,
        )

    @classmethod
    def from_pyvista(cls, dataset: "pyvista.DataSet", source: str = "") -> "Mesh":
        """Take a dataset of PyVista or VTK; a structured grid becomes unstructured.

        Arrays that already lie right in memory are shared, not copied.

        Raises:
            TypeError: it is a composite dataset or a table, which are no single mesh.
        """
        from meshes.conversion import parts_of

        return cls(**parts_of(dataset), source=source)

    def to_pyvista(self) -> "pyvista.PolyData | pyvista.UnstructuredGrid":
        """Return PolyData where all cells are triangles, quads or polygons, else an UnstructuredGrid."""
        from meshes.conversion import dataset_of

        return dataset_of(self)
