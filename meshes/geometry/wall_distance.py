"""Exact distance from points to a triangulated body, and whether they lie inside it."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from meshes.geometry.hierarchy import Hierarchy, Pairs

# Points searched together: enough to amortise numpy's calls, few enough to stay in cache.
CHUNK = 8192
# A node further away than this many of its radii counts as a dipole, as in Barill et al. The error of the winding
# number then stays below about 0.06, far from the threshold of 0.5.
DIPOLE_RANGE = 2.0


class ClosestPoints:
    """Closest points of a triangulated surface, exact to rounding, for any number of places.

    A nearby triangle found from samples of the surface bounds the distance; a hierarchy of oriented boxes then finds
    every triangle within that bound. Triangles may differ in size, may be degenerate, and need be neither closed nor
    consistently wound; only `contains` wants a closed body.
    """

    def __init__(self, vertices: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]) -> None:
        """Build the search structures once.

        Args:
            vertices: corner positions [m].
            triangles: rows of three indices into `vertices`.

        Raises:
            ValueError: there is no triangle, or a corner is not finite.
        """
        if not len(triangles):
            raise ValueError("the surface has no triangle; expected at least one")
        self.corners = np.asarray(vertices, np.float64)[triangles]
        if not np.isfinite(self.corners).all():
            raise ValueError("corners of the surface are not finite; look at the file with `anchorfield inspect`")
        a, b, c = np.moveaxis(self.corners, 1, 0)
        self._edges = np.stack([b - a, c - b, a - c], axis=1)
        squared = (self._edges**2).sum(2)
        self._inverse = 1 / np.where(squared > 0, squared, 1)
        normal = np.cross(b - a, c - a)
        size = np.linalg.norm(normal, axis=1, keepdims=True)
        self._area_vector = 0.5 * normal
        # Degenerate triangles have no inside: their edges alone decide.
        thin = size <= 1e-14 * squared.max(1, keepdims=True)
        self._normal = np.where(thin, 0, normal / np.where(thin, 1, size))
        self._thin = thin[:, 0]
        self._inward = np.cross(self._normal[:, None], self._edges)  # in the plane, into the triangle, at each edge
        self._hierarchy = Hierarchy.build(self.corners.mean(1))
        self._boxes = _boxes(self._hierarchy, self.corners)
        samples, self._sampled = _samples(self.corners)
        self._tree = KDTree(samples)

    def query(
        self, position: Float[np.ndarray, "point 3"]
    ) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, "point 3"], Int[np.ndarray, " point"]]:
        """Find the distance to the surface [m], its closest point [m], and the triangle that holds it.

        Where several triangles are equally close, such as those around a corner, any one of them is named; the choice
        depends on the place and the surface alone.

        Raises:
            ValueError: a place is not finite.
        """
        position = np.asarray(position, np.float64)
        if not np.isfinite(position).all():
            raise ValueError("places to measure from are not finite")
        distance, point = np.empty(len(position)), np.empty((len(position), 3))
        triangle = np.empty(len(position), np.int64)
        for start in range(0, len(position), CHUNK):
            part = slice(start, start + CHUNK)
            distance[part], point[part], triangle[part] = self._query(position[part])
        return distance, point, triangle

    def _query(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first = self._sampled[self._tree.query(position)[1]]
        squared, _ = self._closest(position, first)
        bound = squared * (1 + 1e-12)
        hierarchy = self._hierarchy
        columns = np.ascontiguousarray(position.T)
        level = min(3, hierarchy.levels)
        pairs = hierarchy.root(len(position), level)
        while True:
            keep = _squared_distance(columns, self._boxes[level], pairs) <= np.take(bound, pairs.point)
            if level == hierarchy.levels:
                break
            halvings = min(2, hierarchy.levels - level)
            pairs = hierarchy.children(pairs, keep, halvings)
            level += halvings
        keep &= ~hierarchy.filled[pairs.node]
        owner, candidate = pairs.point[keep], hierarchy.order[pairs.node[keep]]
        # The first guess is a candidate as well: rounding must not leave a point with none.
        owner, candidate = np.concatenate([owner, np.arange(len(position))]), np.concatenate([candidate, first])
        squared, point = self._closest(np.take(position, owner, axis=0), candidate)
        best = np.lexsort((candidate, squared, owner))
        best = best[np.diff(owner[best], prepend=-1) > 0]
        return np.sqrt(squared[best]), point[best], candidate[best]

    def _closest(self, position: np.ndarray, triangle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared distance from each point to its triangle, and the closest point there."""
        corners, edges = np.take(self.corners, triangle, axis=0), np.take(self._edges, triangle, axis=0)
        away = position[:, None] - corners
        inward = np.einsum("pij,pij->pi", away, np.take(self._inward, triangle, axis=0))
        inside = (inward >= 0).all(1) & ~self._thin[triangle]
        along = np.einsum("pij,pij->pi", away, edges)
        along *= np.take(self._inverse, triangle, axis=0)
        np.clip(along, 0, 1, out=along)
        rest = away - along[:, :, None] * edges
        squared = np.einsum("pij,pij->pi", rest, rest)
        row, edge = np.arange(len(triangle)), squared.argmin(1)
        normal = np.take(self._normal, triangle, axis=0)
        height = np.einsum("pi,pi->p", away[:, 0], normal)
        vector = np.where(inside[:, None], height[:, None] * normal, rest[row, edge])
        return np.where(inside, height**2, squared[row, edge]), position - vector

    def winding_number(self, position: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, " point"]:
        """Sum the solid angle of all triangles over 4π: 1 inside a closed body wound outwards, 0 outside.

        Near a surface with holes it changes smoothly between the two. Far groups of triangles count as dipoles, which
        leaves an error of up to about 0.06.

        Source:
            Barill et al. 2018, Fast winding numbers for soups and clouds, ACM TOG 37(4).
        """
        position = np.asarray(position, np.float64)
        chunks = [self._winding(position[start : start + CHUNK]) for start in range(0, len(position), CHUNK)]
        return np.concatenate(chunks) if chunks else np.zeros(0)

    def contains(self, position: Float[np.ndarray, "point 3"]) -> Bool[np.ndarray, " point"]:
        """Whether places lie inside the body, which must be closed (mirror half bodies first), wound either way.

        Small holes and overlapping parts do no harm.
        """
        return np.abs(self.winding_number(position)) > 0.5

    @cached_property
    def _dipoles(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each level the nodes' area vector, centre by area, and radius about it."""
        hierarchy = self._hierarchy
        area = np.linalg.norm(self._area_vector, axis=1, keepdims=True)
        values = np.concatenate([self._area_vector, area, area * self.corners.mean(1)], axis=1)
        weights = np.where(hierarchy.filled[:, None], 0, values[hierarchy.order])
        levels = []
        for level in range(hierarchy.levels, -1, -1):
            box, size = self._boxes[level], weights[:, 3:4]
            middle = np.einsum("jn,jkn->nk", box.middle, box.axes)
            centre = np.where(size > 0, weights[:, 4:] / np.where(size > 0, size, 1), middle)
            shift = np.abs(np.einsum("nk,jkn->jn", centre, box.axes) - box.middle)
            levels.append((weights[:, :3], centre, np.linalg.norm(box.half + shift, axis=0)))
            weights = weights[0::2] + weights[1::2] if level else weights
        return levels[::-1]

    def _winding(self, position: np.ndarray) -> np.ndarray:
        hierarchy = self._hierarchy
        total = np.zeros(len(position))
        level = 0
        pairs = hierarchy.root(len(position), level)
        while True:
            vector, centre, radius = self._dipoles[level]
            towards = np.take(centre, pairs.node, axis=0) - np.take(position, pairs.point, axis=0)
            distance = np.sqrt(np.einsum("ij,ij->i", towards, towards))
            far = distance > DIPOLE_RANGE * radius[pairs.node]
            flux = np.einsum("ij,ij->i", vector[pairs.node[far]], towards[far]) / distance[far] ** 3
            total += np.bincount(pairs.point[far], flux, minlength=len(position))
            if level == hierarchy.levels:
                break
            pairs = hierarchy.children(pairs, ~far)
            level += 1
        near = ~far & ~hierarchy.filled[pairs.node]
        owner, triangle = pairs.point[near], hierarchy.order[pairs.node[near]]
        angle = _solid_angle(self.corners[triangle] - position[owner][:, None])
        total += np.bincount(owner, angle, minlength=len(position))
        return total / (4 * np.pi)


class _Boxes(NamedTuple):
    """Boxes around the nodes of a level, each along its own axes; nodes run last, which is what gathering wants."""

    axes: Float[np.ndarray, "axis 3 node"]
    middle: Float[np.ndarray, "axis node"]  # along each axis
    half: Float[np.ndarray, "axis node"]


def _boxes(hierarchy: Hierarchy, corners: Float[np.ndarray, "triangle 3 3"]) -> list[_Boxes]:
    """Build for the nodes of every level a box along the principal axes of their corners.

    A patch of a smooth surface is flat, and so is its box. Boxes along the coordinate axes would be as thick as wide:
    searching them from a few body lengths away took eight times longer.
    """
    leaves = corners[hierarchy.order]
    margin = 1e-14 * np.abs(corners).max()
    boxes = []
    for level in range(hierarchy.levels + 1):
        points = leaves.reshape(2**level, -1, 3)
        away = points - points.mean(1, keepdims=True)
        _, frame = np.linalg.eigh(np.matmul(away.transpose(0, 2, 1), away))
        along = np.matmul(points, frame)
        lower, upper = along.min(1).T, along.max(1).T
        axes = np.ascontiguousarray(frame.transpose(2, 1, 0))
        boxes.append(_Boxes(axes, 0.5 * (lower + upper), 0.5 * (upper - lower) + margin))
    return boxes


def _squared_distance(columns: Float[np.ndarray, "3 point"], boxes: _Boxes, pairs: Pairs) -> Float[np.ndarray, " pair"]:
    """Squared distance from points to boxes, zero within."""
    # One coordinate at a time and `take` in place of indexing: twice as fast as the same in matrix form.
    place = [np.take(column, pairs.point) for column in columns]
    total = np.zeros(len(pairs.point))
    for axis, middle, half in zip(*boxes, strict=True):
        along = np.take(axis[0], pairs.node) * place[0]
        for k in (1, 2):
            along += np.take(axis[k], pairs.node) * place[k]
        along -= np.take(middle, pairs.node)
        np.abs(along, out=along)
        along -= np.take(half, pairs.node)
        np.maximum(along, 0, out=along)
        along *= along
        total += along
    return total


def _solid_angle(corners: Float[np.ndarray, "triangle 3 3"]) -> Float[np.ndarray, " triangle"]:
    """Solid angle of triangles seen from the origin, positive from behind (van Oosterom and Strackee 1983)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    la, lb, lc = (np.linalg.norm(corner, axis=1) for corner in (a, b, c))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c))
    ab, bc, ca = (np.einsum("ij,ij->i", first, second) for first, second in ((a, b), (b, c), (c, a)))
    return 2 * np.arctan2(volume, la * lb * lc + ab * lc + bc * la + ca * lb)


def _samples(corners: Float[np.ndarray, "triangle 3 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Points that cover the surface about evenly, the triangle of each: large triangles are cut into smaller ones."""
    triangle = np.arange(len(corners))
    limit = 4 * len(corners) + 4096
    pieces, size = corners, _longest(corners)
    while True:
        large = size > max(2 * np.median(size), 0.02 * size.max())
        room = (limit - len(pieces)) // 3
        if not large.any() or room < large.sum():
            return pieces.mean(1), triangle
        a, b, c = np.moveaxis(pieces[large], 1, 0)
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        cut = [np.stack(part, 1) for part in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))]
        pieces = np.concatenate([pieces[~large], *cut])
        triangle = np.concatenate([triangle[~large], *[triangle[large]] * 4])
        size = _longest(pieces)


def _longest(corners: np.ndarray) -> np.ndarray:
    return np.sqrt(((corners - np.roll(corners, 1, axis=1)) ** 2).sum(2).max(1))
