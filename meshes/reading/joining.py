"""Vectors whose components are stored as arrays of their own, such as `Ux`, `Uy` and `Uz`, put together."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from meshes.mesh import Mesh
from meshes.reading.errors import ReadError

Parts = tuple[str, str, str]

# How files name the components of a vector: what stands before the name, and what after it.
_LETTERS = (("x", "y", "z"), ("X", "Y", "Z"))
_NUMBERS = (("0", "1", "2"), ("1", "2", "3"))
_AFTER = [
    *(tuple(f"{sign}{axis}" for axis in axes) for sign, axes in product(("", "_", "-", ":", ".", " "), _LETTERS)),
    *(tuple(f"{sign}{axis}" for axis in axes) for sign, axes in product(("_", "-", ":", ".", " "), _NUMBERS)),
    *(tuple(f"[{axis}]" for axis in axes) for axes in (*_LETTERS, *_NUMBERS, ("i", "j", "k"))),
]
_BEFORE = [tuple(f"{axis}{sign}" for axis in axes) for sign, axes in product(("_", "-", " "), _LETTERS)]
# Components whose names share nothing.
_BARE = {("u", "v", "w"): "velocity", ("U", "V", "W"): "velocity"}


@dataclass(frozen=True, kw_only=True)
class Join:
    """Three arrays that look like the components of one vector.

    Attributes:
        name: of the vector.
        parts: names of its components along x, y and z.
        certain: whether nothing else in the file has that name, or that part, and no other three arrays make it.
    """

    name: str
    parts: Parts
    certain: bool


def find_joins(names: Iterable[str]) -> list[Join]:
    """Return what looks like vectors stored by component among the names of arrays, in their order."""
    there = dict.fromkeys(names)
    found: dict[Parts, str] = {}
    for name in there:
        for stem in sorted(_stems(name), key=len):  # of `U_x` the name is `U`, not `U_`
            for parts in spellings(stem):
                if name == parts[0] and all(part in there for part in parts) and not _tensor(stem, parts):
                    found.setdefault(parts, stem)
    for parts, stem in _BARE.items():
        if all(part in there for part in parts):
            found.setdefault(parts, stem)
    stems, used = Counter(found.values()), Counter(part for parts in found for part in parts)
    return [
        Join(
            name=stem,
            parts=parts,
            certain=stem not in there
            and stems[stem] == 1
            and parts not in _BARE
            and all(used[part] == 1 for part in parts),
        )
        for parts, stem in found.items()
    ]


def spellings(name: str) -> list[Parts]:
    """Return the ways in which files name the components of the vector `name`."""
    after = [(name + x, name + y, name + z) for x, y, z in _AFTER]
    return after + [(x + name, y + name, z + name) for x, y, z in _BEFORE]


def _stems(name: str) -> set[str]:
    ends = {name[: -len(first)] for first, *_ in _AFTER if name.endswith(first)}
    return (ends | {name[len(first) :] for first, *_ in _BEFORE if name.startswith(first)}) - {""}


def _tensor(stem: str, parts: Parts) -> bool:
    """Whether the parts are a row of a tensor, such as `Rxx`, `Rxy` and `Rxz`."""
    return any(stem.endswith(axes) and parts[0] == stem + axes[0] for axes in _LETTERS)


def join(mesh: Mesh, parts: Mapping[str, Sequence[str]]) -> Mesh:
    """Add vectors made of arrays of one component each, and drop those arrays.

    Args:
        mesh: with the components on cells or on points, each vector's all on one.
        parts: for each vector the names of its components along x, y and z.

    Raises:
        ReadError: a component is not there, lies elsewhere than the others, or is itself no scalar.
    """
    for name, components in parts.items():
        on_cells, on_points = (len(set(components) & set(data)) for data in (mesh.cell_data, mesh.point_data))
        data, where = (mesh.cell_data, "cell_data") if on_cells >= on_points else (mesh.point_data, "point_data")
        if missing := [component for component in components if component not in data]:
            there = ", ".join([*mesh.cell_data, *mesh.point_data]) or "none"
            message = f"{mesh.source} has no array {missing[0]!r} to make {name} of"
            raise ReadError(f"{message} (all must lie on cells, or all on points); there are: {there}")
        columns = [data[component].reshape(len(data[component]), -1) for component in components]
        if wide := [each for each, column in zip(components, columns, strict=True) if column.shape[1] != 1]:
            raise ReadError(f"{mesh.source}: array {wide[0]!r} is no scalar, so it cannot be a component of {name}")
        mesh = mesh.with_data(**{where: {name: np.concatenate(columns, axis=1)}})
    used = {component for components in parts.values() for component in components} - parts.keys()
    return only(mesh, [name for name in (*mesh.cell_data, *mesh.point_data) if name not in used])


def only(mesh: Mesh, names: Collection[str]) -> Mesh:
    """Return the mesh with some of its arrays on points and cells."""
    point_data, cell_data = (
        {name: array for name, array in data.items() if name in names} for data in (mesh.point_data, mesh.cell_data)
    )
    return replace(mesh, point_data=point_data, cell_data=cell_data)


def with_spellings(names: Collection[str]) -> list[str]:
    """Return the names of arrays, and of all that could be their components."""
    return list(dict.fromkeys([*names, *(part for name in names for parts in spellings(name) for part in parts)]))


def join_asked(mesh: Mesh, names: Collection[str]) -> tuple[Mesh, dict[str, Parts]]:
    """Join what was asked for by name and is there only by component, where nothing is ambiguous.

    Returns:
        The mesh, and for each vector that was joined its components.
    """
    there = [*mesh.cell_data, *mesh.point_data]
    found = {each.name: each.parts for each in find_joins(there) if each.certain and each.name in names}
    found = {name: parts for name, parts in found.items() if _fit(mesh, parts)}
    return join(mesh, found), found


def _fit(mesh: Mesh, parts: Parts) -> bool:
    return any(
        all(part in data and data[part].size == len(data[part]) for part in parts)
        for data in (mesh.cell_data, mesh.point_data)
    )
