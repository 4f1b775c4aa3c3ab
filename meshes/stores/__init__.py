"""Stores: what training reads, one HDF5 file a case with a manifest."""

from meshes.stores.layout import StoredBranch, StoredField, StoredGeometry, StoreError
from meshes.stores.reader import Store, StoredCase
from meshes.stores.writer import write_case

__all__ = ["Store", "StoreError", "StoredBranch", "StoredCase", "StoredField", "StoredGeometry", "write_case"]
