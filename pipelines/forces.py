"""Forces on a body: pressure and wall shear integrated over its surface, and the coefficients they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

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
        reported: parameters of the case file that hold what the solver reported, such as
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
    """Drag and lift over a reference force, with what they were divided by."""

    drag_coefficient: float
    lift_coefficient: float
    reference_force: float
    reference_area: float

    def to_dict(self) -> dict[str, float]:
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
        area = np.linalg.norm(vectors, axis=-1)
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
    area = copies * number(config.reference_area, parameters, "forces.reference_area")
    if config.reference_force is not None:
        reference = copies * number(config.reference_force, parameters, "forces.reference_force")
    elif forces.unit == "m²":
        reference = area
    else:
        reference = 0.5 * forces.density * number(config.speed, parameters, "forces.speed") ** 2 * area
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
