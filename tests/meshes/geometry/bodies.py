"""Small bodies whose geometry is known."""

import numpy as np

from meshes.mesh import Mesh


def as_mesh(vertices: np.ndarray, triangles: np.ndarray, **data) -> Mesh:
    return Mesh.from_triangles(np.asarray(vertices, np.float64), np.asarray(triangles, np.int64), cell_data=data)


def polygons(points, cells: list[list[int]], types: list[int] | None = None) -> Mesh:
    return Mesh(
        points=np.asarray(points, np.float64),
        connectivity=np.concatenate([np.asarray(cell, np.int64) for cell in cells]),
        offsets=np.cumsum([0, *map(len, cells)], dtype=np.int64),
        types=np.array([7] * len(cells) if types is None else types, np.uint8),
    )


def box(size=(1.0, 1.0, 1.0), lower=(0.0, 0.0, 0.0)) -> Mesh:
    """Six quads, wound outwards."""
    corners = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], float)
    faces = [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]]
    return polygons(corners * size + lower, faces, [9] * 6)


def rotation(rng: np.random.Generator) -> np.ndarray:
    matrix, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


def volume_within(vertices: np.ndarray, triangles: np.ndarray) -> float:
    return float(np.linalg.det(np.asarray(vertices, np.float64)[triangles]).sum() / 6)


def total_area(vertices: np.ndarray, triangles: np.ndarray) -> float:
    corners = np.asarray(vertices, np.float64)[triangles]
    vectors = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(0.5 * np.linalg.norm(vectors, axis=1).sum())
