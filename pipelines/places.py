"""The points of a mesh that stand for a branch: where they are, how much each stands for, and which way the wall lies.

Data on cells are placed at cell centres and stand for the cell. Data on points stay there, and each point stands for
an equal part of every cell around it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from meshes.kinds import dimensions
from meshes.mesh import Mesh
from pipelines.settings import nearest

Association = Literal["cell", "point"]


@dataclass(frozen=True, eq=False)
class Places:
    """Points that stand for a branch, in three dimensions.

    Attributes:
        position: places [m].
        measure: area [m²] or volume [m³] that each stands for.
        index: the cell or point of the mesh that each is.
        association: whether `index` counts cells or points.
        cell_size: median size of the cells [m].
        area_vector: normal out of the body times area [m²]; on a surface only.
    """

    position: Float[np.ndarray, "point 3"]
    measure: Float[np.ndarray, " point"]
    index: Int[np.ndarray, " point"]
    association: Association
    cell_size: float
    area_vector: Float[np.ndarray, "point 3"] | None = None

    def take(self, which: Bool[np.ndarray, " point"]) -> "Places":
        """Return some of the places."""
        vector = None if self.area_vector is None else self.area_vector[which]
        position, measure, index = self.position[which], self.measure[which], self.index[which]
        return replace(self, position=position, measure=measure, index=index, area_vector=vector)

    @property
    def normal(self) -> Float[np.ndarray, "point 3"] | None:
        """Unit normal out of the body; on a surface only."""
        if self.area_vector is None:
            return None
        return self.area_vector / np.linalg.norm(self.area_vector, axis=1, keepdims=True)


def association(mesh: Mesh, arrays: Iterable[str]) -> Association:
    """Tell whether arrays lie on cells or on points; where both have them all, cells are meant.

    Raises:
        ValueError: an array is not there, or some lie on cells only and others on points only.
    """
    arrays = list(arrays)
    there = [*mesh.cell_data, *mesh.point_data]
    for array in arrays:
        if array not in there:
            listing = ", ".join(there) or "none at all"
            raise ValueError(f"{mesh.source} has no array {array!r}; it has {listing}{nearest(array, there)}")
    if all(array in mesh.cell_data for array in arrays):
        return "cell"
    if all(array in mesh.point_data for array in arrays):
        return "point"
    cells = [array for array in arrays if array in mesh.cell_data]
    points = [array for array in arrays if array not in cells]
    message = f"{mesh.source}: {', '.join(cells)} lie on cells, but {', '.join(points)} on points"
    raise ValueError(f"{message}; make them two branches, or convert one kind in ParaView")


def surface_places(mesh: Mesh, where: Association, area_vector: Float[np.ndarray, "cell 3"], span: float) -> Places:
    """Return the places of a surface; cells that are not polygons, and what has no area, are left out.

    Args:
        mesh: the wall.
        where: whether its data lie on cells or points.
        area_vector: normal out of the body times area of each cell [m²]; zero for cells that are no polygons.
        span: thickness [m] of a strip one cell thick, or zero.

    Raises:
        ValueError: there are no polygons with an area.
    """
    area = np.linalg.norm(area_vector, axis=1)
    mask = (dimensions(mesh.types) == 2) & (area > 0)
    if not mask.any():
        raise ValueError(f"{mesh.source} has no polygons with an area; a surface branch needs the faces of the wall")
    size = float(np.median(area[mask] / span if span else np.sqrt(area[mask])))
    if where == "cell":
        return Places(_centres(mesh)[mask], area[mask], np.flatnonzero(mask), where, size, area_vector[mask])
    measure = _share(mesh, np.where(mask, area, 0.0))
    vector = np.stack([_share(mesh, np.where(mask, area_vector[:, axis], 0.0)) for axis in range(3)], axis=1)
    used = np.flatnonzero((measure > 0) & (np.linalg.norm(vector, axis=1) > 0))
    return Places(mesh.points[used].astype(np.float64), measure[used], used, where, size, vector[used])


def volume_places(mesh: Mesh, where: Association, span: float, notes: list[str]) -> Places:
    """Return the places of a volume: of its three-dimensional cells, or of polygons where the mesh is flat.

    Args:
        mesh: the fluid.
        where: whether its data lie on cells or points.
        span: thickness [m] of a mesh one cell thick, or zero.
        notes: receives a sentence about cells of negative volume, which get measure zero.

    Raises:
        ValueError: there are no such cells.
    """
    from meshes.geometry.cells import cell_sizes

    dimension = dimensions(mesh.types)
    flat = not (dimension == 3).any()
    mask = dimension == (2 if flat else 3)
    if not mask.any():
        raise ValueError(f"{mesh.source} has no cells with a volume; a volume branch needs the cells of the fluid")
    size = cell_sizes(mesh)
    # A mesh whose faces all wind the other way has only negative volumes, which means nothing.
    size = size * (-1.0 if np.median(size[mask]) < 0 else 1.0)
    if negative := int((size[mask] < 0).sum()):
        notes.append(
            f"{mesh.source}: {negative} of {int(mask.sum())} cells have negative volume; they get measure zero"
        )
    size = np.where(mask, np.maximum(size, 0.0), 0.0)
    typical = float(np.median(np.sqrt(size[mask] / (span or 1.0)) if flat or span else np.cbrt(size[mask])))
    if where == "cell":
        return Places(_centres(mesh)[mask], size[mask], np.flatnonzero(mask), where, typical)
    measure = _share(mesh, size)
    used = np.unique(mesh.connectivity[np.repeat(mask, np.diff(mesh.offsets))])
    return Places(mesh.points[used].astype(np.float64), measure[used], used, where, typical)


def span(mesh: Mesh, axes: tuple[int, ...]) -> float:
    """Return the thickness [m] of a mesh across the axis that a plane problem drops; zero for three dimensions."""
    dropped = [axis for axis in range(3) if axis not in axes]
    return float(np.ptp(mesh.points[:, dropped[0]])) if dropped else 0.0


def _centres(mesh: Mesh) -> Float[np.ndarray, "cell 3"]:
    from meshes.geometry.cells import cell_centres

    return np.asarray(cell_centres(mesh), np.float64)


def _share(mesh: Mesh, values: Float[np.ndarray, " cell"]) -> Float[np.ndarray, " point"]:
    """Divide a value of each cell equally among its points."""
    corners = np.diff(mesh.offsets)
    shares = np.repeat(values / np.maximum(corners, 1), corners)
    return np.bincount(mesh.connectivity, weights=shares, minlength=len(mesh.points))
