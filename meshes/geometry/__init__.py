"""Areas, normals, distances and symmetry of meshes."""

from meshes.geometry.cells import area_vectors, cell_centres, cell_normals, cell_sizes
from meshes.geometry.surfaces import (
    OrientationReport,
    Watertightness,
    bounds,
    characteristic_size,
    outward,
    projected_area,
    remesh,
    watertightness,
    wind_outwards,
)
from meshes.geometry.symmetry import Mirror
from meshes.geometry.triangulation import triangulate
from meshes.geometry.wall_distance import ClosestPoints

__all__ = [
    "ClosestPoints",
    "Mirror",
    "OrientationReport",
    "Watertightness",
    "area_vectors",
    "bounds",
    "cell_centres",
    "cell_normals",
    "cell_sizes",
    "characteristic_size",
    "outward",
    "projected_area",
    "remesh",
    "triangulate",
    "watertightness",
    "wind_outwards",
]
