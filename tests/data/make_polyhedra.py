"""Make the files of polyhedra beside this script: one mesh in both layouts that VTK has for their faces.

Run as `python tests/data/make_polyhedra.py`; `newer` needs VTK 9.4 or later. A hexagonal prism under a pyramid on its
lid, and a hexahedron beside them.
"""

from pathlib import Path

import numpy as np

from meshes.kinds import HEXAHEDRON, POLYHEDRON
from meshes.mesh import Mesh
from meshes.writing import write

HERE = Path(__file__).parent


def polyhedra() -> Mesh:
    """Make the mesh: 22 points, two polyhedra and a hexahedron."""
    angle = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(6)], axis=1)
    cube = np.array([[x, y, z] for z in (0, 1) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))], float)
    points = np.vstack([ring, ring + np.array([0, 0, 1.0]), [[0, 0, 2]], cube + np.array([2.0, 0, 0]), [[9, 9, 9]]])
    lid = list(range(6, 12))
    prism = [list(range(6)), lid, *([i, (i + 1) % 6, 6 + (i + 1) % 6, 6 + i] for i in range(6))]
    pyramid = [lid, *([6 + i, 6 + (i + 1) % 6, 12] for i in range(6))]
    faces = [*prism, *pyramid]
    corners = [list(range(12)), [*lid, 12], list(range(13, 21))]
    sizes = np.array([len(each) for each in corners])
    return Mesh(
        points=points.astype(np.float32),
        connectivity=np.concatenate(corners),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        types=np.array([POLYHEDRON, POLYHEDRON, HEXAHEDRON], np.uint8),
        face_connectivity=np.concatenate(faces),
        face_offsets=np.concatenate([[0], np.cumsum([len(face) for face in faces])]),
        polyhedron_offsets=np.array([0, len(prism), len(faces), len(faces)]),
        cell_data={"pressure": np.array([1.5, -2.5, 0.25], np.float32)},
        point_data={"number": np.arange(len(points))},
    )


if __name__ == "__main__":
    write(polyhedra(), HERE / "polyhedra_older.vtu")
    polyhedra().to_pyvista().save(HERE / "polyhedra_newer.vtu")
