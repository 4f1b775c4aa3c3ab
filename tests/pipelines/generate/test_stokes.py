"""Generated cases hold the exact flow, read back as they were written, and depend on the seed alone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from meshes.geometry import outward, watertightness
from meshes.geometry.cells import cell_centres, cell_sizes
from meshes.reading import read
from pipelines.generate import FAMILIES
from pipelines.generate.stokes import Layers, case_flow, draw_case, generate_stokes, icosphere


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return generate_stokes(tmp_path_factory.mktemp("cases"), count=2, seed=3, out_of_range=1)


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.iterdir()))).hexdigest()


def test_surface_holds_the_exact_wall_values_and_their_force(folders: list[Path]) -> None:
    for folder in folders:
        case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        surface, flow = read(folder / "surface.vtp"), case_flow(case)
        vectors, report = outward(surface)
        assert report.turned == 0
        assert report.watertightness.closed
        _, nearest = flow.ellipsoid.closest(cell_centres(surface))
        _, pressure, shear = flow.surface(nearest)
        scale = np.abs(pressure).max()
        np.testing.assert_allclose(surface.cell_data["p"], pressure, atol=1e-5 * scale)
        np.testing.assert_allclose(surface.cell_data["wallShearStress"], shear, atol=1e-5 * scale)
        area = np.linalg.norm(vectors, axis=1)[:, None]
        force = (surface.cell_data["wallShearStress"] * area - surface.cell_data["p"][:, None] * vectors).sum(0)
        assert np.linalg.norm(force - case["force"]) < 3e-3 * np.linalg.norm(case["force"])
        np.testing.assert_allclose(case["force"], flow.force(), rtol=1e-12)


def test_volume_holds_the_exact_flow_at_the_middle_of_its_cells(folders: list[Path]) -> None:
    for folder in folders:
        flow = case_flow(json.loads((folder / "case.json").read_text(encoding="utf-8")))
        volume = read(folder / "volume.vtu")
        corners = volume.points[volume.connectivity.reshape(-1, 6)].astype(np.float64)
        middle = corners.mean(1)
        assert not flow.ellipsoid.contains(middle).any()
        exact = flow.volume(middle)
        np.testing.assert_allclose(volume.cell_data["U"], exact.velocity, atol=1e-6 * flow.stream[0])
        np.testing.assert_allclose(volume.cell_data["p"], exact.pressure, atol=1e-6 * np.abs(exact.pressure).max())
        largest = np.abs(exact.vorticity).max()
        np.testing.assert_allclose(volume.cell_data["vorticity"], exact.vorticity, atol=1e-6 * largest)
        assert (cell_sizes(volume) > 0).all()
        reach = flow.ellipsoid.closest(corners.reshape(-1, 3))[0].max()
        assert reach == pytest.approx(4 * flow.ellipsoid.size, rel=0.01)


def test_geometry_is_the_wall_of_the_volume(folders: list[Path]) -> None:
    for folder in folders:
        body, surface, volume = (read(folder / name) for name in ("body.stl", "surface.vtp", "volume.vtu"))
        assert watertightness(body).closed
        assert outward(body)[1].turned == 0
        np.testing.assert_array_equal(volume.points[: surface.n_points], surface.points)
        np.testing.assert_allclose(
            np.sort(cell_centres(body), axis=0), np.sort(cell_centres(surface), axis=0), atol=1e-7
        )


def test_cases_depend_on_seed_and_number_alone(tmp_path: Path) -> None:
    small = {"subdivisions": 1, "layers": 3, "seed": 5}
    first = generate_stokes(tmp_path / "first", count=2, **small)
    more = generate_stokes(tmp_path / "more", count=3, workers=2, **small)
    other = generate_stokes(tmp_path / "other", count=1, subdivisions=1, layers=3, seed=6)
    assert [digest(folder) for folder in first] == [digest(folder) for folder in more[:2]]
    assert digest(first[0]) != digest(other[0])


def test_second_call_mends_what_is_missing_and_leaves_the_rest(tmp_path: Path) -> None:
    small = {"count": 2, "subdivisions": 1, "layers": 3}
    folders = generate_stokes(tmp_path, **small)
    before = [digest(folder) for folder in folders]
    (folders[0] / "volume.vtu").unlink()
    kept = (folders[1] / "volume.vtu").stat().st_mtime_ns
    assert generate_stokes(tmp_path, **small) == folders
    assert [digest(folder) for folder in folders] == before
    assert (folders[1] / "volume.vtu").stat().st_mtime_ns == kept


def test_shapes_and_scales_keep_to_their_ranges() -> None:
    cases = [draw_case("case", (0, number)) for number in range(200)]
    axes = np.array([case["axes"] for case in cases])
    aspect = axes.max(1) / axes.min(1)
    assert 1 <= aspect.min() < 1.5
    assert 3 < aspect.max() <= 4
    for name in ("size", "speed", "viscosity"):
        values = np.array([case[name] for case in cases])
        assert 0.5 <= values.min() < 0.6
        assert 1.8 < values.max() <= 2
    np.testing.assert_allclose(np.prod(axes, axis=1) ** (1 / 3), [case["size"] for case in cases], rtol=1e-12)
    wide = np.array([draw_case("case", (0, number, 1), (4.0, 10.0), False)["axes"] for number in range(100)])
    aspect = wide.max(1) / wide.min(1)
    assert aspect.min() >= 4
    assert aspect.max() <= 10 * (1 + 1e-12)
    # No axis of the laboratory is preferred: the mean shape over all orientations is a sphere.
    tensors = [
        np.array(c["rotation"]) @ np.diag(np.log(np.array(c["axes"]) / c["size"])) @ np.array(c["rotation"]).T
        for c in cases
    ]
    assert np.abs(np.mean(tensors, axis=0)).max() < 0.12


def test_layers_grow_geometrically_from_the_wall() -> None:
    layers = Layers(count=24)
    distances = layers.distances()
    heights = np.diff(distances)
    assert distances[0] == 0
    assert distances[-1] == pytest.approx(4)
    assert heights[0] == pytest.approx(0.02)
    np.testing.assert_allclose(heights[1:] / heights[:-1], heights[1] / heights[0], rtol=1e-9)
    np.testing.assert_allclose(np.diff(Layers(count=4, first=1.0).distances()), 1.0)


def test_icosphere_is_closed_and_has_the_area_of_the_sphere() -> None:
    for subdivisions in range(4):
        vertices, triangles = icosphere(subdivisions)
        corners = vertices[triangles]
        vectors = 0.5 * np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert len(triangles) == 20 * 4**subdivisions
        assert len(vertices) == len(triangles) // 2 + 2
        assert np.linalg.norm(vectors, axis=1).sum() == pytest.approx(4 * np.pi)
        assert ((vectors * corners.mean(1)).sum(1) > 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_aspect": 0.5}, "max_aspect is 0.5; expected at least 1"),
        ({"count": -1}, "count is -1"),
        ({"subdivisions": 9}, "subdivisions is 9; expected 0 to 7"),
        ({"layers": 0}, "layers is 0; expected at least one"),
        ({"first_layer": 1.0}, "use fewer layers or more subdivisions"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        FAMILIES["stokes"](tmp_path, **settings)
    assert not any(tmp_path.iterdir())
