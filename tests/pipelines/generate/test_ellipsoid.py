"""The exact flow past an ellipsoid against golden values, the equations it solves, and the limits it must have."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.generate.ellipsoid import Ellipsoid, StokesFlow
from pipelines.generate.stokes import icosphere

STREAM = np.array([0.6, -0.5, 0.8])
VISCOSITY = 0.37
BODIES = {
    "triaxial": (1, 0.6, 0.35),
    "sphere": (1, 1, 1),
    "nearly a sphere": (1, 1 + 1e-8, 1 - 2e-8),
    "nearly a spheroid": (1, 1 - 1e-12, 0.4),
    "disc": (10, 10, 1),
    "needle": (10, 1, 1),
    "blade": (10, 3, 1),
}


@pytest.fixture(params=BODIES.values(), ids=BODIES.keys())
def flow(request: pytest.FixtureRequest) -> StokesFlow:
    rotation = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    body = Ellipsoid(axes=np.array(request.param, float), rotation=rotation, centre=np.array([0.4, -0.2, 0.1]))
    return StokesFlow(body, STREAM, VISCOSITY)


def aligned(*axes: float) -> StokesFlow:
    return StokesFlow(Ellipsoid(axes=np.array(axes, float), rotation=np.eye(3), centre=np.zeros(3)), STREAM, 1.0)


def on_surface(flow: StokesFlow, count: int = 400) -> np.ndarray:
    direction = np.random.default_rng(1).normal(size=(count, 3))
    return flow.ellipsoid.from_sphere(direction / np.linalg.norm(direction, axis=1, keepdims=True))


def outside(flow: StokesFlow, nearest: float = 1e-3, farthest: float = 30.0) -> np.ndarray:
    wall = on_surface(flow)
    distance = np.geomspace(nearest, farthest, len(wall))
    return wall + distance[:, None] * flow.ellipsoid.normal(wall)


def differences(function, position: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Differentiate by differences of sixth order; the last axis is the direction."""
    columns = []
    for direction in np.eye(3):
        terms = [
            weight * (function(position + k * step * direction) - function(position - k * step * direction))
            for k, weight in ((1, 45 / 60), (2, -9 / 60), (3, 1 / 60))
        ]
        total = sum(terms)
        columns.append(total / step.reshape(-1, *[1] * (total.ndim - 1)))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize(
    ("axes", "place", "expected"),
    [
        (
            (1, 0.6, 0.35),
            (1.2, 0.4, -0.3),
            {
                "force": (6.557947615554803, -6.0364984379091755, 10.668284862435511),
                "velocity": (0.35056977889435015, -0.2585080591759721, 0.4052950127207872),
                "pressure": (0.08796428839383513,),
                "vorticity": (0.1432587304319769, -0.7694830690049216, -0.5234643305554418),
                "wall pressure": (-1.8456498364534915,),
                "wall shear": (0.5994066707746412, -1.5827156385081975, 0.2518330597937663),
            },
        ),
        (
            (1, 0.3, 0.1),
            (-0.2, 0.35, 0.25),
            {
                "force": (4.02054603390351, -4.13221574620683, 7.773779716497637),
                "velocity": (0.2393702181060015, -0.2584121815484668, 0.24313767043586865),
                "pressure": (-0.4734172635653623,),
                "vorticity": (1.4654828521199688, 0.6324116482855683, -0.4217742227446996),
                "wall pressure": (-2.870590516675152,),
                "wall shear": (1.2885517055313696, -2.0835961845082167, 0.2184108601982332),
            },
        ),
    ],
)
def test_golden_values(axes, place, expected) -> None:
    """Computed in 50 digits from Oberbeck's form by quadrature and numerical derivatives."""
    flow = aligned(*axes)
    wall = flow.surface(flow.ellipsoid.from_sphere(np.array([[2.0, 1.0, 2.0]]) / 3))
    fields = flow.volume(np.array([place]))
    found = {
        "force": flow.force(),
        "velocity": fields.velocity[0],
        "pressure": fields.pressure,
        "vorticity": fields.vorticity[0],
        "wall pressure": wall.pressure,
        "wall shear": wall.wall_shear_stress[0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=3e-14, err_msg=name)


def test_no_slip(flow: StokesFlow) -> None:
    velocity = flow.volume(on_surface(flow)).velocity
    assert np.abs(velocity).max() < 5e-14


def test_incompressible_and_vorticity_is_the_curl(flow: StokesFlow) -> None:
    position = outside(flow, 1e-4)
    gradient = flow.velocity_gradient(position)
    size = np.linalg.norm(gradient, axis=(1, 2))
    curl = np.stack([gradient[:, i, j] - gradient[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))], axis=1)
    assert (np.abs(np.trace(gradient, axis1=1, axis2=2)) / size).max() < 1e-12
    assert (np.abs(curl - flow.volume(position).vorticity).max(1) / size).max() < 1e-12


def test_gradient_is_that_of_the_velocity(flow: StokesFlow) -> None:
    position = outside(flow, 0.05)
    step = 0.01 * flow.ellipsoid.closest(position)[0][:, None]
    numerical = differences(lambda x: flow.volume(x).velocity, position, step)
    exact = flow.velocity_gradient(position)
    assert (np.abs(numerical - exact).max((1, 2)) / np.linalg.norm(exact, axis=(1, 2))).max() < 1e-6


def test_momentum(flow: StokesFlow) -> None:
    """The flow solves μ∇²u = ∇p; derivatives of the closed gradient leave only their own error."""
    position = outside(flow, 0.05, 10.0)
    step = 0.02 * flow.ellipsoid.closest(position)[0][:, None]
    second = differences(flow.velocity_gradient, position, step)
    laplacian = np.einsum("nijj->ni", second)
    slope = differences(lambda x: flow.volume(x).pressure, position, step)
    residual = np.linalg.norm(VISCOSITY * laplacian - slope, axis=1) / np.linalg.norm(slope, axis=1)
    assert np.median(residual) < 1e-8
    assert residual.max() < 1e-5


def test_wall_values_are_the_limits_of_the_volume(flow: StokesFlow) -> None:
    position = on_surface(flow)
    normal, pressure, shear = flow.surface(position)
    gradient, fields = flow.velocity_gradient(position), flow.volume(position)
    stress = VISCOSITY * (gradient + gradient.transpose(0, 2, 1)) - fields.pressure[:, None, None] * np.eye(3)
    traction = np.einsum("nij,nj->ni", stress, normal)
    largest = np.linalg.norm(traction, axis=1).max()
    np.testing.assert_allclose(traction, shear - pressure[:, None] * normal, atol=1e-12 * largest)
    np.testing.assert_allclose(VISCOSITY * np.cross(fields.vorticity, normal), shear, atol=1e-12 * largest)
    assert np.abs((shear * normal).sum(1)).max() < 1e-12 * largest


def test_force_is_the_integral_of_the_traction(flow: StokesFlow) -> None:
    """With nodes mapped from the sphere, dS = (abc / h) dΩ, and Gauss points make the sum exact."""
    height, weight = np.polynomial.legendre.leggauss(40)
    angle = 2 * np.pi * np.arange(80) / 80
    ring = np.sqrt(1 - height**2)[:, None]
    level = np.broadcast_to(height[:, None], (40, 80))
    sphere = np.stack([ring * np.cos(angle), ring * np.sin(angle), level], axis=-1).reshape(-1, 3)
    body = flow.ellipsoid
    position = body.from_sphere(sphere)
    support = 1 / np.linalg.norm(body.to_body(position) / body.axes**2, axis=1)
    area = np.repeat(weight * 2 * np.pi / 80, 80) * np.prod(body.axes) / support
    normal, pressure, shear = flow.surface(position)
    force = ((shear - pressure[:, None] * normal) * area[:, None]).sum(0)
    np.testing.assert_allclose(force, flow.force(), rtol=1e-12, atol=1e-12 * np.linalg.norm(flow.force()))
    moment = (np.cross(position - body.centre, shear - pressure[:, None] * normal) * area[:, None]).sum(0)
    assert np.abs(moment).max() < 1e-11 * np.linalg.norm(flow.force()) * body.axes.max()
    pressure_part = -(pressure[:, None] * normal * area[:, None]).sum(0)
    # Pressure peaks at slender tips, which takes more points there.
    np.testing.assert_allclose(pressure_part, flow.pressure_force(), atol=2e-4 * np.linalg.norm(flow.force()))


def test_far_field_is_that_of_a_point_force(flow: StokesFlow) -> None:
    direction = np.array([[1.0, 2.0, -0.5], [-0.3, 0.2, 1.0]])
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    force, errors = flow.force(), []
    for distance in (1e2, 1e3, 1e4):
        fields = flow.volume(flow.ellipsoid.centre + distance * flow.ellipsoid.size * direction)
        along = (direction @ force)[:, None] * direction
        expected = -(force + along) / (8 * np.pi * VISCOSITY * distance * flow.ellipsoid.size)
        errors.append(np.abs(fields.velocity - STREAM - expected).max() / np.abs(expected).max())
    # The next term decays two powers faster, until rounding of the stream takes over.
    assert errors[0] < 1e-2
    assert errors[1] < 1.1e-2 * errors[0]
    assert errors[2] < 1.1e-2 * errors[1] + 1e-11


def test_sphere_has_stokes_drag() -> None:
    flow = aligned(1, 1, 1)
    np.testing.assert_allclose(flow.force(), 6 * np.pi * STREAM, rtol=1e-14)
    position = on_surface(flow)
    np.testing.assert_allclose(flow.surface(position).pressure, -1.5 * position @ STREAM, atol=1e-14)
    np.testing.assert_allclose(flow.pressure_force(), flow.force() / 3, rtol=1e-14)


@pytest.mark.parametrize("eccentricity", [0.3, 0.9, 0.999])
def test_spheroids_have_the_drag_of_elementary_functions(eccentricity: float) -> None:
    """Happel and Brenner, Low Reynolds Number Hydrodynamics, along and across the axis of a prolate spheroid."""
    e = eccentricity
    logarithm = np.log((1 + e) / (1 - e))
    along = 16 * np.pi * e**3 / ((1 + e**2) * logarithm - 2 * e)
    across = 32 * np.pi * e**3 / (2 * e + (3 * e**2 - 1) * logarithm)
    shorter = np.sqrt(1 - e**2)
    np.testing.assert_allclose(
        aligned(1, shorter, shorter).force(), np.array([along, across, across]) * STREAM, rtol=1e-12
    )


def test_slender_limits() -> None:
    disc = aligned(1, 1, 1e-6)
    np.testing.assert_allclose(disc.force(), np.array([32 / 3, 32 / 3, 16]) * STREAM, rtol=1e-5)
    needle, slenderness = aligned(1, 1e-8, 1e-8), np.log(2e8)
    resistance = np.pi * np.array([4 / (slenderness - 0.5), 8 / (slenderness + 0.5), 8 / (slenderness + 0.5)])
    np.testing.assert_allclose(needle.force(), resistance * STREAM, rtol=1e-13)


def test_turning_everything_turns_the_flow(flow: StokesFlow) -> None:
    turn, body = Rotation.from_rotvec([1.0, 0.4, -0.2]).as_matrix(), flow.ellipsoid
    turned = StokesFlow(
        Ellipsoid(axes=body.axes, rotation=turn @ body.rotation, centre=turn @ body.centre), turn @ STREAM, VISCOSITY
    )
    position = outside(flow)
    there, here = turned.volume(position @ turn.T), flow.volume(position)
    np.testing.assert_allclose(there.velocity, here.velocity @ turn.T, atol=1e-13)
    np.testing.assert_allclose(there.pressure, here.pressure, atol=1e-12 * np.abs(here.pressure).max())
    np.testing.assert_allclose(there.vorticity, here.vorticity @ turn.T, atol=1e-12 * np.abs(here.vorticity).max())


def test_wall_distance_is_exact_along_normals(flow: StokesFlow) -> None:
    body, wall = flow.ellipsoid, on_surface(flow)
    distance = np.geomspace(1e-6, 30, len(wall))
    found, nearest = body.closest(wall + distance[:, None] * body.normal(wall))
    np.testing.assert_allclose(found, distance, atol=1e-12 * body.axes.max())
    np.testing.assert_allclose(nearest, wall, atol=1e-9 * body.axes.max())


def test_wall_distance_is_negative_inside() -> None:
    body = aligned(1, 0.8, 0.7).ellipsoid
    middle = icosphere(3)[0][icosphere(3)[1]].mean(1)
    inside = body.from_sphere(middle / np.linalg.norm(middle, axis=1, keepdims=True)) * 0.95
    found, nearest = body.closest(inside)
    assert (found < 0).all()
    np.testing.assert_allclose(((nearest / body.axes) ** 2).sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(np.cross(inside - nearest, body.normal(nearest)), 0, atol=1e-12)


def test_inside_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 points lie inside the ellipsoid"):
        aligned(1, 0.5, 0.5).volume(np.array([[0.1, 0.1, 0.1], [2.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": np.array([1.0, 0.0, 1.0])}, "expected three positive lengths"),
        ({"rotation": np.diag([1.0, 1.0, -1.0])}, "no rotation matrix"),
        ({"rotation": 2 * np.eye(3)}, "no rotation matrix"),
    ],
)
def test_impossible_bodies_are_refused(change, message) -> None:
    settings = {"axes": np.ones(3), "rotation": np.eye(3), "centre": np.zeros(3)} | change
    with pytest.raises(ValueError, match=message):
        Ellipsoid(**settings)
    with pytest.raises(ValueError, match="expected a positive number"):
        StokesFlow(aligned(1, 1, 1).ellipsoid, STREAM, 0.0)
