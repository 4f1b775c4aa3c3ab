"""What the arrays of a surface file mean: told by a prediction, an experiment, a store or a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshes.fields import FieldSpec
from pipelines.forces import PRESSURE, SHEAR, Conventions, ForceConfig
from pipelines.outputs import read_record
from pipelines.specification import AXES, Units


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What must be known of a surface file before forces can be integrated over it.

    Attributes:
        arrays: which array is the pressure, and which the wall shear stress.
        conventions: of both.
        settings: what makes coefficients of forces.
        parameters: numbers of the case, and of the whole body where they are known better than from the surface.
        names: of further numbers that such cases have, whose values are not known here.
        axes: that count.
        file: name of the surface in its folder.
        blocks: of that file that are the surface; empty for all.
        time: that is meant of a series, as `meshes.reading.read` takes it.
        metres: what one unit of length in the file is.
    """

    arrays: dict[str, str] = field(default_factory=dict)
    conventions: Conventions = field(default_factory=Conventions)
    settings: ForceConfig | None = None
    parameters: dict[str, float] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    axes: tuple[int, ...] = (0, 1, 2)
    file: str | None = None
    blocks: tuple[str, ...] = ()
    time: Any = None
    metres: float = 1.0


def meaning_of(path: Path, config: str | Path | None) -> Meaning:
    """Find out what the arrays of a file mean.

    Args:
        path: the file, or the folder of a prediction or of a case.
        config: an experiment, a store or a run; by default `prediction.json` beside the file is asked.
    """
    folder = path if path.is_dir() else path.parent
    if config is None:
        record = folder / "prediction.json"
        return _from_prediction(record) if record.exists() else Meaning()
    if (Path(config) / "statistics.json").exists():
        return _from_store(Path(config), folder.name)
    is_run = any((Path(config) / name).exists() for name in ("checkpoints", "operator.json"))
    if is_run or str(config).startswith("runs:/"):
        return _from_run(config)
    return _from_experiment(str(config), path)


def _from_prediction(file: Path) -> Meaning:
    record = read_record(file)
    volumes = {file["branch"] for name, file in record["files"].items() if name.endswith(".vtu")}
    fields = [each for branch, each in record["fields"].items() if branch not in volumes and PRESSURE in each]
    surface = fields[0] if fields else {}
    return Meaning(
        arrays={name: surface[name]["array"] for name in (PRESSURE, SHEAR) if name in surface},
        conventions=_read(Conventions, record["conventions"]),
        settings=_read(ForceConfig, record["force_settings"]),
        parameters=record["parameters"],
        axes=_axes(record["space"]),
    )


def _from_store(folder: Path, case: str) -> Meaning:
    from meshes.stores import Store
    from pipelines.bodies import measure_body

    store = Store(folder)
    conventions, axes = _read(Conventions, store.manifest["conventions"]), _axes(store.space)
    parameters: dict[str, float] = {}
    if case in store:
        stored = store.case(case)
        body = measure_body(*stored.geometry(), space=axes, symmetry=conventions.mirrored_axis)
        parameters = stored.parameters | body.parameters
    return Meaning(
        arrays=_arrays({branch: store.fields[branch] for branch, kind in store.kinds.items() if kind == "surface"}),
        conventions=conventions,
        settings=_read(ForceConfig, store.manifest["force_settings"]),
        parameters=parameters,
        names=frozenset(store.parameter_statistics),
        axes=axes,
    )


def _from_run(run: str | Path) -> Meaning:
    from pipelines.checkpoints import find, load

    spec = load(find(run)).spec
    return Meaning(
        arrays=_arrays({branch: spec.fields[branch] for branch, kind in spec.kinds.items() if kind == "surface"}),
        conventions=spec.conventions,
        settings=spec.forces,
        parameters=spec.constants,
        names=Units(spec).needed,
        axes=tuple(spec.axes),
    )


def _from_experiment(config: str, path: Path) -> Meaning:
    from meshes.geometry.surfaces import triangulate
    from meshes.reading import read
    from pipelines.bodies import measure_body
    from pipelines.config import load_data
    from pipelines.parameters import read_parameters
    from pipelines.sources import METRES, RawCase

    data = load_data(config)
    case = RawCase(path.name, path, path) if path.is_dir() else RawCase(path.parent.name, path.parent, path)
    parameters, metres = read_parameters(case, data.parameters), METRES[data.unit_of_length]
    if data.geometry is not None:
        vertices, triangles, _ = triangulate(
            read(
                case.file(data.geometry.file),
                arrays=[],
                blocks=data.geometry.blocks or None,
                time=data.geometry.time,
            )
        )
        body = measure_body(vertices * metres, triangles, space=data.axes, symmetry=data.conventions.mirrored_axis)
        parameters |= body.parameters
    surfaces = {name: data.branches[name] for name in data.surfaces}
    first = next((branch for branch in surfaces.values() if PRESSURE in branch.fields), None)
    first = first if path.is_dir() else None  # of a file that is given itself, all is meant
    return Meaning(
        arrays=_arrays({name: branch.fields for name, branch in surfaces.items()}),
        conventions=data.conventions,
        settings=data.forces,
        parameters=parameters,
        axes=data.axes,
        file=None if first is None else case.file(first.file).relative_to(case.folder).as_posix(),
        blocks=() if first is None else first.blocks,
        time=None if first is None else first.time,
        metres=metres,
    )


def _arrays(branches: Mapping[str, Mapping[str, FieldSpec]]) -> dict[str, str]:
    for fields in branches.values():
        if PRESSURE in fields:
            return {name: fields[name].array for name in (PRESSURE, SHEAR) if name in fields}
    return {}


def _axes(space: Any) -> tuple[int, ...]:
    return tuple(AXES.index(axis) for axis in space)


def _read(schema: Any, value: Any) -> Any:
    """Read a dataclass back from JSON."""
    from pydantic import TypeAdapter

    return None if value is None else TypeAdapter(schema).validate_python(value)
