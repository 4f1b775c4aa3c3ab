import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.forces import is_half
from pipelines.generate.ellipsoid import Ellipsoid
from pipelines.generate.stokes import icosphere
from pipelines.metrics import Errors, mean_of, near_reach, regions, total


@given(
    seed=st.integers(0, 2**31),
    count=st.integers(2, 60),
    components=st.integers(1, 4),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    weighted=st.booleans(),
    offset=st.sampled_from([0.0, 1e5]),
)
def test_chunks_give_what_all_points_give(
    seed: int, count: int, components: int, cuts: list[int], weighted: bool, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    truth = (rng.normal(size=(count, components)) + offset).astype(np.float32)
    prediction = truth + rng.normal(size=truth.shape).astype(np.float32)
    weight = rng.uniform(0.1, 3, count) if weighted else None
    edges = [0, *sorted(min(cut, count) for cut in cuts), count]
    whole = Errors.of(truth, prediction, weight)
    parts = total(
        [
            Errors.of(truth[start:stop], prediction[start:stop], None if weight is None else weight[start:stop])
            for start, stop in itertools.pairwise(edges)
        ]
    )
    for name, score in whole.scores().items():
        assert parts.scores()[name] == pytest.approx(score, rel=1e-9)


@given(seed=st.integers(0, 2**31), factor=st.sampled_from([1e-3, 7.0, 1e6]))
def test_relative_scores_do_not_depend_on_units(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    truth, prediction = rng.normal(size=(2, 17, 3))
    plain, scaled = Errors.of(truth, prediction), Errors.of(factor * truth, factor * prediction)
    assert scaled.relative_l2 == pytest.approx(plain.relative_l2)
    assert scaled.r2 == pytest.approx(plain.r2)
    assert scaled.rmse == pytest.approx(factor * plain.rmse)


def test_known_scores() -> None:
    truth, prediction = np.array([[3.0], [5.0]]), np.array([[4.0], [5.0]])
    errors = Errors.of(truth, prediction)
    assert errors.relative_l2 == pytest.approx(np.sqrt(1 / 34))
    assert errors.rmse == pytest.approx(np.sqrt(0.5))
    assert errors.r2 == pytest.approx(0.5)
    assert Errors.of(truth, prediction, np.array([0.0, 1.0])).relative_l2 == 0
    # A point that is there twice counts like one of weight two.
    twice = Errors.of(truth[[0, 0, 1]], prediction[[0, 0, 1]])
    assert twice.rmse == pytest.approx(Errors.of(truth, prediction, np.array([2.0, 1.0])).rmse)


def test_what_has_no_score_is_none() -> None:
    zero = np.zeros((4, 2))
    assert Errors.of(zero, zero + 1).scores() == {"relative_l2": None, "rmse": pytest.approx(np.sqrt(2)), "r2": None}
    nothing = Errors.of(zero[:0], zero[:0])
    assert nothing.scores() == {"relative_l2": None, "rmse": None, "r2": None}
    some = Errors.of(zero + 1, zero)
    assert (nothing + some).rmse == (some + nothing).rmse == some.rmse
    assert mean_of([None, 2.0, 4.0]) == 3.0
    assert mean_of([None]) is None


def test_a_prediction_that_is_no_number_has_no_error() -> None:
    with pytest.raises(ValueError, match="NaN or infinite somewhere among 3 points"):
        Errors.of(np.ones((3, 1)), np.array([[1.0], [np.nan], [1.0]]))


def test_regions_part_a_volume() -> None:
    parts = regions(np.array([0.1, 0.5, 2.0]), 0.5)
    assert parts["near_wall"].tolist() == [True, False, False]
    assert parts["far"].tolist() == [False, True, True]
    assert regions(None, 0.5) == {}


@pytest.mark.parametrize("axes", [(1.0, 1.0, 1.0), (2.0, 0.7, 0.3)])
def test_near_means_within_the_radius_of_the_equal_sphere(axes: tuple[float, float, float]) -> None:
    sphere, triangles = icosphere(4)
    body = Ellipsoid(axes=np.array(axes), rotation=np.eye(3), centre=np.array([3.0, 0.0, 1.0]))
    vertices = body.from_sphere(sphere)
    reach = near_reach(vertices, triangles, [0, 1, 2], None)
    assert reach == pytest.approx(body.size, rel=5e-3)
    # Half of it, open in the plane of symmetry, is taken for the whole.
    half = triangles[vertices[triangles][:, :, 1].min(1) >= -1e-9]
    used = vertices[np.unique(half)]
    assert is_half(used, 1)
    assert near_reach(used, np.searchsorted(np.unique(half), half), [0, 1, 2], 1) == pytest.approx(body.size, rel=0.05)


def test_near_in_the_plane_is_the_radius_of_the_equal_circle() -> None:
    angle = 2 * np.pi * np.arange(200) / 200
    ring = np.stack([2 * np.cos(angle), 0.5 * np.sin(angle)], axis=1)
    vertices = np.concatenate([np.insert(ring, 2, 0.0, axis=1), np.insert(ring, 2, 0.1, axis=1)])
    low, following = np.arange(200), np.roll(np.arange(200), -1)
    triangles = np.concatenate(
        [np.stack([low, following, low + 200], 1), np.stack([following, following + 200, low + 200], 1)]
    )
    assert near_reach(vertices, triangles, [0, 1], None) == pytest.approx(1.0, rel=1e-3)


def test_an_open_surface_falls_back_on_its_length() -> None:
    sphere, triangles = icosphere(3)
    cap = triangles[sphere[triangles][:, :, 2].min(1) > 0.2]
    assert 0.3 < near_reach(sphere, cap, [0, 1, 2], None) < 1
