"""Which cases lie in a user's folders, and which files each has."""

import re
from collections import Counter
from collections.abc import Sequence
from glob import escape, glob
from itertools import takewhile
from pathlib import Path

from meshes.reading import SUFFIXES, is_case
from pipelines.sources import RawCase

# Files of one case, alike but for numbers, that are taken for the steps of a series.
SERIES = 4
# Folders below a case that are looked into.
DEPTH = 3
# Where an OpenFOAM case keeps the surfaces that it was meshed from.
SURFACES = ("constant/triSurface", "constant/geometry")
# Files without fields.
BARE = (".stl", ".obj", ".ply")


def find_in_folders(paths: Sequence[str | Path], notes: list[str]) -> tuple[list[RawCase], str]:
    """Return the cases, and a pattern that finds them."""
    given: list[Path] = []
    for path in paths:
        text = str(Path(path).expanduser())
        found = [Path(text)] if Path(text).exists() else sorted(map(Path, glob(text, recursive=True)))
        if not found:
            raise FileNotFoundError(f"nothing fits {text!r}, seen from {Path.cwd()}; check the path")
        given += [each for each in found if each not in given]
    named = given
    if len(given) == 1 and given[0].is_dir():
        (root,) = given
        if is_case(root):
            return [RawCase(root.name, root, root)], escape(str(root))
        here = _leading(_meshes(root, 1))
        folders = [each for each in sorted(root.iterdir()) if each.is_dir() and _meshes(each, DEPTH)]
        alike = Counter((re.sub(r"\d+", "#", file.stem), file.suffix) for file in here)
        if max(alike.values(), default=0) > 1:
            suffix = max(alike, key=lambda each: (alike[each], each[1] not in BARE))[1]
            named = [file for file in here if file.suffix == suffix]
        elif not here:
            named = folders
    folders, files = [each for each in named if each.is_dir()], [each for each in named if not each.is_dir()]
    if folders and files:
        named = folders
    if not (named := [each for each in named if (_meshes(each, DEPTH) if each.is_dir() else _is_mesh(each))]):
        told = ", ".join(map(str, given[:3])) + (" …" if len(given) > 3 else "")
        raise ValueError(f"there are no cases in {told}: no folder there holds a file ending in {', '.join(SUFFIXES)}")
    cases = [RawCase(e.name, e, e) if e.is_dir() else RawCase(e.stem, e.parent, e) for e in named]
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if twice:
        raise ValueError(f"two cases are called {twice[0]!r}; cases are told by the names of their folders or files")
    return sorted(cases, key=lambda case: case.name), _pattern(named, notes)


def _leading(files: list[Path]) -> list[Path]:
    """Return the files that name cases: of `car_1.stl` and `car_1_volume.vtu` the first, where there are several."""
    stems = {file.stem for file in files}
    leading = [file for file in files if not stems & set(_beginnings(file.stem))]
    alike = Counter(re.sub(r"\d+", "#", stem) for stem in {file.stem for file in leading})
    return leading if max(alike.values(), default=0) > 1 else files


def _beginnings(stem: str) -> list[str]:
    """Return what a name begins with, up to each sign in it, the longest first."""
    return [stem[: sign.start()] for sign in re.finditer(r"[^A-Za-z0-9]", stem)][::-1]


def _pattern(named: Sequence[Path], notes: list[str]) -> str:
    parents = {each.parent for each in named}
    if len(parents) > 1:
        some = ", ".join(str(each) for each in sorted(parents)[:3])
        raise ValueError(f"the cases lie in {len(parents)} folders ({some} …); give those of one folder at a time")
    (parent,) = parents
    suffixes = {"" if each.is_dir() else each.suffix for each in named}
    suffix = suffixes.pop() if len(suffixes) == 1 else ""
    if len(named) == 1:
        return escape(str(named[0]))
    first, last = min(each.name for each in named), max(each.name for each in named)
    prefix = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    patterns = [str(Path(escape(str(parent))) / (escape(start) + "*" + suffix)) for start in (_word(prefix), prefix)]
    wanted = set(named)
    found = {pattern: {Path(each) for each in glob(pattern)} for pattern in patterns}
    best = min(patterns, key=lambda pattern: len(found[pattern] - wanted))
    if more := found[best] - wanted:
        some = ", ".join(sorted(each.name for each in more)[:3])
        notes.append(
            f"the pattern {best} also finds {len(more)} more ({some} …): move them away, or sharpen data.cases"
        )
    return best


def _word(prefix: str) -> str:
    """Cut the digits that names happen to share: `run_00` of `run_001` and `run_002` becomes `run_`."""
    return re.sub(r"\d[\d_.\-]*$", "", prefix)


def _is_mesh(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _meshes(folder: Path, depth: int) -> list[Path]:
    """Return the files that can be read in a folder; an OpenFOAM case counts as one, beside what it was meshed from."""
    if is_case(folder):
        return [folder, *(file for each in SURFACES if (folder / each).is_dir() for file in _meshes(folder / each, 1))]
    found = []
    for each in sorted(folder.iterdir()):
        if _is_mesh(each):
            found.append(each)
        elif depth > 1 and each.is_dir() and not each.name.startswith("."):
            found += _meshes(each, depth - 1)
    return found


def shared_files(cases: Sequence[RawCase], notes: list[str]) -> dict[str, dict[str, Path]]:
    """Return how a configuration calls the files that cases share, and for each case the file."""
    beside = _beside([case for case in cases if not case.path.is_dir()], notes)
    relative = {
        case.name: [file.relative_to(case.folder).as_posix() for file in _meshes(case.folder, DEPTH)]
        if case.path.is_dir()
        else beside[case.name]
        for case in cases
    }
    relative = {case: _without_series(names, notes) for case, names in relative.items()}
    exact = Counter(name for names in relative.values() for name in names)
    templates: dict[str, dict[str, Path]] = {}
    for case in cases:
        for name in relative[case.name]:
            template = name if exact[name] > 1 or len(cases) == 1 else template_of(name, case.name)
            fits = [each for each in relative[case.name] if template_of(each, case.name) == template]
            if template != name and len(fits) > 1:
                template = name
            templates.setdefault(template, {})[case.name] = case.folder / name
    return templates


def _beside(cases: Sequence[RawCase], notes: list[str]) -> dict[str, list[str]]:
    """Give each case that is a file the files beside it whose names begin with its own, and say which no case has."""
    found: dict[str, list[str]] = {case.name: [] for case in cases}
    left: list[str] = []
    for folder in dict.fromkeys(case.folder for case in cases):
        for file in _meshes(folder, 1):
            owner = next((name for name in (file.stem, *_beginnings(file.stem)) if name in found), None)
            if owner is None:
                left.append(file.name)
            else:
                found[owner].append(file.name)
    if len(left) >= len(cases) > 1:
        some = ", ".join(left[:3]) + (" …" if len(left) > 3 else "")
        notes.append(
            f"{len(left)} files begin like no case, so none has them ({some}): name one file of each case as the "
            "others begin (car_1.stl beside car_1_volume.vtu), or put each case into a folder of its own"
        )
    return found


def _without_series(names: Sequence[str], notes: list[str]) -> list[str]:
    """Keep the last of many files of one case whose names differ in numbers only, such as time steps."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    kept: list[str] = []
    for like, group in groups.items():
        if len(group) < SERIES:
            kept += group
            continue
        kept.append(max(group, key=lambda name: [int(number) for number in re.findall(r"\d+", name)]))
        note = f"a case has many files like {like.replace('#', '*')}, taken for a series of which the last counts"
        if note not in notes:
            notes.append(note)
    return kept


def template_of(name: str, case: str) -> str:
    """Return how a configuration calls a file of a case, so that the same is found in every case."""
    return name.replace(case, "{name}") if case in name else re.sub(r"\d+", "*", name)
