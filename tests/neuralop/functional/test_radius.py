"""Neighbours within a radius, against a look at every pair."""

import os
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralop.functional.radius import cell_list, radius, radius_padded


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


def unpadded(points, answer):
    indices, counts = (part.cpu() for part in answer)
    assert indices.dtype == counts.dtype == torch.int64
    assert not indices[torch.arange(indices.shape[1]) >= counts[:, None]].any()
    return [points[row[:count]].double().numpy() for row, count in zip(indices, counts, strict=True)]


def interpreted(*given):
    from neuralop.functional.radius_triton import nearest_within

    return nearest_within(*given, *[None] * (6 - len(given)))


def on_cuda(points, centres, reach, max_count, *offsets):
    if offsets:
        offsets = [each.cuda() for each in offsets]
    return radius_padded(points.cuda(), centres.cuda(), reach, max_count, *offsets)


PADDED = [radius_padded, pytest.param(on_cuda, marks=pytest.mark.gpu)]
if os.environ.get("TRITON_INTERPRET") == "1":  # runs the kernels anywhere, slowly, where Triton is installed
    PADDED.append(interpreted)


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


@pytest.mark.parametrize("find", PADDED)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    space=st.integers(1, 3),
    count=st.integers(1, 60),
    lattice=st.booleans(),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    max_count=st.sampled_from([1, 2, 5, 100]),
    reach=st.sampled_from([1e-30, 0.05, 0.5, 1.0, 30.0, float("inf")]),
    far=st.sampled_from([0.0, 1e4, 1e12]),
)
def test_padded_equals_brute_force(find, seed, space, count, lattice, dtype, max_count, reach, far):
    generator = torch.Generator().manual_seed(seed)
    points, centres = torch.randn(count, space, generator=generator), torch.randn(7, space, generator=generator)
    if lattice:
        points, centres = (2 * points).round() / 2, (2 * centres).round() / 2
    far = min(far, torch.finfo(dtype).max / 4)
    points, centres = (points.double() + far).to(dtype), (centres.double() + far).to(dtype)
    assert_same(
        brute_force(points, centres, reach, max_count), unpadded(points, find(points, centres, reach, max_count))
    )


@pytest.mark.parametrize("find", PADDED)
def test_padded_where_many_more_lie_within_than_are_kept(find):
    generator = torch.Generator().manual_seed(1)
    points = torch.cat((torch.rand(300, 3, generator=generator), torch.full((40, 3), 0.5)))
    centres = torch.tensor([[0.5, 0.5, 0.5], [0.2, 0.9, 0.1], [7.0, 0.0, 0.0]])
    assert_same(brute_force(points, centres, 0.9, 33), unpadded(points, find(points, centres, 0.9, 33)))


@pytest.mark.parametrize("find", PADDED)
def test_padded_takes_the_first_of_points_in_one_place(find):
    indices, counts = find(torch.zeros(70, 3), torch.zeros(1, 3), 1.0, 40)
    assert counts.tolist() == [40]
    assert indices.tolist() == [list(range(40))]


@pytest.mark.parametrize("find", PADDED)
def test_padded_samples_do_not_mix(find):
    generator = torch.Generator().manual_seed(3)
    points, centres = torch.rand(50, 3, generator=generator), torch.rand(11, 3, generator=generator)
    offsets, ends = torch.tensor([0, 20, 20, 50]), torch.tensor([0, 4, 6, 11])
    expected = brute_force(points, centres, 0.4, 4, offsets, ends)
    assert_same(expected, unpadded(points, find(points, centres, 0.4, 4, offsets, ends)))


@pytest.mark.parametrize("find", PADDED)
def test_padded_of_views(find):
    generator = torch.Generator().manual_seed(5)
    points, centres = torch.rand(3, 50, generator=generator).T, torch.rand(22, 6, generator=generator)[::2, ::2]
    assert_same(brute_force(points, centres, 0.4, 4), unpadded(points, find(points, centres, 0.4, 4)))


@pytest.mark.parametrize("find", PADDED)
@pytest.mark.parametrize(("points", "centres"), [(0, 2), (3, 0), (0, 0)])
def test_padded_of_nothing(find, points, centres):
    indices, counts = find(torch.zeros(points, 3), torch.zeros(centres, 3), 1.0, 4)
    assert indices.shape == (centres, 4)
    assert counts.tolist() == [3 if points else 0] * centres


@pytest.mark.gpu
def test_on_cuda_equals_the_tree_and_the_cell_list():
    generator = torch.Generator().manual_seed(6)
    points = torch.rand(65_536, 3, generator=generator)
    for reach, max_count in [(0.035, 32), (0.1, 8), (0.15, 200)]:
        expected = radius(points, points[:2048], reach, max_count)
        here = points.cuda()
        for find in (radius, cell_list):
            found = find(here, here[:2048], reach, max_count)
            assert all(torch.equal(one, other.cpu()) for one, other in zip(expected, found, strict=True))


@pytest.mark.gpu
def test_nothing_waits_for_the_device_and_a_graph_replays_it():
    points = torch.rand(5000, 3, device="cuda")
    offsets, ends = torch.tensor([0, 2000, 5000], device="cuda"), torch.tensor([0, 300, 500], device="cuda")

    def find():
        return radius_padded(points, points[:500], 0.1, 8, offsets, ends)

    find()
    torch.cuda.set_sync_debug_mode("error")
    try:
        find()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = find()
    points.copy_(torch.rand_like(points))
    graph.replay()
    for one, other in zip(captured, find(), strict=True):
        assert torch.equal(one, other)
