"""Areas, normals, distances and symmetry of meshes."""

from meshes.geometry.wall_distance import ClosestPoints

__all__ = ["ClosestPoints"]
