"""Surfaces: whether they are closed, and which side is out; what else there is about them is found here too."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from meshes.geometry.remeshing import characteristic_size, remesh
from meshes.geometry.silhouette import bounds, projected_area
from meshes.geometry.triangulation import area_vectors_of, boundary_edges, triangulate
from meshes.geometry.wall_distance import ClosestPoints
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
    vertices, triangles, cell = triangulate(mesh)
    return signs[:, None] * area_vectors_of(vertices, triangles, cell, len(mesh.types)), report


def wind_outwards(
    mesh: Mesh, *, space: tuple[int, ...] = (0, 1, 2), symmetry: int | None = None
) -> tuple[Mesh, OrientationReport]:
    """Reverse the cells of a surface that do not point out of the body; `outward` says how that is told."""
    signs, report = _signs(mesh, space, symmetry)
    return reverse(mesh, signs < 0), report


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


def _signs(mesh: Mesh, space: tuple[int, ...], symmetry: int | None) -> tuple[np.ndarray, OrientationReport]:
    vertices, triangles, cell = triangulate(mesh)
    vertices = np.asarray(vertices, np.float64)
    count = len(mesh.types)
    size = np.linalg.norm(area_vectors_of(vertices, triangles, cell, count), axis=1)
    if not size.sum() > 0:
        raise ValueError(f"{_name(mesh)}the surface has no area, so nothing points out of it")
    edges = _edges(mesh)
    components, label, agree = _components(edges, count)
    if (agree == 0).any():
        one_sided = len(np.unique(label[agree == 0]))
        raise ValueError(
            f"{_name(mesh)}{one_sided} pieces of the surface have one side only, like a Möbius strip; "
            "mend the surface where the file came from"
        )
    # Of the two ways to make neighbours agree, the one that turns less area.
    wrong = np.bincount(label, agree * size, components) < 0
    agree = np.where(wrong[label], -agree, agree)
    repaired = int((agree < 0).sum())

    out = np.ones(components)
    by_winding = 0
    order, run = _runs(label[cell], components)
    side_order, side_run = _runs(label[edges.cell], components)
    for piece in range(components):
        mine = order[run[piece] : run[piece + 1]]
        sides = side_order[side_run[piece] : side_run[piece + 1]]
        corners = vertices[triangles[mine]]
        corners = np.where(agree[cell[mine]][:, None, None] > 0, corners, corners[:, ::-1])
        if not size[cell[mine]].any():
            continue  # points, lines, and slivers without area
        caps = _caps(edges, sides, agree)
        volume, scale = _enclosed(np.concatenate([corners, caps]))
        if abs(volume) > (DOUBT if len(caps) else 1e-12) * scale:
            out[piece] = np.sign(volume)
            continue
        out[piece] = _winding_sign(corners, space, symmetry, _name(mesh))
        by_winding += 1
    signs = agree * out[label]
    report = OrientationReport(
        turned=int((signs < 0).sum()),
        repaired=repaired,
        components=len(np.unique(label[cell])),
        by_winding=by_winding,
        watertightness=_watertightness(edges, label, np.where(wrong[label], -agree, agree)),
    )
    return signs.astype(np.float64), report


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


def _enclosed(corners: Float[np.ndarray, "triangle 3 3"]) -> tuple[float, float]:
    """Volume within triangles [m³], and the sum of its parts without their sign."""
    corners = corners - corners.mean((0, 1))
    parts = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    return float(parts.sum()), float(np.abs(parts).sum())


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


def _runs(label: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    return label.argsort(kind="stable"), np.concatenate([[0], np.cumsum(np.bincount(label, minlength=count))])
