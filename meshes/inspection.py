"""What a mesh holds, and what is wrong with it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

from meshes.geometry.cells import cell_sizes, surface_polygons
from meshes.kinds import TRIANGLE_STRIP, dimensions, name_of
from meshes.mesh import Mesh
from meshes.reading import Join, find_joins

# Points within this part of the bounding box's diagonal are in one place: far below what single precision can tell
# apart but near zero, where mesh generators leave rounding of 1e-17 m.
SAME_PLACE = 1e-9
# Cells below this part of the median size have none: rounding leaves 1e-16 of flat tetrahedra, while the thinnest cells
# on the walls of industrial meshes have 1e-9.
NO_SIZE = 1e-13
QUANTITIES = {1: ("length", "m"), 2: ("area", "m²"), 3: ("volume", "m³")}


@dataclass(frozen=True, kw_only=True)
class Defect:
    """Something a user should know before building on a mesh.

    Attributes:
        kind: a name for programs, such as `open_edges`.
        count: how many edges, cells, points or values it concerns.
        message: a sentence for people.
    """

    kind: str
    count: int
    message: str


@dataclass(frozen=True, kw_only=True)
class ArrayReport:
    """One array of a mesh.

    Attributes:
        name: as the file has it.
        association: whether it lies on points, on cells or on the whole.
        components: columns.
        dtype: of the values.
        minimum, maximum: of each component, over finite values; `None` for text and where none is finite.
        defects: of the values.
    """

    name: str
    association: Literal["point", "cell", "whole"]
    components: int
    dtype: str
    minimum: tuple[float, ...] | None
    maximum: tuple[float, ...] | None
    defects: tuple[Defect, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SizeReport:
    """Sizes of the cells of one dimension.

    Attributes:
        quantity: length, area or volume.
        unit: of the sizes, if positions are in metres.
        minimum, median, maximum, total: of the sizes.
    """

    quantity: str
    unit: str
    minimum: float
    median: float
    maximum: float
    total: float


@dataclass(frozen=True, kw_only=True)
class MeshReport:
    """What a mesh holds.

    Attributes:
        source: the file.
        points, cells: counts.
        kinds: count of each kind of cell.
        lower, upper: corners of the bounding box [m].
        sizes: of the cells, by their dimension.
        arrays: in the order of the file.
        joins: arrays that look like the components of vectors.
        defects: of points and cells.
    """

    source: str
    points: int
    cells: int
    kinds: Mapping[str, int]
    lower: tuple[float, ...] | None
    upper: tuple[float, ...] | None
    sizes: tuple[SizeReport, ...]
    arrays: tuple[ArrayReport, ...]
    joins: tuple[Join, ...]
    defects: tuple[Defect, ...]

    def to_json(self) -> dict[str, Any]:
        """Return numbers, text, lists and dictionaries only."""
        return asdict(self)


def inspect_mesh(mesh: Mesh) -> MeshReport:
    """Count, measure and check a mesh; see the kinds of `Defect` that each check below yields."""
    kinds, counts = np.unique(mesh.types, return_counts=True)
    finite = mesh.points[np.isfinite(mesh.points).all(axis=1)].astype(np.float64)
    sizes, of_sizes = _sizes(mesh)
    arrays = [
        *(_array("point", name, array) for name, array in mesh.point_data.items()),
        *(_array("cell", name, array) for name, array in mesh.cell_data.items()),
        *(_array("whole", name, array) for name, array in mesh.field_data.items()),
    ]
    return MeshReport(
        source=mesh.source,
        points=mesh.n_points,
        cells=mesh.n_cells,
        kinds={name_of(kind): int(count) for kind, count in zip(kinds, counts, strict=True)},
        lower=tuple(finite.min(axis=0).tolist()) if len(finite) else None,
        upper=tuple(finite.max(axis=0).tolist()) if len(finite) else None,
        sizes=sizes,
        arrays=tuple(arrays),
        joins=tuple(find_joins(name for data in (mesh.cell_data, mesh.point_data) for name in _scalars(data))),
        defects=(*_point_defects(mesh), *of_sizes, *_edge_defects(mesh), *_unit_defects(mesh)),
    )


def _scalars(data: Mapping[str, Shaped[np.ndarray, "..."]]) -> list[str]:
    return [name for name, array in data.items() if array.size == len(array) and array.dtype.kind == "f"]


def _sizes(mesh: Mesh) -> tuple[tuple[SizeReport, ...], list[Defect]]:
    strips = int((mesh.types == TRIANGLE_STRIP).sum())
    unknown = int((dimensions(mesh.types) < 0).sum())
    if strips or unknown:
        message = f"{strips + unknown} cells are triangle strips or of kinds that cannot be measured"
        return (), [Defect(kind="unmeasured_cells", count=strips + unknown, message=message)]
    with np.errstate(invalid="ignore", over="ignore"):
        size = cell_sizes(mesh)
    dimension, reports, defects = dimensions(mesh.types), [], []
    for each, (quantity, unit) in QUANTITIES.items():
        these = size[dimension == each]
        these = these[np.isfinite(these)]
        if not len(these):
            continue
        median = float(np.median(np.abs(these)))
        report = SizeReport(
            quantity=quantity,
            unit=unit,
            minimum=float(these.min()),
            median=float(np.median(these)),
            maximum=float(these.max()),
            total=float(these.sum()),
        )
        reports.append(report)
        if empty := int((np.abs(these) <= NO_SIZE * median).sum()):
            defects.append(Defect(kind="degenerate_cells", count=empty, message=f"{empty} cells have no {quantity}"))
        if negative := int((these < -NO_SIZE * median).sum()):
            message = f"{negative} cells are inverted: their {quantity} is negative"
            defects.append(Defect(kind="negative_cells", count=negative, message=message))
    return tuple(reports), defects


def _point_defects(mesh: Mesh) -> Iterator[Defect]:
    bad = int((~np.isfinite(mesh.points).all(axis=1)).sum())
    if bad:
        yield Defect(kind="points_not_finite", count=bad, message=f"{bad} points have NaN or infinite positions")
    used = np.zeros(mesh.n_points, bool)
    used[mesh.connectivity] = True
    if mesh.face_connectivity is not None:
        used[mesh.face_connectivity] = True
    if unused := int((~used).sum()):
        yield Defect(kind="unused_points", count=unused, message=f"{unused} points belong to no cell")
    place = _places(mesh.points)
    if duplicates := mesh.n_points - int(place.max(initial=-1)) - 1:
        message = f"{duplicates} points lie where another does, to rounding"
        yield Defect(kind="duplicate_points", count=duplicates, message=message)


def _places(points: Float[np.ndarray, "point 3"]) -> Int[np.ndarray, " point"]:
    """Return for each point the number of its place; points whose position is not finite have each their own."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    finite = np.flatnonzero(np.isfinite(points).all(axis=1))
    at = points[finite].astype(np.float64)
    pairs = np.zeros((0, 2), np.int64)
    if len(at):
        reach = SAME_PLACE * float(np.linalg.norm(np.ptp(at, axis=0)))
        pairs = finite[KDTree(at).query_pairs(reach, output_type="ndarray")]
    together = coo_array((np.ones(len(pairs), bool), pairs.T), shape=(len(points), len(points)))
    return connected_components(together, directed=False)[1].astype(np.int64)


def _edge_defects(mesh: Mesh) -> Iterator[Defect]:
    """Check the edges of a surface; points in the same place count as one."""
    if not mesh.is_surface or (mesh.types == TRIANGLE_STRIP).any():
        return
    place = _places(mesh.points)
    sides = [(corners, np.roll(corners, -1, axis=1)) for corners, _ in surface_polygons(mesh)]
    start = place[np.concatenate([first.ravel() for first, _ in sides])]
    end = place[np.concatenate([second.ravel() for _, second in sides])]
    start, end = start[start != end], end[start != end]
    low, high = np.minimum(start, end), np.maximum(start, end)
    _, edge, shared = np.unique(low * mesh.n_points + high, return_inverse=True, return_counts=True)
    forward = np.bincount(edge, start < end, minlength=len(shared))
    if count := int((shared == 1).sum()):
        message = f"{count} of {len(shared)} edges are open: one cell only; the surface is not watertight"
        yield Defect(kind="open_edges", count=count, message=message)
    if count := int((shared > 2).sum()):
        yield Defect(kind="non_manifold_edges", count=count, message=f"{count} edges belong to more than two cells")
    if count := int(((shared == 2) & (forward != 1)).sum()):
        message = f"across {count} edges the cells are wound against each other"
        yield Defect(kind="inconsistent_edges", count=count, message=message)


def _unit_defects(mesh: Mesh) -> Iterator[Defect]:
    if count := len(mesh.point_data) + len(mesh.cell_data):
        message = f"the file names no units, of positions or of its {count} arrays: the configuration must say them"
        yield Defect(kind="missing_units", count=count, message=message)


def _array(association: Literal["point", "cell", "whole"], name: str, array: Shaped[np.ndarray, "..."]) -> ArrayReport:
    numeric = array.dtype.kind in "biuf"
    rows = np.atleast_1d(array)
    components = int(np.prod(rows.shape[1:]))
    lowest = highest = None
    defects = []
    if rows.size == 0:
        defects.append(Defect(kind="empty", count=0, message="it has no values"))
    elif numeric:
        columns = rows.reshape(len(rows), components)
        finite = np.isfinite(columns)
        if bad := int(columns.size - finite.sum()):
            message = f"{bad} of {columns.size} values are NaN or infinite"
            defects.append(Defect(kind="not_finite", count=bad, message=message))
        if finite.any(axis=0).all():
            low = np.where(finite, columns, np.inf).min(axis=0)
            high = np.where(finite, columns, -np.inf).max(axis=0)
            lowest, highest = (tuple(float(value) for value in each) for each in (low, high))
            if association != "whole" and len(rows) > 1 and lowest == highest:
                told = "zero" if not any(lowest) else "the same value"
                defects.append(Defect(kind="constant", count=len(rows), message=f"it is {told} everywhere"))
    return ArrayReport(
        name=name,
        association=association,
        components=components,
        dtype=str(array.dtype) if numeric else "text",
        minimum=lowest,
        maximum=highest,
        defects=tuple(defects),
    )
