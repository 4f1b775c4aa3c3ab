"""A new body made ready for a surrogate: wound outwards, halved as the training bodies were, and meshed as finely."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from meshes.mesh import Mesh
from pipelines.bodies import Body
from pipelines.forces import Extent, extent_of, in_space, lump
from pipelines.soundness import doubts, refuse_flat, refuse_not_finite
from pipelines.sources import METRES
from pipelines.specification import Frame, Sites, SurrogateSpec, Units
from pipelines.surrogate import Wall

# Triangles that lean this little against the plane of a flow in it are the ends of the extruded section.
END = 0.1
# Sizes and conditions may leave the range of the training by this part of it before a warning is due.
LEEWAY = 0.05


@dataclass(frozen=True, eq=False)
class Shape:
    """A body as the surrogate sees it, and the surface that its fields are asked for on.

    Attributes:
        spec: of the surrogate.
        vertices: corners of what the operator reads [m]: half a body where the training bodies were halves.
        triangles: rows of three indices into `vertices`, wound outwards.
        surface: cells to predict on; both halves of a body that was given whole.
        area_vector: of each cell of `surface`, out of the body [m²].
        extent: what `surface` covers.
        warnings: what a user should know.
    """

    spec: SurrogateSpec
    vertices: Float[np.ndarray, "vertex 3"]
    triangles: Int[np.ndarray, "triangle 3"]
    surface: Mesh
    area_vector: Float[np.ndarray, "cell 3"]
    extent: Extent
    warnings: tuple[str, ...] = field(default=())

    @cached_property
    def wall(self) -> Wall:
        """The body as places in the fluid see it."""
        return Wall(self.vertices, self.triangles, self.spec.axes)

    @cached_property
    def body(self) -> Body:
        """Place and size, whole even where the operator reads a half."""
        return Units(self.spec).body(self.vertices, self.triangles)

    @property
    def frame(self) -> Frame:
        """The operator's origin and unit of length."""
        return Units(self.spec).frame(self.body)

    def fold(
        self, position: Shaped[np.ndarray, "point 3"]
    ) -> tuple[Float[np.ndarray, "point 3"], Bool[np.ndarray, " point"]]:
        """Bring places to the side that the operator knows, and tell which came from the other."""
        axis = self.spec.symmetry_axis
        if axis is None:
            return np.asarray(position, np.float64), np.zeros(len(position), bool)
        folded = np.array(position, np.float64)
        other = folded[:, axis] < 0
        folded[other, axis] *= -1
        return folded, other

    def surface_sites(self, association: str) -> tuple[Sites, Bool[np.ndarray, " point"]]:
        """Places on the surface, and which of them were folded over."""
        return (
            self.cell_sites
            if association == "cell"
            else self._sites(self.surface.points, lump(self.surface, self.area_vector))
        )

    @cached_property
    def cell_sites(self) -> tuple[Sites, Bool[np.ndarray, " cell"]]:
        """Centres of the cells of the surface, and which of them were folded over."""
        from meshes.geometry.cells import cell_centres

        return self._sites(cell_centres(self.surface), self.area_vector)

    def _sites(self, position: np.ndarray, vector: np.ndarray) -> tuple[Sites, Bool[np.ndarray, " point"]]:
        folded, other = self.fold(position)
        vector = self._kept(self._turned(vector, other))
        area = np.sqrt(np.einsum("ij,ij->i", vector, vector))
        normal = vector / np.where(area > 0, area, 1)[:, None]
        return Sites(self._kept(folded), normal, measure=area), other

    def _kept(self, vector: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point space"]:
        return vector if len(self.spec.axes) == 3 else vector[:, self.spec.axes]

    def volume_sites(
        self, position: Shaped[np.ndarray, "point 3"]
    ) -> tuple[Sites, Bool[np.ndarray, " point"], Bool[np.ndarray, " point"]]:
        """Places in the fluid with wall distance and direction; which were folded over, and which lie in the body."""
        folded, other = self.fold(position)
        kept = self._kept(folded)
        distance, direction, inside = self.wall.look(kept)
        return Sites(kept, direction, distance), other, inside

    def unfold(
        self, branch: str, values: Mapping[str, np.ndarray], other: Bool[np.ndarray, " point"]
    ) -> dict[str, np.ndarray]:
        """Mirror what was predicted at folded places back to the side where they belong."""
        if not other.any():
            return dict(values)
        axis = self.spec.symmetry_axis
        unfolded = {}
        for name, array in values.items():
            spec = self.spec.fields[branch][name]
            array = np.array(array)
            if spec.kind != "scalar":
                columns = list(kept_columns(self.spec, branch, name))
                sign = np.array([-1.0 if column == axis else 1.0 for column in columns], array.dtype)
                array[other] *= sign if spec.kind == "vector" else -sign
            unfolded[name] = array
        return unfolded

    def _turned(self, vector: np.ndarray, other: np.ndarray) -> np.ndarray:
        if self.spec.symmetry_axis is None:
            return vector
        vector = np.array(vector, np.float64)
        vector[other, self.spec.symmetry_axis] *= -1
        return vector


def shape(mesh: Mesh, spec: SurrogateSpec, *, keep_cells: bool = False) -> Shape:
    """Make a body ready: orient it, clip or mirror it, mesh it as finely as the training surfaces.

    Args:
        mesh: surface of the body, in metres.
        spec: of the surrogate.
        keep_cells: predict on the surface's own cells instead.

    Raises:
        ValueError: the surface has no area, or it cannot be told which side of it is out.
    """
    from meshes.geometry.cells import area_vectors
    from meshes.geometry.surfaces import remesh, triangulate, wind_outwards
    from meshes.geometry.symmetry import Mirror

    warnings: list[str] = []
    space = tuple(spec.axes)
    refuse_not_finite(mesh)
    refuse_flat(mesh, space)
    oriented, report = wind_outwards(mesh, space=space, symmetry=spec.symmetry_axis)
    warnings += doubts(oriented, report, space=space, symmetry=spec.symmetry_axis)
    if report.components > 1:
        warnings.append(f"the surface has {report.components} pieces that do not hang together; they count as one body")
    if report.repaired:
        warnings.append(f"{report.repaired} cells of the surface were wound against their neighbours and were turned")
    vertices, triangles, _ = triangulate(oriented)
    vertices = np.asarray(vertices, np.float64)
    if len(spec.axes) == 2:
        triangles = _without_ends(vertices, triangles, spec.axes)
    axis = spec.symmetry_axis
    extent = extent_of(vertices, axis)
    if axis is not None and extent == "both halves":
        warnings += _asymmetry(vertices, triangles, axis)
        vertices, triangles = Mirror(axis).clip(vertices, triangles)
    if keep_cells:
        surface = oriented
    else:
        size = spec.surface_cell_size * Units(spec).body(vertices, triangles).length
        surface = remesh(vertices, triangles, size)
        if axis is not None and extent == "both halves":
            surface = Mirror(axis).mirror(surface)
    if axis is not None and vertices[:, axis].mean() < 0:  # the operator knows the other half
        vertices = vertices * np.where(np.arange(3) == axis, -1.0, 1.0)
        triangles = triangles[:, ::-1]
    return Shape(spec, vertices, triangles, surface, area_vectors(surface), extent, tuple(warnings))


def kept_columns(spec: SurrogateSpec, branch: str, name: str) -> tuple[int, ...]:
    """Columns of a vector in space that a field keeps: in the plane, a pseudovector keeps the one across."""
    field_spec = spec.fields[branch][name]
    if field_spec.components is not None:
        return field_spec.components
    if field_spec.kind == "scalar":
        return tuple(range(spec.components(branch, name)))
    if field_spec.kind == "pseudovector" and len(spec.axes) == 2:
        return tuple(sorted(set(range(3)) - set(spec.axes)))
    return tuple(spec.axes)


def as_in_files(
    spec: SurrogateSpec, branch: str, name: str, values: Float[np.ndarray, "point component"]
) -> Float[np.ndarray, "point ..."]:
    """Give values the columns of the source's array: a scalar none, a vector three, zero where a plane lacks them."""
    if spec.fields[branch][name].kind == "scalar":
        return values[:, 0] if values.shape[1] == 1 else values
    kept = kept_columns(spec, branch, name)
    return values if kept == (0, 1, 2) else in_space(values, kept).astype(np.float32)


def out_of_range(body: Body, parameters: Mapping[str, float], spec: SurrogateSpec) -> list[str]:
    """Say which sizes, places and conditions lie outside what the surrogate was trained on.

    Sizes a thousand times too large or too small, as of a file in millimetres, are named as such.
    """
    warnings = []
    if "length" in spec.ranges:
        lower, upper = spec.ranges["length"]
        said = f"the body is {body.length:.4g} m long, in training {_span(lower, upper)} m"
        for unit, short in (("millimetres", "mm"), ("centimetres", "cm"), ("inches", "in")):
            if body.length > 5 * upper and lower / 2 <= body.length * METRES[short] <= upper * 2:
                return [f"{said}: is the file in {unit}? Say so with --unit-of-length {short}"]
        if not 0.02 < body.length / np.sqrt(lower * upper) < 50:
            return [f"{said}: is the file in other units?"]
    measured = body.parameters
    checked = {name: measured[name] for name in measured if name in spec.ranges}
    if spec.inputs.frame == "body":  # where it stands does not matter then
        checked = {name: value for name, value in checked.items() if not name.startswith("centre_")}
    ignored = {f"{what}_{axis}" for axis in "xyz" if axis not in spec.space for what in ("size", "centre")}
    needed = Units(spec).needed
    checked = {name: value for name, value in checked.items() if name not in ignored}
    checked |= {name: parameters[name] for name in parameters if name in spec.ranges and name in needed}
    for name, value in checked.items():
        lower, upper = spec.ranges[name]
        scale = spec.length if name.startswith(("centre_", "size_")) else max(abs(lower), abs(upper))
        leeway = max(LEEWAY * (upper - lower), 0.01 * scale)
        if not lower - leeway <= value <= upper + leeway:
            what = "condition" if name in needed else "geometry"
            warnings.append(
                f"{what} outside the training range: {name} is {value:.4g}, in training {_span(lower, upper)}"
            )
    return warnings


def _span(lower: float, upper: float) -> str:
    return f"{lower:.4g}" if lower == upper else f"{lower:.4g} to {upper:.4g}"


def _without_ends(
    vertices: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"], axes: list[int]
) -> Int[np.ndarray, "triangle 3"]:
    """Drop the ends of an extruded section, which a flow in the plane does not see."""
    from pipelines.specification import triangle_normals

    kept = triangles[np.linalg.norm(triangle_normals(vertices, triangles)[:, axes], axis=1) > END]
    if not len(kept):
        raise ValueError("the geometry lies flat in the plane of the flow; expected the section extruded across it")
    return kept


def _asymmetry(
    vertices: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"], axis: int
) -> list[str]:
    """Warn where the two halves of a body differ: the surrogate knows bodies that mirror."""
    from meshes.geometry.triangulation import triangle_area_vectors, triangle_centres

    vector = triangle_area_vectors(vertices, triangles)
    area = np.sqrt(np.einsum("ij,ij->i", vector, vector))
    offset = abs(float(area @ triangle_centres(vertices, triangles)[:, axis]) / area.sum())
    if offset < 0.01 * float(np.ptp(vertices[:, axis])):
        return []
    name = "xyz"[axis]
    said = f"the body does not mirror at {name} = 0: its centre is {offset:.3g} m off the plane"
    return [f"{said}; one half of it stands for both"]


def read_surface(path: Path, arrays: Any) -> Mesh:
    """Read a surface from any file that holds one.

    Raises:
        ValueError: the file holds no surface.
    """
    from meshes.reading import read

    mesh = read(path, arrays=arrays)
    if not mesh.is_surface:
        from meshes.kinds import name_of

        kinds = ", ".join(name_of(int(kind)) for kind in np.unique(mesh.types))
        raise ValueError(f"{path} holds cells of the kind {kinds}; expected a surface of triangles or polygons alone")
    return mesh
