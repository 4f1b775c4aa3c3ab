"""Forces of a simulation, and what may be wrong when they are not the forces that its solver reported."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from pipelines.forces import ForceConfig, Forces, coefficients

# What a reported coefficient may be in terms of the integrated one: factors on the pressure and the friction part.
_SIGNS: dict[str, tuple[float, float]] = {
    "": (1, 1),
    "the wall shear stress has the other sign (conventions.shear)": (1, -1),
    "the solver left friction out of what it reported": (1, 0),
    "pressure acts the other way (the direction of drag and lift, or the normals)": (-1, 1),
    "drag and lift point the other way (drag_direction, lift_direction)": (-1, -1),
}


def compare(
    forces: Forces, config: ForceConfig, parameters: Mapping[str, float], reported: Mapping[str, float]
) -> tuple[dict[str, Any], str | None]:
    """Turn forces into coefficients and compare them with what the solver reported.

    Args:
        forces: integrated over the surface.
        config: what they are divided by, and the tolerance.
        parameters: names that its expressions may use.
        reported: coefficients by name, as the case file has them.

    Returns:
        The coefficients with what was reported and the differences, and a sentence on a mismatch, if there is one.
    """
    integrated = coefficients(forces, config, parameters)
    values = {name: getattr(integrated, name) for name in reported}
    differences = {name: values[name] - reported[name] for name in reported}
    result = integrated.to_dict() | {"reported": dict(reported), "difference": differences}
    if all(abs(difference) <= config.tolerance for difference in differences.values()):
        return result, None
    said = ", ".join(f"{name} is {values[name]:.5g}, reported {reported[name]:.5g}" for name in reported)
    cause = _cause(forces, config, parameters, reported)
    return result, f"{said}: {cause}"


def _cause(forces: Forces, config: ForceConfig, parameters: Mapping[str, float], reported: Mapping[str, float]) -> str:
    """Name the simplest change that would explain the reported coefficients."""
    integrated = coefficients(forces, config, parameters)
    tolerance = {name: max(config.tolerance, 0.01 * abs(value)) for name, value in reported.items()}
    scales = _scales(forces.density)
    if integrated.reference_area is not None:
        dynamic_pressure = integrated.reference_force / integrated.reference_area
        scales["pressure is given as a coefficient (conventions.pressure)"] = dynamic_pressure
    for (scale, factor), (sign, (on_pressure, on_friction)) in product(scales.items(), _SIGNS.items()):
        causes = [cause for cause in (scale, sign) if cause]
        pressure, friction = factor * on_pressure * forces.pressure, factor * on_friction * forces.friction
        changed = coefficients(replace(forces, pressure=pressure, friction=friction), config, parameters)
        if causes and all(abs(getattr(changed, name) - value) <= tolerance[name] for name, value in reported.items()):
            return f"likely {' and '.join(causes)}"
    largest = max(abs(value) for value in reported.values())
    if all(abs(getattr(integrated, name) - value) <= 0.05 * largest for name, value in reported.items()):
        return "close, so likely fields and coefficients are of different iterations, or means over different ones"
    return "no single sign, density or half area explains it; see the sections conventions and forces"


def _scales(density: float) -> dict[str, float]:
    scales = {
        "": 1.0,
        "the reference area is twice that of the solver (forces.reference_area: half or whole model)": 2.0,
        "the reference area is half that of the solver (forces.reference_area: half or whole model)": 0.5,
    }
    if density != 1:
        scales["pressure and shear are over density (conventions.pressure: kinematic)"] = density
        scales["pressure and shear are not over density (conventions.pressure: gauge)"] = 1 / density
    return scales
