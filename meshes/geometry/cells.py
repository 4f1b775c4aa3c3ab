"""Centres, sizes, normals and faces of cells of any kind, in float64."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from meshes.geometry.triangulation import plain_triangles, triangle_area_vectors, triangle_centres
from meshes.kinds import (
    CORNERS,
    HEXAGONAL_PRISM,
    HEXAHEDRON,
    LINE,
    LINEAR,
    PENTAGONAL_PRISM,
    PIXEL,
    POLY_LINE,
    POLYGON,
    POLYHEDRON,
    PYRAMID,
    QUADRATIC_POLYGON,
    TETRA,
    TRIANGLE_STRIP,
    VOXEL,
    WEDGE,
    dimensions,
    name_of,
)
from meshes.mesh import Mesh

CHUNK = 4096
# Faces of the linear cells as VTK numbers their corners, looking out of a cell that is not inverted. For wedges that is
# the order of VTK's parametric coordinates; see `cell_sizes`.
_FACES: dict[int, tuple[tuple[int, ...], ...]] = {
    TETRA: ((0, 1, 3), (1, 2, 3), (2, 0, 3), (0, 2, 1)),
    HEXAHEDRON: ((0, 4, 7, 3), (1, 2, 6, 5), (0, 1, 5, 4), (3, 7, 6, 2), (0, 3, 2, 1), (4, 5, 6, 7)),
    VOXEL: ((0, 4, 6, 2), (1, 3, 7, 5), (0, 1, 5, 4), (2, 6, 7, 3), (0, 2, 3, 1), (4, 5, 7, 6)),
    WEDGE: ((0, 2, 1), (3, 4, 5), (0, 1, 4, 3), (1, 2, 5, 4), (2, 0, 3, 5)),
    PYRAMID: ((0, 3, 2, 1), (0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)),
    PENTAGONAL_PRISM: (
        (0, 4, 3, 2, 1), (5, 6, 7, 8, 9), (0, 1, 6, 5), (1, 2, 7, 6), (2, 3, 8, 7), (3, 4, 9, 8), (4, 0, 5, 9),
    ),
    HEXAGONAL_PRISM: (
        (0, 5, 4, 3, 2, 1), (6, 7, 8, 9, 10, 11),
        (0, 1, 7, 6), (1, 2, 8, 7), (2, 3, 9, 8), (3, 4, 10, 9), (4, 5, 11, 10), (5, 0, 6, 11),
    ),
}  # fmt: skip


class Polygons(NamedTuple):
    """Polygons with the same number of corners: cells of a surface, or faces of cells.

    Attributes:
        corners: indices of points.
        cell: the cell that each is, or that it is a face of.
    """

    corners: Int[np.ndarray, "polygon corner"]
    cell: Int[np.ndarray, " polygon"]


def cell_centres(mesh: Mesh) -> Float[np.ndarray, "cell 3"]:
    """Return the centroid of each cell [m]: of its volume, area or length; the mean of the corners where that is zero.

    Curved cells count as the linear ones with their corners; faces that are not flat, as the triangles between their
    edges and the mean of their corners.

    Raises:
        ValueError: there are triangle strips or kinds of cells that are not known here.
    """
    if (triangles := plain_triangles(mesh)) is not None:
        return triangle_centres(mesh.points, triangles)
    return _measured(mesh)[1]


def cell_sizes(mesh: Mesh) -> Float[np.ndarray, " cell"]:
    """Return the length [m], area [m²] or volume [m³] of each cell, by its dimension; zero for vertices.

    The volume of an inverted cell is negative. Polyhedra and linear wedges are never negative: a polyhedron has no
    order to be inverted, and for wedges VTK documents one order of the corners, integrates with the other, and files
    hold both. The area of a surface cell is that of its area vector, so a cell that is not flat counts as its
    projection along its mean normal.

    Raises:
        ValueError: there are triangle strips or kinds of cells that are not known here.
    """
    return _measured(mesh)[0]


def area_vectors(mesh: Mesh) -> Float[np.ndarray, "cell 3"]:
    """Return area times normal [m²] of each surface cell, on the side that sees its corners anticlockwise.

    This is half the sum of `x_i × x_{i+1}` over the corners, which depends on the rim alone: over a closed surface of
    consistent order it sums to zero whether cells are flat or not.

    Raises:
        ValueError: a cell is not two-dimensional, or is a triangle strip.
    """
    if not mesh.is_surface:
        others = ", ".join(name_of(kind) for kind in np.unique(mesh.types[dimensions(mesh.types) != 2]))
        raise ValueError(f"{mesh.source or 'the mesh'} is no surface: it holds {others or 'no cells'}")
    if (triangles := plain_triangles(mesh)) is not None:
        return triangle_area_vectors(mesh.points, triangles)
    vectors = np.zeros((mesh.n_cells, 3))
    for polygons in surface_polygons(mesh):
        vectors[polygons.cell] = _area_vectors(mesh.points, polygons.corners)
    return vectors


def cell_normals(mesh: Mesh) -> Float[np.ndarray, "cell 3"]:
    """Return the unit normal of each surface cell; zero where a cell has no area.

    Raises:
        ValueError: a cell is not two-dimensional, or is a triangle strip.
    """
    vectors = area_vectors(mesh)
    area = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, area, out=np.zeros_like(vectors), where=area > 0)


def surface_polygons(mesh: Mesh) -> list[Polygons]:
    """Return the two-dimensional cells as polygons, grouped by their number of corners.

    Raises:
        ValueError: there are triangle strips.
    """
    groups = []
    for kind, cells in _by_kind(mesh, 2):
        linear = LINEAR.get(kind, kind)
        if linear == TRIANGLE_STRIP:
            raise ValueError(f"{mesh.source or 'the mesh'} holds triangle strips; turn them into triangles first")
        if linear != POLYGON:
            corners = _first_corners(mesh, cells, CORNERS[linear])
            groups.append(Polygons(corners[:, [0, 1, 3, 2]] if linear == PIXEL else corners, cells))
            continue
        sizes = (mesh.offsets[cells + 1] - mesh.offsets[cells]) // (2 if kind == QUADRATIC_POLYGON else 1)
        for size in np.unique(sizes):
            these = cells[sizes == size]
            groups.append(Polygons(_first_corners(mesh, these, int(size)), these))
    return groups


def cell_faces(mesh: Mesh) -> list[Polygons]:
    """Return the faces of the three-dimensional cells, grouped by their number of corners.

    Each face between two cells is there twice, once for each. Those of polyhedra are in the order of the file, which
    need not look out of the cell.
    """
    groups = []
    for kind, cells in _by_kind(mesh, 3):
        linear = LINEAR.get(kind, kind)
        if linear == POLYHEDRON:
            groups += _polyhedron_faces(mesh, cells)
            continue
        corners = _first_corners(mesh, cells, CORNERS[linear])
        for size in sorted({len(face) for face in _FACES[linear]}):
            table = np.array([face for face in _FACES[linear] if len(face) == size])
            groups.append(Polygons(corners[:, table].reshape(-1, size), np.repeat(cells, len(table))))
    return groups


def _polyhedron_faces(mesh: Mesh, cells: Int[np.ndarray, " some"]) -> list[Polygons]:
    assert mesh.face_connectivity is not None
    assert mesh.face_offsets is not None
    assert mesh.polyhedron_offsets is not None
    # Only polyhedra own faces, so all faces together are theirs, in order.
    cell = np.repeat(cells, np.diff(mesh.polyhedron_offsets)[cells])
    sizes = np.diff(mesh.face_offsets)
    groups = []
    for size in np.unique(sizes[sizes > 0]):
        these = np.flatnonzero(sizes == size)
        corners = mesh.face_connectivity[mesh.face_offsets[these][:, None] + np.arange(size)]
        groups.append(Polygons(corners, cell[these]))
    return groups


def _by_kind(mesh: Mesh, dimension: int) -> list[tuple[int, Int[np.ndarray, " some"]]]:
    unknown = np.unique(mesh.types[dimensions(mesh.types) < 0])
    if len(unknown):
        told = ", ".join(name_of(kind) for kind in unknown)
        raise ValueError(f"{mesh.source or 'the mesh'} holds kinds of cells that are not known here: {told}")
    there = np.unique(mesh.types)
    return [(int(kind), np.flatnonzero(mesh.types == kind)) for kind in there[dimensions(there) == dimension]]


def _first_corners(mesh: Mesh, cells: Int[np.ndarray, " some"], count: int) -> Int[np.ndarray, "some corner"]:
    short = cells[mesh.offsets[cells + 1] - mesh.offsets[cells] < count]
    if len(short):
        message = f"cell {short[0]} of {mesh.source or 'the mesh'} is a {name_of(mesh.types[short[0]])}"
        raise ValueError(f"{message} but has fewer than {count} points")
    return mesh.connectivity[mesh.offsets[cells][:, None] + np.arange(count)]


class _Fans(NamedTuple):
    """Polygons as fans of triangles around the mean of their corners, with the axes of space first.

    Attributes:
        vector: area vector of each triangle [m²].
        reach: three times the centroid of each triangle, relative to the mean [m].
        mean: of the corners [m].
    """

    vector: Float[np.ndarray, "3 corner polygon"]
    reach: Float[np.ndarray, "3 corner polygon"]
    mean: Float[np.ndarray, "3 polygon"]


def _fans(
    points: Float[np.ndarray, "point 3"], corners: Int[np.ndarray, "polygon corner"]
) -> Iterator[tuple[slice, _Fans]]:
    """Make fans a few thousand polygons at a time, which keeps the arrays in the processor's cache."""
    columns = np.ascontiguousarray(points.T, np.float64)
    for start in range(0, len(corners), CHUNK):
        here = slice(start, min(start + CHUNK, len(corners)))
        at = columns[:, corners[here].T]
        mean = at.mean(axis=1)
        at -= mean[:, None]
        following = np.roll(at, -1, axis=1)
        vector = np.empty_like(at)
        for axis in range(3):
            second, third = (axis + 1) % 3, (axis + 2) % 3
            vector[axis] = at[second] * following[third] - at[third] * following[second]
        vector *= 0.5
        yield here, _Fans(vector, at + following, mean)


def _area_vectors(
    points: Float[np.ndarray, "point 3"], corners: Int[np.ndarray, "polygon corner"]
) -> Float[np.ndarray, "polygon 3"]:
    vectors = np.empty((len(corners), 3))
    for here, fans in _fans(points, corners):
        vectors[here] = fans.vector.sum(axis=1).T
    return vectors


def _measured(mesh: Mesh) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, "cell 3"]]:
    """Sizes and centroids of all cells."""
    sizes = np.zeros(mesh.n_cells)
    centres = _corner_means(mesh)
    _measure_lines(mesh, sizes, centres)
    _measure_surfaces(mesh, sizes, centres)
    _measure_volumes(mesh, sizes, centres)
    return sizes, centres


def _corner_means(mesh: Mesh) -> Float[np.ndarray, "cell 3"]:
    count = np.diff(mesh.offsets)
    cell = np.repeat(np.arange(mesh.n_cells), count)
    total = _sums(cell, mesh.points[mesh.connectivity].astype(np.float64), mesh.n_cells)
    return total / np.maximum(count, 1)[:, None]


def _sums(cell: Int[np.ndarray, " row"], rows: Float[np.ndarray, "row 3"], n_cells: int) -> Float[np.ndarray, "cell 3"]:
    columns = [np.bincount(cell, rows[:, axis], minlength=n_cells) for axis in range(3)]
    return np.stack(columns, axis=1).astype(np.float64)  # of no rows, NumPy makes integers


def _quotient(vectors: Float[np.ndarray, "row 3"], divisors: Float[np.ndarray, " row"]) -> Float[np.ndarray, "row 3"]:
    """Divide; by zero gives zero, which leaves a cell without size at the mean of its corners."""
    divisors = divisors[:, None]
    return np.divide(vectors, divisors, out=np.zeros_like(vectors), where=divisors != 0)


def _measure_lines(mesh: Mesh, sizes: Float[np.ndarray, " cell"], centres: Float[np.ndarray, "cell 3"]) -> None:
    for kind, cells in _by_kind(mesh, 1):
        if LINEAR.get(kind, kind) == LINE:
            ends = _first_corners(mesh, cells, 2)
            owner = cells
        else:
            assert kind == POLY_LINE
            count = np.maximum(mesh.offsets[cells + 1] - mesh.offsets[cells] - 1, 0)
            owner = np.repeat(cells, count)
            first = mesh.offsets[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
            ends = mesh.connectivity[first[:, None] + np.arange(2)]
        start, stop = mesh.points[ends].astype(np.float64).swapaxes(0, 1)
        length = np.linalg.norm(stop - start, axis=1)
        total = np.bincount(owner, length, minlength=mesh.n_cells)[cells]
        middle = (start + stop) / 2 - centres[owner]
        sizes[cells] = total
        centres[cells] += _quotient(_sums(owner, middle * length[:, None], mesh.n_cells)[cells], total)


def _measure_surfaces(mesh: Mesh, sizes: Float[np.ndarray, " cell"], centres: Float[np.ndarray, "cell 3"]) -> None:
    for polygons in surface_polygons(mesh):
        for here, fans in _fans(mesh.points, polygons.corners):
            vector = fans.vector.sum(axis=1)
            area = np.sqrt(np.square(vector).sum(axis=0))
            # Signed along the mean normal, so that a polygon that is not convex comes out right too.
            weight = (fans.vector * vector[:, None]).sum(axis=0)
            shift = (fans.reach * weight).sum(axis=1)
            sizes[polygons.cell[here]] = area
            centres[polygons.cell[here]] = fans.mean.T + _quotient(shift.T, 3 * np.square(area))


def _measure_volumes(mesh: Mesh, sizes: Float[np.ndarray, " cell"], centres: Float[np.ndarray, "cell 3"]) -> None:
    """Add up the tetrahedra between the mean of a cell's corners and the triangles of its faces."""
    cells = np.flatnonzero(dimensions(mesh.types) == 3)
    if not len(cells):
        return
    mixed = _inconsistent_polyhedra(mesh)
    volume, moment = np.zeros(mesh.n_cells), np.zeros((mesh.n_cells, 3))
    for corners, cell in cell_faces(mesh):
        face_volume, face_moment = np.empty(len(cell)), np.empty((len(cell), 3))
        for here, fans in _fans(mesh.points, corners):
            # The centroid of a tetrahedron is a quarter of `reach`; its volume is a ninth of `reach` times its base.
            reach = fans.reach + 3 * (fans.mean - centres[cell[here]].T)[:, None]
            tetrahedra = (reach * fans.vector).sum(axis=0) / 9
            face_volume[here] = tetrahedra.sum(axis=0)
            face_moment[here] = (reach * tetrahedra).sum(axis=1).T / 4
        turned = mixed[cell] & (face_volume < 0)
        face_volume[turned] *= -1
        face_moment[turned] *= -1
        volume += np.bincount(cell, face_volume, minlength=mesh.n_cells)
        moment += _sums(cell, face_moment, mesh.n_cells)
    centres[cells] += _quotient(moment[cells], volume[cells])
    unsigned = np.isin(mesh.types, (POLYHEDRON, WEDGE))
    sizes[cells] = np.where(unsigned, np.abs(volume), volume)[cells]


def _inconsistent_polyhedra(mesh: Mesh) -> Bool[np.ndarray, " cell"]:
    """Tell which polyhedra have faces that look in and out by turns: their area vectors do not sum to zero.

    Such a cell takes each face as looking away from the mean of its corners. The tolerance is far above rounding and
    far below what one face of a cell makes when turned over.
    """
    there = np.flatnonzero(mesh.types == POLYHEDRON)
    total, absolute = np.zeros((mesh.n_cells, 3)), np.zeros(mesh.n_cells)
    for corners, cell in _polyhedron_faces(mesh, there) if len(there) else ():
        vectors = _area_vectors(mesh.points, corners)
        total += _sums(cell, vectors, mesh.n_cells)
        absolute += np.bincount(cell, np.abs(vectors).sum(axis=1), minlength=mesh.n_cells)
    return np.abs(total).sum(axis=1) > 1e-6 * absolute
