"""Surfaces: whether they are closed, and which side is out; what else there is about them is found here too."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from meshes.geometry.remeshing import characteristic_size, remesh
from meshes.geometry.silhouette import bounds, projected_area
from meshes.geometry.triangulation import (
    CHUNK,
    area_vectors_of,
    boundary_edges,
    corners_by_chunk,
    plain_triangles,
    triangle_area_vectors,
    triangulate,
)
from meshes.geometry.wall_distance import ClosestPoints
from meshes.geometry.welding import weld
from meshes.mesh import Mesh

__all__ = [
    "OrientationReport",
    "Watertightness",
    "bounds",
    "characteristic_size",
    "outward",
    "projected_area",
    "remesh",
    "reverse",
    "triangulate",
    "watertightness",
    "wind_outwards",
]

# Below this part of what its cells and caps contribute to the volume, the sign of an open surface's volume is not
# trusted; and below this mean winding number a side is not told from the other.
DOUBT = 0.02
# Cells at which the winding number of an open surface is looked at.
PROBES = 2048


@dataclass(frozen=True, kw_only=True)
class Watertightness:
    """Whether a surface encloses a body.

    Attributes:
        closed: every edge has a cell on either side.
        consistent: no two neighbours are wound against each other.
        open_edges: edges of one cell only.
        non_manifold_edges: edges of three or more cells.
        components: pieces that hang together over edges.
    """

    closed: bool
    consistent: bool
    open_edges: int
    non_manifold_edges: int
    components: int


@dataclass(frozen=True, kw_only=True)
class OrientationReport:
    """What it took to make a surface point outwards.

    Attributes:
        turned: cells that point out now and did not as stored, `repaired` ones included where they were wrong.
        repaired: cells wound against most of their neighbours; zero for a consistently wound surface.
        components: pieces that hang together over edges; each was decided by itself.
        by_winding: pieces so open that the winding number decided, where the enclosed volume could not.
        watertightness: of the surface as stored.
    """

    turned: int
    repaired: int
    components: int
    by_winding: int
    watertightness: Watertightness


class _Edges(NamedTuple):
    """Edges of the cells of a surface, each cell's own, and how they meet."""

    cell: Int[np.ndarray, " side"]
    start: Int[np.ndarray, " side"]  # point, the same for all that coincide
    end: Int[np.ndarray, " side"]
    edge: Int[np.ndarray, " side"]  # number of the undirected edge
    shared: Int[np.ndarray, " edge"]  # sides along each edge
    place: Float[np.ndarray, "place 3"]  # where `start` and `end` are


def watertightness(mesh: Mesh) -> Watertightness:
    """Count open and non-manifold edges of a surface; points in the same place are one."""
    if (pieces := _agreeing_pieces(mesh)) is not None:
        return pieces.watertightness
    edges = _edges(mesh)
    _, label, agree = _components(edges, len(mesh.types))
    return _watertightness(edges, label, agree)


def outward(
    mesh: Mesh, *, space: tuple[int, ...] = (0, 1, 2), symmetry: int | None = None
) -> tuple[Float[np.ndarray, "cell 3"], OrientationReport]:
    """Compute the area vectors [m²] that point out of the body into the fluid, whatever the file stored.

    Neighbours are first made to agree. Then each connected piece encloses a volume, holes closed by the cone over
    their rim: exact for flat rims, as those of half models in the symmetry plane and of strips one cell thick. Where
    the volume is too close to zero to tell, the winding number does: just outside it is smaller than just inside. Each
    piece is taken for the surface of a solid of its own, not for that of a cavity in another.

    Args:
        mesh: a surface; cells without area (points, lines) get zero.
        space: axes of the flow; in a plane, an open strip counts as infinitely long across it.
        symmetry: axis whose plane through the origin mirrors the body; an open piece is then looked at as a whole.

    Raises:
        ValueError: there is no area, a surface has one side only, or it cannot be told which side is out.
    """
    signs, report = _signs(mesh, space, symmetry)
    return signs[:, None] * _cell_vectors(*triangulate(mesh), len(mesh.types)), report


def wind_outwards(
    mesh: Mesh, *, space: tuple[int, ...] = (0, 1, 2), symmetry: int | None = None
) -> tuple[Mesh, OrientationReport]:
    """Reverse the cells of a surface that do not point out of the body; `outward` says how that is told."""
    signs, report = _signs(mesh, space, symmetry)
    return (reverse(mesh, signs < 0) if report.turned else mesh), report


def reverse(mesh: Mesh, which: Bool[np.ndarray, " cell"]) -> Mesh:
    """Reverse the winding of some polygons of a mesh.

    Raises:
        ValueError: a cell to reverse is neither a triangle, quad nor polygon.
    """
    odd = sorted(set(mesh.types[which].tolist()) - {5, 7, 9})
    if odd:
        raise ValueError(f"{_name(mesh)}cells of VTK type {odd[0]} cannot be reversed; triangulate the surface first")
    corners = np.diff(mesh.offsets)
    place = np.arange(len(mesh.connectivity)) - np.repeat(mesh.offsets[:-1], corners)
    mirrored = np.repeat(mesh.offsets[1:], corners) - 1 - place
    chosen = np.where(np.repeat(which, corners), mirrored, np.arange(len(place)))
    return replace(mesh, connectivity=mesh.connectivity[chosen])


class _Pieces(NamedTuple):
    """Pieces that hang together, and how their cells must turn to agree.

    Attributes:
        count: of the pieces.
        label: piece of each cell.
        agree: +1 or -1 for each cell, so that neighbours times their sign agree; 0 where none can.
        edges: sides of the cells, at least all that have no opposite.
        watertightness: of the surface as stored.
    """

    count: int
    label: Int[np.ndarray, " cell"]
    agree: Int[np.ndarray, " cell"]
    edges: _Edges
    watertightness: Watertightness


def _signs(mesh: Mesh, space: tuple[int, ...], symmetry: int | None) -> tuple[np.ndarray, OrientationReport]:
    vertices, triangles, cell = triangulate(mesh)
    vertices = np.asarray(vertices, np.float64)
    count = len(mesh.types)
    vectors = _cell_vectors(vertices, triangles, cell, count)
    size = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    if not size.sum() > 0:
        raise ValueError(f"{_name(mesh)}the surface has no area, so nothing points out of it")
    pieces = _agreeing_pieces(mesh) or _pieces(mesh, size)
    label, agree, edges = pieces.label, pieces.agree, pieces.edges
    if (agree == 0).any():
        one_sided = len(np.unique(label[agree == 0]))
        raise ValueError(
            f"{_name(mesh)}{one_sided} pieces of the surface have one side only, like a Möbius strip; "
            "mend the surface where the file came from"
        )
    repaired = int((agree < 0).sum())
    if repaired:
        triangles = np.where(agree[cell][:, None] > 0, triangles, triangles[:, ::-1])

    out = np.ones(pieces.count)
    by_winding = 0
    order, run = _runs(label[cell], pieces.count)
    side_order, side_run = _runs(label[edges.cell], pieces.count)
    has_area = np.bincount(label, size, pieces.count) > 0
    for piece in np.flatnonzero(has_area):  # the others are points, lines, and slivers without area
        here = triangles[order[run[piece] : run[piece + 1]]]
        sides = side_order[side_run[piece] : side_run[piece + 1]]
        caps = _caps(edges, sides, agree)
        volume, scale = _enclosed(vertices, here, caps)
        if abs(volume) > (DOUBT if len(caps) else 1e-12) * scale:
            out[piece] = np.sign(volume)
            continue
        out[piece] = _winding_sign(vertices[here], space, symmetry, _name(mesh))
        by_winding += 1
    signs = agree * out[label]
    report = OrientationReport(
        turned=int((signs < 0).sum()),
        repaired=repaired,
        components=int(np.count_nonzero(np.bincount(label[cell]))),
        by_winding=by_winding,
        watertightness=pieces.watertightness,
    )
    return signs.astype(np.float64), report


def _agreeing_pieces(mesh: Mesh) -> _Pieces | None:
    """Find the pieces of triangles that all agree already; None where some do not, or it is not known.

    Going along every side from the lower point to the higher one, or back, each side must be gone at most once each
    way. Sorting the sides tells, at a tenth of the cost of pairing them. Pieces that touch at a point count as one.
    """
    triangles = plain_triangles(mesh)
    if triangles is None:
        return None
    place = np.asarray(mesh.points, np.float64)
    up, down = _sides_each_way(triangles, len(place))
    closed = np.array_equal(up, down)
    if not closed:  # unless points are only listed several times
        first, same = weld(place)
        if len(first) < len(place):
            place, triangles = place[first], same[triangles]
            up, down = _sides_each_way(triangles, len(place))
            closed = np.array_equal(up, down)
    if (up[1:] == up[:-1]).any() or (down[1:] == down[:-1]).any():
        return None
    rim = np.zeros(0, np.int64) if closed else np.setxor1d(up, down, assume_unique=True)
    edges = _open_sides(triangles, rim, place)
    of_point = _connected(up if closed else np.union1d(up, rim), len(place))
    label = of_point[triangles[:, 0]]
    used = np.bincount(label, minlength=1) > 0
    label = (np.cumsum(used) - 1)[label]
    told = Watertightness(
        closed=closed and len(up) > 0,
        consistent=True,
        open_edges=len(rim),
        non_manifold_edges=0,
        components=int(used.sum()),
    )
    return _Pieces(int(used.sum()), label, np.ones(len(triangles), np.int64), edges, told)


def _sides_each_way(
    triangles: Int[np.ndarray, "triangle 3"], points: int
) -> tuple[Int[np.ndarray, " up"], Int[np.ndarray, " down"]]:
    """Sort the sides that climb, and those that descend, each as a number made of its two points."""
    up, down = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for _, start, end in _sides_by_chunk(triangles):
        climbs, descends = start < end, start > end
        up.append(start[climbs] * np.int64(points) + end[climbs])
        down.append(end[descends] * np.int64(points) + start[descends])
    return np.sort(np.concatenate(up)), np.sort(np.concatenate(down))


def _open_sides(
    triangles: Int[np.ndarray, "triangle 3"], rim: Int[np.ndarray, " open"], place: Float[np.ndarray, "place 3"]
) -> _Edges:
    """Find the sides whose numbers are those of open edges."""
    found = [np.zeros((3, 0), np.int64)]
    if len(rim):
        for first, start, end in _sides_by_chunk(triangles):
            key = np.minimum(start, end) * np.int64(len(place)) + np.maximum(start, end)
            at = np.searchsorted(rim, key)
            mine = (rim[np.minimum(at, len(rim) - 1)] == key) & (start != end)
            row, column = np.nonzero(mine)
            found.append(np.stack([first + row, start[row, column], end[row, column]]))
    cell, start, end = np.concatenate(found, axis=1)
    key = np.minimum(start, end) * np.int64(len(place)) + np.maximum(start, end)
    return _Edges(cell, start, end, np.searchsorted(rim, key), np.ones(len(rim), np.int64), place)


def _sides_by_chunk(triangles: Int[np.ndarray, "triangle 3"]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for first in range(0, len(triangles), CHUNK):
        start = triangles[first : first + CHUNK]
        yield first, start, start[:, [1, 2, 0]]


def _connected(keys: Int[np.ndarray, " edge"], points: int) -> Int[np.ndarray, " point"]:
    """Label the points that hang together over edges, which are given by their sorted numbers."""
    row = keys // points
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=points))])
    graph = csr_array((np.ones(len(keys), bool), keys - row * points, offsets), shape=(points, points))
    return connected_components(graph, directed=False)[1]


def _pieces(mesh: Mesh, size: Float[np.ndarray, " cell"]) -> _Pieces:
    """Find the pieces of any surface, and how its cells must turn to agree."""
    edges = _edges(mesh)
    count, label, agree = _components(edges, len(mesh.types))
    # Of the two ways to make neighbours agree, the one that turns less area.
    wrong = np.bincount(label, agree * size, count) < 0
    agree = np.where(wrong[label], -agree, agree)
    return _Pieces(count, label, agree, edges, _watertightness(edges, label, agree))


def _edges(mesh: Mesh) -> _Edges:
    cell, start, end = boundary_edges(mesh)
    # Adding zero makes -0.0 and 0.0 the same place.
    place, same = np.unique(np.asarray(mesh.points, np.float64) + 0.0, axis=0, return_inverse=True)
    start, end = same.ravel()[start], same.ravel()[end]
    proper = start != end
    cell, start, end = cell[proper], start[proper], end[proper]
    key = np.minimum(start, end) * np.int64(len(place)) + np.maximum(start, end)
    _, edge, shared = np.unique(key, return_inverse=True, return_counts=True)
    return _Edges(cell, start, end, edge, shared, place)


def _components(edges: _Edges, cells: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Label connected cells, and give each +1 or -1 so that neighbours times their sign agree; 0 where none can.

    Every cell stands twice in a graph, once as stored and once reversed; neighbours join the copies that agree. An
    orientable piece falls into two halves, each the other reversed.
    """
    order = edges.edge.argsort(kind="stable")
    pair = order[(edges.shared == 2)[edges.edge[order]]].reshape(-1, 2)
    first, second = edges.cell[pair].T
    opposed = (edges.start[pair[:, 0]] == edges.start[pair[:, 1]]).astype(np.int64)
    row = np.concatenate([first, first + cells])
    column = np.concatenate([second + cells * opposed, second + cells * (1 - opposed)])
    graph = coo_array((np.ones(len(row), bool), (row, column)), shape=(2 * cells, 2 * cells))
    _, double = connected_components(graph, directed=False)
    stored, reversed_ = double[:cells], double[cells:]
    values, label = np.unique(np.minimum(stored, reversed_), return_inverse=True)
    return len(values), label, np.sign(reversed_ - stored).astype(np.int64)


def _watertightness(edges: _Edges, label: np.ndarray, agree: np.ndarray) -> Watertightness:
    ways = np.unique(np.stack([label, agree]), axis=1).shape[1]
    return Watertightness(
        closed=len(edges.shared) > 0 and bool((edges.shared > 1).all()),
        consistent=ways == len(np.unique(label)) and bool((agree != 0).all()),
        open_edges=int((edges.shared == 1).sum()),
        non_manifold_edges=int((edges.shared > 2).sum()),
        components=len(np.unique(label[edges.cell])),
    )


def _caps(edges: _Edges, sides: np.ndarray, signs: np.ndarray) -> Float[np.ndarray, "triangle 3 3"]:
    """Close the holes of one piece by cones: triangles from the middle of each rim to its edges."""
    start, end, edge = edges.start[sides], edges.end[sides], edges.edge[sides]
    forward = np.where(start < end, 1, -1) * signs[edges.cell[sides]]
    numbers, first, inverse = np.unique(edge, return_index=True, return_inverse=True)
    net = np.bincount(inverse, forward, len(numbers)).astype(np.int64)
    first = np.repeat(first, np.abs(net))
    low, high = np.minimum(start, end)[first], np.maximum(start, end)[first]
    turned = np.repeat(net, np.abs(net)) < 0
    tail, head = np.where(turned, high, low), np.where(turned, low, high)
    if not len(tail):
        return np.zeros((0, 3, 3))
    names, inverse = np.unique(np.concatenate([tail, head]), return_inverse=True)
    tail_name, head_name = inverse.reshape(2, -1)
    graph = coo_array((np.ones(len(tail), bool), (tail_name, head_name)), shape=(len(names), len(names)))
    count, rim = connected_components(graph, directed=False)
    share = np.bincount(rim, minlength=count)[:, None]
    middle = np.stack([np.bincount(rim, column, count) for column in edges.place[names].T], axis=1) / share
    return np.stack([middle[rim[tail_name]], edges.place[head], edges.place[tail]], axis=1)


def _enclosed(
    vertices: Float[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
    caps: Float[np.ndarray, "cap 3 3"],
) -> tuple[float, float]:
    """Volume within triangles and caps [m³], and the sum of its parts without their sign."""
    origin = vertices[triangles[0]].mean(axis=0)
    volume = scale = 0.0
    soup = np.arange(3 * len(caps)).reshape(-1, 3)
    for points, corners in ((vertices, triangles), (caps.reshape(-1, 3), soup)):
        for _, (a, b, c) in corners_by_chunk(points, corners):
            a, b, c = (corner - origin[:, None] for corner in (a, b, c))
            parts = (
                a[0] * (b[1] * c[2] - b[2] * c[1])
                + a[1] * (b[2] * c[0] - b[0] * c[2])
                + a[2] * (b[0] * c[1] - b[1] * c[0])
            ) / 6
            volume += float(parts.sum())
            scale += float(np.abs(parts).sum())
    return volume, scale


def _winding_sign(
    corners: Float[np.ndarray, "triangle 3 3"], space: tuple[int, ...], symmetry: int | None, where: str
) -> float:
    """Tell by the winding number whether an open piece is wound outwards: +1, or -1.

    Across the surface the winding number jumps by one. For a surface wound outwards it is the larger inside, and its
    mean over both sides is positive.
    """
    if symmetry is not None:
        mirrored = corners[:, ::-1] * np.where(np.arange(3) == symmetry, -1.0, 1.0)
        corners = np.concatenate([corners, mirrored])
    across = [axis for axis in range(3) if axis not in space]
    if across:
        corners = corners.copy()
        middle, size = corners.mean((0, 1)), np.ptp(corners, axis=(0, 1)).max()
        for axis in across:
            thickness = np.ptp(corners[..., axis])
            if thickness > 0:
                corners[..., axis] = (corners[..., axis] - middle[axis]) * (1e4 * size / thickness)
    vector = 0.5 * np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(vector, axis=1)
    probes = np.flatnonzero(area > 0)
    probes = probes[:: max(1, len(probes) // PROBES)]
    step = 1e-4 * vector[probes] / np.sqrt(area[probes])[:, None]
    middle = corners[probes].mean(1)
    surface = ClosestPoints(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3))
    winding = surface.winding_number(np.concatenate([middle + step, middle - step])).reshape(2, -1).mean(0)
    mean = float(np.average(winding, weights=area[probes]))
    if abs(mean) < DOUBT:
        raise ValueError(
            f"{where}it cannot be told which side of the open surface is out (mean winding number {mean:.3f}); "
            "close the surface, or name the plane that it is cut by as the symmetry"
        )
    return float(np.sign(mean))


def _name(mesh: Mesh) -> str:
    return f"{mesh.source}: " if mesh.source else ""


def _cell_vectors(
    vertices: np.ndarray, triangles: np.ndarray, cell: np.ndarray, count: int
) -> Float[np.ndarray, "cell 3"]:
    if len(triangles) == count and np.array_equal(cell, np.arange(count)):
        return triangle_area_vectors(vertices, triangles)
    return area_vectors_of(vertices, triangles, cell, count)


def _runs(label: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    return label.argsort(kind="stable"), np.concatenate([[0], np.cumsum(np.bincount(label, minlength=count))])
