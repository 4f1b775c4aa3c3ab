"""Files out: layouts that ParaView 5.11 and newer read, written aside and renamed when whole."""

from meshes.writing.files import SUFFIXES, write, write_collection

__all__ = ["SUFFIXES", "write", "write_collection"]
