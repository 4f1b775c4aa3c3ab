import numpy as np
import pytest
from stokes_store import build_store, experiment

from meshes.stores import Store, StoredCase
from pipelines.baselines import (
    NAMES,
    PENALTIES,
    Baselines,
    Descriptors,
    Ridge,
    StoredCases,
    describe,
    nearest,
    place,
    surface_moments,
)
from pipelines.generate.stokes import icosphere
from pipelines.specification import Units
from pipelines.specify import specify


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(build_store(tmp_path_factory.mktemp("baselines"), training=5, validation=1, test=2))


@pytest.fixture(scope="module")
def baselines(store: Store) -> Baselines:
    config = experiment(store.path)
    spec = specify(
        store,
        operator={"kind": "ab_upt"},
        sampling=config.training.sampling,
        inputs=config.training.inputs,
        conventions=config.data.conventions,
        forces=None,
    )
    return Baselines(StoredCases(store, Units(spec)), Units(spec))


def described(baselines: Baselines, case: StoredCase) -> Descriptors:
    return describe(baselines.units, *case.geometry(), case.parameters)


def places(baselines: Baselines, case: StoredCase, branch: str) -> np.ndarray:
    return place(baselines.units, *case.geometry(), case.read(branch, names=["position"])["position"])


def answers(baselines: Baselines, case: StoredCase, branch: str, rows: slice = slice(None)) -> dict:
    weights, reasons = baselines.weights(described(baselines, case), branch)
    assert not reasons
    return baselines.predict(places(baselines, case, branch)[rows], branch, weights)


def test_a_training_case_is_its_own_nearest(store: Store, baselines: Baselines) -> None:
    case = store.case(store.splits["training"][2])
    truth = case.read("volume")
    found = answers(baselines, case, "volume")["nearest_case"]
    for field in ("velocity", "vorticity"):
        scale, free_stream = case.scale("volume", field)
        np.testing.assert_allclose(found[field] * scale + free_stream, truth[field], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("branch", ["surface", "volume"])
def test_chunks_change_nothing(store: Store, baselines: Baselines, branch: str) -> None:
    case = store.case(store.splits["test"][0])
    whole = answers(baselines, case, branch)
    part = answers(baselines, case, branch, slice(40, 90))
    assert set(whole) == set(NAMES)
    for baseline, fields in whole.items():
        for field, values in fields.items():
            assert values.shape[1] == {"pressure": 1}.get(field, 3)
            np.testing.assert_allclose(part[baseline][field], values[40:90], rtol=1e-12)


def test_the_mean_field_is_the_mean_of_nearest_points(store: Store, baselines: Baselines) -> None:
    position = places(baselines, store.case(store.splits["test"][0]), "surface")[:7]
    count = len(store.splits["training"])

    def answer(weights: np.ndarray) -> dict:
        return baselines.predict(position, "surface", {"x": dict.fromkeys(("pressure", "shear"), weights)})["x"]

    mean, each = answer(np.full(count, 1 / count)), [answer(one) for one in np.eye(count)]
    for field in ("pressure", "shear"):
        np.testing.assert_allclose(mean[field], np.mean([values[field] for values in each], axis=0))


def test_too_few_cases_say_why(store: Store, baselines: Baselines, monkeypatch: pytest.MonkeyPatch) -> None:
    target = described(baselines, store.case(store.splits["test"][0]))
    few = StoredCases(store, baselines.units)
    monkeypatch.setattr(few, "names", few.names[:2])
    weights, reasons = Baselines(few, baselines.units).weights(target, "surface")
    assert set(weights) == {"nearest_case", "mean_field"}
    assert reasons == dict.fromkeys(("ridge", "quadratic"), "a regression needs three training cases, there are 2")
    monkeypatch.setattr(few, "names", [])
    assert set(Baselines(few, baselines.units).weights(target, "surface")[1]) == set(NAMES)


def test_ridge_weights_are_those_of_the_regression() -> None:
    rng = np.random.default_rng(0)
    features, values, new = rng.normal(size=(9, 4)), rng.normal(size=(9, 30)), rng.normal(size=4)
    ridge = Ridge(features)
    weights = ridge.weights(new, values)
    assert weights.sum() == pytest.approx(1)
    # The same from the normal equations, for whichever penalty was taken.
    standard = (features - features.mean(0)) / features.std(0)
    target = (new - features.mean(0)) / features.std(0)

    direct = [
        values.mean(0)
        + target @ np.linalg.solve(standard.T @ standard + penalty * np.eye(4), standard.T @ (values - values.mean(0)))
        for penalty in PENALTIES * 9
    ]
    assert min(np.abs(weights @ values - each).max() for each in direct) < 1e-10


def test_ridge_finds_what_is_linear_and_ignores_noise() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(20, 2))
    slope = rng.normal(size=(2, 50))
    new = np.array([0.4, -1.2])
    np.testing.assert_allclose(
        Ridge(features).weights(new, features @ slope) @ (features @ slope), new @ slope, atol=1e-3
    )
    noise = rng.normal(size=(20, 500))
    np.testing.assert_allclose(Ridge(features).weights(new, noise), 1 / 20, atol=0.02)


def test_a_quadratic_regression_finds_what_is_quadratic() -> None:
    rng = np.random.default_rng(5)
    features = rng.uniform(-1, 1, size=(40, 2))

    def values(each: np.ndarray) -> np.ndarray:
        x, y = each[..., 0], each[..., 1]
        return np.stack([x * y, 1 + x - y**2, 3 * x**2 + 2 * y], axis=-1)

    new = np.array([0.4, -0.7])
    weights = Ridge(features, quadratic=True).weights(new, values(features))
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights @ values(features), values(new), atol=1e-3)
    linear = Ridge(features).weights(new, values(features)) @ values(features)
    assert np.abs(linear - values(new)).max() > 0.1


@pytest.mark.parametrize("quadratic", [False, True])
def test_regressions_do_not_depend_on_the_units_of_descriptors(quadratic: bool) -> None:
    rng = np.random.default_rng(6)
    features, values, new = rng.normal(size=(9, 3)), rng.normal(size=(9, 5)), rng.normal(size=3)
    scale, offset = np.array([1e-3, 5.0, 1e4]), np.array([2.0, -1.0, 1e3])
    plain = Ridge(features, quadratic=quadratic).weights(new, values)
    scaled = Ridge(features * scale + offset, quadratic=quadratic).weights(new * scale + offset, values)
    np.testing.assert_allclose(scaled, plain, rtol=1e-6, atol=1e-9)


def test_the_penalty_has_the_smallest_leave_one_out_error() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(8, 3))
    values = features @ rng.normal(size=(3, 12)) + 0.5 * rng.normal(size=(8, 12))
    errors = []

    # The brute-force twin leaves one row out, but keeps the mean and scale of all, as the closed form does.
    standard = np.column_stack([np.ones(8), (features - features.mean(0)) / features.std(0)])
    for penalty in PENALTIES * 8:
        damping = penalty * np.diag([0.0, 1, 1, 1])
        left_out = 0.0
        for row in range(8):
            others = np.delete(standard, row, axis=0)
            fit = np.linalg.solve(others.T @ others + damping, others.T @ np.delete(values, row, axis=0))
            left_out += np.square(values[row] - standard[row] @ fit).sum()
        errors.append(left_out)
    best = PENALTIES[int(np.argmin(errors))] * 8
    fit = np.linalg.solve(standard.T @ standard + best * np.diag([0.0, 1, 1, 1]), standard.T @ values)
    new = np.array([0.3, -0.2, 1.0])
    expected = np.concatenate([[1.0], (new - features.mean(0)) / features.std(0)]) @ fit
    np.testing.assert_allclose(Ridge(features).weights(new, values) @ values, expected, rtol=1e-8)


def test_nearest_weighs_shape_and_condition() -> None:
    rng = np.random.default_rng(3)
    outline = rng.normal(size=(64, 3))

    def case(stretch: float, speed: float) -> Descriptors:
        return Descriptors(outline * [stretch, 1, 1], np.zeros(19), np.array([speed]))

    cases = [case(1.0, 10.0), case(1.0, 30.0), case(3.0, 10.0), case(3.0, 30.0)]
    assert nearest(case(1.1, 28.0), cases) == 1
    assert nearest(case(2.8, 12.0), cases) == 2
    assert nearest(case(2.9, 10.0), [case(1.0, 10.0), case(3.0, 10.0)]) == 1


def test_moments_of_a_surface_are_exact_for_its_triangles() -> None:
    vertices, triangles = icosphere(1)
    place = vertices * [2.0, 1.0, 0.5] + [0.3, 0.0, -1.0] + 0.2 * vertices[:, [1, 2, 0]] ** 2
    corners = np.concatenate([place[triangles]])
    middle = 0.5 * (corners + np.roll(corners, -1, axis=1))
    halves = [np.stack([corners[:, k], middle[:, k], middle[:, k - 1]], axis=1) for k in range(3)]
    finer = np.concatenate([*halves, middle])
    coarse = surface_moments(place, place, triangles)
    fine = surface_moments(finer.reshape(-1, 3), finer.reshape(-1, 3), np.arange(len(finer) * 3).reshape(-1, 3))
    assert coarse.shape == (19,)
    np.testing.assert_allclose(fine, coarse, rtol=1e-9, atol=1e-12)
