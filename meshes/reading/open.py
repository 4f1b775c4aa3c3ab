"""Any path to meshes: a file, a collection, or the case of a solver."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from meshes.mesh import Mesh
from meshes.reading import collection, ensight, files, openfoam
from meshes.reading.errors import ReadError
from meshes.reading.joining import join, join_asked, only, with_spellings
from meshes.reading.merging import merge
from meshes.reading.signatures import check_signature
from meshes.reading.source import Source, choose_blocks
from meshes.reading.times import Time, average, choose_times

SUFFIXES = (*files.SUFFIXES, *collection.SUFFIXES, *ensight.SUFFIXES, openfoam.SUFFIX)
_log = logging.getLogger(__name__)


def open_source(path: Path | str) -> Source:
    """Return what a path offers, without reading meshes.

    Raises:
        FileNotFoundError: there is no such path.
        ReadError: it is nothing that can be read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if openfoam.is_case(path) or (suffix == openfoam.SUFFIX and not path.is_dir()):
        return openfoam.OpenFOAM(path)
    if suffix in collection.SUFFIXES:
        return collection.VTKCollection(path)
    if suffix in ensight.SUFFIXES:
        return ensight.EnSight(path)
    check_signature(path, SUFFIXES)
    return files.File(path)


def read(
    path: Path | str,
    *,
    arrays: Collection[str] | None = None,
    time: Time | None = None,
    blocks: Collection[str] | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
    notes: list[str] | None = None,
) -> Mesh:
    """Read a mesh: of a file, or of the blocks of a collection or case as one.

    Corners of an STL or OBJ that lie at exactly the same place become one point, in order of first appearance; the
    normals and texture coordinates of an OBJ, which belong to the corners that were split, are dropped. Everything
    else is kept as the file has it.

    A vector that is asked for by name and stored by component only (`U` as `Ux`, `Uy`, `Uz`) is joined where just one
    set of three arrays can be meant.

    Args:
        path: a file whose ending is one of `SUFFIXES`, or the folder of an OpenFOAM case.
        arrays: names of the point and cell arrays to load; the others cost nothing. `None` loads all. A name that
            the file does not have is no error.
        time: which step of a series to read: a number, `latest`, or a mean over several: a list of numbers, or all
            in a range such as `200 to latest`. `None` is the only step there is, and of an OpenFOAM case the latest.
        blocks: names of blocks, patches or parts, or patterns of them such as `wheel*`, of which one mesh is made.
            `None` takes all, and of an OpenFOAM case the inner mesh.
        parts: vectors to make, by name, each of the arrays that hold its components along x, y and z.
        notes: receives a sentence on each vector that was joined unasked; by default they are logged.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: the file is empty, cut short, not what its ending says, without cells; there is no such time, block
            or component; or the blocks do not make one mesh.
    """
    source = open_source(path)
    times = choose_times(time, source.times(), source.path, latest=source.latest)
    meshes = _read(source, times, arrays, blocks, parts, notes, usual=True)
    return merge(meshes, str(path))


def read_blocks(
    path: Path | str,
    *,
    arrays: Collection[str] | None = None,
    time: Time | None = None,
    blocks: Collection[str] | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
    notes: list[str] | None = None,
) -> dict[str, Mesh]:
    """Read the blocks of a collection or case under their names, leaving out those without cells.

    Blocks inside blocks are named `outer/inner`. A file that is no collection has one block, named as the file. Where
    a series has several times and none is asked for, all are read and their blocks named `TIME/block`; of an OpenFOAM
    case it is the latest.

    Args:
        path: as in `read`.
        arrays: as in `read`.
        time: as in `read`.
        blocks: names or patterns; `None` takes all.
        parts: as in `read`.
        notes: as in `read`.

    Raises:
        FileNotFoundError: the file or one that it names is not there.
        ReadError: as in `read`, or no block has cells.
    """
    source = open_source(path)
    there = source.times()
    if time is None and len(there) > 1 and not source.latest:
        return {
            f"{each:g}/{name}": mesh
            for each in there
            for name, mesh in _read(source, [each], arrays, blocks, parts, notes, usual=False).items()
        }
    times = choose_times(time, there, source.path, latest=source.latest)
    return _read(source, times, arrays, blocks, parts, notes, usual=False)


def _read(
    source: Source,
    times: list[float],
    arrays: Collection[str] | None,
    blocks: Collection[str] | None,
    parts: Mapping[str, Sequence[str]] | None,
    notes: list[str] | None,
    *,
    usual: bool,
) -> dict[str, Mesh]:
    last = times[-1] if times else None
    there = source.blocks(last)
    chosen = choose_blocks(blocks, there, source.path) if blocks is not None else there
    if blocks is None and usual:
        chosen = source.usual(there)
    wanted = None
    if arrays is not None:
        wanted = with_spellings([*arrays, *(component for each in (parts or {}).values() for component in each)])
    steps: Iterator[tuple[float, dict[str, Mesh]]]
    steps = ((time, source.read(chosen, wanted, time)) for time in times)
    meshes = average(steps, source.path) if len(times) > 1 else source.read(chosen, wanted, last)
    needed = {component for each in (parts or {}).values() for component in each}
    if any(needed - set(mesh.cell_data) - set(mesh.point_data) for mesh in meshes.values()):
        meshes = source.read(chosen, None, last)  # `join` then says which arrays there are
    if not meshes:
        raise ReadError(f"{source.path} has no block with cells; expected at least one")
    if blocks is not None and (empty := [name for name in chosen if name not in meshes]):
        raise ReadError(f"{source.path}: block {empty[0]!r} has no cells; leave it out, or write the file again")
    return {name: _joined(mesh, arrays, parts or {}, notes) for name, mesh in meshes.items()}


def _joined(
    mesh: Mesh, arrays: Collection[str] | None, parts: Mapping[str, Sequence[str]], notes: list[str] | None
) -> Mesh:
    mesh = join(mesh, parts)
    if arrays is None:
        return mesh
    missing = set(arrays) - set(mesh.cell_data) - set(mesh.point_data)
    mesh, unasked = join_asked(mesh, missing)
    for name, components in unasked.items():
        note = f"{mesh.source}: {name} is joined from {', '.join(components)}"
        if notes is None:
            _log.info(note)
        else:
            notes.append(note)
    return only(mesh, {*arrays, *parts})


def files_of(path: Path | str, *, arrays: Collection[str] | None = None, time: Time | None = None) -> list[Path]:
    """Return the files that decide what `read` gives, the one that stands for all first.

    Raises:
        FileNotFoundError: there is no such path.
        ReadError: it is nothing that can be read, or lacks the time.
    """
    source = open_source(path)
    times = choose_times(time, source.times(), source.path, latest=source.latest)
    wanted = None if arrays is None else with_spellings(arrays)
    return source.files(wanted, times)
