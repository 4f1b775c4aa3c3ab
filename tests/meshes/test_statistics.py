"""Moments are those of all values at once, however they are cut up and in whatever order they come."""

import json

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshes.statistics import Moments, merge

VALUES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 60), st.integers(1, 3)),
    elements=st.floats(-1e6, 1e6, allow_nan=False, width=32),
)


def assert_close(moments: Moments, values: np.ndarray) -> None:
    scale = 1e-9 * (1 + np.abs(values).max())
    assert moments.count == len(values)
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), atol=scale)
    np.testing.assert_allclose(moments.std, values.std(axis=0), atol=1e3 * scale)
    np.testing.assert_array_equal(moments.minimum, values.min(axis=0))
    np.testing.assert_array_equal(moments.maximum, values.max(axis=0))


@given(values=VALUES, cuts=st.lists(st.integers(0, 60), max_size=5), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_parts_in_any_order_give_the_moments_of_the_whole(values, cuts, seed):
    parts = np.split(values, sorted(min(cut, len(values)) for cut in cuts))
    np.random.default_rng(seed).shuffle(order := np.arange(len(parts)))
    assert_close(merge([Moments.of(parts[index]) for index in order]), values)


@given(values=VALUES, chunk=st.integers(1, 70))
@settings(deadline=None, max_examples=40)
def test_chunking_does_not_matter(values, chunk):
    assert_close(Moments.of(values, chunk=chunk), values)


def test_spread_survives_a_large_mean():
    values = 1e8 + np.arange(7.0)[:, None]
    assert Moments.of(values, chunk=2).std == pytest.approx(2.0, rel=1e-9)


def test_float16_is_summed_in_double_precision():
    values = np.full((100_000, 1), 0.1, dtype=np.float16)
    assert Moments.of(values).mean == pytest.approx(float(np.float16(0.1)), rel=1e-12)


def test_nothing_is_the_identity():
    some = Moments.of(np.array([[1.0, 2.0], [4.0, 8.0]]))
    for merged in (Moments.none(2).merge(some), some.merge(Moments.none(2))):
        assert merged.to_json() == some.to_json()


def test_json_reads_back_exactly():
    moments = Moments.of(np.random.default_rng(0).normal(size=(11, 3)))
    again = Moments.from_json(json.loads(json.dumps(moments.to_json())))
    assert again.to_json() == moments.to_json()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_value_is_refused(bad):
    values = np.ones((5, 2))
    values[3, 1] = bad
    with pytest.raises(ValueError, match="1 rows after row 2"):
        Moments.of(values, chunk=2)
