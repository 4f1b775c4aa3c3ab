import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import pyvista

from meshes.mesh import Mesh
from meshes.reading import read
from meshes.writing import write
from pipelines.checkpoints import load_surrogate
from pipelines.forces import forces
from pipelines.predict import Prediction, predict
from pipelines.settings import ConfigError
from pipelines.shapes import Shape, out_of_range, shape
from pipelines.specification import SurrogateSpec, Units


def conditions(folder: Path) -> dict[str, float]:
    case = json.loads((folder / "case.json").read_text())
    return {name: case[name] for name in ("speed", "viscosity")}


@pytest.fixture(scope="module")
def case(stokes_cases: Path) -> Path:
    return stokes_cases / "stokes_0008"


@pytest.fixture(scope="module")
def alone(tiny_run: Path, case: Path, tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    """Predict from the STL alone."""
    out = tmp_path_factory.mktemp("alone")
    return predict(tiny_run, geometry=case / "body.stl", conditions=conditions(case), out=out, device="cpu")


@pytest.fixture(scope="module")
def beside(tiny_run: Path, case: Path, tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    """Predict on the files of a simulation, with two draws."""
    out = tmp_path_factory.mktemp("beside")
    return predict(
        tiny_run,
        geometry=case / "surface.vtp",
        volume=case / "volume.vtu",
        conditions=conditions(case),
        out=out,
        draws=2,
        device="cpu",
    )


def test_files_carry_the_names_of_the_source(alone: Prediction, case: Path) -> None:
    surface, volume = (pyvista.read(alone.out / name) for name in ("surface.vtp", "volume.vtu"))
    assert set(surface.cell_data.keys()) == {"p", "wallShearStress"}
    assert set(volume.cell_data.keys()) == {"p", "U", "vorticity"}
    assert volume["U"].shape == (volume.n_cells, 3)
    assert all(np.isfinite(volume[name]).all() for name in volume.cell_data)
    simulated = pyvista.read(case / "surface.vtp")
    assert surface.area == pytest.approx(simulated.area, rel=0.01)
    record = json.loads((alone.out / "prediction.json").read_text())
    assert record["fields"]["surface"]["pressure"] == {
        "array": "p",
        "unit": "Pa",
        "kind": "scalar",
        "association": "cell",
        "truth": False,
    }
    assert record["files"]["volume.vtu"]["places"] == volume.n_cells
    assert "p [Pa]" in alone.render()


def test_files_may_be_in_another_unit_of_length(alone: Prediction, tiny_run: Path, case: Path, tmp_path: Path) -> None:
    mesh = read(case / "body.stl")
    write(dataclasses.replace(mesh, points=1000 * mesh.points), tmp_path / "in mm.stl")
    arguments = {"conditions": conditions(case), "out": tmp_path / "out", "device": "cpu"}
    scaled = predict(tiny_run, geometry=tmp_path / "in mm.stl", unit_of_length="mm", **arguments)
    np.testing.assert_allclose(scaled.record["body"]["upper"], alone.record["body"]["upper"], rtol=1e-6)
    largest = np.abs(alone.record["forces"]["force"]).max()
    np.testing.assert_allclose(scaled.record["forces"]["force"], alone.record["forces"]["force"], atol=1e-2 * largest)
    assert scaled.record["warnings"] == alone.record["warnings"]
    assert "the body measures" in scaled.render()
    with pytest.raises(ConfigError, match="'furlong' is not known; expected one of m, mm"):
        predict(tiny_run, geometry=case / "body.stl", unit_of_length="furlong", **arguments)


def test_no_cell_of_the_grid_lies_inside_the_body(alone: Prediction, case: Path) -> None:
    volume = pyvista.read(alone.out / "volume.vtu")
    body = pyvista.read(case / "body.stl")
    centres = pyvista.PolyData(volume.cell_centers().points)
    assert not centres.select_interior_points(body)["selected_points"].any()
    # It reaches as far as the training data did, and is finer near the body.
    assert np.ptp(volume.points, axis=0).min() > 2.5 * np.ptp(body.points, axis=0).max()


def test_forces_of_a_prediction_can_be_integrated_again(alone: Prediction) -> None:
    report = forces(alone.out)
    np.testing.assert_allclose(report.forces.force, alone.record["forces"]["force"], rtol=1e-5)
    assert report.coefficients is not None
    assert report.coefficients.drag_coefficient == pytest.approx(alone.record["forces"]["drag_coefficient"])


def test_truth_error_and_spread_stand_beside(beside: Prediction, case: Path) -> None:
    for file, source, name in (("surface.vtp", "surface.vtp", "p"), ("volume.vtu", "volume.vtu", "U")):
        written, simulated = pyvista.read(beside.out / file), pyvista.read(case / source)
        np.testing.assert_array_equal(written[f"{name}_truth"], simulated[name])
        np.testing.assert_allclose(written[f"{name}_error"], written[name] - simulated[name], atol=1e-6)
        assert (written[f"{name}_spread"] >= 0).all()
        assert written[f"{name}_spread"].max() > 0
    np.testing.assert_array_equal(
        pyvista.read(beside.out / "volume.vtu").points, pyvista.read(case / "volume.vtu").points
    )
    errors = beside.record["errors"]
    volume = pyvista.read(beside.out / "volume.vtu")
    expected = np.linalg.norm(volume["U_error"]) / np.linalg.norm(volume["U_truth"])
    assert errors["volume"]["velocity"]["relative_l2"] == pytest.approx(expected, rel=1e-5)
    assert "against the file given" in beside.render()


def test_chunks_change_nothing_and_seeds_decide(tiny_run: Path, case: Path, tmp_path: Path, alone: Prediction) -> None:
    given = {"geometry": case / "body.stl", "conditions": conditions(case), "device": "cpu", "grid": (6, 5, 4)}
    one = predict(tiny_run, out=tmp_path / "one", chunk=17, **given)
    two = predict(tiny_run, out=tmp_path / "two", **given)
    other = predict(tiny_run, out=tmp_path / "other", seed=1, **given)
    values = [pyvista.read(each.out / "volume.vtu")["U"] for each in (one, two, other)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-4, atol=1e-5)
    assert np.abs(values[1] - values[2]).max() > 1e-4
    assert one.record["settings"]["chunk"] == 17
    np.testing.assert_array_equal(
        pyvista.read(two.out / "surface.vtp")["p"], pyvista.read(alone.out / "surface.vtp")["p"]
    )


def test_a_grid_can_be_told(tiny_run: Path, case: Path, tmp_path: Path) -> None:
    result = predict(
        tiny_run,
        geometry=case / "body.stl",
        conditions=conditions(case),
        out=tmp_path,
        bounds=(3.0, 4.0, -1.0, 1.0, 0.0, 0.5),
        spacing=0.25,
        keep_cells=True,
    )
    volume = pyvista.read(result.out / "volume.vtu")
    assert volume.n_cells == 4 * 8 * 2
    np.testing.assert_allclose(volume.bounds, (3.0, 4.0, -1.0, 1.0, 0.0, 0.5), atol=1e-6)
    assert pyvista.read(result.out / "surface.vtp").n_cells == pyvista.read(case / "body.stl").n_cells


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"conditions": {"speed": 1.0}}, r"needs the condition viscosity \(from .* in training\)"),
        ({"conditions": {"speeed": 1.0}}, "knows no condition 'speeed'.* did you mean speed"),
        ({"grid": (3, 3)}, "has 2 axes, the surrogate 3"),
        ({"grid": (3, 3, 3), "spacing": 0.1}, "either the number of cells of the grid or their size"),
        ({"bounds": (0.0, 1.0)}, "bounds are 6 numbers"),
        ({"volume": Path("volume.vtu"), "spacing": 0.1}, "either a volume mesh, or a grid"),
        ({"draws": 0}, "draws is 0"),
        ({"bounds": (-0.01, 0.01) * 3, "grid": (2, 2, 2)}, "no cell of the grid .* lies outside the body"),
    ],
)
def test_wrong_questions_get_one_sentence(
    tiny_run: Path, case: Path, tmp_path: Path, given: dict, message: str
) -> None:
    settings = {"conditions": conditions(case)} | given
    with pytest.raises(ValueError, match=message):
        predict(tiny_run, geometry=case / "body.stl", out=tmp_path / "out", **settings)
    assert not (tmp_path / "out" / "volume.vtu").exists()


def test_a_geometry_must_be_a_surface(tiny_run: Path, case: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cells of the kind wedge; expected a surface"):
        predict(tiny_run, geometry=case / "volume.vtu", conditions=conditions(case), out=tmp_path)
    with pytest.raises(FileNotFoundError):
        predict(tiny_run, geometry=case / "missing.stl", conditions=conditions(case), out=tmp_path)


def test_millimetres_and_strange_conditions_are_warned_of(tiny_run: Path, case: Path, tmp_path: Path) -> None:
    body = pyvista.read(case / "body.stl")
    body.points *= 1000
    body.save(tmp_path / "body.stl")
    given = conditions(case) | {"speed": 50.0}
    result = predict(tiny_run, geometry=tmp_path / "body.stl", conditions=given, out=tmp_path / "out", grid=(3, 3, 3))
    assert any(
        "is the file in millimetres? Say so with --unit-of-length mm" in warning
        for warning in result.record["warnings"]
    )
    assert "warning: " in result.render()


# --- Shapes: no operator needed


@pytest.fixture(scope="module")
def spec(tiny_run: Path) -> SurrogateSpec:
    return load_surrogate(tiny_run).spec


def half_model(spec: SurrogateSpec) -> SurrogateSpec:
    conventions = dataclasses.replace(spec.conventions, symmetry="y")
    return dataclasses.replace(spec, conventions=conventions)


def ball(*, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    sphere = pyvista.Sphere(radius=0.5, center=centre, theta_resolution=24, phi_resolution=24)
    return Mesh.from_triangles(sphere.points.astype(np.float64), sphere.regular_faces.astype(np.int64))


def test_conditions_and_sizes_outside_the_training_are_named(spec: SurrogateSpec) -> None:
    body = shape(ball(), spec).body
    speed = spec.ranges["speed"]
    inside = {"speed": float(np.mean(speed)), "viscosity": float(np.mean(spec.ranges["viscosity"]))}
    assert not [each for each in out_of_range(body, inside, spec) if each.startswith("condition")]
    (warning,) = [each for each in out_of_range(body, inside | {"speed": 30.0}, spec) if each.startswith("condition")]
    assert warning == (
        f"condition outside the training range: speed is 30, in training {speed[0]:.4g} to {speed[1]:.4g}"
    )
    wide = dataclasses.replace(body, upper=body.upper + np.array([0.0, 20.0, 0.0]))
    assert any("geometry outside the training range: size_y" in each for each in out_of_range(wide, inside, spec))


def test_a_whole_body_for_half_models_comes_out_whole(spec: SurrogateSpec) -> None:
    whole = shape(ball(), half_model(spec))
    assert whole.extent == "both halves"
    assert whole.vertices[:, 1].min() == 0
    np.testing.assert_allclose(whole.area_vector.sum(0), 0, atol=1e-9)
    sites, other = whole.surface_sites("cell")
    assert (sites.position[:, 1] >= 0).all()
    assert other.mean() == pytest.approx(0.5, abs=0.02)
    # The normal of a folded place is that of its mirror image: still out of the body.
    assert ((sites.position * sites.normal).sum(1) > 0).all()
    # Mirrored back, vectors are right on either side, and pseudovectors turn the other way.
    values = {"velocity": sites.position.astype(np.float32), "vorticity": sites.position.astype(np.float32)}
    back = whole.unfold("volume", values, other)
    from meshes.geometry.cells import cell_centres

    centres = cell_centres(whole.surface)
    np.testing.assert_allclose(back["velocity"], centres, atol=1e-6)
    np.testing.assert_allclose(back["vorticity"][other], centres[other] * [-1, -1, -1] * [1, 1, 1], atol=1e-6)


def test_half_a_body_stays_half(spec: SurrogateSpec) -> None:
    settings = half_model(spec)
    whole = shape(ball(), settings)
    half = Mesh.from_triangles(whole.vertices, whole.triangles)
    left = Mesh.from_triangles(whole.vertices * [1, -1, 1], whole.triangles)
    for mesh in (half, left):
        result = shape(mesh, settings)
        assert result.extent == "half"
        assert result.vertices[:, 1].min() >= 0
        # Out of the body: the force of an even pressure on a half is that on its missing cut.
        side = np.sign(mesh.points[:, 1].mean())
        np.testing.assert_allclose(result.area_vector.sum(0), [0, side * np.pi / 4, 0], atol=0.02)


def test_a_body_that_does_not_mirror_is_warned_of(spec: SurrogateSpec) -> None:
    assert shape(ball(), half_model(spec)).warnings == ()
    (warning,) = shape(ball(centre=(0.0, 0.1, 0.0)), half_model(spec)).warnings
    assert warning.startswith("the body does not mirror at y = 0: its centre is 0.1 m off")


def test_a_coarse_surface_gives_the_same_force(spec: SurrogateSpec) -> None:
    fine = shape(ball(), dataclasses.replace(spec, surface_cell_size=0.01))
    coarse = shape(ball(), spec, keep_cells=True)
    assert len(fine.area_vector) > 4 * len(coarse.area_vector)
    for vector in (fine.area_vector, coarse.area_vector):
        np.testing.assert_allclose(vector.sum(0), 0, atol=1e-9)
    assert np.linalg.norm(fine.area_vector, axis=1).sum() == pytest.approx(
        np.linalg.norm(coarse.area_vector, axis=1).sum(), rel=1e-6
    )


def test_inside_is_told_from_outside(spec: SurrogateSpec) -> None:
    result: Shape = shape(ball(), spec)
    position = np.array([[0.0, 0.1, 0.0], [0.0, 0.0, 0.6], [2.0, 0.0, 0.0]])
    sites, _, inside = result.volume_sites(position)
    assert inside.tolist() == [True, False, False]
    assert sites.distance is not None
    np.testing.assert_allclose(sites.distance[1:], [0.1, 1.5], rtol=0.02)
    assert Units(spec).body(result.vertices, result.triangles).length == pytest.approx(np.sqrt(3), rel=0.02)


def test_written_points_data_follow_the_file_given(tiny_run: Path, case: Path, tmp_path: Path) -> None:
    """A file with values at points gets predictions at points."""
    surface = pyvista.read(case / "surface.vtp").cell_data_to_point_data()
    surface.save(tmp_path / "points.vtp")
    result = predict(
        tiny_run, geometry=tmp_path / "points.vtp", conditions=conditions(case), out=tmp_path / "out", grid=(2, 2, 2)
    )
    written = pyvista.read(tmp_path / "out" / "surface.vtp")
    assert set(written.point_data.keys()) >= {"p", "p_truth", "wallShearStress_error"}
    assert result.record["files"]["surface.vtp"]["association"] == "point"
    again = forces(tmp_path / "out")
    np.testing.assert_allclose(again.forces.force, result.record["forces"]["force"], rtol=1e-4)
