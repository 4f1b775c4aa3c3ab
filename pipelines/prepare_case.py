"""One raw case made ready: its parameters, the body, points and fields of each branch, and the forces of the truth."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from meshes.fields import FieldSpec
from meshes.geometry.surfaces import OrientationReport
from meshes.mesh import Mesh
from meshes.reading.sizes import Size, size_of
from meshes.statistics import Moments
from meshes.stores.layout import GEOMETRY, StoredBranch, StoredField, StoredGeometry, sha256
from pipelines.announcing import announce, refuse_too_large, worker_memory
from pipelines.bodies import AXES, Body, measure_body
from pipelines.forces import extent_of, integrate, number
from pipelines.parameters import parameter_file, read_parameters
from pipelines.places import Places, association, span, surface_places, volume_places
from pipelines.settings import nearest
from pipelines.soundness import doubts, refuse_flat, refuse_not_finite, refuse_other_units
from pipelines.sources import METRES, BranchSource, DataConfig, GeometrySource, RawCase
from pipelines.specification import non_dimensional
from pipelines.truth import compare

PRESSURE, SHEAR = "pressure", "wall_shear_stress"


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case as the store takes it, with what the manifest says of it.

    Attributes:
        specs: the fields of each branch; `components` says what was kept of each array.
        forces: of the truth, with coefficients where they are configured; None where no branch has a pressure.
        notes: what a user should know, one sentence each.
    """

    geometry: StoredGeometry
    body: Body
    branches: dict[str, StoredBranch]
    specs: dict[str, dict[str, FieldSpec]]
    parameters: dict[str, float]
    condition: dict[str, float]
    cell_size: dict[str, float]
    forces: dict[str, Any] | None
    notes: list[str]

    def summary(self) -> dict[str, Any]:
        """Return what statistics and the manifest need of the case, so that nobody reads its points again."""
        shape = hashlib.sha256(self.geometry.vertices.astype(np.float32).tobytes())
        shape.update(self.geometry.triangles.astype(np.int64).tobytes())
        lower, upper = self.body.lower, self.body.upper
        return {
            "counts": {name: len(branch.position) for name, branch in self.branches.items()},
            "parameters": self.parameters,
            "geometry": shape.hexdigest(),
            "body": {
                "lower": lower.tolist(),
                "upper": upper.tolist(),
                "extent": (upper - lower).tolist(),
                "centre": self.body.centre.tolist(),
                "length": [self.body.length],
                "diagonal": [float(np.linalg.norm(upper - lower))],
            },
            "bounds": {
                name: [branch.position.min(axis=0).tolist(), branch.position.max(axis=0).tolist()]
                for name, branch in self.branches.items()
            },
            "cell_size": self.cell_size,
            "moments": {
                name: {key: Moments.of(stored.non_dimensional()).to_json() for key, stored in branch.fields.items()}
                for name, branch in self.branches.items()
            },
            "forces": self.forces,
            "notes": self.notes,
        }


def sources_of(case: RawCase, config: DataConfig) -> dict[str, dict[str, Any]]:
    """Return for each role what a case is made from: its path, the checksum of all files there, and what of it.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: one cannot be what it should be, or has no such time.
    """
    from meshes.reading import files_of

    sources = {}
    for role, source in _meshes_of(config).items():
        path = case.file(source.file)
        files = files_of(path, arrays=_wanted(source), time=source.time)
        sources[role] = {"path": str(path), "sha256": _checksum(files)}
        sources[role] |= {key: each for key in ("blocks", "time") if (each := getattr(source, key))}
    if config.parameters.file is not None:
        path = parameter_file(case, config.parameters.file)
        sources["parameters"] = {"path": str(path), "sha256": sha256(path)}
    return sources


def announce_cases(cases: Iterable[RawCase], config: DataConfig) -> None:
    """Log what the largest mesh of each role takes, where that is much. What cannot be read is told when it is."""
    largest: dict[str, tuple[Path, Size]] = {}
    for case in cases:
        for role, source in _meshes_of(config).items():
            try:
                path = case.file(source.file)
                size = size_of(path, arrays=_wanted(source), time=source.time)
            except (OSError, ValueError):
                continue
            if role not in largest or size.memory > largest[role][1].memory:
                largest[role] = path, size
    for path, size in largest.values():
        announce(path, size)


def _meshes_of(config: DataConfig) -> dict[str, BranchSource | GeometrySource]:
    return {**config.branches, **({} if config.geometry is None else {GEOMETRY: config.geometry})}


def _checksum(files: list[Path]) -> str:
    """Return the checksum of a file, or of the names and checksums of several."""
    if len(files) == 1:
        return sha256(files[0])
    told = [f"{sha256(file)} {os.path.relpath(file, files[0].parent)}" for file in files]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _wanted(source: BranchSource | GeometrySource) -> list[str]:
    """Return the names of the arrays to load, those of components included."""
    specs = source.fields.values() if isinstance(source, BranchSource) else ()
    return [name for spec in specs for name in (spec.array, *(spec.parts or ()))]


def read_case(case: RawCase, config: DataConfig) -> PreparedCase:
    """Read one raw case.

    Raises:
        OSError: a file is not there or cannot be read.
        ValueError: a file does not hold what the configuration says; the message names file and array.
    """
    return _Reading(case, config).whole()


@dataclass
class _Reading:
    """What is known while a case is read."""

    case: RawCase
    config: DataConfig
    notes: list[str] = field(default_factory=list)

    def whole(self) -> PreparedCase:
        config = self.config
        parameters = read_parameters(self.case, config.parameters)
        for name in config.conditions:
            if name not in parameters:
                there = ", ".join(parameters) or "none"
                message = f"{self.case.name} has no parameter {name!r} for a condition; there are: {there}"
                raise ValueError(message + nearest(name, list(parameters)))
        meshes = {name: self.mesh(source) for name, source in config.branches.items()}
        places = {name: self.places(meshes[name], source) for name, source in config.branches.items()}
        specs = {
            name: {key: self.kept(meshes[name], key, spec) for key, spec in source.fields.items()}
            for name, source in config.branches.items()
        }
        places = {name: self.finite(meshes[name], each, specs[name]) for name, each in places.items()}
        geometry = self.geometry(meshes)
        self.check_units(geometry, places)
        body = measure_body(
            geometry.vertices, geometry.triangles, space=config.axes, symmetry=config.conventions.mirrored_axis
        )
        names = parameters | body.parameters
        wall = _Wall(geometry)
        branches = {}
        for name in config.branches:
            fields = {key: self.stored(meshes[name], places[name], spec, names) for key, spec in specs[name].items()}
            branches[name] = self.branch(places[name], fields, wall)
        return PreparedCase(
            geometry=geometry,
            body=body,
            branches=branches,
            specs=specs,
            parameters=parameters,
            condition={name: parameters[name] for name in config.conditions},
            cell_size={name: each.cell_size for name, each in places.items()},
            forces=self.forces(meshes, places, names),
            notes=self.notes,
        )

    def mesh(self, source: BranchSource | GeometrySource) -> Mesh:
        from meshes.reading import is_case, open_source, read

        path = self.case.file(source.file)
        specs = list(source.fields.values()) if isinstance(source, BranchSource) else []
        if is_case(path) and not source.blocks and (isinstance(source, GeometrySource) or source.kind == "surface"):
            offered = open_source(path)
            blocks = offered.blocks(None)
            there = ", ".join(sorted(set(blocks) - set(offered.usual(blocks)), key=blocks.index))
            raise ValueError(f"{path}: name the patches of the body under blocks; there are: {there}")
        if not self.config.beyond_memory:
            size = size_of(path, arrays=_wanted(source), time=source.time)
            refuse_too_large(path, size, "set data.beyond_memory: true", worker_memory())
        chosen: dict[str, Any] = {"time": source.time, "blocks": source.blocks or None}
        parts = {spec.array: spec.parts for spec in specs if spec.parts is not None}
        wanted = [spec.array for spec in specs]
        mesh = read(path, arrays=wanted, parts=parts, notes=self.notes, **chosen)
        if set(wanted) - set(mesh.cell_data) - set(mesh.point_data):
            mesh = read(path, **chosen)  # `association` then says which arrays there are
        refuse_not_finite(mesh)
        factor = METRES[self.config.unit_of_length]
        return replace(mesh, points=np.asarray(mesh.points, np.float64) * factor) if factor != 1 else mesh

    def places(self, mesh: Mesh, source: BranchSource) -> Places:
        where = association(mesh, [spec.array for spec in source.fields.values()])
        thickness = span(mesh, self.config.axes)
        if source.kind == "volume":
            places = volume_places(mesh, where, thickness, self.notes)
        else:
            places = surface_places(mesh, where, self.outward(mesh, source)[0], thickness)
        self.check_half(places, mesh)
        return places

    def outward(
        self, mesh: Mesh, source: BranchSource | GeometrySource
    ) -> tuple[Float[np.ndarray, "cell 3"], OrientationReport | None]:
        """Return area vectors out of the body, and what it took to find them; note what had to be turned."""
        from meshes.geometry.cells import area_vectors
        from meshes.geometry.surfaces import outward
        from meshes.reading import is_case

        if is_case(self.case.file(source.file)):
            # OpenFOAM winds patches out of the fluid, those around it (a room, a pipe) as well as those within it.
            return -area_vectors(mesh), None
        refuse_flat(mesh, self.config.axes)
        vectors, report = outward(mesh, space=self.config.axes, symmetry=self.config.conventions.mirrored_axis)
        if report.repaired:
            self.notes.append(f"{mesh.source}: {report.repaired} cells wound against their neighbours were turned")
        return vectors, report

    def check_half(self, places: Places, mesh: Mesh) -> None:
        axis = self.config.conventions.mirrored_axis
        if axis is None:
            return
        low, high = places.position[:, axis].min(), places.position[:, axis].max()
        if low < -1e-6 * max(abs(low), abs(high)):
            below = int((places.position[:, axis] < 0).sum())
            name = AXES[axis]
            message = f"{mesh.source}: {below} of {len(places.position)} points have {name} < 0, down to {low:.4g} m"
            raise ValueError(f"{message}; with conventions.symmetry {name} the files should hold the half {name} ≥ 0")

    def geometry(self, meshes: dict[str, Mesh]) -> StoredGeometry:
        """Return the body with triangles wound outwards; half of it where the flow was computed on a half."""
        from meshes.geometry.symmetry import Mirror
        from meshes.geometry.triangulation import triangulate

        first = self.config.surfaces[0] if self.config.geometry is None else None
        source = self.config.geometry if first is None else self.config.branches[first]
        assert source is not None
        mesh = self.mesh(source) if first is None else meshes[first]
        vectors, report = self.outward(mesh, source)
        vertices, triangles, cell = triangulate(mesh)
        vertices = np.asarray(vertices, np.float64)
        corners = vertices[triangles]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        inward = (normal * vectors[cell]).sum(axis=1) < 0
        triangles = np.where(inward[:, None], triangles[:, ::-1], triangles)
        axis = self.config.conventions.mirrored_axis
        if report is not None:
            body = Mesh.from_triangles(vertices, triangles, source=mesh.source)
            self.notes += doubts(body, report, space=self.config.axes, symmetry=axis)
        # A body may come whole beside fields on its half: the operator then learns from the same half everywhere.
        if axis is not None and extent_of(vertices, axis) == "both halves":
            vertices, triangles = Mirror(axis).clip(vertices, triangles)
        return StoredGeometry(vertices=vertices, triangles=triangles)

    def check_units(self, geometry: StoredGeometry, places: dict[str, Places]) -> None:
        config = self.config
        files = {name: str(self.case.file(source.file)) for name, source in config.branches.items()}
        body = config.branches[config.surfaces[0]] if config.geometry is None else config.geometry
        kinds = {name: source.kind for name, source in config.branches.items()}
        refuse_other_units(geometry.vertices, str(self.case.file(body.file)), places, kinds, files)

    def finite(self, mesh: Mesh, places: Places, specs: dict[str, FieldSpec]) -> Places:
        """Leave out places where a value is NaN or infinite, if the configuration says so."""
        keep = np.ones(len(places.index), bool)
        for spec in specs.values():
            rows = np.asarray(np.isfinite(_kept_values(mesh, places, spec)).all(axis=1))
            if not rows.all() and self.config.not_finite == "refuse":
                bad, first = int((~rows).sum()), int(places.index[rows.argmin()])
                what = f"array {spec.array!r} is NaN or infinite at {bad} of {len(rows)} {places.association}s"
                remedy = "repair the file, leave the case out, or set data.not_finite to drop"
                raise ValueError(f"{mesh.source}: {what}, first at {places.association} {first}; {remedy}")
            keep &= rows
        if keep.all():
            return places
        if not keep.any():
            raise ValueError(f"{mesh.source}: no {places.association} has finite values of all fields; repair the file")
        left_out = f"{int((~keep).sum())} of {len(keep)} {places.association}s"
        self.notes.append(f"{mesh.source}: {left_out} with values that are NaN or infinite were left out")
        return places.take(keep)

    def kept(self, mesh: Mesh, name: str, spec: FieldSpec) -> FieldSpec:
        """Say which components of an array are kept: all in space, and in a plane those that live there."""
        array = mesh.cell_data.get(spec.array, mesh.point_data.get(spec.array))
        components = 1 if array is None or array.ndim == 1 else array.shape[1]
        what = f"{mesh.source}: array {spec.array!r} of the field {name} has {components} components"
        if spec.components is not None:
            if max(spec.components) >= components or min(spec.components) < 0:
                raise ValueError(f"{what}, but components {list(spec.components)} are asked for")
            return spec
        if spec.kind == "scalar":
            if components != 1:
                raise ValueError(f"{what}, which is no scalar; say kind: vector, or which components to keep")
            return spec
        if components != 3:
            if spec.kind == "pseudovector" and components == 1 and len(self.config.space) == 2:
                return spec
            raise ValueError(f"{what}, but a {spec.kind} has three")
        if len(self.config.space) == 3:
            return spec
        in_plane = self.config.axes
        kept = in_plane if spec.kind == "vector" else tuple(axis for axis in range(3) if axis not in in_plane)
        return replace(spec, components=kept)

    def stored(self, mesh: Mesh, places: Places, spec: FieldSpec, names: dict[str, float]) -> StoredField:
        values = _kept_values(mesh, places, spec)
        free_stream, scale = non_dimensional(spec, values.shape[1], names)
        return StoredField(values=values, scale=scale, free_stream=tuple(free_stream.tolist()))

    def branch(self, places: Places, fields: dict[str, StoredField], wall: "_Wall") -> StoredBranch:
        axes = list(self.config.axes)
        normal, distance = places.normal, None
        if normal is None:
            normal, distance = wall.look(places.position)
        return StoredBranch(
            position=places.position[:, axes],
            measure=places.measure,
            normal=normal[:, axes],
            distance=distance,
            source=places.index,
            fields=fields,
        )

    def forces(
        self, meshes: dict[str, Mesh], places: dict[str, Places], names: dict[str, float]
    ) -> dict[str, Any] | None:
        """Integrate the forces of the truth over the first surface that has a pressure, and compare them."""
        config = self.config
        for name in config.surfaces:
            specs, mesh, surface = config.branches[name].fields, meshes[name], places[name]
            if PRESSURE not in specs or surface.area_vector is None:
                continue
            pressure = _values(mesh, surface, specs[PRESSURE].array)[:, 0].astype(np.float64)
            shear = _values(mesh, surface, specs[SHEAR].array).astype(np.float64) if SHEAR in specs else None
            forces = integrate(surface.area_vector, pressure, shear, config.conventions, names)
            result = forces.to_dict()
            if config.forces is None:
                return result
            reported = {
                coefficient: number(expression, names, f"forces.reported.{coefficient}")
                for coefficient, expression in config.forces.reported.items()
            }
            told, mismatch = compare(forces, config.forces, names, reported)
            if mismatch is not None:
                self.notes.append(f"{self.case.name}: {mismatch}")
            return result | told | {"mismatch": mismatch}
        return None


class _Wall:
    """The body as the fluid sees it; its search tree is built when first asked."""

    def __init__(self, geometry: StoredGeometry) -> None:
        self.geometry = geometry
        self._closest: Any = None

    def look(
        self, position: Float[np.ndarray, "point 3"]
    ) -> tuple[Float[np.ndarray, "point 3"], Float[np.ndarray, " point"]]:
        """Return the unit direction away from the nearest point of the wall, and the distance to it [m].

        A point on the wall itself looks along the normal there.
        """
        from meshes.geometry.wall_distance import ClosestPoints

        vertices, triangles = self.geometry.vertices, self.geometry.triangles
        self._closest = self._closest or ClosestPoints(vertices, triangles)
        distance, nearest_point, triangle = self._closest.query(position)
        away = position - nearest_point
        on_wall = distance <= 1e-12 * np.abs(vertices).max()
        away[on_wall] = _normals(vertices, triangles[triangle[on_wall]])
        return away / np.linalg.norm(away, axis=1, keepdims=True), distance


def _normals(
    vertices: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]
) -> Float[np.ndarray, "triangle 3"]:
    corners = vertices[triangles]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _values(mesh: Mesh, places: Places, array: str) -> Shaped[np.ndarray, "point component"]:
    values = (mesh.cell_data if places.association == "cell" else mesh.point_data)[array][places.index]
    return values.reshape(len(values), -1)


def _kept_values(mesh: Mesh, places: Places, spec: FieldSpec) -> Shaped[np.ndarray, "point component"]:
    values = _values(mesh, places, spec.array)
    return values if spec.components is None else values[:, list(spec.components)]
