"""Neighbours within a radius, against a look at every pair."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralop.functional.radius import cell_list, radius


def brute_force(points, centres, reach, max_count, points_offsets=None, centres_offsets=None):
    """Positions of the neighbours of each centre, nearest first, equals by position; indices do not matter."""
    points_offsets = [0, len(points)] if points_offsets is None else points_offsets.tolist()
    centres_offsets = [0, len(centres)] if centres_offsets is None else centres_offsets.tolist()
    found = []
    for sample in range(len(points_offsets) - 1):
        some = points[points_offsets[sample] : points_offsets[sample + 1]].double().numpy()
        for centre in centres[centres_offsets[sample] : centres_offsets[sample + 1]].double().numpy():
            squared = ((some - centre) ** 2).sum(1)
            order = np.lexsort((*some.T[::-1], squared))
            found.append(some[[i for i in order if squared[i] <= reach**2][:max_count]])
    return found


def positions(points, answer):
    offsets, indices = answer
    assert offsets.dtype == indices.dtype == torch.int64
    return [points[indices[a:b]].double().numpy() for a, b in pairwise(offsets)]


def assert_same(expected, found):
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("find", [radius, cell_list])
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    space=st.integers(1, 3),
    count=st.integers(1, 60),
    lattice=st.booleans(),
    max_count=st.sampled_from([None, 1, 2, 5, 100]),
    reach=st.sampled_from([0.05, 0.5, 1.0, 30.0]),
)
def test_equals_brute_force_with_ties_duplicates_and_empty_balls(find, seed, space, count, lattice, max_count, reach):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, space, generator=generator)
    centres = torch.randn(7, space, generator=generator)
    if lattice:  # many equal distances, many duplicates, points exactly on the sphere
        points, centres = (2 * points).round() / 2, (2 * centres).round() / 2
    assert_same(
        brute_force(points, centres, reach, max_count), positions(points, find(points, centres, reach, max_count))
    )


@pytest.mark.parametrize("find", [radius, cell_list])
def test_samples_do_not_mix(find):
    generator = torch.Generator().manual_seed(3)
    points, centres = torch.rand(50, 3, generator=generator), torch.rand(11, 3, generator=generator)
    offsets, ends = torch.tensor([0, 20, 20, 50]), torch.tensor([0, 4, 6, 11])
    expected = brute_force(points, centres, 0.4, 4, offsets, ends)
    assert_same(expected, positions(points, find(points, centres, 0.4, 4, offsets, ends)))


@pytest.mark.parametrize("find", [radius, cell_list])
def test_order_of_points_and_rigid_motions_change_nothing(find):
    generator = torch.Generator().manual_seed(4)
    points, centres = torch.rand(80, 3, generator=generator).double(), torch.rand(9, 3, generator=generator).double()
    order = torch.randperm(80, generator=generator)
    expected = positions(points, find(points, centres, 0.5, 6))
    assert_same(expected, positions(points[order], find(points[order], centres, 0.5, 6)))
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator).double())[0]
    moved = positions(points, find(points @ turn + 5, centres @ turn + 5, 0.5, 6))
    assert_same(expected, moved)


@pytest.mark.parametrize("find", [radius, cell_list])
def test_nothing_to_find(find):
    offsets, indices = find(torch.zeros(0, 3), torch.zeros(2, 3), 1.0, 4)
    assert offsets.tolist() == [0, 0, 0]
    assert not len(indices)


def test_refuses_what_makes_no_sense():
    points = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="radius must be positive, got 0"):
        radius(points, points, 0.0)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        radius(points, points, 1.0, 0)
    with pytest.raises(ValueError, match="or neither"):
        radius(points, points, 1.0, points_offsets=torch.tensor([0, 3]))
