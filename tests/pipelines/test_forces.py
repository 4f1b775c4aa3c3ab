import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipelines.forces import (
    Conventions,
    ForceConfig,
    coefficients,
    extent_of,
    forces,
    in_space,
    integrate,
)
from pipelines.generate.ellipsoid import Ellipsoid, StokesFlow
from pipelines.settings import ConfigError


def sphere_rule(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of the unit sphere with weights that integrate smooth functions to rounding."""
    height, weight = np.polynomial.legendre.leggauss(count)
    angle = 2 * np.pi * np.arange(2 * count) / (2 * count)
    radius = np.sqrt(1 - height**2)
    points = np.stack(
        [
            np.outer(radius, np.cos(angle)).ravel(),
            np.outer(radius, np.sin(angle)).ravel(),
            np.repeat(height, 2 * count),
        ],
        axis=1,
    )
    return points, np.repeat(weight * np.pi / count, 2 * count)


def wall(flow: StokesFlow, count: int = 60):
    """Area vectors, pressure and wall shear of the exact flow at points of the exact surface."""
    direction, solid_angle = sphere_rule(count)
    body = flow.ellipsoid
    position = body.from_sphere(direction)
    slope = np.linalg.norm(body.to_body(position) / body.axes**2, axis=1)
    normal, pressure, shear = flow.surface(position)
    area = np.prod(body.axes) * slope * solid_angle  # dS = (abc / h) dΩ with h = 1 / slope
    return normal * area[:, None], pressure, shear


@pytest.fixture(scope="module")
def flow() -> StokesFlow:
    rotation = Rotation.from_euler("xyz", [0.3, 1.1, -0.7]).as_matrix()
    body = Ellipsoid(axes=np.array([1.4, 0.9, 0.5]), rotation=rotation, centre=np.array([0.2, 0.1, -0.3]))
    return StokesFlow(ellipsoid=body, stream=np.array([1.3, 0.2, -0.4]), viscosity=0.7)


def test_exact_drag_of_the_built_in_flow(flow: StokesFlow) -> None:
    found = integrate(*wall(flow), Conventions(), {})
    np.testing.assert_allclose(found.force, flow.force(), rtol=1e-10)
    np.testing.assert_allclose(found.pressure, flow.pressure_force(), rtol=1e-8, atol=1e-10)
    assert found.extent == "whole"
    assert found.unit == "N"


def test_conventions_say_the_same_in_other_words(flow: StokesFlow) -> None:
    vector, pressure, shear = wall(flow, 30)
    density, dynamic = 1.2, 0.5 * 1.2 * 3.0**2
    exact = integrate(vector, pressure, shear, Conventions(), {}).force
    said = {
        "kinematic": (pressure / density, shear / density, 1.0),
        "absolute": (pressure + 101325.0, shear, 1.0),
        "coefficient": (pressure / dynamic, shear / dynamic, dynamic),
    }
    for convention, (values, friction, factor) in said.items():
        conventions = Conventions(
            pressure=convention,
            shear="on_fluid",
            density="rho",
            reference_pressure=101325.0 if convention == "absolute" else 0.0,
        )
        found = integrate(vector, values, -friction, conventions, {"rho": density})
        np.testing.assert_allclose(found.force * factor, exact, rtol=1e-9)
        assert found.unit == ("m²" if convention == "coefficient" else "N")


@given(pressure=st.floats(-1e5, 1e5), shift=st.floats(-1e5, 1e5))
def test_an_even_pressure_exerts_no_force_on_a_closed_body(pressure: float, shift: float) -> None:
    direction, weight = sphere_rule(12)
    values = np.full(len(direction), pressure)
    found = integrate(direction * weight[:, None], values, None, Conventions(reference_pressure=shift), {})
    np.testing.assert_allclose(found.force, 0, atol=1e-9 * (1 + abs(pressure) + abs(shift)))


def test_coefficients_of_both_halves_are_those_of_one() -> None:
    config = ForceConfig(reference_area="size_y * size_z / 2", drag_direction=(2.0, 0.0, 0.0))
    names = {"speed": 20.0, "size_y": 0.4, "size_z": 0.3}
    conventions = Conventions(pressure="kinematic", density=1.2, symmetry="y")
    direction, weight = sphere_rule(20)
    vector, pressure = direction * weight[:, None], direction[:, 0] ** 3 - 0.2 * direction[:, 2]
    right = direction[:, 1] > 0
    half = integrate(vector[right], pressure[right], None, conventions, names)
    whole = integrate(vector, pressure, None, conventions, names, extent="both halves")
    assert half.extent == "half"
    one, both = coefficients(half, config, names), coefficients(whole, config, names)
    assert one.drag_coefficient == pytest.approx(both.drag_coefficient)
    assert one.lift_coefficient == pytest.approx(both.lift_coefficient)
    assert both.reference_area == pytest.approx(0.12)
    assert one.drag_coefficient == pytest.approx(half.force[0] / (0.5 * 1.2 * 400 * 0.06))


def test_directions_and_references_may_be_expressions() -> None:
    config = ForceConfig(
        drag_direction=("cos(radians(angle))", "sin(radians(angle))", 0.0),
        lift_direction=("-sin(radians(angle))", "cos(radians(angle))", 0.0),
        reference_force="viscosity * speed * length",
    )
    names = {"angle": 30.0, "viscosity": 2.0, "speed": 3.0, "length": 0.5}
    found = integrate(np.array([[0.0, -1.0, 0.0]]), np.array([6.0]), None, Conventions(), {})
    result = coefficients(found, config, names)
    assert (result.drag_coefficient, result.lift_coefficient) == pytest.approx((1.0, np.sqrt(3)))


def test_a_force_must_be_a_number() -> None:
    with pytest.raises(ValueError, match="wall shear stress is not finite"):
        integrate(np.ones((2, 3)), np.ones(2), np.full((2, 3), np.nan), Conventions(), {})


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"drag_direction has 2 components"):
        ForceConfig(drag_direction=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"forces\.reported\.drag is no coefficient"):
        ForceConfig(reported={"drag": "Cd"})
    unit = integrate(np.ones((1, 3)), np.ones(1), None, Conventions(), {})
    with pytest.raises(ValueError, match=r"forces\.reference_area.*width"):
        coefficients(unit, ForceConfig(reference_area="width"), {"speed": 1.0})
    with pytest.raises(ValueError, match="reference force is 0"):
        coefficients(unit, ForceConfig(reference_area=0.0), {"speed": 1.0})
    with pytest.raises(ValueError, match=r"lift_direction has no length"):
        coefficients(unit, ForceConfig(lift_direction=(0.0, 0.0, 0.0)), {"speed": 1.0})


def test_extent_of_a_body_beside_its_plane_of_symmetry() -> None:
    box = np.array([[0.0, -1e-6, 0.0], [1.0, 0.4, 0.2]])
    assert extent_of(box, 1) == "half"
    assert extent_of(box - [0, 0.2, 0], 1) == "both halves"
    assert extent_of(box, None) == "whole"


def test_vectors_of_a_plane_in_space() -> None:
    np.testing.assert_array_equal(in_space(np.array([[1.0, 2.0]]), [0, 2]), [[1.0, 0.0, 2.0]])


# --- Files


def test_drag_of_a_generated_case(stokes_cases) -> None:
    folder = stokes_cases / "stokes_0000"
    case = json.loads((folder / "case.json").read_text())
    report = forces(
        folder,
        pressure="p",
        shear="wallShearStress",
        settings=ForceConfig(reference_force="1"),
    )
    scale = np.linalg.norm(case["force"])
    np.testing.assert_allclose(report.forces.force, case["force"], atol=5e-3 * scale)  # 320 triangles
    assert report.coefficients is not None
    assert report.coefficients.drag_coefficient == pytest.approx(report.forces.force[0])
    assert "drag coefficient" in report.render()
    json.dumps(report.to_dict(), allow_nan=False)


def case_numbers(case: dict) -> dict[str, float]:
    return {name: float(case[name]) for name in ("speed", "viscosity")}


def test_which_array_is_the_pressure_must_be_known(stokes_cases) -> None:
    with pytest.raises(ValueError, match="which array is the pressure"):
        forces(stokes_cases / "stokes_0000")
    with pytest.raises(ValueError, match=r"has no array 'pressure'; it has: p"):
        forces(stokes_cases / "stokes_0000", pressure="pressure")
    with pytest.raises(FileNotFoundError, match=r"holds no surface\.vtp"):
        forces(stokes_cases, pressure="p")


AHMED = Conventions(pressure="kinematic", shear="on_fluid", symmetry="y")
HALF_AREA = ForceConfig(reference_area="size_y * size_z / 2", reported={"drag_coefficient": "drag_coefficient"})


@pytest.mark.shared
@pytest.mark.parametrize("number", [0, 13, 31])
def test_drag_of_half_models_is_what_the_solver_reported(shared_data, number: int) -> None:
    folder = shared_data / "ahmed" / f"ahmed_00_{number:03d}"
    summary = json.loads((folder / "summary.json").read_text())
    settings = replace(HALF_AREA, reference_area="width * height / 2")
    names = {name: summary[name] for name in ("speed", "width", "height")}
    report = forces(
        folder, pressure="pMean", shear="wallShearStressMean", conventions=AHMED, settings=settings, parameters=names
    )
    assert report.coefficients is not None
    assert report.forces.extent == "half"
    assert report.coefficients.drag_coefficient == pytest.approx(summary["drag_coefficient"], abs=2e-4)
    assert report.coefficients.lift_coefficient == pytest.approx(summary["lift_coefficient"], abs=2e-3)


@pytest.mark.shared
@pytest.mark.parametrize("number", [0, 55])
def test_drag_of_airfoils_is_what_the_solver_reported(shared_data, number: int) -> None:
    folder = shared_data / "naca" / f"naca_00_{number:03d}"
    summary = json.loads((folder / "summary.json").read_text())
    report = forces(folder, config="airfoil")
    assert report.coefficients is not None
    assert report.coefficients.drag_coefficient == pytest.approx(summary["drag_coefficient"], abs=2e-4)
    assert report.reported["drag_coefficient"] == summary["drag_coefficient"]


def test_stores_runs_and_experiments_say_what_arrays_mean(tiny_store: Path, tiny_run: Path, stokes_cases: Path) -> None:
    folder = stokes_cases / "stokes_0003"
    case = json.loads((folder / "case.json").read_text())
    by_store, by_experiment = (forces(folder, config=config) for config in (tiny_store, "stokes"))
    by_run = forces(folder / "surface.vtp", config=tiny_run, parameters=case_numbers(case))
    for report in (by_store, by_experiment, by_run):
        assert report.arrays == {"pressure": "p", "wall_shear_stress": "wallShearStress"}
        np.testing.assert_allclose(report.forces.force, by_store.forces.force)
        assert report.coefficients is not None
        assert by_store.coefficients is not None
        assert report.coefficients.drag_coefficient == pytest.approx(by_store.coefficients.drag_coefficient)
    assert by_store.reported["drag_coefficient"] == pytest.approx(by_store.coefficients.drag_coefficient, rel=5e-3)
    assert by_run.reported == {}


def test_a_parameter_that_nothing_knows_is_refused(tiny_store: Path, tiny_run: Path, stokes_cases: Path) -> None:
    folder = stokes_cases / "stokes_0003"
    told = r"there is no parameter 'sped' here; forces know .*speed.*; did you mean speed\?"
    for config in (tiny_store, "stokes", tiny_run):
        path = folder / "surface.vtp" if config == tiny_run else folder
        with pytest.raises(ConfigError, match=told):
            forces(path, config=config, parameters={"sped": 3.0})
    numbers = {"speed": 2.0, "viscosity": 3.0, "length": 1.0}  # the body's own may be given too
    assert forces(folder / "surface.vtp", config=tiny_run, parameters=numbers).coefficients is not None
    with pytest.raises(ConfigError, match="there is no parameter 'speed' here; forces know centre_x, "):
        forces(folder, pressure="p", parameters={"speed": 3.0})


def test_a_number_that_nobody_told_is_asked_for(tiny_run: Path, stokes_cases: Path, tmp_path: Path) -> None:
    surface = tmp_path / "surface.vtp"
    shutil.copy(next(stokes_cases.glob("*/surface.vtp")), surface)
    with pytest.raises(ValueError, match=r"there is no .*--parameter NAME=NUMBER"):
        forces(surface, config=tiny_run)
