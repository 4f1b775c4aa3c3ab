"""Exact creeping flow past an ellipsoid: velocity, pressure, vorticity, wall shear stress and force in closed form."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import elliprd

# Both Newton iterations are monotone, so a fixed count serves: round-off is reached after 10 steps at an aspect ratio
# of 100, after 7 at 10.
NEWTON_STEPS = 12


class VolumeFields(NamedTuple):
    """Velocity [m/s], pressure [Pa] (zero far away) and vorticity [1/s] in the fluid."""

    velocity: Float[np.ndarray, "point 3"]
    pressure: Float[np.ndarray, " point"]
    vorticity: Float[np.ndarray, "point 3"]


class SurfaceFields(NamedTuple):
    """Unit normal out of the body, pressure [Pa] and wall shear stress on the body [Pa]."""

    normal: Float[np.ndarray, "point 3"]
    pressure: Float[np.ndarray, " point"]
    wall_shear_stress: Float[np.ndarray, "point 3"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Ellipsoid:
    """The body Σ X_i²/a_i² ≤ 1 with X = Rᵀ(x − centre).

    Attributes:
        axes: semi-axes a_i [m], in any order; equal ones need no special care.
        rotation: R, whose columns are the body's axes in the frame of the laboratory.
        centre: where it stands [m].
    """

    axes: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]
    centre: Float[np.ndarray, "3"]

    def __post_init__(self) -> None:
        for name in ("axes", "rotation", "centre"):
            object.__setattr__(self, name, np.array(getattr(self, name), np.float64))
        if not (np.isfinite(self.axes).all() and (self.axes > 0).all()):
            raise ValueError(f"semi-axes are {self.axes.tolist()}; expected three positive lengths [m]")
        if not np.allclose(self.rotation.T @ self.rotation, np.eye(3), atol=1e-10) or np.linalg.det(self.rotation) < 0:
            raise ValueError("rotation is no rotation matrix: expected orthonormal columns and determinant +1")

    @property
    def size(self) -> float:
        """Radius of the sphere of equal volume, L = (a b c)^(1/3) [m]."""
        return float(np.prod(self.axes) ** (1 / 3))

    def to_body(self, position: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
        """Coordinates X along the body's axes [m]."""
        return (position - self.centre) @ self.rotation

    def from_sphere(self, direction: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
        """Map points of the unit sphere affinely to the body [m]."""
        return (direction * self.axes) @ self.rotation.T + self.centre

    def normal(self, position: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
        """Give the unit normal, out of the body, of the concentric ellipsoid of equal shape through each point."""
        gradient = self.to_body(position) / self.axes**2
        return gradient / np.linalg.norm(gradient, axis=1, keepdims=True) @ self.rotation.T

    def contains(self, position: Float[np.ndarray, "point 3"]) -> Bool[np.ndarray, " point"]:
        """Whether points lie inside."""
        return ((self.to_body(position) / self.axes) ** 2).sum(1) < 1

    def closest(
        self, position: Float[np.ndarray, "point 3"]
    ) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, "point 3"]]:
        """Find the wall distance [m], negative inside, and the nearest point of the surface [m].

        The nearest point is Y_i = a_i² X_i / (a_i² + q), with q by Newton's method. Inside, a point must lie nearer to
        the wall than to the middle of the body, where the nearest point is not unique.
        """
        body, squares = self.to_body(position), self.axes**2
        q = (self.axes * (np.abs(body) - self.axes)).max(1, keepdims=True)
        q = np.maximum(q, -0.99 * squares.min())  # where the shortest coordinate is zero, the bound is a pole
        for _ in range(NEWTON_STEPS):
            terms = squares * body**2 / (squares + q) ** 2
            total = terms.sum(1, keepdims=True)
            q = q + total * (np.sqrt(total) - 1) / (terms / (squares + q)).sum(1, keepdims=True)
        nearest = squares * body / (squares + q)
        distance = np.copysign(np.linalg.norm(body - nearest, axis=1), q[:, 0])
        return distance, nearest @ self.rotation.T + self.centre


class _Confocal(NamedTuple):
    """What every field needs at a point: the confocal coordinate λ and its gradient."""

    coordinate: Float[np.ndarray, "point 1"]  # λ [m²]: zero on the body, about r² far away
    shifted: Float[np.ndarray, "point 3"]  # s_i = a_i² + λ
    root: Float[np.ndarray, "point 1"]  # Δ = √(s_1 s_2 s_3)
    scaled: Float[np.ndarray, "point 3"]  # G_i = X_i / s_i
    gradient: Float[np.ndarray, "point 3"]  # ∂_iλ = 2 G_i / H, with H = Σ G_k²


@dataclass(frozen=True, eq=False)
class StokesFlow:
    """Creeping flow of a uniform stream past a fixed ellipsoid with no slip at its wall.

    With B_i = V_i / M_i(0) for the stream V along the body's axes, where M_i = χ + a_i² α_i,

        u_i = V_i − B_i M_i(λ) − (λ/Δ) (Σ B_k G_k) ∂_iλ,    p = −(2μ/Δ) B·∇λ,    ω = (2/Δ) ∇λ × B,

    and on the wall the traction is t = (4μh/abc) B with the support function h. Inertia is absent and density does not
    enter.

    Attributes:
        ellipsoid: the body.
        stream: fluid velocity far away [m/s].
        viscosity: dynamic viscosity μ [Pa s].

    Source:
        Oberbeck 1876, J. reine angew. Math. 81, 62; in the symmetric elliptic integrals of Carlson 1995, Numer.
        Algorithms 10, 13.
    """

    ellipsoid: Ellipsoid
    stream: Float[np.ndarray, "3"]
    viscosity: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "stream", np.array(self.stream, np.float64))
        if not self.viscosity > 0:
            raise ValueError(f"viscosity is {self.viscosity}; expected a positive number [Pa s]")

    @cached_property
    def strength(self) -> Float[np.ndarray, "3"]:
        """B, the strengths [m²/s] of the three streams along the body's axes that make up the flow."""
        squares = self.ellipsoid.axes**2
        alpha = _alpha(squares)
        return self.stream @ self.ellipsoid.rotation / ((squares * alpha).sum() + squares * alpha)

    def volume(self, position: Float[np.ndarray, "point 3"]) -> VolumeFields:
        """Evaluate the flow at points on or outside the body.

        Raises:
            ValueError: a point lies inside the body, where the formulas are no flow.
        """
        at, rotation, strength = self._confocal(position), self.ellipsoid.rotation, self.strength
        squares, alpha = self.ellipsoid.axes**2, _alpha(at.shifted)
        slowed = (at.shifted * alpha).sum(1, keepdims=True) + squares * alpha
        along = (at.scaled @ strength)[:, None]
        velocity = self.stream @ rotation - strength * slowed - at.coordinate / at.root * along * at.gradient
        pressure = -2 * self.viscosity * (at.gradient @ strength) / at.root[:, 0]
        vorticity = 2 / at.root * np.cross(at.gradient, strength)
        return VolumeFields(velocity @ rotation.T, pressure, vorticity @ rotation.T)

    def velocity_gradient(self, position: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3 3"]:
        """Evaluate ∂u_i/∂x_k [1/s], component first, at points on or outside the body.

        Raises:
            ValueError: a point lies inside the body, where the formulas are no flow.
        """
        at, rotation, strength = self._confocal(position), self.ellipsoid.rotation, self.strength
        squares, s, G, slope = self.ellipsoid.axes**2, at.shifted, at.scaled, at.gradient
        H = (G**2).sum(1, keepdims=True)
        H_k = 2 * G / s - 2 * slope * (G**2 / s).sum(1, keepdims=True)
        Q = (G @ strength)[:, None]
        Q_k = strength / s - slope * (strength * G / s).sum(1, keepdims=True)
        g = at.coordinate / at.root
        g_slope = 1 / at.root - 0.5 * g * (1 / s).sum(1, keepdims=True)
        curvature = (2 / H / s)[:, :, None] * (np.eye(3) - G[:, :, None] * slope[:, None, :])
        curvature -= (2 * G / H**2)[:, :, None] * H_k[:, None, :]
        gradient = (strength * (1 + squares / s) / at.root - g_slope * Q * slope)[:, :, None] * slope[:, None, :]
        gradient -= (g * Q)[:, :, None] * curvature + (g * slope)[:, :, None] * Q_k[:, None, :]
        return rotation @ gradient @ rotation.T

    def surface(self, position: Float[np.ndarray, "point 3"]) -> SurfaceFields:
        """Evaluate normal, pressure and wall shear stress at points on the body's surface.

        The wall shear stress is the tangential part of the traction of the fluid on the body.
        """
        body, rotation, strength = self.ellipsoid, self.ellipsoid.rotation, self.strength
        slope = body.to_body(position) / body.axes**2
        support = 1 / np.linalg.norm(slope, axis=1, keepdims=True)
        normal = slope * support
        size = 4 * self.viscosity * support / np.prod(body.axes)
        across = (normal @ strength)[:, None]
        shear = size * (strength - across * normal)
        return SurfaceFields(normal @ rotation.T, (-size * across)[:, 0], shear @ rotation.T)

    def force(self) -> Float[np.ndarray, "3"]:
        """Force of the fluid on the body, 16πμ B [N]."""
        return self.ellipsoid.rotation @ (16 * np.pi * self.viscosity * self.strength)

    def pressure_force(self) -> Float[np.ndarray, "3"]:
        """Part of the force that pressure exerts [N]: the depolarisation factors ½ abc α_i(0) times the whole."""
        part = 0.5 * np.prod(self.ellipsoid.axes) * _alpha(self.ellipsoid.axes**2)
        return self.ellipsoid.rotation @ (part * 16 * np.pi * self.viscosity * self.strength)

    def _confocal(self, position: Float[np.ndarray, "point 3"]) -> _Confocal:
        squares, body = self.ellipsoid.axes**2, self.ellipsoid.to_body(position)
        inside = ((body**2 / squares).sum(1) < 1 - 1e-9).sum()
        if inside:
            raise ValueError(f"{inside} of {len(position)} points lie inside the ellipsoid; drop them by `contains`")
        # The largest root of Σ X²/(a² + λ) = 1, by Newton on 1/S − 1 from below, where it converges monotonically.
        coordinate = np.maximum((body**2 - squares).max(1), (body**2).sum(1) - squares.max())[:, None]
        coordinate = np.maximum(coordinate, 0)
        for _ in range(NEWTON_STEPS):
            terms = body**2 / (squares + coordinate)
            total = terms.sum(1, keepdims=True)
            coordinate = coordinate + total * (total - 1) / (terms / (squares + coordinate)).sum(1, keepdims=True)
        coordinate = np.maximum(coordinate, 0)
        shifted = squares + coordinate
        scaled = body / shifted
        gradient = 2 * scaled / (scaled**2).sum(1, keepdims=True)
        return _Confocal(coordinate, shifted, np.sqrt(shifted.prod(1, keepdims=True)), scaled, gradient)


def _alpha(shifted: Float[np.ndarray, "*point 3"]) -> Float[np.ndarray, "*point 3"]:
    """Evaluate α_i = ∫_λ^∞ dt / ((a_i² + t) Δ(t)) = ⅔ R_D(s_j, s_k, s_i), which stays smooth for equal axes."""
    x, y, z = np.moveaxis(shifted, -1, 0)
    return 2 / 3 * np.stack([elliprd(y, z, x), elliprd(z, x, y), elliprd(x, y, z)], axis=-1)
