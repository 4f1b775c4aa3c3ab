"""Several meshes as one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from meshes.kinds import dimensions
from meshes.mesh import Mesh
from meshes.reading.errors import ReadError


def merge(blocks: Mapping[str, Mesh], source: str) -> Mesh:
    """Put blocks of one kind one after the other; points that coincide are not joined.

    Args:
        blocks: at least one mesh, by name.
        source: the file that they came from.

    Raises:
        ReadError: the blocks have cells of different dimension, or other arrays.
    """
    meshes = list(blocks.values())
    if len(meshes) == 1:
        return meshes[0]
    kinds = {name: _kind(mesh) for name, mesh in blocks.items()}
    if len(set(map(repr, kinds.values()))) > 1:
        told = "; ".join(f"{name!r}: {_told(kind)}" for name, kind in kinds.items())
        raise ReadError(f"the blocks of {source} do not make one mesh ({told}); choose some by name with blocks")
    first_point = np.cumsum([0, *(mesh.n_points for mesh in meshes)])
    polyhedral = any(mesh.face_offsets is not None for mesh in meshes)
    faces = [_faces(mesh) for mesh in meshes] if polyhedral else []
    return Mesh(
        points=np.concatenate([mesh.points for mesh in meshes]),
        connectivity=np.concatenate([m.connectivity + start for m, start in zip(meshes, first_point, strict=False)]),
        offsets=_runs([mesh.offsets for mesh in meshes]),
        types=np.concatenate([mesh.types for mesh in meshes]),
        face_connectivity=np.concatenate([each[0] + start for each, start in zip(faces, first_point, strict=False)])
        if polyhedral
        else None,
        face_offsets=_runs([each[1] for each in faces]) if polyhedral else None,
        polyhedron_offsets=_runs([each[2] for each in faces]) if polyhedral else None,
        point_data=_joined([mesh.point_data for mesh in meshes]),
        cell_data=_joined([mesh.cell_data for mesh in meshes]),
        source=source,
    )


def _kind(mesh: Mesh) -> tuple[Any, ...]:
    arrays = [
        sorted((name, array.shape[1:], array.dtype.kind) for name, array in data.items())
        for data in (mesh.point_data, mesh.cell_data)
    ]
    return np.unique(dimensions(mesh.types)).tolist(), *arrays


def _told(kind: tuple[Any, ...]) -> str:
    cells = " and ".join(f"{dimension}-D" for dimension in kind[0])
    names = ", ".join(name for arrays in kind[1:] for name, *_ in arrays)
    return f"{cells} cells with {names or 'no arrays'}"


def _runs(offsets: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.concatenate([np.diff(each) for each in offsets]))])


def _faces(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if mesh.face_connectivity is None or mesh.face_offsets is None or mesh.polyhedron_offsets is None:
        return np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(mesh.n_cells + 1, np.int64)
    return mesh.face_connectivity, mesh.face_offsets, mesh.polyhedron_offsets


def _joined(data: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([each[name] for each in data]) for name in data[0]}
