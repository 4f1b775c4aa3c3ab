"""Neighbours of places among points: within a radius, or the nearest few."""

from meshes.neighbours.search import nearest, radius

__all__ = ["nearest", "radius"]
