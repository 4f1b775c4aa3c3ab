"""Points in the same place become one, whatever their number, order and precision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshes.geometry import welding
from meshes.geometry.welding import weld


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 200), places=st.integers(1, 5), double=st.booleans())
def test_equal_to_comparing_every_pair(seed: int, count: int, places: int, double: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(-places, places, (count, 3)) * rng.choice([0.1, -0.0], (count, 3))
    points = points.astype(np.float64 if double else np.float32)
    first, place = weld(points)
    same = (points[:, None] == points[None]).all(2)
    expected = same.argmax(1) if count else np.zeros(0, int)
    np.testing.assert_array_equal(first[place], expected)
    np.testing.assert_array_equal(first, np.unique(expected))


def test_places_whose_hashes_agree_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every point wants the same slot: the slowest way, and still the right answer."""
    monkeypatch.setattr(welding, "_hashes", lambda bits: np.full(len(bits), 7, np.uint64))
    points = np.repeat(np.random.default_rng(0).normal(size=(20, 3)), 3, axis=0)[::-1].copy()
    first, place = weld(points)
    np.testing.assert_array_equal(first, np.arange(0, 60, 3))
    np.testing.assert_array_equal(points[first][place], points)


def test_nearly_the_same_is_not_the_same() -> None:
    points = np.array([[1, 2, 3], [1, 2, np.nextafter(np.float32(3), np.float32(4))], [1, 2, 3]], np.float32)
    assert weld(points)[1].tolist() == [0, 1, 0]
