"""Polygons as triangles, and the sides that they have in common."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, Shaped

from meshes.kinds import TRIANGLE
from meshes.mesh import Mesh

# VTK's cell types with two dimensions, and how many of their points are corners; zero for as many as there are.
CORNERS = {5: 3, 6: 0, 7: 0, 8: 4, 9: 4, 22: 3, 23: 4, 28: 4, 30: 4, 34: 3, 36: 0}
_STRIP, _PIXEL = 6, 8
# Points and lines, which have no area.
_SLENDER = (0, 1, 2, 3, 4, 21, 35)
# Triangles that are worked on at once: their corners stay in the processor's cache.
CHUNK = 16_384


def plain_triangles(mesh: Mesh) -> Int[np.ndarray, "triangle 3"] | None:
    """Return the corners of a mesh of nothing but triangles, without a copy; None where there are other cells."""
    count = len(mesh.types)
    if len(mesh.connectivity) != 3 * count or not (mesh.types == TRIANGLE).all():
        return None
    return mesh.connectivity.reshape(-1, 3) if (np.diff(mesh.offsets) == 3).all() else None


def triangulate(
    mesh: Mesh,
) -> tuple[Shaped[np.ndarray, "vertex 3"], Int[np.ndarray, "triangle 3"], Int[np.ndarray, " triangle"]]:
    """Cut the polygons of a surface into triangles, wound as they are.

    Triangles fan out from a polygon's first corner; a concave polygon loses one ear after the other. Quadratic cells
    count by their corners. Points and lines have no triangles.

    Returns:
        The mesh's points [m], rows of three indices into them, and the cell that each triangle came from.

    Raises:
        ValueError: a cell is not two-dimensional.
    """
    if (plain := plain_triangles(mesh)) is not None:
        return np.asarray(mesh.points), plain, np.arange(len(plain))
    corners, cell = _corners(mesh)
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    sides = np.diff(np.append(first, len(cell)))
    fans = np.maximum(sides - 2, 0)
    owner = np.repeat(np.arange(len(first)), fans)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(fans) - fans, fans)
    start = first[owner]
    triangles = np.stack([corners[start], corners[start + step + 1], corners[start + step + 2]], axis=1)
    cell_of_triangle = cell[start]

    strip = mesh.types[cell_of_triangle] == _STRIP
    if strip.any():
        run = corners[start[strip, None] + step[strip, None] + np.arange(3)]
        odd = step[strip] % 2 == 1
        run[odd] = run[odd][:, [1, 0, 2]]
        triangles[strip] = run
    vertices = np.asarray(mesh.points)
    normal = triangle_area_vectors(vertices, triangles)
    whole = area_vectors_of(vertices, triangles, cell_of_triangle, len(mesh.types))
    folded = np.einsum("ij,ij->i", normal, whole[cell_of_triangle]) < -1e-9 * (whole[cell_of_triangle] ** 2).sum(1)
    for concave in np.unique(cell_of_triangle[folded & ~strip]):
        mine = np.flatnonzero(cell_of_triangle == concave)
        triangles[mine] = _clip_ears(vertices, corners[cell == concave], whole[concave])
    return vertices, triangles, cell_of_triangle


def boundary_edges(
    mesh: Mesh,
) -> tuple[Int[np.ndarray, " side"], Int[np.ndarray, " side"], Int[np.ndarray, " side"]]:
    """List the sides of every polygon: the cell, and the points it leads from and to, in the order of winding.

    Raises:
        ValueError: a cell is not two-dimensional.
    """
    if (mesh.types == _STRIP).any():
        _, triangles, cell = triangulate(mesh)
        return np.repeat(cell, 3), triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
    corners, cell = _corners(mesh)
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    following = np.arange(1, len(cell) + 1)
    following[np.append(first, len(cell))[1:] - 1] = first
    return cell, corners, corners[following]


def area_vectors_of(
    vertices: Shaped[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
    cell_of_triangle: Int[np.ndarray, " triangle"],
    cells: int,
) -> Float[np.ndarray, "cell 3"]:
    """Sum the area vectors [m²] of triangles for the cells they came from."""
    vector = triangle_area_vectors(vertices, triangles)
    return np.stack([np.bincount(cell_of_triangle, column, minlength=cells) for column in vector.T], axis=1)


def triangle_area_vectors(
    vertices: Shaped[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]
) -> Float[np.ndarray, "triangle 3"]:
    """Compute area times normal [m²] of each triangle, by its winding, in float64."""
    vectors = np.empty((len(triangles), 3))
    for part, (a, b, c) in corners_by_chunk(vertices, triangles):
        b, c = b - a, c - a
        for axis in range(3):
            second, third = (axis + 1) % 3, (axis + 2) % 3
            vectors[part, axis] = 0.5 * (b[second] * c[third] - b[third] * c[second])
    return vectors


def triangle_centres(
    vertices: Shaped[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]
) -> Float[np.ndarray, "triangle 3"]:
    """Compute the centroid of each triangle [m], in float64."""
    centres = np.empty((len(triangles), 3))
    for part, (a, b, c) in corners_by_chunk(vertices, triangles):
        # About the first corner, so that a triangle of one point has its centre there to the last digit.
        centres[part] = (a + ((b - a) + (c - a)) / 3).T
    return centres


def corners_by_chunk(
    vertices: Shaped[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]
) -> Iterator[tuple[slice, Float[np.ndarray, "3 3 some"]]]:
    """Give the corners of some thousand triangles at a time in float64: corner first, axis second.

    Work on millions of triangles is bound by memory; a chunk stays in the processor's cache.
    """
    vertices = np.asarray(vertices)
    for start in range(0, len(triangles), CHUNK):
        part = slice(start, min(start + CHUNK, len(triangles)))
        yield part, np.ascontiguousarray(np.take(vertices, triangles[part], axis=0).transpose(1, 2, 0), np.float64)


def _corners(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """List the corners of all polygons, one polygon after the other in the order of winding, and the cell of each."""
    unknown = sorted(set(np.unique(mesh.types).tolist()) - set(CORNERS) - set(_SLENDER))
    if unknown:
        count = int(np.isin(mesh.types, unknown).sum())
        where = f"{mesh.source}: " if mesh.source else ""
        raise ValueError(
            f"{where}{count} cells of VTK type {unknown[0]} are not two-dimensional; expected a surface, such as the "
            "boundary of the volume"
        )
    size = np.diff(mesh.offsets)
    cell = np.repeat(np.arange(len(mesh.types)), size)
    place = np.arange(len(mesh.connectivity)) - np.repeat(mesh.offsets[:-1], size)
    limit = np.zeros(256, np.int64)
    for kind, corners in CORNERS.items():
        limit[kind] = corners or np.iinfo(np.int64).max
    kept = place < limit[mesh.types[cell]]
    # A quadratic polygon lists its corners first, then as many middles.
    kept &= (mesh.types[cell] != 36) | (place < size[cell] // 2)
    # The third and fourth corner of a pixel stand in the other order than those of a quad.
    pixel = mesh.types[cell] == _PIXEL
    source = np.arange(len(place)) + np.where(pixel & (place == 2), 1, 0) - np.where(pixel & (place == 3), 1, 0)
    return np.asarray(mesh.connectivity[source][kept], np.int64), cell[kept]


def _clip_ears(vertices: np.ndarray, polygon: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Cut a concave polygon into triangles: each time the ear whose cut is shortest.

    Source:
        Meisters 1975, Polygons have ears, Amer. Math. Monthly 82(6).
    """
    # In the plane where the polygon looks largest, wound to the left.
    axis = int(np.abs(normal).argmax())
    plane = np.asarray(vertices, np.float64)[:, [(axis + 1) % 3, (axis + 2) % 3]]
    turn = 1.0 if normal[axis] > 0 else -1.0

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return turn * ((b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1])
                       - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0]))  # fmt: skip

    left, triangles = list(polygon), []
    while len(left) > 3:
        points = plane[left]
        before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
        ears = np.flatnonzero(side(before, points, after) > 0)
        ears = ears[np.linalg.norm((after - before)[ears], axis=1).argsort(kind="stable")]
        for ear in ears:
            a, b, c = before[ear], points[ear], after[ear]
            within = (side(a, b, points) >= 0) & (side(b, c, points) >= 0) & (side(c, a, points) >= 0)
            corners = (points == a).all(1) | (points == b).all(1) | (points == c).all(1)
            if not (within & ~corners).any():
                break
        else:  # only a polygon that crosses itself has no ear; its area vector is kept by cutting anywhere
            ear = 1
        triangles.append((left[ear - 1], left[ear], left[(ear + 1) % len(left)]))
        del left[ear]
    return np.array([*triangles, left], np.int64)
