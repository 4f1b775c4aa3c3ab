"""Points on surfaces and in volumes, and choices among points."""

from meshes.sampling.choice import farthest_points, pick
from meshes.sampling.surface import sample_surface
from meshes.sampling.volume import sample_volume

__all__ = ["farthest_points", "pick", "sample_surface", "sample_volume"]
