"""Theorems that measures of cells obey, and VTK's own measures where it has them."""

from pathlib import Path

import numpy as np
import pytest
import pyvista
from hypothesis import given
from hypothesis import strategies as st
from strategies import meshes, offsets_of

from meshes.geometry.cells import area_vectors, cell_centres, cell_faces, cell_normals, cell_sizes
from meshes.kinds import HEXAHEDRON, PENTAGONAL_PRISM, POLYGON, POLYHEDRON, PYRAMID, TETRA, VOXEL, WEDGE
from meshes.mesh import Mesh
from meshes.reading import read

# Corners of a cell of each kind with its volume and the height of its centroid.
_RING5, _RING6 = (np.exp(2j * np.pi * np.arange(n) / n) for n in (5, 6))


def _prism(ring: np.ndarray) -> np.ndarray:
    flat = np.stack([ring.real, ring.imag, np.zeros(len(ring))], axis=1)
    return np.concatenate([flat, flat + np.array([0, 0, 1])])


_CUBE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], float)
CELLS = {
    TETRA: (np.vstack([np.zeros(3), np.eye(3)]), 1 / 6, 1 / 4),
    HEXAHEDRON: (_CUBE, 1.0, 1 / 2),
    VOXEL: (_CUBE[[0, 1, 3, 2, 4, 5, 7, 6]], 1.0, 1 / 2),
    WEDGE: (_prism(np.array([0, 1, 1j])), 1 / 2, 1 / 2),
    PYRAMID: (np.vstack([_CUBE[:4], [0.5, 0.5, 1]]), 1 / 3, 1 / 4),
    PENTAGONAL_PRISM: (_prism(_RING5), 2.5 * np.sin(2 * np.pi / 5), 1 / 2),
    16: (_prism(_RING6), 3 * np.sin(np.pi / 3), 1 / 2),
}


def _single(kind: int, corners: np.ndarray) -> Mesh:
    count = len(corners)
    return Mesh(
        points=corners, connectivity=np.arange(count), offsets=np.array([0, count]), types=np.array([kind], np.uint8)
    )


@pytest.mark.parametrize("kind", CELLS)
def test_volumes_and_centroids_of_solids(kind: int) -> None:
    corners, volume, height = CELLS[kind]
    mesh = _single(kind, corners)
    assert cell_sizes(mesh)[0] == pytest.approx(volume, rel=1e-14)
    assert cell_centres(mesh)[0, 2] == pytest.approx(height, rel=1e-14)


@pytest.mark.parametrize("kind", [kind for kind in CELLS if kind != WEDGE])
def test_mirrored_cells_are_negative(kind: int) -> None:
    corners, volume, _ = CELLS[kind]
    assert cell_sizes(_single(kind, corners * [1, -1, 1]))[0] == pytest.approx(-volume, rel=1e-14)


def test_wedges_have_no_sign_and_curved_ones_do() -> None:
    corners, volume, _ = CELLS[WEDGE]
    assert cell_sizes(_single(WEDGE, corners * [1, -1, 1]))[0] == pytest.approx(volume)
    curved = np.concatenate([corners, np.zeros((9, 3))])
    assert cell_sizes(_single(26, curved))[0] == pytest.approx(volume)
    assert cell_sizes(_single(26, curved * [1, -1, 1]))[0] == pytest.approx(-volume)


@pytest.mark.parametrize("kind", CELLS)
def test_faces_of_a_cell_close_and_look_out(kind: int) -> None:
    corners, volume, _ = CELLS[kind]
    corners = corners + np.random.default_rng(kind).normal(size=corners.shape) * 0.02  # faces are no longer flat
    total, flux = np.zeros(3), 0.0
    for group in cell_faces(_single(kind, corners)):
        surface = _polygons(corners, group.corners)
        total += area_vectors(surface).sum(axis=0)
        flux += float((cell_centres(surface) * area_vectors(surface)).sum()) / 3
    np.testing.assert_allclose(total, 0, atol=1e-15)
    assert flux == pytest.approx(volume, rel=0.2)


def _polygons(points: np.ndarray, corners: np.ndarray) -> Mesh:
    count, size = corners.shape
    return Mesh(
        points=points, connectivity=corners.reshape(-1), offsets=size * np.arange(count + 1),
        types=np.full(count, POLYGON, np.uint8),
    )  # fmt: skip


def _box_as_polyhedron(turn: list[int]) -> Mesh:
    """Make a cuboid of 2 × 3 × 5 m with one of its faces cut in two, some faces turned over."""
    corners = np.vstack([_CUBE, [[0.5, 0, 0], [0.5, 1, 0]]]) * [2, 3, 5]
    faces = [[0, 3, 9, 8], [8, 9, 2, 1], [4, 5, 6, 7], [0, 8, 1, 5, 4], [1, 2, 6, 5], [2, 9, 3, 7, 6], [3, 0, 4, 7]]
    faces = [face[::-1] if number in turn else face for number, face in enumerate(faces)]
    return Mesh(
        points=corners, connectivity=np.arange(10), offsets=np.array([0, 10]), types=np.array([POLYHEDRON], np.uint8),
        face_connectivity=np.concatenate(faces), face_offsets=offsets_of([len(face) for face in faces]),
        polyhedron_offsets=np.array([0, len(faces)]),
    )  # fmt: skip


@pytest.mark.parametrize("turn", [[], list(range(7)), [2], [0, 3, 5]])
def test_polyhedra_measure_the_same_however_their_faces_are_turned(turn: list[int]) -> None:
    mesh = _box_as_polyhedron(turn)
    assert cell_sizes(mesh)[0] == pytest.approx(30, rel=1e-14)
    np.testing.assert_allclose(cell_centres(mesh)[0], [1, 1.5, 2.5], rtol=1e-14)


@given(mesh=meshes(kinds=(3, 4, 5, 7, 9, 8, 10, 12, 13, 14, 42), arrays=False), seed=st.integers(0, 99))
def test_rigid_motions_move_centres_and_keep_sizes(mesh: Mesh, seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    shift = rng.normal(size=3)
    points = mesh.points.astype(np.float64)
    before, after = (_placed(mesh, each) for each in (points, points @ turn.T + shift))
    sizes = cell_sizes(before)
    np.testing.assert_allclose(cell_sizes(after), sizes, atol=1e-12)
    safe = np.abs(sizes) > 1e-2  # the centroid of next to nothing is anywhere
    np.testing.assert_allclose(cell_centres(after)[safe], (cell_centres(before) @ turn.T + shift)[safe], atol=1e-9)


@given(mesh=meshes(kinds=(3, 5, 9, 10, 12, 14), arrays=False), factor=st.floats(0.01, 100))
def test_sizes_scale_with_their_dimension(mesh: Mesh, factor: float) -> None:
    points = mesh.points.astype(np.float64)
    power = np.array([{3: 1, 5: 2, 9: 2}.get(int(kind), 3) for kind in mesh.types])
    found = cell_sizes(_placed(mesh, points * factor))
    np.testing.assert_allclose(found, cell_sizes(_placed(mesh, points)) * factor**power, rtol=1e-9, atol=1e-15)


def _placed(mesh: Mesh, points: np.ndarray) -> Mesh:
    from dataclasses import replace

    return replace(mesh, points=points)


def test_a_polygon_that_is_not_convex() -> None:
    ell = np.array([[0, 0, 0], [3, 0, 0], [3, 1, 0], [1, 1, 0], [1, 4, 0], [0, 4, 0]], float)
    mesh = _polygons(ell, np.arange(6)[None])
    assert cell_sizes(mesh)[0] == pytest.approx(6)
    np.testing.assert_allclose(cell_centres(mesh)[0], [1, 1.5, 0], atol=1e-15)
    np.testing.assert_allclose(cell_normals(mesh)[0], [0, 0, 1], atol=1e-15)


def test_lines_and_poly_lines() -> None:
    mesh = Mesh(
        points=np.array([[0, 0, 0], [3, 0, 0], [3, 1, 0.0]]), connectivity=np.array([0, 1, 0, 1, 2, 2]),
        offsets=np.array([0, 2, 5, 6]), types=np.array([3, 4, 1], np.uint8),
    )  # fmt: skip
    np.testing.assert_allclose(cell_sizes(mesh), [3, 4, 0])
    np.testing.assert_allclose(cell_centres(mesh), [[1.5, 0, 0], [(1.5 * 3 + 3) / 4, 0.125, 0], [3, 1, 0]])


def test_a_cell_without_size_is_at_the_mean_of_its_corners() -> None:
    mesh = Mesh.from_triangles(np.array([[0, 0, 0], [1, 0, 0], [5, 0, 0.0]]), np.array([[0, 1, 2]]))
    np.testing.assert_array_equal(cell_centres(mesh), [[2, 0, 0]])
    np.testing.assert_array_equal(cell_normals(mesh), [[0, 0, 0]])


def test_far_from_the_origin_nothing_is_lost() -> None:
    near = _single(TETRA, CELLS[TETRA][0])
    far = _single(TETRA, CELLS[TETRA][0] + 1e6)
    assert cell_sizes(far)[0] == pytest.approx(cell_sizes(near)[0], rel=1e-9)


def test_strips_volumes_and_unknown_kinds_are_refused() -> None:
    points = np.eye(4)[:, :3]
    with pytest.raises(ValueError, match="triangle strips; turn them into triangles"):
        cell_sizes(_single(6, points))
    with pytest.raises(ValueError, match="is no surface: it holds tetrahedron"):
        area_vectors(_single(TETRA, points))
    with pytest.raises(ValueError, match="not known here: cell type 60"):
        cell_centres(_single(60, points))
    with pytest.raises(ValueError, match="cell 0 of the mesh is a hexahedron but has fewer than 8 points"):
        cell_sizes(_single(HEXAHEDRON, points))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "tolerance"),
    [
        ("ahmed/ahmed_00_004/volume.vtu", 1e-4),  # VTK cuts faces that are not flat along other diagonals
        ("naca/naca_00_001/volume.vtu", 1e-12),
        ("public/meshes/can.vtu", 1e-12),
        ("public/meshes/polyhedron2pieces.vtu", 1e-12),
        ("public/meshes/surfaces/42400-IDGH.stl", 1e-12),
    ],
)
def test_sizes_agree_with_vtk(shared_data: Path, file: str, tolerance: float) -> None:
    mesh = read(shared_data / file)
    vtk = mesh.to_pyvista().compute_cell_sizes(length=False, area=mesh.is_surface, volume=not mesh.is_surface)
    expected = np.abs(vtk.cell_data["Area" if mesh.is_surface else "Volume"])
    found = np.abs(cell_sizes(mesh))
    assert found.sum() == pytest.approx(expected.sum(), rel=tolerance)
    plain = mesh.types != POLYHEDRON
    np.testing.assert_allclose(found[plain], expected[plain], rtol=1e-9)


@pytest.mark.shared
def test_cells_fill_the_box_around_half_a_body(shared_data: Path) -> None:
    """Cells and body share faces that are not flat, and measure them alike: the sum is exact but for float32."""
    volume = read(shared_data / "ahmed/ahmed_00_004/volume.vtu", arrays=[])
    surface = read(shared_data / "ahmed/ahmed_00_004/surface.vtp", arrays=[])
    # ∮ z n_z dA does not see the cut at y = 0; the patch looks into the body.
    fans = pyvista.PolyData(surface.points, surface.to_pyvista().faces)
    body = -_flux_of_z(fans)
    box = float(np.prod(np.ptp(volume.points.astype(np.float64), axis=0)))
    assert cell_sizes(volume).sum() == pytest.approx(box - body, rel=1e-6)


def _flux_of_z(surface: pyvista.PolyData) -> float:
    total = 0.0
    points = np.asarray(surface.points, np.float64)
    for corners in surface.regular_faces if surface.is_all_triangles else surface.irregular_faces:
        at = points[np.asarray(corners)]
        following, mean = np.roll(at, -1, axis=0), at.mean(axis=0)
        area = np.cross(at - mean, following - mean)[:, 2] / 2
        total += float(((at + following + mean)[:, 2] / 3) @ area)
    return total


@pytest.mark.shared
def test_inverted_wedges_are_found(shared_data: Path) -> None:
    mesh = read(shared_data / "public/meshes/notch_disp.vtu")
    assert (mesh.types[cell_sizes(mesh) < 0] == 26).sum() == 4
    assert (cell_sizes(mesh) < 0).sum() == 4
