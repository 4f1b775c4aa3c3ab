"""Surfaces meshed finer, keeping their shape exactly."""

import numpy as np
from jaxtyping import Int, Shaped

from meshes.geometry.triangulation import corners_by_chunk, triangle_area_vectors
from meshes.mesh import Mesh

# Edges are halved, so they end between half the limit and the limit. With twice the target size as the limit, the
# mean area of a cell comes out at the square of the target.
LIMIT = 2.0
# Neighbours count as coplanar while the volume between them stays below this part of their size cubed.
FLAT = 1e-6
ROUNDS = 64


def remesh(
    vertices: Shaped[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
    target_size: float,
    *,
    flip: bool = True,
    limit: int = 20_000_000,
) -> Mesh:
    """Mesh a surface as finely as asked, keeping its shape: planes stay planes, and sharp edges stay.

    Edges longer than twice the target are halved again and again, on both sides alike, so the surface stays closed;
    within planes, edges of what was cut are flipped to the better diagonal (Delaunay). What is finer already stays as
    it is: small triangles are never merged.

    Args:
        vertices: corner positions [m].
        triangles: rows of three indices into `vertices`, wound as they should stay.
        target_size: square root of the area [m²] that a cell should have about.
        flip: improve the triangles within planes.
        limit: triangles to refuse at, against a target in other units than the surface.

    Raises:
        ValueError: the target is not positive, or far smaller than the surface.

    Source:
        Botsch and Kobbelt 2004, A remeshing approach to multiresolution modeling, SGP, without collapse and smoothing.
    """
    if not (np.isfinite(target_size) and target_size > 0):
        raise ValueError(f"the target size is {target_size}; expected a positive length [m]")
    vertices, triangles = np.asarray(vertices, np.float64), np.asarray(triangles, np.int64)
    vectors = triangle_area_vectors(vertices, triangles)
    area = float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)).sum())
    expected = area / target_size**2
    if expected > limit:
        raise ValueError(
            f"a cell size of {target_size:g} m would give about {expected:.2g} triangles on this surface of "
            f"{area:.3g} m²; is the surface in other units?"
        )
    longest = LIMIT * target_size
    touched = np.empty(len(triangles), bool)
    for part, (a, b, c) in corners_by_chunk(vertices, triangles):
        touched[part] = _longest(a.T, b.T, c.T) > longest
    for _ in range(ROUNDS if touched.any() else 0):
        if flip:
            triangles, touched = _flip(vertices, triangles, touched)
        refined = _halve(vertices, triangles, touched, longest)
        if refined is None:
            break
        vertices, triangles, touched = refined
    count = len(triangles)
    return Mesh(
        points=vertices,
        connectivity=triangles.ravel(),
        offsets=3 * np.arange(count + 1, dtype=np.int64),
        types=np.full(count, 5, np.uint8),
    )


def characteristic_size(vertices: Shaped[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]) -> float:
    """Compute the size of a typical cell: the median of the square roots of the triangles' areas [m]."""
    vectors = triangle_area_vectors(vertices, triangles)
    return float(np.median(np.sqrt(np.linalg.norm(vectors, axis=1))))


def _sides(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges as rows of two vertices, smaller first, and for each triangle the edge from each corner to the next."""
    pairs = np.stack([triangles, np.roll(triangles, -1, axis=1)], axis=2).reshape(-1, 2)
    count = np.int64(triangles.max(initial=0) + 1)
    keys, edge = np.unique(pairs.min(1) * count + pairs.max(1), return_inverse=True)
    return np.stack([keys // count, keys % count], axis=1), edge.reshape(-1, 3)


def _halve(
    vertices: np.ndarray, triangles: np.ndarray, touched: np.ndarray, longest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Halve every edge that is too long and the longest of a triangle; None where there is none.

    Halving the longest edges first keeps angles from shrinking; a triangle may have one, two or three halved.
    """
    edges, edge = _sides(triangles)
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    # Edges almost as long as the longest are halved with it, or nearly equilateral triangles would turn slender.
    chosen = np.zeros(len(edges), bool)
    chosen[edge[length[edge] >= 0.75 * length[edge].max(1, keepdims=True)]] = True
    chosen &= length > longest
    if not chosen.any():
        return None
    number = np.where(chosen, len(vertices) + np.cumsum(chosen) - 1, -1)
    vertices = np.concatenate([vertices, vertices[edges[chosen]].mean(1)])
    middle = number[edge]
    split = middle >= 0
    count = split.sum(1)
    # One: turn so that the halved side comes first. Two: so that the whole one comes last.
    turn = np.where(count == 1, split.argmax(1), np.where(count == 2, (split.argmin(1) + 1) % 3, 0))
    places = (turn[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(triangles, places, axis=1).T
    ab, bc, ca = np.take_along_axis(middle, places, axis=1).T
    one, two, three = count == 1, count == 2, count == 3
    # Two halves leave a trapezium a, ab, bc, c, cut along its shorter diagonal.
    first = np.linalg.norm(vertices[a] - vertices[bc], axis=1) <= np.linalg.norm(vertices[ab] - vertices[c], axis=1)
    parts = [
        (count == 0, (a, b, c)),
        (one, (a, ab, c)),
        (one, (ab, b, c)),
        (two, (ab, b, bc)),
        (two & first, (a, ab, bc)),
        (two & first, (a, bc, c)),
        (two & ~first, (a, ab, c)),
        (two & ~first, (ab, bc, c)),
        (three, (a, ab, ca)),
        (three, (b, bc, ab)),
        (three, (c, ca, bc)),
        (three, (ab, bc, ca)),
    ]
    triangles = np.concatenate([np.stack(part, axis=1)[which] for which, part in parts])
    whole = touched[count == 0]
    return vertices, triangles, np.concatenate([whole, np.ones(len(triangles) - len(whole), bool)])


def _flip(vertices: np.ndarray, triangles: np.ndarray, touched: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flip edges between coplanar triangles, at least one of them touched, until opposite angles sum to at most π."""
    triangles, touched = triangles.copy(), touched.copy()
    for _ in range(ROUNDS):
        edges, edge = _sides(triangles)
        side_edge = edge.ravel()
        order = side_edge.argsort(kind="stable")
        inner = np.bincount(side_edge, minlength=len(edges)) == 2
        pair = order[inner[side_edge[order]]].reshape(-1, 2)
        triangle, place = pair // 3, pair % 3
        a, b = triangles[triangle[:, 0], place[:, 0]], triangles[triangle[:, 0], (place[:, 0] + 1) % 3]
        agree = triangles[triangle[:, 1], place[:, 1]] == b
        c, d = (triangles[triangle[:, k], (place[:, k] + 2) % 3] for k in (0, 1))
        A, B, C, D = (vertices[corner] for corner in (a, b, c, d))
        candidate = np.flatnonzero(agree & touched[triangle].any(1) & (c != d))
        A, B, C, D = (corner[candidate] for corner in (A, B, C, D))
        scale = np.maximum(_longest(A, B, C), _longest(B, A, D))
        flat = np.abs(np.einsum("ij,ij->i", np.cross(B - A, C - A), D - A)) <= FLAT * scale**3
        normal = np.cross(B - A, C - A) + np.cross(A - B, D - B)
        # Both new triangles must keep the side of the old ones: the four corners are convex.
        smallest = 1e-6 * np.einsum("ij,ij->i", normal, normal)
        convex = np.einsum("ij,ij->i", np.cross(D - C, B - C), normal) > smallest
        convex &= np.einsum("ij,ij->i", np.cross(C - D, A - D), normal) > smallest
        gain = _angle(C, A, B) + _angle(D, A, B) - np.pi
        candidate = candidate[flat & convex & (gain > 1e-6)]
        if not len(candidate):
            break
        gain = gain[flat & convex & (gain > 1e-6)]
        # A new edge must not be there already.
        count = np.int64(len(vertices))
        known = edges[:, 0] * count + edges[:, 1]
        low, high = np.minimum(c, d)[candidate], np.maximum(c, d)[candidate]
        fresh = ~np.isin(low * count + high, known)
        candidate, gain = candidate[fresh], gain[fresh]
        # Each triangle takes part in one flip at a time, in that which gains most.
        rank = np.empty(len(candidate), np.int64)
        rank[(-gain).argsort(kind="stable")] = np.arange(len(candidate))
        best = np.full(len(triangles), len(candidate))
        for k in (0, 1):
            np.minimum.at(best, triangle[candidate, k], rank)
        winner = (best[triangle[candidate, 0]] == rank) & (best[triangle[candidate, 1]] == rank)
        candidate = candidate[winner]
        if not len(candidate):
            break
        triangles[triangle[candidate, 0]] = np.stack([c[candidate], d[candidate], b[candidate]], axis=1)
        triangles[triangle[candidate, 1]] = np.stack([d[candidate], c[candidate], a[candidate]], axis=1)
        touched[triangle[candidate]] = True
    return triangles, touched


def _longest(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.sqrt(np.max([((p - q) ** 2).sum(1) for p, q in ((a, b), (b, c), (c, a))], axis=0))


def _angle(apex: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle at the apex."""
    across = np.linalg.norm(np.cross(a - apex, b - apex), axis=1)
    return np.arctan2(across, np.einsum("ij,ij->i", a - apex, b - apex))
