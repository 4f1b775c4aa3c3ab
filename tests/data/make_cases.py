"""Make the cases beside this script, in `cases`: one flow as OpenFOAM, serial and decomposed, and as EnSight Gold.

Run as `python tests/data/make_cases.py`. The fluid is 3 x 3 x 3 unit cubes around the origin without the middle one,
which is the body. One face of the far boundary is two triangles, so that its cell is a polyhedron. Fields are linear
in space and time, so that every value is known; see `pressure` and `velocity`.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from meshes.kinds import HEXAHEDRON, POLYHEDRON
from meshes.mesh import Mesh

HERE = Path(__file__).parent / "cases"
TIMES = (0.0, 0.5, 1.0)
INNER, BODY, FAR = "internalMesh", "body", "far"
CONTROL = "application icoFoam;\nstartTime 0;\nendTime 1;\ndeltaT 0.5;\nwriteInterval 1;\n"
Faces = list[tuple[int, ...]]

# The corners of a hexahedron in VTK's order, and its faces with normals out of it.
CORNERS = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)])
SIDES = ((0, 4, 7, 3), (1, 2, 6, 5), (0, 1, 5, 4), (3, 7, 6, 2), (0, 3, 2, 1), (4, 5, 6, 7))


def pressure(position: np.ndarray, time: float) -> np.ndarray:
    """Pressure at positions."""
    return 1 + position @ np.array([1.0, -2.0, 3.0]) + 4 * time


def velocity(position: np.ndarray, time: float) -> np.ndarray:
    """Velocity at positions."""
    return (1 + time) * position * np.array([1.0, 1.0, -2.0]) + np.array([5.0, 0, 0])


def grid() -> tuple[np.ndarray, list[list[int]], list[Faces]]:
    """Return the points, the corners of each cell and its faces; the last cell is the polyhedron."""
    points = np.array(list(product(range(4), repeat=3)), float) - 1.5
    middles = [middle for middle in product(range(3), repeat=3) if middle != (1, 1, 1)]
    corners = [(CORNERS + middle) @ np.array([16, 4, 1]) for middle in middles]
    faces = [[tuple(int(each[corner]) for corner in side) for side in SIDES] for each in corners]
    a, b, c, d = faces[-1].pop(1)  # of the corner at +x +y +z, the side at +x
    faces[-1] += [(a, b, c), (a, c, d)]
    return points, [each.tolist() for each in corners], faces


def patch_of(points: np.ndarray, face: Sequence[int]) -> str:
    """Return the patch that a face on the boundary belongs to."""
    return BODY if np.abs(points[list(face)]).max() < 1 else FAR


def boundary(points: np.ndarray, cells: list[Faces]) -> dict[str, Faces]:
    """Return the faces of one cell only, by patch, wound out of the fluid."""
    count: dict[frozenset[int], int] = {}
    for face in (face for faces in cells for face in faces):
        count[frozenset(face)] = count.get(frozenset(face), 0) + 1
    patches: dict[str, Faces] = {BODY: [], FAR: []}
    for face in (face for faces in cells for face in faces):
        if count[frozenset(face)] == 1:
            patches[patch_of(points, face)].append(face)
    return patches


def meshes(time: float) -> dict[str, Mesh]:
    """Return the fluid and its patches as meshes, with `p` and `U` on cells."""
    points, corners, cells = grid()
    faces = cells[-1]
    nothing = np.zeros(len(cells), np.int64)
    fluid = Mesh(
        points=points,
        connectivity=np.concatenate(corners),
        offsets=8 * np.arange(len(cells) + 1),
        types=np.array([HEXAHEDRON] * (len(cells) - 1) + [POLYHEDRON], np.uint8),
        face_connectivity=np.concatenate(faces),
        face_offsets=np.concatenate([[0], np.cumsum([len(face) for face in faces])]),
        polyhedron_offsets=np.concatenate([nothing, [len(faces)]]),
    )
    blocks = {"internalMesh": fluid}
    for name, patch in boundary(points, cells).items():
        sizes = [len(face) for face in patch]
        blocks[name] = Mesh(
            points=points,
            connectivity=np.concatenate(patch),
            offsets=np.concatenate([[0], np.cumsum(sizes)]),
            types=np.array([{3: 5, 4: 9}[size] for size in sizes], np.uint8),
        )
    centres = {"internalMesh": middles(points, corners)} | {
        name: middles(points, patch) for name, patch in boundary(points, cells).items()
    }
    return {
        name: mesh.with_data(cell_data={"p": pressure(centres[name], time), "U": velocity(centres[name], time)})
        for name, mesh in blocks.items()
    }


def middles(points: np.ndarray, cells: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the mean of the corners of cells or faces."""
    return np.array([points[list(corners)].mean(axis=0) for corners in cells])


# --- OpenFOAM


def write_openfoam(folder: Path) -> None:
    """Write a serial case."""
    points, corners, cells = grid()
    write(folder / "system/controlDict", "dictionary", CONTROL)
    _openfoam(folder, points, corners, cells, {})


def write_decomposed(folder: Path) -> None:
    """Write the same case, divided between two processors at x = -0.5."""
    points, corners, cells = grid()
    write(folder / "system/controlDict", "dictionary", CONTROL)
    home = [int(points[each, 0].mean() > -0.5) for each in corners]
    where: dict[frozenset[int], set[int]] = {}
    for number, face in ((number, face) for number, faces in zip(home, cells, strict=True) for face in faces):
        where.setdefault(frozenset(face), set()).add(number)
    shared = {face for face, numbers in where.items() if len(numbers) == 2}
    for number in (0, 1):
        mine = [each for each, place in enumerate(home) if place == number]
        used = np.unique([corner for each in mine for corner in corners[each]])
        new = {int(old): place for place, old in enumerate(used)}
        between = {frozenset(new[each] for each in face): f"procBoundary{number}to{1 - number}" for face in shared}
        _openfoam(
            folder / f"processor{number}",
            points[used],
            [[new[each] for each in corners[cell]] for cell in mine],
            [[tuple(new[each] for each in face) for face in cells[cell]] for cell in mine],
            between,
        )


def _openfoam(
    folder: Path,
    points: np.ndarray,
    corners: list[list[int]],
    cells: list[Faces],
    between: dict[frozenset[int], str],
) -> None:
    owner: dict[frozenset[int], int] = {}
    inner: list[tuple[int, int, tuple[int, ...]]] = []
    first: dict[frozenset[int], tuple[int, ...]] = {}
    for cell, faces in enumerate(cells):
        for face in faces:
            key = frozenset(face)
            if key in owner:
                inner.append((owner.pop(key), cell, first.pop(key)))
            else:
                owner[key], first[key] = cell, face
    inner.sort()
    names = [BODY, FAR, *sorted(set(between.values()))]
    patches = {name: [key for key in owner if between.get(key, patch_of(points, first[key])) == name] for name in names}
    outer = [key for keys in patches.values() for key in keys]
    faces = [face for *_, face in inner] + [first[key] for key in outer]
    mesh = folder / "constant/polyMesh"
    write(mesh / "points", "vectorField", _list(_vector(point) for point in points))
    write(mesh / "faces", "faceList", _list(f"{len(face)}({' '.join(map(str, face))})" for face in faces))
    owners = [*(str(each) for each, *_ in inner), *(str(owner[key]) for key in outer)]
    note = f"nPoints:{len(points)}  nCells:{len(cells)}  nFaces:{len(faces)}  nInternalFaces:{len(inner)}"
    write(mesh / "owner", "labelList", _list(owners), f'note "{note}"; ')
    write(mesh / "neighbour", "labelList", _list(str(each) for _, each, _ in inner), f'note "{note}"; ')
    start, entries = len(inner), []
    for name, keys in patches.items():
        kind = "processor" if name.startswith("proc") else {BODY: "wall", FAR: "patch"}[name]
        numbers = name.removeprefix("procBoundary").split("to")
        more = f" myProcNo {numbers[0]}; neighbProcNo {numbers[1]};" if kind == "processor" else ""
        entries.append(f"{name} {{ type {kind}; nFaces {len(keys)}; startFace {start};{more} }}")
        start += len(keys)
    write(mesh / "boundary", "polyBoundaryMesh", _list(entries))
    at = {name: middles(points, [first[key] for key in keys]) for name, keys in patches.items() if keys}
    for time in TIMES:
        place = folder / f"{time:g}"
        _field(place / "p", "scalar", middles(points, corners), at, lambda x, time=time: pressure(x, time))
        _field(place / "U", "vector", middles(points, corners), at, lambda x, time=time: velocity(x, time))


def _field(
    path: Path, kind: str, centres: np.ndarray, at: dict[str, np.ndarray], value: Callable[[np.ndarray], np.ndarray]
) -> None:
    def told(position: np.ndarray) -> str:
        values = (_vector(each) if kind == "vector" else f"{each:g}" for each in value(position))
        return f"nonuniform List<{kind}> {_list(values)}"

    sides = "\n".join(
        f"{name} {{ type {'processor' if name.startswith('proc') else 'calculated'}; value {told(position)}; }}"
        for name, position in at.items()
    )
    body = f"dimensions [0 0 0 0 0 0 0];\ninternalField {told(centres)};\nboundaryField {{\n{sides}\n}}\n"
    write(path, f"vol{kind.capitalize()}Field", body)


def _vector(values: np.ndarray) -> str:
    return f"({' '.join(f'{each:g}' for each in values)})"


def _list(each: Iterable[str]) -> str:
    items = list(each)
    return "\n".join([str(len(items)), "(", *items, ")\n"])


def write(path: Path, kind: str, body: str, note: str = "") -> None:
    """Write a file of OpenFOAM with its head."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"FoamFile {{ version 2.0; format ascii; class {kind}; {note}object {path.name}; }}\n"
    path.write_text(head + body)


# --- EnSight


def write_ensight(folder: Path) -> None:
    """Write an EnSight Gold case in text; the velocity is stored as three scalars."""
    points, corners, cells = grid()
    patches = boundary(points, cells)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"internalMesh": ("hexa8", "nfaced"), BODY: ("quad4",), FAR: ("tria3", "quad4")}
    lines = ["three cubes in each direction", "without the middle one", "node id off", "element id off"]
    at: dict[str, list[np.ndarray]] = {}
    for number, (name, kinds) in enumerate(parts.items(), 1):
        lines += ["part", f"{number:10d}", name, "coordinates", f"{len(points):10d}"]
        lines += [f"{each:12.5e}" for axis in range(3) for each in points[:, axis]]
        at[name] = []
        for kind in kinds:
            if kind == "nfaced":
                faces = cells[-1]
                lines += [kind, f"{1:10d}", f"{len(faces):10d}", *(f"{len(face):10d}" for face in faces)]
                lines += [_numbers(face) for face in faces]
                at[name].append(middles(points, corners[-1:]))
                continue
            size = int(kind[-1])
            chosen = corners[:-1] if size == 8 else [face for face in patches[name] if len(face) == size]
            lines += [kind, f"{len(chosen):10d}", *(_numbers(each) for each in chosen)]
            at[name].append(middles(points, chosen))
    (folder / "flow.geo").write_text("\n".join(lines) + "\n")
    arrays = {"p": pressure} | {
        f"U{axis}": lambda x, time, column=column: velocity(x, time)[:, column] for column, axis in enumerate("xyz")
    }
    for (step, time), (array, value) in product(enumerate(TIMES), arrays.items()):
        lines = [array]
        for number, (name, kinds) in enumerate(parts.items(), 1):
            lines += ["part", f"{number:10d}"]
            for kind, position in zip(kinds, at[name], strict=True):
                lines += [kind, *(f"{each:12.5e}" for each in value(position, time))]
        (folder / f"flow.{array}.{step:02d}").write_text("\n".join(lines) + "\n")
    variables = "\n".join(f"scalar per element: 1 {array} flow.{array}.**" for array in arrays)
    times = "\n".join(f"{time:g}" for time in TIMES)
    (folder / "flow.case").write_text(
        f"FORMAT\ntype: ensight gold\nGEOMETRY\nmodel: flow.geo\nVARIABLE\n{variables}\nTIME\ntime set: 1\n"
        f"number of steps: {len(TIMES)}\nfilename start number: 0\nfilename increment: 1\ntime values:\n{times}\n"
    )


def _numbers(corners: Sequence[int]) -> str:
    return "".join(f"{corner + 1:10d}" for corner in corners)


if __name__ == "__main__":
    write_openfoam(HERE / "serial")
    write_decomposed(HERE / "decomposed")
    write_ensight(HERE / "ensight")
