"""Attention by measure, against softmax written out in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralop.functional import attention


def twin(query, key, value, log_measure=None):
    """Attention and log-sum-exp as the equation says, in float64."""
    query, key, value = query.double(), key.double(), value.double()
    scores = torch.einsum("bhqw,bhkw->bhqk", query, key) / math.sqrt(query.shape[-1])
    if log_measure is not None:
        scores = scores + log_measure.double()[:, None, None]
    lse = scores.logsumexp(-1)
    return torch.einsum("bhqk,bhkw->bhqw", (scores - lse[..., None]).exp(), value), lse


def draw(seed=0, batch=2, heads=3, queries=5, keys=7, width=8, dtype=torch.float64, reserved=0):
    """Uneven queries, keys and values; measures over six orders of magnitude; reserved channels are zero."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, heads, queries, width, generator=generator, dtype=torch.float64)
    key = torch.randn(batch, heads, keys, width, generator=generator, dtype=torch.float64)
    value = torch.randn(batch, heads, keys, width, generator=generator, dtype=torch.float64)
    if reserved:
        query[..., -reserved:] = 0
        key[..., -reserved:] = 0
    log_measure = 3 * torch.randn(batch, keys, generator=generator, dtype=torch.float64) - 12
    return query.to(dtype), key.to(dtype), value.to(dtype), log_measure


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    queries=st.integers(1, 6),
    keys=st.integers(1, 9),
    width=st.sampled_from([4, 6, 16]),
    reserved=st.sampled_from([0, 2]),
    weighted=st.booleans(),
    return_lse=st.booleans(),
)
def test_equals_the_equation(seed, batch, heads, queries, keys, width, reserved, weighted, return_lse):
    query, key, value, log_measure = draw(seed, batch, heads, queries, keys, width, reserved=reserved)
    log_measure = log_measure if weighted else None
    expected, lse = twin(query, key, value, log_measure)
    found = attention(query, key, value, log_measure=log_measure, reserved=reserved, return_lse=return_lse)
    if return_lse:
        found, found_lse = found
        torch.testing.assert_close(found_lse, lse)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reserved", [0, 2])
def test_measure_costs_half_precision_next_to_nothing(dtype, reserved):
    query, key, value, log_measure = draw(1, 1, 2, 64, 300, 16, dtype=dtype, reserved=reserved)
    expected = twin(query, key, value, log_measure)[0]
    error = (attention(query, key, value, log_measure=log_measure, reserved=reserved).double() - expected).norm()
    plain = (attention(query, key, value).double() - twin(query, key, value)[0]).norm() / twin(query, key, value)[
        0
    ].norm()
    assert error / expected.norm() < 2 * plain


@pytest.mark.parametrize("reserved", [0, 2])
def test_autocast_does_not_round_the_measure(reserved):
    query, key, value, log_measure = draw(2, 1, 2, 64, 300, 16, dtype=torch.float32, reserved=reserved)
    expected = twin(query, key, value, log_measure)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = attention(query, key, value, log_measure=log_measure, reserved=reserved)
    assert found.dtype == torch.bfloat16
    assert (found.double() - expected).norm() / expected.norm() < 6e-3


@pytest.mark.parametrize("reserved", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_splitting_a_key_in_two_changes_nothing(reserved, dtype):
    query, key, value, log_measure = draw(3, dtype=dtype, reserved=reserved)
    share = torch.rand(log_measure.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    halves = torch.cat((log_measure + share.log(), log_measure + (1 - share).log()), 1)
    whole = attention(query, key, value, log_measure=log_measure, reserved=reserved)
    split = attention(query, key.repeat(1, 1, 2, 1), value.repeat(1, 1, 2, 1), log_measure=halves, reserved=reserved)
    tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(split, whole, **tolerance)


@pytest.mark.parametrize("reserved", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_zero_measure_has_no_weight_and_no_gradient(reserved, dtype):
    query, key, value, log_measure = draw(4, dtype=dtype, reserved=reserved)
    key[:, :, 2, : -reserved or None] *= 20  # padding may fit the query best of all
    log_measure[:, 2] = -math.inf
    kept = [i for i in range(7) if i != 2]
    query.requires_grad_()
    key.requires_grad_()
    value.requires_grad_()
    found = attention(query, key, value, log_measure=log_measure, reserved=reserved)
    expected = attention(query, key[:, :, kept], value[:, :, kept], log_measure=log_measure[:, kept], reserved=reserved)
    torch.testing.assert_close(found, expected)
    found.float().sum().backward()
    assert not key.grad[:, :, 2].any()
    assert not value.grad[:, :, 2].any()
    assert key.grad[:, :, kept].any()
    assert query.grad.isfinite().all()


@pytest.mark.parametrize("reserved", [0, 2])
@pytest.mark.parametrize("return_lse", [False, True])
def test_nothing_but_padding_is_finite(reserved, return_lse):
    query, key, value, log_measure = draw(5, reserved=reserved)
    log_measure[1] = -math.inf
    value.requires_grad_()
    found = attention(query, key, value, log_measure=log_measure, reserved=reserved, return_lse=return_lse)
    parts = found if return_lse else (found,)
    assert all(part.isfinite().all() for part in parts)
    sum(part.sum() for part in parts).backward()
    assert value.grad.isfinite().all()


@pytest.mark.parametrize("reserved", [0, 2])
@pytest.mark.parametrize("return_lse", [False, True])
@pytest.mark.parametrize("packing", ["both", "queries", "keys"])
def test_packed_equals_one_by_one(reserved, return_lse, packing):
    lengths_query = [3, 3, 3] if packing == "keys" else [4, 1, 3]
    lengths_key = [5, 5, 5] if packing == "queries" else [2, 6, 3]
    cases = [
        draw(i, 1, 2, q, k, 6, reserved=reserved)
        for i, (q, k) in enumerate(zip(lengths_query, lengths_key, strict=True))
    ]
    one_by_one = [attention(q, k, v, log_measure=m, reserved=reserved, return_lse=return_lse) for q, k, v, m in cases]
    query_dim, key_dim = (0 if packing == "keys" else 2), (0 if packing == "queries" else 2)

    def offsets(lengths):
        return torch.tensor([0, *lengths]).cumsum(0)

    packed = attention(
        torch.cat([case[0] for case in cases], query_dim),
        torch.cat([case[1] for case in cases], key_dim),
        torch.cat([case[2] for case in cases], key_dim),
        log_measure=torch.cat([case[3] for case in cases], 0 if packing == "queries" else 1),
        query_offsets=offsets(lengths_query) if query_dim else None,
        key_offsets=offsets(lengths_key) if key_dim else None,
        reserved=reserved,
        return_lse=return_lse,
    )
    for part, expected in zip(
        packed if return_lse else [packed],
        zip(*one_by_one, strict=True) if return_lse else [one_by_one],
        strict=True,
    ):
        torch.testing.assert_close(part, torch.cat(list(expected), query_dim), rtol=0, atol=0)


def test_shards_of_the_keys_combine_by_their_log_sum_exp():
    query, key, value, log_measure = draw(6, keys=9)
    log_measure[0, :4] = -math.inf  # a whole shard of padding
    parts = [
        attention(query, key[:, :, s], value[:, :, s], log_measure=log_measure[:, s], return_lse=True)
        for s in (slice(0, 4), slice(4, 6), slice(6, 9))
    ]
    weight = torch.stack([lse for _, lse in parts]).softmax(0)
    combined = sum(w[..., None] * part for w, (part, _) in zip(weight, parts, strict=True))
    torch.testing.assert_close(combined, attention(query, key, value, log_measure=log_measure))


@pytest.mark.parametrize("reserved", [0, 2])
@pytest.mark.parametrize("return_lse", [False, True])
def test_gradients(reserved, return_lse):
    query, key, value, log_measure = draw(7, 1, 2, 3, 4, 5, reserved=reserved)
    inputs = [tensor.requires_grad_() for tensor in (query, key, value, log_measure)]

    def function(q, k, v, m):
        return attention(q, k, v, log_measure=m, reserved=reserved, return_lse=return_lse)

    assert torch.autograd.gradcheck(function, inputs)


def test_permuting_keys_changes_nothing():
    query, key, value, log_measure = draw(8)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        attention(query, key[:, :, order], value[:, :, order], log_measure=log_measure[:, order]),
        attention(query, key, value, log_measure=log_measure),
    )


def test_a_common_factor_of_the_measure_moves_the_log_sum_exp_alone():
    query, key, value, log_measure = draw(9)
    values, lse = attention(query, key, value, log_measure=log_measure, return_lse=True)
    moved, moved_lse = attention(query, key, value, log_measure=log_measure + 500.0, return_lse=True)
    torch.testing.assert_close(moved, values)
    torch.testing.assert_close(moved_lse, lse + 500.0)


def test_refuses_what_makes_no_sense():
    query, key, value, _ = draw()
    with pytest.raises(ValueError, match="0 or 2 channels, got 1"):
        attention(query, key, value, reserved=1)
    with pytest.raises(ValueError, match="2 samples and keys 3"):
        attention(query, key[:1], value[:1], key_offsets=torch.tensor([0, 2, 4, 7]))
    with pytest.raises(ValueError, match="sample 1 has 5 queries but no keys"):
        attention(query, key[:1], value[:1], key_offsets=torch.tensor([0, 7, 7]))
