"""Exact distance from points to a triangulated body, and whether they lie inside it."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from meshes.geometry.hierarchy import CHUNK, Hierarchy, Pairs, by_chunk
from meshes.geometry.triangulation import triangle_area_vectors, triangle_centres

# How many levels below those boxes are that others are made of.
REACH = 6
# Up to this many triangles are made ready for measuring once and for all.
READY = 1 << 19
# A node further away than this many of its radii counts as a dipole, as in Barill et al. The error of the winding
# number then stays below about 0.06, far from the threshold of 0.5.
DIPOLE_RANGE = 2.0


class ClosestPoints:
    """Closest points of a triangulated surface, exact to rounding, for any number of places.

    A hierarchy of oriented boxes is searched from the top for all places at once. At each level the most promising node
    of a place gives a triangle, whose distance bounds what is sought; nodes beyond it are left out. Triangles may
    differ in size, may be degenerate, and need be neither closed nor consistently wound; only `contains` wants a closed
    body.
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
        self._vertices, self._triangles = np.asarray(vertices, np.float64), triangles
        self._area_vector = triangle_area_vectors(self._vertices, triangles)
        self._centre = triangle_centres(self._vertices, triangles)
        if not np.isfinite(self._centre).all():
            raise ValueError("corners of the surface are not finite; look at the file with `anchorfield inspect`")
        self._hierarchy = Hierarchy.build(self._centre)
        self._boxes, self._middle = self._build_boxes()
        self._places = {level: np.ascontiguousarray(self._centre[each].T) for level, each in self._middle.items()}
        # Few triangles are met again and again, and made ready once; of many, most are never met.
        self._ready = _Ready.of(self._vertices[triangles]) if len(triangles) <= READY else None

    def _build_boxes(self) -> tuple[dict[int, "_Boxes"], dict[int, Int[np.ndarray, " node"]]]:
        """Build for the nodes of every level that is searched a box, and choose a triangle in its middle.

        A patch of a smooth surface is flat, and so is its box, across the mean normal. Boxes along the coordinate axes
        would be as thick as wide: searching them from a few body lengths away took eight times longer. Boxes are made
        of those several levels below; made of their halves', they would grow wherever the surface turns, at each level.
        """
        hierarchy, vertices, triangles = self._hierarchy, self._vertices, self._triangles
        leaves, levels = hierarchy.leaves, hierarchy.levels
        vector, place = np.zeros((len(leaves), 3)), np.zeros((len(leaves), 3))
        boxes = {levels: _Boxes.empty(len(leaves))}

        def enclose(part: slice) -> None:
            for triangle in leaves[part].T:
                vector[part] += self._area_vector[triangle]
                place[part] += self._centre[triangle] / leaves.shape[1]
            corners = vertices[triangles[leaves[part]]].reshape(len(place[part]), -1, 3)
            axes = _frames(vector[part], corners[:, 1] - corners[:, 0])
            boxes[levels].put(part, axes, np.einsum("jkn,nck->jcn", axes, corners), 0.0, 1)

        by_chunk(enclose, len(leaves))
        last = boxes[levels]
        margin = 3e-14 * max(float((np.abs(last.middle) + last.half).max()), np.finfo(np.float64).tiny)
        last.half[...] += margin
        triangle = leaves[:, leaves.shape[1] // 2]
        middle, searched = {levels: triangle}, _searched(levels)
        for level in range(levels - 1, searched[0] - 1, -1):
            first, second = triangle[0::2], triangle[1::2]
            across, where = place[1::2] - place[0::2], 0.5 * (place[0::2] + place[1::2])
            vector, place = vector[0::2] + vector[1::2], where
            near, far = (((self._centre[each] - where) ** 2).sum(axis=1) for each in (first, second))
            triangle = np.where(near <= far, first, second)
            if level in searched:
                below = min(level + REACH, levels)
                boxes[level], middle[level] = boxes[below].around(vector, across, margin), triangle
        return boxes, middle

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

        def fill(part: slice) -> None:
            distance[part], point[part], triangle[part] = self._query(position[part])

        by_chunk(fill, len(position))
        return distance, point, triangle

    def _query(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        hierarchy = self._hierarchy
        columns = np.ascontiguousarray(position.T)
        bound, guess = np.full(len(position), np.inf), np.zeros(len(position), np.int64)
        levels = _searched(hierarchy.levels)
        pairs = hierarchy.root(len(position), levels[0])
        for level, following in zip(levels, [*levels[1:], None], strict=True):
            # Boxes may begin near and reach far, so the node whose middle is nearest promises most.
            lower, away = _squared_distances(columns, self._boxes[level], self._places[level], pairs)
            promising = self._middle[level][pairs.node[_first_least(away, pairs.point)]]
            squared, _ = self._closest(position, promising)
            guess = np.where(squared < bound, promising, guess)
            bound = np.minimum(bound, squared * (1 + 1e-12))
            keep = lower <= np.take(bound, pairs.point)
            if following is not None:
                pairs = hierarchy.children(pairs, keep, following - level)
        owner, candidate = hierarchy.triangles(pairs, keep)
        # The guess is a candidate as well: rounding must not leave a point with none.
        owner, candidate = np.concatenate([owner, np.arange(len(position))]), np.concatenate([candidate, guess])
        squared, point = self._closest(np.take(position, owner, axis=0), candidate)
        best = np.lexsort((candidate, squared, owner))
        best = best[np.diff(owner[best], prepend=-1) > 0]
        return np.sqrt(squared[best]), point[best], candidate[best]

    def _closest(self, position: np.ndarray, triangle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared distance from each point to its triangle, and the closest point there."""
        if self._ready is not None:
            ready = _Ready(*(np.take(part, triangle, axis=0) for part in self._ready))
        else:
            ready = _Ready.of(np.take(self._vertices, np.take(self._triangles, triangle, axis=0), axis=0))
        away = position[:, None] - ready.corners
        inward = np.einsum("pij,pij->pi", away, ready.inward)
        inside = (inward >= 0).all(1) & ~ready.thin
        along = np.einsum("pij,pij->pi", away, ready.edges)
        along *= ready.inverse
        np.clip(along, 0, 1, out=along)
        rest = away - along[:, :, None] * ready.edges
        squared = np.einsum("pij,pij->pi", rest, rest)
        row, edge = np.arange(len(triangle)), squared.argmin(1)
        height = np.einsum("pi,pi->p", away[:, 0], ready.normal)
        vector = np.where(inside[:, None], height[:, None] * ready.normal, rest[row, edge])
        return np.where(inside, height**2, squared[row, edge]), position - vector

    def winding_number(self, position: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, " point"]:
        """Sum the solid angle of all triangles over 4π: 1 inside a closed body wound outwards, 0 outside.

        Near a surface with holes it changes smoothly between the two. Far groups of triangles count as dipoles, which
        leaves an error of up to about 0.06.

        Source:
            Barill et al. 2018, Fast winding numbers for soups and clouds, ACM TOG 37(4).
        """
        position = np.asarray(position, np.float64)
        winding = np.empty(len(position))

        def fill(part: slice) -> None:
            winding[part] = self._winding(position[part])

        by_chunk(fill, len(position))
        return winding

    def contains(self, position: Float[np.ndarray, "point 3"]) -> Bool[np.ndarray, " point"]:
        """Whether places lie inside the body, which must be closed (mirror half bodies first), wound either way.

        Small holes and overlapping parts do no harm.
        """
        return np.abs(self.winding_number(position)) > 0.5

    @cached_property
    def _dipoles(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each level the nodes' area vector, centre by area, and radius about it."""
        hierarchy = self._hierarchy
        area = np.sqrt(np.einsum("ij,ij->i", self._area_vector, self._area_vector))[:, None]
        values = np.concatenate([self._area_vector, area, area * self._centre], axis=1)
        weights = np.where(hierarchy.filled[:, None], 0, values[hierarchy.order])
        weights = weights.reshape(2**hierarchy.levels, -1, 7).sum(axis=1)
        middle = self._centre[hierarchy.leaves].mean(axis=1)
        centre = _quotient(weights, middle)
        radius = np.zeros(len(centre))
        for triangle in hierarchy.leaves.T:
            for corner in self._triangles[triangle].T:
                radius = np.maximum(radius, np.linalg.norm(self._vertices[corner] - centre, axis=1))
        levels = [(weights[:, :3], centre, radius)]
        for _ in range(hierarchy.levels):
            _, below, reach = levels[-1]
            weights = weights[0::2] + weights[1::2]
            centre = _quotient(weights, 0.5 * (below[0::2] + below[1::2]))
            halves = [np.linalg.norm(below[half::2] - centre, axis=1) + reach[half::2] for half in (0, 1)]
            levels.append((weights[:, :3], centre, np.maximum(*halves)))
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
        owner, triangle = hierarchy.triangles(pairs, ~far)
        angle = _solid_angle(self._vertices[self._triangles[triangle]] - position[owner][:, None])
        total += np.bincount(owner, angle, minlength=len(position))
        return total / (4 * np.pi)


class _Boxes(NamedTuple):
    """Boxes around the nodes of a level, each along its own axes; nodes run last, which is what gathering wants."""

    axes: Float[np.ndarray, "axis 3 node"]
    middle: Float[np.ndarray, "axis node"]  # along each axis
    half: Float[np.ndarray, "axis node"]

    @classmethod
    def empty(cls, count: int) -> "_Boxes":
        """Make room for some boxes."""
        return cls(np.empty((3, 3, count)), np.empty((3, count)), np.empty((3, count)))

    def put(
        self,
        part: slice,
        axes: Float[np.ndarray, "axis 3 some"],
        along: np.ndarray,
        reach: np.ndarray | float,
        over: int,
    ) -> None:
        """Make boxes around what lies `along` their axes and reaches so far to either side of there."""
        lower, upper = (along - reach).min(axis=over), (along + reach).max(axis=over)
        self.axes[:, :, part] = axes
        self.middle[:, part], self.half[:, part] = 0.5 * (lower + upper), 0.5 * (upper - lower)

    def around(
        self, vector: Float[np.ndarray, "node 3"], across: Float[np.ndarray, "node 3"], margin: float
    ) -> "_Boxes":
        """Make boxes along other axes, each around an equal run of these."""
        nodes = len(vector)
        run = self.half.shape[1] // nodes
        boxes = _Boxes.empty(nodes)

        def enclose(part: slice) -> None:
            mine = slice(part.start * run, part.stop * run)
            axes = _frames(vector[part], across[part])
            theirs = self.axes[:, :, mine].reshape(3, 3, -1, run)
            half = self.half[:, mine].reshape(3, -1, run)
            centre = np.einsum("jnr,jknr->knr", self.middle[:, mine].reshape(3, -1, run), theirs)
            along, reach = np.zeros((3, *half.shape[1:])), np.zeros((3, *half.shape[1:]))
            for axis in range(3):
                x, y, z = axes[axis][:, :, None]
                along[axis] = x * centre[0] + y * centre[1] + z * centre[2]
                for other in range(3):
                    turned = np.abs(x * theirs[other, 0] + y * theirs[other, 1] + z * theirs[other, 2])
                    reach[axis] += turned * half[other]
            boxes.put(part, axes, along, reach, 2)

        by_chunk(enclose, nodes, max(1, CHUNK // run))
        boxes.half[...] += margin
        return boxes


class _Ready(NamedTuple):
    """Triangles made ready for measuring distances."""

    corners: Float[np.ndarray, "triangle 3 3"]
    edges: Float[np.ndarray, "triangle 3 3"]
    inverse: Float[np.ndarray, "triangle 3"]  # of the squared length of each edge
    normal: Float[np.ndarray, "triangle 3"]
    inward: Float[np.ndarray, "triangle 3 3"]  # in the plane, into the triangle, at each edge
    thin: Bool[np.ndarray, " triangle"]  # degenerate triangles have no inside: their edges alone decide

    @classmethod
    def of(cls, corners: Float[np.ndarray, "triangle 3 3"]) -> "_Ready":
        a, b, c = np.moveaxis(corners, 1, 0)
        edges = np.stack([b - a, c - b, a - c], axis=1)
        squared = np.einsum("tij,tij->ti", edges, edges)
        normal = np.cross(edges[:, 0], -edges[:, 2])
        size = np.sqrt(np.einsum("ti,ti->t", normal, normal))[:, None]
        thin = size <= 1e-14 * squared.max(1, keepdims=True)
        normal = np.where(thin, 0, normal / np.where(thin, 1, size))
        inverse = 1 / np.where(squared > 0, squared, 1)
        return cls(corners, edges, inverse, normal, np.cross(normal[:, None], edges), thin[:, 0])


def _searched(levels: int) -> list[int]:
    """Levels of a hierarchy that are searched: every second one from the third."""
    return [*range(min(3, levels), levels, 2), levels]


def _quotient(weights: Float[np.ndarray, "node 7"], otherwise: Float[np.ndarray, "node 3"]) -> np.ndarray:
    """Centres by area, and `otherwise` where there is none."""
    area = weights[:, 3:4]
    return np.where(area > 0, weights[:, 4:] / np.where(area > 0, area, 1), otherwise)


def _frames(across: Float[np.ndarray, "node 3"], along: Float[np.ndarray, "node 3"]) -> Float[np.ndarray, "3 3 node"]:
    """Make axes: the first as `across`, the second as near to `along` as that leaves it; any where these are zero."""
    first = _unit(across, np.array([1.0, 0, 0]))
    helper = np.eye(3)[np.abs(first).argmin(axis=1)]
    second = _unit(along, np.array([0, 1.0, 0]))
    slanted = np.abs(np.einsum("ni,ni->n", second, first))[:, None] < 0.999
    second = np.where(slanted, second, helper)
    for _ in range(2):  # once leaves rounding, which is not at right angles
        second = _unit(second - np.einsum("ni,ni->n", second, first)[:, None] * first, np.array([0, 1.0, 0]))
    return np.stack([first.T, second.T, np.cross(first, second).T])


def _unit(vector: Float[np.ndarray, "node 3"], otherwise: Float[np.ndarray, "3"]) -> Float[np.ndarray, "node 3"]:
    largest = np.abs(vector).max(axis=1, keepdims=True)  # squares of tiny numbers would vanish
    vector = np.where(largest > 0, vector / np.where(largest > 0, largest, 1), otherwise)
    return vector / np.sqrt(np.einsum("ni,ni->n", vector, vector))[:, None]


def _first_least(values: Float[np.ndarray, " pair"], point: Int[np.ndarray, " pair"]) -> Int[np.ndarray, " point"]:
    """Where the least value of each point stands; every point has some, and they are sorted by point."""
    starts = np.flatnonzero(np.diff(point, prepend=-1))
    where = np.flatnonzero(values == np.minimum.reduceat(values, starts)[point])
    first = np.empty(len(starts), np.int64)
    first[point[where[::-1]]] = where[::-1]
    return first


def _squared_distances(
    columns: Float[np.ndarray, "3 point"], boxes: _Boxes, places: Float[np.ndarray, "3 node"], pairs: Pairs
) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
    """Squared distances from points to boxes, zero within, and to one place of each node."""
    # One coordinate at a time and `take` in place of indexing: twice as fast as the same in matrix form.
    point = [np.take(column, pairs.point) for column in columns]
    lower, away = np.zeros(len(pairs.point)), np.zeros(len(pairs.point))
    for axis, middle, half in zip(*boxes, strict=True):
        along = np.take(axis[0], pairs.node) * point[0]
        for k in (1, 2):
            along += np.take(axis[k], pairs.node) * point[k]
        along -= np.take(middle, pairs.node)
        np.abs(along, out=along)
        along -= np.take(half, pairs.node)
        np.maximum(along, 0, out=along)
        along *= along
        lower += along
    for column, place in zip(point, places, strict=True):
        column -= np.take(place, pairs.node)
        column *= column
        away += column
    return lower, away


def _solid_angle(corners: Float[np.ndarray, "triangle 3 3"]) -> Float[np.ndarray, " triangle"]:
    """Solid angle of triangles seen from the origin, positive from behind (van Oosterom and Strackee 1983)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    la, lb, lc = (np.linalg.norm(corner, axis=1) for corner in (a, b, c))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c))
    ab, bc, ca = (np.einsum("ij,ij->i", first, second) for first, second in ((a, b), (b, c), (c, a)))
    return 2 * np.arctan2(volume, la * lb * lc + ab * lc + bc * la + ca * lb)
