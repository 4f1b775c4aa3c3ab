"""Forces on a body: pressure and wall shear integrated over its surface, and the coefficients they make."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped

from meshes.mesh import Mesh

Number = float | str
Extent = Literal["whole", "half", "both halves"]

# Fields of a surface branch that carry forces.
PRESSURE = "pressure"
SHEAR = "wall_shear_stress"


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """How a solver wrote pressure and wall shear stress.

    Attributes:
        pressure: `kinematic` (p/ρ, and wall shear stress over ρ likewise), `gauge` or `absolute` [Pa], or
            `coefficient` (pressure and shear both over the dynamic pressure).
        shear: whether the wall shear stress is the force of the fluid `on_body`, or of the wall `on_fluid` (OpenFOAM).
        density: constant or expression of the case's parameters [kg/m³].
        reference_pressure: pressure that exerts no force, in the unit of the pressure; it matters for open surfaces.
        symmetry: axis whose plane through the origin mirrors the modelled half, or None for whole bodies.
    """

    pressure: Literal["kinematic", "gauge", "absolute", "coefficient"] = "gauge"
    shear: Literal["on_body", "on_fluid"] = "on_body"
    density: Number = 1.0
    reference_pressure: Number = 0.0
    symmetry: Literal["x", "y", "z"] | None = None

    @property
    def mirrored_axis(self) -> int | None:
        """Index of the mirrored axis: 0, 1, 2 or None."""
        return None if self.symmetry is None else "xyz".index(self.symmetry)


@dataclass(frozen=True, kw_only=True)
class ForceConfig:
    """What turns forces into coefficients; each number a constant or an expression of the case's parameters.

    Beside those of the case, expressions know the `size_x`, `size_y`, `size_z`, `centre_x`, … and `length` [m] of the
    whole body.

    Attributes:
        reference_area: area [m²] that belongs to what the files hold: for half models that of the half.
        speed: inflow speed [m/s].
        drag_direction: direction of drag, made to unit length.
        lift_direction: direction of lift, made to unit length.
        reference_force: force [N] to divide by, in place of ½ density speed² reference_area.
        reported: what the solver reported, parameters of the case file or expressions of them, such as
            `{drag_coefficient: Cd}`; `prepare` compares them with what it integrates.
        tolerance: how far a reported coefficient may be from the integrated one.
    """

    reference_area: Number = 1.0
    speed: Number = "speed"
    drag_direction: tuple[Number, ...] = (1.0, 0.0, 0.0)
    lift_direction: tuple[Number, ...] = (0.0, 0.0, 1.0)
    reference_force: Number | None = None
    reported: dict[str, str] = field(default_factory=dict)
    tolerance: float = 2e-3

    def __post_init__(self) -> None:
        for name in ("drag_direction", "lift_direction"):
            direction = getattr(self, name)
            if len(direction) != 3:
                raise ValueError(f"forces.{name} has {len(direction)} components; expected three: x, y, z")
        unknown = set(self.reported) - {"drag_coefficient", "lift_coefficient"}
        if unknown:
            raise ValueError(
                f"forces.reported.{min(unknown)} is no coefficient; expected drag_coefficient or lift_coefficient"
            )
        if not self.tolerance > 0:
            raise ValueError(f"forces.tolerance is {self.tolerance}; expected a positive number")


@dataclass(frozen=True, eq=False)
class Forces:
    """Force of the fluid on a body.

    Attributes:
        pressure: part of the pressure, `unit`.
        friction: part of the wall shear stress, `unit`; zero where there was none.
        unit: N, or m² where pressure came as a coefficient (force over dynamic pressure).
        density: the density that was used [kg/m³].
        extent: `whole` body, `half` of a symmetric one, or `both halves` of a body whose files hold one.
    """

    pressure: Float[np.ndarray, "3"]
    friction: Float[np.ndarray, "3"]
    unit: Literal["N", "m²"] = "N"
    density: float = 1.0
    extent: Extent = "whole"

    @property
    def force(self) -> Float[np.ndarray, "3"]:
        """The whole force: pressure and friction together."""
        return self.pressure + self.friction

    def to_dict(self) -> dict[str, object]:
        """Give plain numbers, as JSON holds them."""
        return {
            "force": self.force.tolist(),
            "pressure": self.pressure.tolist(),
            "friction": self.friction.tolist(),
            "unit": self.unit,
            "density": self.density,
            "extent": self.extent,
        }


@dataclass(frozen=True)
class Coefficients:
    """Drag and lift over a reference force, with what they were divided by.

    Attributes:
        drag_coefficient, lift_coefficient: the force along each direction over `reference_force`.
        reference_force: in the unit of the force.
        reference_area: that it was made of [m²]; `None` where the reference force was given itself.
    """

    drag_coefficient: float
    lift_coefficient: float
    reference_force: float
    reference_area: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Give plain numbers, as JSON holds them."""
        return dict(vars(self))


def integrate(
    area_vector: Float[np.ndarray, "cell 3"],
    pressure: Float[np.ndarray, " cell"],
    shear: Float[np.ndarray, "cell 3"] | None,
    conventions: Conventions,
    parameters: Mapping[str, float],
    *,
    extent: Extent | None = None,
) -> Forces:
    """Integrate F = ∮ (−(p − p_ref) n + τ) dA, in float64.

    Args:
        area_vector: normal out of the body into the fluid times area, of each cell [m²].
        pressure: in the unit and convention of the source.
        shear: wall shear stress in the unit and sign of the source, or None to leave friction out.
        conventions: how the source wrote both.
        parameters: names that expressions may use.
        extent: what the cells cover; by default `half` where the conventions have a symmetry, else `whole`.

    Raises:
        ValueError: a value is not finite, or a convention needs a parameter that is not there.
    """
    scale = 1.0
    density = number(conventions.density, parameters, "conventions.density")
    if conventions.pressure == "kinematic":
        scale = density
    reference = number(conventions.reference_pressure, parameters, "conventions.reference_pressure")
    vectors = np.asarray(area_vector, np.float64)
    normal_part = -scale * ((np.asarray(pressure, np.float64) - reference) @ vectors)
    friction_part = np.zeros(3)
    if shear is not None:
        sign = -1.0 if conventions.shear == "on_fluid" else 1.0
        area = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        friction_part = sign * scale * (area @ np.asarray(shear, np.float64))
    for name, part in (("pressure", normal_part), ("wall shear stress", friction_part)):
        if not np.isfinite(part).all():
            raise ValueError(f"the force of the {name} is not finite: the surface or its {name} holds NaN or infinity")
    return Forces(
        normal_part,
        friction_part,
        unit="m²" if conventions.pressure == "coefficient" else "N",
        density=density,
        extent=extent or ("whole" if conventions.symmetry is None else "half"),
    )


def coefficients(forces: Forces, config: ForceConfig, parameters: Mapping[str, float]) -> Coefficients:
    """Divide drag and lift by the reference force, ½ ρ U² A unless one is given.

    The reference belongs to what the files hold, so it counts twice for both halves of a body that was modelled by
    one: coefficients of a half and of the whole are then the same.

    Raises:
        ValueError: an expression needs a parameter that is not there, or the reference force is not positive.
    """
    copies = 2 if forces.extent == "both halves" else 1
    if config.reference_force is not None:
        area = None
        reference = copies * number(config.reference_force, parameters, "forces.reference_force")
    else:
        area = copies * number(config.reference_area, parameters, "forces.reference_area")
        reference = area
        if forces.unit == "N":
            reference *= 0.5 * forces.density * number(config.speed, parameters, "forces.speed") ** 2
    if not reference > 0:
        raise ValueError(f"the reference force is {reference:.6g}; expected it positive: see the section forces")
    drag, lift = (
        float(forces.force @ _direction(getattr(config, name), parameters, f"forces.{name}")) / reference
        for name in ("drag_direction", "lift_direction")
    )
    return Coefficients(drag, lift, reference, area)


def in_space(vectors: Shaped[np.ndarray, "point component"], axes: Sequence[int]) -> Float[np.ndarray, "point 3"]:
    """Put vectors of some axes into space, zero along the others."""
    lifted = np.zeros((len(vectors), 3))
    lifted[:, list(axes)] = vectors
    return lifted


def number(value: Number, parameters: Mapping[str, float], where: str) -> float:
    """Give a constant, or the value of an expression of `parameters`.

    Raises:
        ValueError: the expression cannot be evaluated; the message names the setting `where` it stands.
    """
    from pipelines.expressions import evaluate

    if not isinstance(value, str):
        return float(value)
    try:
        return evaluate(value, parameters)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _direction(components: tuple[Number, ...], parameters: Mapping[str, float], where: str) -> Float[np.ndarray, "3"]:
    vector = np.array([number(component, parameters, where) for component in components])
    length = np.linalg.norm(vector)
    if not length > 0:
        raise ValueError(f"{where} has no length; expected a direction such as [1, 0, 0]")
    return vector / length


# --- The verb: forces of a file


@dataclass(frozen=True)
class ForceReport:
    """Forces on the surface of a file.

    Attributes:
        path: the file.
        forces: integrated.
        coefficients: drag and lift, where the reference is known.
        arrays: what was integrated, by field.
        reported: coefficients that the case's own parameters hold, by name.
    """

    path: Path
    forces: Forces
    coefficients: Coefficients | None
    arrays: dict[str, str]
    reported: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, as JSON holds them."""
        told = {} if self.coefficients is None else self.coefficients.to_dict()
        return {
            "path": str(self.path),
            **self.forces.to_dict(),
            **told,
            "arrays": self.arrays,
            "reported": self.reported,
        }

    def render(self) -> str:
        """Say in a few lines what acts on the body."""
        covered = {"whole": "the body", "half": "the half that is modelled", "both halves": "both halves of the body"}
        rows = [("pressure", self.forces.pressure), ("friction", self.forces.friction), ("force", self.forces.force)]
        lines = [f"{self.path}: {covered[self.forces.extent]}, {self.forces.unit}"]
        lines += [f"  {name:9}" + "".join(f"{value:14.6g}" for value in vector) for name, vector in rows]
        if self.coefficients is None:
            return "\n".join([*lines, "no coefficients: the reference area and speed are not known"])
        for name in ("drag_coefficient", "lift_coefficient"):
            told = f", reported {self.reported[name]:.5f}" if name in self.reported else ""
            lines.append(f"  {name.replace('_', ' ')} {getattr(self.coefficients, name):.5f}{told}")
        lines.append(f"  over a reference force of {self.coefficients.reference_force:.6g} {self.forces.unit}")
        if self.coefficients.reference_area is not None:
            lines.append(f"  and a reference area of {self.coefficients.reference_area:.6g} m²")
        return "\n".join(lines)


def forces(
    path: str | Path,
    *,
    config: str | Path | None = None,
    parameters: Mapping[str, float] | None = None,
    pressure: str | None = None,
    shear: str | None = None,
    conventions: Conventions | None = None,
    settings: ForceConfig | None = None,
) -> ForceReport:
    """Integrate pressure and wall shear stress over the surface of a simulation or a prediction.

    What the arrays mean is taken from `prediction.json` beside the file, or from `config`, or from the arguments,
    which win.

    Args:
        path: a surface file, or the folder of a prediction or of a case.
        config: an experiment (its section `data` counts), a store, or a run.
        parameters: numbers that expressions use, such as the speed; they win over those of the case.
        pressure: array with the pressure.
        shear: array with the wall shear stress.
        conventions: of pressure and shear.
        settings: what makes coefficients of forces.

    Raises:
        ConfigError: a parameter is given that neither the case nor any expression knows.
        ValueError: it is not known which array is the pressure, or the array is not there.
        OSError: a file cannot be read.
    """
    from meshes.geometry.surfaces import triangulate
    from meshes.reading import read
    from pipelines.bodies import measure_body
    from pipelines.meanings import meaning_of

    path, given = Path(path), dict(parameters or {})
    meaning = meaning_of(path, config)
    chosen = {name: array for name, array in ((PRESSURE, pressure), (SHEAR, shear)) if array is not None}
    arrays = meaning.arrays | chosen
    if PRESSURE not in arrays:
        if config is None and (path / "prediction.json").exists():
            raise ValueError(f"{path} is a prediction without a pressure on a surface, and forces are made of that")
        raise ValueError(f"{path}: which array is the pressure? Give an experiment, run or store with --config")
    conventions, settings = conventions or meaning.conventions, settings or meaning.settings
    file = surface_file(path, meaning.file)
    which: dict[str, Any] = {"blocks": meaning.blocks or None, "time": meaning.time}
    mesh = read(file, arrays=list(arrays.values()), **which)
    if any(name not in mesh.cell_data and name not in mesh.point_data for name in arrays.values()):
        mesh = read(file, **which)  # so that the error can say which arrays there are
    if meaning.metres != 1:
        mesh = replace(mesh, points=np.asarray(mesh.points, np.float64) * meaning.metres)
    axis = conventions.mirrored_axis
    vectors = oriented_area_vectors(mesh, meaning.axes, axis)
    vertices, triangles, _ = triangulate(mesh)
    body = measure_body(vertices, triangles, space=meaning.axes, symmetry=axis)
    names = body.parameters | meaning.parameters
    _refuse_strangers(given, {*names, *meaning.names, *names_used(conventions, settings)})
    names |= given
    data, vectors = _values(mesh, arrays, vectors)
    extent = extent_of(vertices, axis)
    result = integrate(vectors, data[PRESSURE], data.get(SHEAR), conventions, names, extent=extent)
    try:
        told = None if settings is None else coefficients(result, settings, names)
    except ValueError as error:
        raise ValueError(
            f"{error}. A case's numbers come from an experiment (--config NAME) or one by one (--parameter NAME=NUMBER)"
        ) from error
    reported = {} if settings is None else _reported(settings, names)
    return ForceReport(file, result, told, arrays, reported)


def _refuse_strangers(given: Mapping[str, float], known: Collection[str]) -> None:
    """Refuse parameters that nothing knows: a name that is misspelt would change nothing, and nobody would notice."""
    from pipelines.settings import ConfigError, nearest

    if strangers := sorted(set(given) - set(known)):
        listing = ", ".join(sorted(known))
        hint = nearest(strangers[0], sorted(known))
        raise ConfigError(f"there is no parameter {strangers[0]!r} here; forces know {listing}{hint}")


def names_used(conventions: Conventions, settings: ForceConfig | None) -> set[str]:
    """Return the names that the expressions of the conventions and of the coefficients use."""
    from pipelines.expressions import names_in

    numbers: list[Number | None] = [conventions.density, conventions.reference_pressure]
    if settings is not None:
        numbers += [settings.reference_area, settings.speed, settings.reference_force]
        numbers += [*settings.drag_direction, *settings.lift_direction, *settings.reported.values()]
    return {name for each in numbers if each is not None for name in names_in(each)}


def _reported(settings: ForceConfig, names: Mapping[str, float]) -> dict[str, float]:
    """Coefficients that the solver reported, as far as the case's parameters tell."""
    from pipelines.expressions import names_in

    return {
        name: number(expression, names, f"forces.reported.{name}")
        for name, expression in settings.reported.items()
        if names_in(expression) <= set(names)
    }


def oriented_area_vectors(mesh: Mesh, axes: Sequence[int], symmetry: int | None) -> Float[np.ndarray, "cell 3"]:
    """Compute area vectors that point out of the body into the fluid [m²].

    Raises:
        ValueError: it cannot be told which side of the surface is out.
    """
    from meshes.geometry.surfaces import outward

    return outward(mesh, space=tuple(axes), symmetry=symmetry)[0]


def lump(mesh: Mesh, area_vector: Float[np.ndarray, "cell 3"]) -> Float[np.ndarray, "point 3"]:
    """Give each point an equal share of the area vectors of the cells around it."""
    corners = np.diff(mesh.offsets)
    share = np.repeat(area_vector / np.maximum(corners, 1)[:, None], corners, axis=0)
    columns = [np.bincount(mesh.connectivity, share[:, axis], len(mesh.points)) for axis in range(3)]
    return np.stack(columns, axis=1)


def is_half(vertices: Float[np.ndarray, "vertex 3"], symmetry: int) -> bool:
    """Tell whether a body stands on one side of its plane of symmetry, but for a hundredth of its size."""
    lower, upper = float(vertices[:, symmetry].min()), float(vertices[:, symmetry].max())
    return min(-lower, upper) < 0.01 * (upper - lower)


def extent_of(vertices: Float[np.ndarray, "vertex 3"], symmetry: int | None) -> Extent:
    """Tell what a surface covers of a body that may have been modelled by a half."""
    if symmetry is None:
        return "whole"
    return "half" if is_half(vertices, symmetry) else "both halves"


def _values(
    mesh: Mesh, arrays: Mapping[str, str], vectors: Float[np.ndarray, "cell 3"]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Take arrays from cells, or from points with the area vectors lumped there."""
    for name in arrays.values():
        if name not in mesh.cell_data and name not in mesh.point_data:
            there = ", ".join([*mesh.cell_data, *mesh.point_data]) or "none"
            raise ValueError(f"{mesh.source} has no array {name!r}; it has: {there}")
    for data, weights in ((mesh.cell_data, vectors), (mesh.point_data, None)):
        if all(name in data for name in arrays.values()):
            return {field: np.asarray(data[name]) for field, name in arrays.items()}, (
                lump(mesh, vectors) if weights is None else weights
            )
    raise ValueError(f"{mesh.source}: {' and '.join(arrays.values())} should both stand at cells or both at points")


def surface_file(path: Path, name: str | None = None) -> Path:
    """Find the surface in the folder of a prediction or a case, or take the file itself.

    Raises:
        FileNotFoundError: the folder holds no such file.
    """
    if not path.is_dir():
        return path
    file = path / (name or "surface.vtp")
    if not file.exists():
        there = ", ".join(sorted(each.name for each in path.iterdir())) or "nothing"
        raise FileNotFoundError(f"{path} holds no {file.name}, but {there}: give the surface file itself")
    return file
