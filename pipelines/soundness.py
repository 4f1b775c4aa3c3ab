"""What is wrong with a body before anything is built on it: positions, sides, pieces, and units that do not agree."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from meshes.geometry.surfaces import OrientationReport
from meshes.mesh import Mesh
from pipelines.places import Places

# A surface thinner than this part of its length lies in a plane, but for rounding in single precision.
FLAT = 1e-6
# Cells that are looked at to tell whether pieces lie in each other, and the winding number that says so: one for each
# piece around, and a half beside an edge or in the plane that a half model is cut by.
PROBES, WITHIN = 2048, 0.75
# Lengths of bodies of one kind differ less than this; inches in place of metres differ by 39.
APART = 25.0
UNITS = {"millimetres": 1000.0, "centimetres": 100.0, "inches": 1 / 0.0254}


def refuse_flat(mesh: Mesh, space: tuple[int, ...] = (0, 1, 2)) -> None:
    """Refuse surfaces in space that lie in a plane and enclose no body, such as a single triangle.

    Raises:
        ValueError: it is one.
    """
    if len(space) < 3 or not mesh.is_surface:
        return
    of_cell = np.zeros(mesh.n_points, bool)
    of_cell[mesh.connectivity] = True
    used = np.asarray(mesh.points[of_cell], np.float64)
    away = used - used.mean(axis=0)
    thin, _, long = np.sqrt(np.maximum(np.linalg.eigvalsh(away.T @ away), 0))
    if thin <= FLAT * long:
        cells = f"{mesh.n_cells} cell{'s' if mesh.n_cells > 1 else ''}"
        raise ValueError(
            f"{_name(mesh)}the surface of {cells} lies in a plane and encloses no body; expected a closed surface"
        )


def refuse_not_finite(mesh: Mesh) -> None:
    """Refuse positions that are NaN or infinite.

    Raises:
        ValueError: naming the file, how many points it concerns, and the first.
    """
    bad = ~np.isfinite(mesh.points).all(axis=1)
    if bad.any():
        first = int(bad.argmax())
        cells = np.flatnonzero(mesh.connectivity == first)
        cell = f" (of cell {int(np.searchsorted(mesh.offsets, cells[0], 'right')) - 1})" if len(cells) else ""
        raise ValueError(
            f"{_name(mesh)}the positions of {int(bad.sum())} of {mesh.n_points} points are NaN or infinite, "
            f"first of point {first}{cell}; mend the mesh where it came from"
        )


def doubts(
    mesh: Mesh, report: OrientationReport, *, space: tuple[int, ...] = (0, 1, 2), symmetry: int | None = None
) -> list[str]:
    """Say what a user should know of a surface that is taken for a body, one sentence each.

    Args:
        mesh: the surface, wound outwards.
        report: of winding it.
        space: axes of the flow; a strip in a plane is open for a reason.
        symmetry: axis whose plane through the origin cuts half models, which are open there.
    """
    said = []
    if len(space) == 3 and (count := _open_edges(mesh, report, symmetry)):
        said.append(
            f"{_name(mesh)}the surface is not closed, {count} edges have one cell only: forces miss what is missing, "
            "and beside the holes inside and outside are told by the winding number; close it where it came from"
        )
    if len(space) == 3 and report.components > 1 and (share := _within(mesh)) > 0.005:
        said.append(
            f"{_name(mesh)}{share:.1%} of the surface lies inside another of its {report.components} pieces, "
            "where there is no fluid, and still counts in fields and forces; unite the pieces where they came from"
        )
    return said


def _open_edges(mesh: Mesh, report: OrientationReport, symmetry: int | None) -> int:
    from meshes.geometry.triangulation import boundary_edges

    if symmetry is None or not report.watertightness.open_edges:
        return report.watertightness.open_edges
    _, start, end = boundary_edges(mesh)
    points = np.asarray(mesh.points, np.float64)
    place, same = np.unique(points, axis=0, return_inverse=True)
    ends = np.sort(same.ravel()[np.stack([start, end], axis=1)], axis=1)
    edges, count = np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0, return_counts=True)
    rim = np.abs(place[edges[count == 1], symmetry]).max(axis=1)
    return int((rim > 1e-4 * np.ptp(points, axis=0).max()).sum())


def _within(mesh: Mesh) -> float:
    """Part of the area that lies inside other pieces of the surface."""
    from meshes.geometry.surfaces import triangulate
    from meshes.geometry.wall_distance import ClosestPoints

    vertices, triangles, _ = triangulate(mesh)
    vertices = np.asarray(vertices, np.float64)
    corners = vertices[triangles]
    vector = 0.5 * np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(vector, axis=1)
    probes = np.flatnonzero(area > 0)
    probes = probes[:: max(1, len(probes) // PROBES)]
    outside = corners[probes].mean(1) + 1e-3 * vector[probes] / np.sqrt(area[probes])[:, None]
    winding = ClosestPoints(vertices, triangles).winding_number(outside)
    return float(np.average(winding > WITHIN, weights=area[probes]))


def refuse_other_units(
    body: Float[np.ndarray, "vertex 3"],
    source: str,
    branches: Mapping[str, Places],
    kinds: Mapping[str, str],
    files: Mapping[str, str],
) -> None:
    """Refuse files of one case that cannot be in one unit: the bounding boxes tell.

    Args:
        body: corners of the geometry [m].
        source: its file.
        branches: places of the branches.
        kinds: whether each is a `surface` or a `volume`.
        files: of the branches.

    Raises:
        ValueError: a surface is not about as large as the body, or a volume lies nowhere near it.
    """
    lower, upper = body.min(axis=0), body.max(axis=0)
    length = float(np.linalg.norm(upper - lower))
    for name, places in branches.items():
        size = float(np.linalg.norm(np.ptp(places.position, axis=0)))
        larger, smaller = max(size, length), min(size, length)
        both = f"{files[name]} is {size:.4g} m long and the body in {source} {length:.4g} m"
        remedy = "scale one of the files; data.unit_of_length holds for all of them"
        if kinds[name] == "surface" and larger > APART * smaller:
            raise ValueError(f"{both}: are they in different units{_unit(larger / smaller)}? Then {remedy}")
        if kinds[name] == "volume" and length > 2 * size:
            raise ValueError(f"{both}, which cannot lie in it: are they in different units? Then {remedy}")
        gap = np.maximum(np.maximum(lower - places.position, places.position - upper), 0)
        if kinds[name] == "volume" and (nearest := float(np.linalg.norm(gap, axis=1).min())) > APART * length:
            raise ValueError(f"{both}, but {nearest:.4g} m away: are they in different units? Then {remedy}")


def other_units(lengths: Mapping[str, float]) -> dict[str, str]:
    """Tell which cases are likely in other units than most: the lengths of their bodies lie far from all others.

    Args:
        lengths: of the body of each case [m].

    Returns:
        For each such case what is wrong.
    """
    names = sorted(lengths, key=lengths.__getitem__)
    groups: list[list[str]] = []
    for name in names:
        if groups and lengths[name] <= APART * lengths[groups[-1][-1]]:
            groups[-1].append(name)
        else:
            groups.append([name])
    usual = max(groups, key=len, default=[])
    told = {}
    for name in (name for group in groups if group is not usual for name in group):
        middle = lengths[usual[len(usual) // 2]]
        ratio = max(lengths[name] / middle, middle / lengths[name])
        told[name] = (
            f"its body is {lengths[name]:.4g} m long, those of {len(usual)} other cases about {middle:.4g} m: "
            f"are its files in other units{_unit(ratio)}? Then scale them, or leave the case out"
        )
    return told


def _unit(ratio: float) -> str:
    """Name the unit that a ratio of lengths suggests."""
    unit = min(UNITS, key=lambda name: abs(np.log(UNITS[name] / ratio)))
    return f", some in {unit}" if 0.4 < UNITS[unit] / ratio < 2.5 else ""


def _name(mesh: Mesh) -> str:
    return f"{mesh.source}: " if mesh.source else ""
