"""Bodies that are their own mirror image: folding places to one half, cutting surfaces, and making halves whole."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from meshes.fields import FieldKind
from meshes.mesh import Mesh

# How the points of a mirrored cell are listed, so that it is not inside out, by VTK's cell type.
_MIRRORED = {
    1: (0,), 3: (0, 1), 5: (2, 1, 0), 8: (1, 0, 3, 2), 9: (3, 2, 1, 0), 10: (1, 0, 2, 3), 11: (1, 0, 3, 2, 5, 4, 7, 6),
    12: (4, 5, 6, 7, 0, 1, 2, 3), 13: (3, 4, 5, 0, 1, 2), 14: (3, 2, 1, 0, 4),
}  # fmt: skip
_POLYGON, _POLYHEDRON = 7, 42
# Points this close to the plane, in parts of the largest coordinate, lie in it: STL stores seven digits.
SNAP = 1e-7


@dataclass(frozen=True)
class Mirror:
    """The plane through the origin across one axis. The half with coordinates ≥ 0 is the one that is kept.

    Attributes:
        axis: 0, 1 or 2.
    """

    axis: int

    def __post_init__(self) -> None:
        if self.axis not in (0, 1, 2):
            raise ValueError(f"the mirror's axis is {self.axis}; expected 0, 1 or 2")

    def fold(
        self, position: Float[np.ndarray, "point space"]
    ) -> tuple[Float[np.ndarray, "point space"], Bool[np.ndarray, " point"]]:
        """Bring places to the kept half, and tell which came from the other."""
        other = position[:, self.axis] < 0
        folded = position.copy()
        folded[other, self.axis] *= -1
        return folded, other

    def reflect(self, values: Float[np.ndarray, "point ..."], kind: FieldKind) -> Float[np.ndarray, "point ..."]:
        """Mirror the values of a field: a vector turns its component across the plane, a pseudovector the others.

        Raises:
            ValueError: a vector or pseudovector lacks the component across the plane.
        """
        if kind == "scalar":
            return values.copy()
        if values.ndim != 2 or values.shape[1] <= self.axis:
            raise ValueError(f"a {kind} of shape {values.shape} has no component {self.axis} to mirror")
        sign = np.where(np.arange(values.shape[1]) == self.axis, -1, 1).astype(values.dtype)
        return values * (sign if kind == "vector" else -sign)

    def clip(
        self, vertices: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]
    ) -> tuple[Float[np.ndarray, "kept_vertex 3"], Int[np.ndarray, "kept_triangle 3"]]:
        """Cut away the half with negative coordinates. The cut is open and lies in the plane exactly.

        Triangles in the plane itself go as well: the half is open there. Winding stays, and what was connected still
        is.

        Raises:
            ValueError: nothing is left.
        """
        vertices = np.array(vertices, np.float64)
        height = vertices[:, self.axis]
        height[np.abs(height) <= SNAP * np.abs(vertices).max(initial=0)] = 0
        side = np.sign(height)[triangles]
        whole = (side >= 0).all(1) & (side > 0).any(1)
        cut = (side > 0).any(1) & (side < 0).any(1)
        corners, side = triangles[cut], side[cut]
        edges, middle = self._crossings(vertices, corners, side)
        # Turn each triangle so that the corner alone on its side comes first; a corner in the plane comes last.
        level = (side == 0).any(1)
        lone = np.where((side > 0).sum(1) == 1, (side > 0).argmax(1), (side < 0).argmax(1))
        lone = np.where(level, ((side == 0).argmax(1) + 1) % 3, lone)
        turn = (lone[:, None] + np.arange(3)) % 3
        corners, side = np.take_along_axis(corners, turn, axis=1), np.take_along_axis(side, turn, axis=1)
        a, b, c = corners.T
        ab, ac = (len(vertices) + np.searchsorted(edges, _edge_keys(a, other, len(vertices))) for other in (b, c))
        up = side[:, 0] > 0
        pieces = [
            triangles[whole],
            *(
                np.stack(part, axis=1)[which]
                for which, part in (
                    (~level & up, (a, ab, ac)),
                    (~level & ~up, (ab, b, c)),
                    (~level & ~up, (ab, c, ac)),
                    (level & up, (a, ab, c)),
                    (level & ~up, (ab, b, c)),
                )
            ),
        ]
        result = np.concatenate(pieces)
        if not len(result):
            raise ValueError(
                f"no triangle lies on the positive side of axis {self.axis}; is the body on the other half?"
            )
        used = np.zeros(len(vertices) + len(middle), bool)
        used[result] = True
        return np.concatenate([vertices, middle])[used], (np.cumsum(used) - 1)[result]

    def _crossings(
        self, vertices: np.ndarray, triangles: np.ndarray, side: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the edges that cross the plane, as sorted keys, and where they do: one vertex for each edge."""
        crossing = side * np.roll(side, -1, axis=1) < 0
        first, second = triangles[crossing], np.roll(triangles, -1, axis=1)[crossing]
        edges = np.unique(_edge_keys(first, second, len(vertices)))
        low, high = vertices[edges // len(vertices)], vertices[edges % len(vertices)]
        part = low[:, self.axis] / (low[:, self.axis] - high[:, self.axis])
        middle = low + part[:, None] * (high - low)
        middle[:, self.axis] = 0
        return edges, middle

    def mirror(self, mesh: Mesh, kinds: Mapping[str, FieldKind] | None = None) -> Mesh:
        """Add the mirror image to a half, for a whole without a seam: points in the plane are shared.

        Args:
            mesh: cells of the first order, and polyhedra.
            kinds: how each array behaves; arrays of one component are scalars unless named.

        Raises:
            ValueError: an array of several components has no kind, or a cell's kind cannot be mirrored.
        """
        height = mesh.points[:, self.axis]
        seam = np.abs(height) <= SNAP * np.abs(mesh.points).max(initial=0)
        image = np.where(seam, np.arange(len(seam)), len(seam) + np.cumsum(~seam) - 1)
        points = mesh.points[~seam].copy()
        points[:, self.axis] *= -1

        corners = np.diff(mesh.offsets)
        connectivity = image[mesh.connectivity[self._reversed(mesh, corners)]]
        more: dict[str, np.ndarray] = {}
        if mesh.polyhedron_offsets is not None and mesh.face_offsets is not None and mesh.face_connectivity is not None:
            sides = np.diff(mesh.face_offsets)
            faces = image[mesh.face_connectivity[_backwards(mesh.face_offsets, np.ones(len(sides), bool))]]
            more = {
                "face_connectivity": np.concatenate([mesh.face_connectivity, faces]),
                "face_offsets": _continued(mesh.face_offsets),
                "polyhedron_offsets": _continued(mesh.polyhedron_offsets),
            }
        return replace(
            mesh,
            points=np.concatenate([mesh.points, points]),
            connectivity=np.concatenate([mesh.connectivity, connectivity]),
            offsets=_continued(mesh.offsets),
            types=np.concatenate([mesh.types, mesh.types]),
            point_data=self._doubled(mesh.point_data, kinds or {}, ~seam),
            cell_data=self._doubled(mesh.cell_data, kinds or {}, np.ones(len(mesh.types), bool)),
            **more,
        )

    def _reversed(self, mesh: Mesh, corners: np.ndarray) -> np.ndarray:
        """Where in the connectivity each point of the mirrored cells comes from."""
        order = _backwards(mesh.offsets, mesh.types == _POLYGON)
        for kind in np.unique(mesh.types):
            cells = np.flatnonzero(mesh.types == kind)
            if kind in _MIRRORED:
                start = mesh.offsets[cells][:, None]
                listed = _MIRRORED[int(kind)]
                order[(start + np.arange(len(listed))).ravel()] = (start + np.array(listed)).ravel()
            elif kind not in (2, 4, _POLYGON, _POLYHEDRON):
                where = f"{mesh.source}: " if mesh.source else ""
                raise ValueError(f"{where}{len(cells)} cells of VTK type {kind} cannot be mirrored; triangulate first")
        return order

    def _doubled(
        self, data: Mapping[str, Shaped[np.ndarray, "item ..."]], kinds: Mapping[str, FieldKind], which: np.ndarray
    ) -> dict[str, np.ndarray]:
        doubled = {}
        for name, values in data.items():
            if name not in kinds and values.ndim > 1 and values.shape[1] > 1:
                raise ValueError(
                    f"array {name!r} has {values.shape[1]} components; say in `kinds` how they mirror, such as vector"
                )
            image = values if kinds.get(name, "scalar") == "scalar" else self.reflect(values, kinds[name])
            doubled[name] = np.concatenate([values, image[which]])
        return doubled


def _edge_keys(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """One number for each edge, whichever way it is gone."""
    return np.minimum(first, second) * np.int64(count) + np.maximum(first, second)


def _backwards(offsets: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Where each entry of runs comes from, once some runs are reversed."""
    size = np.diff(offsets)
    forward = np.arange(int(offsets[-1]))
    back = np.repeat(offsets[:-1] + offsets[1:] - 1, size) - forward
    return np.where(np.repeat(which, size), back, forward)


def _continued(offsets: np.ndarray) -> np.ndarray:
    return np.concatenate([offsets, offsets[1:] + offsets[-1]])
