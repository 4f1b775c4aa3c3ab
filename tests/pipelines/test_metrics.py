import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from pipelines.forces import is_half
from pipelines.generate.ellipsoid import Ellipsoid
from pipelines.generate.stokes import icosphere
from pipelines.metrics import (
    EDGES,
    Calibration,
    Errors,
    Worst,
    histogram,
    mean_of,
    near_reach,
    parity,
    regions,
    spread_over,
    total,
)


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


# --- One number a case


@given(seed=st.integers(0, 2**31), count=st.integers(2, 12))
def test_a_perfect_predictor_is_perfect(seed: int, count: int) -> None:
    truth = np.random.default_rng(seed).normal(size=count)
    judged = parity(truth, truth)
    assert judged["r2"] == judged["sign_accuracy"] == 1
    assert judged["rank"] == pytest.approx(1)
    assert judged["mean_error"] == judged["mean_absolute_error"] == judged["largest_error"] == 0
    assert judged["pairs"] == judged["right"] == count * (count - 1) // 2
    # A predictor that turns every design around ranks them all wrong.
    opposite = parity(truth, -truth)
    assert opposite["rank"] == pytest.approx(-1)
    assert opposite["sign_accuracy"] == 0


@given(seed=st.integers(0, 2**31), count=st.integers(2, 12), tie=st.sampled_from([0.0, 0.3, 1.0]))
def test_parity_is_what_loops_over_pairs_give(seed: int, count: int, tie: float) -> None:
    rng = np.random.default_rng(seed)
    truth, prediction = rng.normal(size=(2, count)).round(1)  # rounded, so that there are equal ones
    judged = parity(truth, prediction, tie=tie)
    ties = right = 0
    for first, second in itertools.combinations(range(count), 2):
        difference, predicted = truth[first] - truth[second], prediction[first] - prediction[second]
        if abs(difference) <= tie:
            ties += 1
        elif difference * predicted > 0:
            right += 1
    assert (judged["ties"], judged["right"]) == (ties, right)
    decided = judged["pairs"] - ties
    assert judged["sign_accuracy"] == (right / decided if decided else None)

    def ranks(values: np.ndarray) -> list[float]:  # equal ones share the mean of their places
        return [(values < each).sum() + ((values == each).sum() + 1) / 2 for each in values]

    if np.ptp(truth) and np.ptp(prediction):
        assert judged["rank"] == pytest.approx(np.corrcoef(ranks(truth), ranks(prediction))[0, 1])
    error = prediction - truth
    assert judged["mean_error"] == pytest.approx(error.mean())
    assert judged["largest_error"] == np.abs(error).max()
    if np.ptp(truth):
        assert judged["r2"] == pytest.approx(1 - (error**2).mean() / truth.var())


@given(seed=st.integers(0, 2**31), factor=st.sampled_from([1e-4, 3.0, 1e5]))
def test_parity_depends_neither_on_units_nor_on_the_order_of_cases(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    truth, prediction = rng.normal(size=(2, 9))
    order = rng.permutation(9)
    plain, other = (
        parity(truth, prediction, tie=0.2),
        parity(factor * truth[order], factor * prediction[order], tie=0.2 * factor),
    )
    for name in ("r2", "rank", "sign_accuracy", "pairs", "ties", "right"):
        assert other[name] == pytest.approx(plain[name]), name
    for name in ("mean_error", "mean_absolute_error", "largest_error", "lowest", "highest"):
        assert other[name] == pytest.approx(factor * plain[name]), name


def test_what_a_single_case_cannot_tell_is_none() -> None:
    judged = parity(np.array([0.3]), np.array([0.4]))
    assert judged["r2"] is judged["rank"] is judged["sign_accuracy"] is None
    assert judged["pairs"] == 0
    assert parity(np.array([1.0, 2.0]), np.array([3.0, 3.0]))["rank"] is None


# --- Spread


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("draws", [64, 3])
def test_an_ensemble_that_the_truth_belongs_to_is_calibrated(components: int, draws: int) -> None:
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.2, 3, (40_000, 1))
    truth = sigma * rng.normal(size=(40_000, components))
    answers = sigma * rng.normal(size=(draws, 40_000, components))
    told = Calibration.of(answers.mean(0) - truth, answers.std(0, ddof=1)).scores()
    assert told["ratio"] == pytest.approx(np.sqrt(1 + 1 / draws), rel=0.02)
    # Over few draws a spread is uncertain itself: Student's distribution of draws − 1 degrees of freedom.
    bound = 2 / np.sqrt(1 + 1 / draws)
    assert told["coverage"] == pytest.approx(2 * t.cdf(bound, draws - 1) - 1, abs=0.01)
    assert told["correlation"] is not None
    assert 0.3 < told["correlation"] < 1


@given(seed=st.integers(0, 2**31), count=st.integers(2, 50), cut=st.integers(0, 50), components=st.integers(1, 3))
def test_calibration_of_chunks_is_that_of_all_points(seed: int, count: int, cut: int, components: int) -> None:
    rng = np.random.default_rng(seed)
    error, spread = rng.normal(size=(count, components)), rng.uniform(0, 1, (count, components))
    cut = min(cut, count)
    parts = Calibration.of(error[:cut], spread[:cut]) + Calibration.of(error[cut:], spread[cut:])
    told = parts.scores()
    lengths = np.linalg.norm(error, axis=1), np.linalg.norm(spread, axis=1)
    assert told["rms_error"] == pytest.approx(np.sqrt((error**2).sum(1).mean()))
    assert told["ratio"] == pytest.approx(np.linalg.norm(error) / np.linalg.norm(spread))
    assert told["coverage"] == pytest.approx((np.abs(error) <= 2 * spread).mean())
    assert told["correlation"] == pytest.approx(np.corrcoef(*lengths)[0, 1], abs=1e-6)


def test_a_spread_that_is_zero_tells_nothing() -> None:
    told = Calibration.of(np.ones((4, 1)), np.zeros((4, 1))).scores()
    assert told["ratio"] is told["correlation"] is None
    assert told["coverage"] == 0
    assert set(Calibration.of(np.ones((0, 1)), np.zeros((0, 1))).scores().values()) == {None}


# --- Where


@given(seed=st.integers(0, 2**31), count=st.integers(1, 40))
def test_the_worst_point_and_the_histogram_are_those_of_brute_force(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    position, truth, predicted = rng.normal(size=(3, count, 3))
    worst = Worst.of(position, truth, predicted, np.arange(count))
    lengths = [float(np.sqrt(sum(each**2))) for each in predicted - truth]
    index = int(np.argmax(lengths))
    told = worst.to_dict(np.array([1.0, 2.0, 3.0]), 4.0)
    assert told["error"] == pytest.approx(max(lengths))
    assert told["wall_distance"] == index
    np.testing.assert_allclose(4 * np.array(told["position_in_body_lengths"]), np.array(told["position"]) - [1, 2, 3])
    counts = histogram(predicted - truth, 2.0)
    assert counts.sum() == count
    between = [sum(low <= length / 2 < high for length in lengths) for low, high in itertools.pairwise(EDGES)]
    assert counts.tolist() == between


def test_errors_beyond_the_edges_are_counted_in_the_last_bins() -> None:
    counts = histogram(np.array([[0.0], [1e9], [1.0]]), 1.0)
    assert counts[0] == counts[-1] == 1
    assert counts.sum() == 3


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


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"draws": 1}, None),
        ({"draws": 1, "members": 1}, None),
        ({"draws": 3}, "3 anchor draws"),
        ({"draws": 1, "members": 4}, "4 members"),
        ({"draws": 3, "members": 4}, "3 anchor draws of 4 members"),
    ],
)
def test_what_a_spread_is_taken_over(scores, said):
    assert spread_over(scores) == said
