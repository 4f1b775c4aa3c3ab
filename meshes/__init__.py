"""Geometry and fields: files in, arrays out."""

from meshes.fields import FieldSpec
from meshes.mesh import Mesh

__all__ = ["FieldSpec", "Mesh"]
