"""Cases of creeping flow past ellipsoids, known exactly: folders as a solver would leave them."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from meshes.aside import write_text
from meshes.kinds import WEDGE
from meshes.mesh import Mesh
from meshes.writing import write
from pipelines.generate.ellipsoid import Ellipsoid, StokesFlow

UNITS = {
    "axes": "m", "centre": "m", "size": "m", "stream": "m/s", "speed": "m/s", "viscosity": "Pa s", "density": "kg/m³",
    "force": "N", "drag": "N", "lift": "N", "p": "Pa", "wallShearStress": "Pa", "U": "m/s", "vorticity": "1/s",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Layers:
    """How the volume around a body is meshed; lengths in units of the body's size L.

    Attributes:
        subdivisions: of the icosahedron under the surface: 20 · 4^subdivisions triangles.
        count: prisms between the wall and the outer boundary.
        first: height of the prisms at the wall; `None` takes 1.28 / 4^subdivisions, which keeps the middle of the
            first prism above the exact surface up to an aspect ratio of 10.
        far: distance of the outer boundary from the wall.
    """

    subdivisions: int = 3
    count: int = 24
    first: float | None = None
    far: float = 4.0

    def __post_init__(self) -> None:
        if not 0 <= self.subdivisions <= 7:
            raise ValueError(f"subdivisions is {self.subdivisions}; expected 0 to 7")
        if self.count < 1:
            raise ValueError(f"layers is {self.count}; expected at least one")
        if not 0 < self.height <= self.far / self.count:
            raise ValueError(
                f"first_layer is {self.height:g} L; expected at most far / layers = {self.far / self.count:g} L, as "
                "layers grow away from the wall: use fewer layers or more subdivisions"
            )

    @property
    def height(self) -> float:
        """Height of the first layer in units of L."""
        return 1.28 / 4**self.subdivisions if self.first is None else self.first

    def distances(self) -> Float[np.ndarray, " layer_plus_one"]:
        """Wall distances of the layers' boundaries, in geometric progression."""
        count, total = self.count, self.far / self.height
        if count == 1 or total <= count * (1 + 1e-9):
            return np.linspace(0, self.far, count + 1)
        ratio: float = brentq(lambda q: (q**count - 1) / (q - 1) - total, 1 + 1e-12, 1 + total)  # type: ignore[assignment]
        return self.height * (ratio ** np.arange(count + 1) - 1) / (ratio - 1)


def generate_stokes(
    out: Path,
    *,
    count: int = 48,
    seed: int = 0,
    max_aspect: float = 4.0,
    subdivisions: int = 3,
    layers: int = 24,
    first_layer: float | None = None,
    far: float = 4.0,
    out_of_range: int = 0,
    vary_scale: bool = True,
    workers: int = 1,
) -> list[Path]:
    """Write folders of exact Stokes flows past ellipsoids of varied shape, orientation, size, speed and viscosity.

    `stokes_0000/` holds `body.stl`, `surface.vtp` (cell data `p`, `wallShearStress`, force of the fluid on the body),
    `volume.vtu` (prisms; cell data `p`, `U`, `vorticity`) and `case.json` (parameters, exact force, units). The stream
    runs along +x and bodies turn uniformly. The triangles are those of an icosahedron, scaled to the area of the
    sphere before it is stretched to the ellipsoid: corners stand out of the exact surface as far as middles lie below
    it, and triangle area times traction sums to the exact force within about 0.1 %. Surface values belong to the
    point of the exact surface nearest to the triangle's centre; volume values to the centre of the prism, or to the
    wall where that centre lies below it.

    A case depends on `seed` and its number alone; complete ones are left as they are, so a second call is quick.

    Args:
        out: folder for the case folders.
        count: how many cases.
        seed: decides every case.
        max_aspect: largest ratio of the longest to the shortest axis.
        subdivisions: of the icosahedron under the surface: 20 · 4^subdivisions triangles.
        layers: prisms between the wall and the outer boundary.
        first_layer: height of the first layer, in units of the radius L of the sphere of equal volume; by default
            as the triangles are small.
        far: distance of the outer boundary from the wall, in units of L.
        out_of_range: how many more cases, `out_of_range_0000` and so on, have aspect ratios from `max_aspect` to
            2.5 times that.
        vary_scale: vary size (0.5 to 2 m), speed (0.5 to 2 m/s) and viscosity (0.5 to 2 Pa s); otherwise all are 1.
        workers: processes to spread the cases over.

    Returns:
        The case folders.

    Raises:
        ValueError: a setting is out of its range.

    Source:
        Marsaglia 1972 and Shoemake 1992, for rotations uniform on SO(3) (in scipy).
    """
    if max_aspect < 1:
        raise ValueError(f"max_aspect is {max_aspect}; expected at least 1")
    if count < 0 or out_of_range < 0:
        raise ValueError(f"count is {count} and out_of_range {out_of_range}; expected none below zero")
    meshed = Layers(subdivisions=subdivisions, count=layers, first=first_layer, far=far)
    out = Path(out)
    cases = [
        draw_case(f"stokes_{number:04d}", (seed, number), (1.0, max_aspect), vary_scale) for number in range(count)
    ]
    cases += [
        draw_case(f"out_of_range_{number:04d}", (seed, number, 1), (max_aspect, 2.5 * max_aspect), vary_scale)
        for number in range(out_of_range)
    ]
    work = partial(write_case, out, layers=meshed)
    if workers == 1:
        return [work(case) for case in cases]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(work, cases))


def draw_case(
    name: str, seed: tuple[int, ...], aspect: tuple[float, float] = (1.0, 4.0), vary_scale: bool = True
) -> dict[str, Any]:
    """Draw the parameters of a case, as `case.json` holds them, with the exact force.

    Args:
        name: of the case.
        seed: decides it.
        aspect: range of the ratio of the longest to the shortest axis.
        vary_scale: vary size, speed and viscosity too.
    """
    generator = np.random.default_rng(seed)
    shortest = generator.uniform(0, 1, 2)
    low, high = np.log(aspect)
    if low == 0:
        shorter = np.sort(shortest) * high
    else:
        last = low + (high - low) * shortest[1]
        shorter = np.array([shortest[0] * last, last])
    logarithms = np.array([0.0, *-shorter])
    rotation = Rotation.random(rng=generator).as_matrix()
    size, speed, viscosity = np.exp2(generator.uniform(-1, 1, 3)) if vary_scale else np.ones(3)
    axes = size * np.exp(logarithms - logarithms.mean())
    flow = StokesFlow(
        Ellipsoid(axes=axes, rotation=rotation, centre=np.zeros(3)), np.array([speed, 0, 0]), float(viscosity)
    )
    force = flow.force()
    return {
        "name": name,
        "axes": axes.tolist(),
        "rotation": rotation.tolist(),
        "centre": [0.0, 0.0, 0.0],
        "size": float(size),
        "stream": [float(speed), 0.0, 0.0],
        "speed": float(speed),
        "viscosity": float(viscosity),
        "density": 1.0,
        "force": force.tolist(),
        "drag": float(force[0]),
        "lift": float(force[2]),
        "pressure": "gauge",
        "shear": "on_body",
        "units": UNITS,
    }


def case_flow(case: dict[str, Any]) -> StokesFlow:
    """Build the exact flow of a case from the parameters in its `case.json`."""
    ellipsoid = Ellipsoid(
        axes=np.array(case["axes"]), rotation=np.array(case["rotation"]), centre=np.array(case["centre"])
    )
    return StokesFlow(ellipsoid, np.array(case["stream"]), case["viscosity"])


def write_case(out: Path, case: dict[str, Any], *, layers: Layers) -> Path:
    """Write the folder of a case unless it is there, complete and the same."""
    folder = out / case["name"]
    meshed = {
        "subdivisions": layers.subdivisions,
        "layers": layers.count,
        "first_layer": layers.height,
        "far": layers.far,
    }
    record = case | {"mesh": meshed}
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    record_path = folder / "case.json"
    files = ("body.stl", "surface.vtp", "volume.vtu")
    there = all((folder / file).is_file() for file in (*files, record_path.name))
    if there and record_path.read_text(encoding="utf-8") == text:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    record_path.unlink(missing_ok=True)
    flow = case_flow(case)
    surface, volume = case_meshes(flow, layers)
    write(surface, folder / "surface.vtp")
    write(volume, folder / "volume.vtu")
    write(surface, folder / "body.stl")
    # Written last and whole: where it stands, the case is complete.
    write_text(record_path, text)
    return folder


def case_meshes(flow: StokesFlow, layers: Layers) -> tuple[Mesh, Mesh]:
    """Build the surface and the volume mesh of a flow, with the exact fields on their cells."""
    body = flow.ellipsoid
    sphere, triangles = icosphere(layers.subdivisions)
    vertices = body.from_sphere(sphere)
    distances = layers.distances() * body.size
    points = (vertices + distances[:, None, None] * body.normal(vertices)).reshape(-1, 3).astype(np.float32)
    inner = triangles + len(vertices) * np.arange(layers.count)[:, None, None]
    wedges = np.concatenate([inner, inner + len(vertices)], axis=2).reshape(-1, 6)

    _, nearest = body.closest(vertices[triangles].mean(1))
    _, wall_pressure, shear = flow.surface(nearest)
    wall = {"p": wall_pressure.astype(np.float32), "wallShearStress": shear.astype(np.float32)}
    surface = Mesh.from_triangles(points[: len(vertices)], triangles, cell_data=wall)

    centre = points[wedges].astype(np.float64).mean(1)
    below = body.contains(centre)
    if below.any():
        centre[below] = body.closest(centre[below])[1]
    velocity, pressure, vorticity = flow.volume(centre)
    fluid = {"p": pressure, "U": velocity, "vorticity": vorticity}
    volume = Mesh(
        points=points,
        connectivity=wedges.ravel(),
        offsets=6 * np.arange(len(wedges) + 1),
        types=np.full(len(wedges), WEDGE, np.uint8),
        cell_data={name: values.astype(np.float32) for name, values in fluid.items()},
    )
    return surface, volume


@cache
def icosphere(subdivisions: int) -> tuple[Float[np.ndarray, "vertex 3"], Int[np.ndarray, "triangle 3"]]:
    """Subdivide an icosahedron into a triangulated sphere of area 4π, wound outwards.

    Vertices lie on a sphere a little larger than the unit sphere, so that the flat triangles together have its area.
    """
    golden = (1 + np.sqrt(5)) / 2
    vertices = np.array([[sign * 1.0, other * golden, 0] for sign in (-1, 1) for other in (-1, 1)], np.float64)
    vertices = np.concatenate([np.roll(vertices, turn, axis=1) for turn in range(3)])
    vertices /= np.linalg.norm(vertices[0])
    distance = np.linalg.norm(vertices[:, None] - vertices, axis=2)
    close = np.isclose(distance, np.sort(distance[0])[1])
    triangles = np.array([
        (i, j, k) for i in range(12) for j in range(i) for k in range(j) if close[i, j] and close[j, k] and close[i, k]
    ])  # fmt: skip
    inward = np.linalg.det(vertices[triangles]) < 0
    triangles[inward] = triangles[inward][:, [0, 2, 1]]
    for _ in range(subdivisions):
        corners = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        edges, edge = np.unique(corners, axis=0, return_inverse=True)
        middle = vertices[edges].sum(1)
        middle /= np.linalg.norm(middle, axis=1, keepdims=True)
        a, b, c = triangles.T
        ab, bc, ca = (edge.reshape(-1, 3) + len(vertices)).T
        vertices = np.concatenate([vertices, middle])
        triangles = np.concatenate(
            [np.stack(part, 1) for part in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))]
        )
    corners = vertices[triangles]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    return vertices * np.sqrt(4 * np.pi / area), triangles
