"""Geometry and fields: files in, arrays out."""
