"""Softmax attention as a quadrature: keys count by the measure they stand for."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.functional import scaled_dot_product_attention as fused

# Log measure of nothing, relative to the mean. exp of it is zero in every precision, and it stays finite in float16
# after multiplication by the square root of a head width of up to 1024.
FLOOR = -2000.0

# Scores held at once when the log-sum-exp is asked for: 64 MiB in float32.
SCORES = 1 << 24


def attention(
    query: Float[Tensor, "batch_query head query width"],
    key: Float[Tensor, "batch_key head key width"],
    value: Float[Tensor, "batch_key head key value_width"],
    *,
    log_measure: Float[Tensor, "batch_key key"] | None = None,
    query_offsets: Int[Tensor, " sample_plus_one"] | None = None,
    key_offsets: Int[Tensor, " sample_plus_one"] | None = None,
    reserved: int = 0,
    return_lse: bool = False,
) -> (
    Float[Tensor, "batch_query head query value_width"]
    | tuple[Float[Tensor, "batch_query head query value_width"], Float[Tensor, "batch_query head query"]]
):
    """Mean of the values, each counted by its measure m and by how well its key fits the query.

    `y_i = Σ_j m_j exp(q_i·k_j / √width) v_j / Σ_j m_j exp(q_i·k_j / √width)`

    Splitting a key into two of half its measure changes nothing. A key of measure zero, `log_measure = -inf`, has
    weight and gradient exactly zero as long as another key has any; where none has, all count alike, so that padding
    never makes a NaN. Multiplying all measures of a sample by one number changes nothing but the log-sum-exp.

    The measure costs no kernel its speed: it enters as `score + log m` through two channels, one for the rounded value
    and one for the remainder, since log m alone needs more than the eight bits of bfloat16. The channels are those that
    the caller reserved; else, in half precision, two that are appended; else, in full precision, an additive mask.

    Args:
        query: places to evaluate at.
        key: what each token offers, `width` including the reserved channels.
        value: what each token gives.
        log_measure: natural logarithm of the measure of each key, up to a constant; `None` means equal measure.
        query_offsets: where each sample begins in packed queries, whose batch axis has one entry.
        key_offsets: the same for keys, values and `log_measure`. Packed queries may read stacked keys and the reverse.
        reserved: how many of the last channels of `query` and `key` may be overwritten: 0, or 2 for the measure. With 2
            and no measure, the caller leaves zeros there.
        return_lse: also return `log Σ_j m_j exp(q_i·k_j / √width)`, by which results over shards of the keys combine;
            computed by explicit chunks in float32 or better instead of a fused kernel.

    Returns:
        The attended values; with `return_lse` also the log-sum-exp, in float32 or better.

    Raises:
        ValueError: `reserved` is neither 0 nor 2, or a sample has queries but no keys to read.

    Source:
        Vaswani et al. 2017 (arXiv 1706.03762), weighted by measure as in Calvello et al. 2024, Continuum attention for
        neural operators (arXiv 2406.06486).
    """
    if reserved not in (0, 2):
        raise ValueError(f"reserved must be 0 or 2 channels, got {reserved}")
    if query_offsets is not None or key_offsets is not None:
        return _sample_by_sample(
            query, key, value, log_measure, query_offsets, key_offsets, reserved=reserved, return_lse=return_lse
        )

    scale = query.shape[-1] ** -0.5
    query, key, value = _cast(query, key, value)
    if return_lse:
        return _explicit(query, key, value, log_measure, scale)
    if log_measure is None:
        return fused(query, key, value)

    centred = _centre(log_measure)[0]
    if reserved == 0 and query.dtype not in (torch.float16, torch.bfloat16):
        return fused(query, key, value, attn_mask=centred.to(query.dtype)[:, None, None])
    width, value_width = query.shape[-1], value.shape[-1]
    if reserved == 0:
        # Fused kernels want one width for query, key and value, and a multiple of eight.
        reserved = 2 + (-width - 2) % 8
        query, key = pad(query, (0, reserved)), pad(key, (0, reserved))
        value = pad(value, (0, max(width + reserved - value_width, 0)))
    query, key = _carry(query, key, centred / scale, reserved)
    return fused(query, key, value, scale=scale)[..., :value_width]


def _cast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Round to the precision of an enclosing autocast here, before the measure is split into value and remainder."""
    device = tensors[0].device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        return tuple(tensor.to(dtype) if tensor.dtype == torch.float32 else tensor for tensor in tensors)
    return tensors


def _centre(log_measure: Float[Tensor, "batch key"]) -> tuple[Float[Tensor, "batch key"], Float[Tensor, "batch 1"]]:
    """Subtract the mean over keys that have measure, and put the others on the floor; the mean comes too."""
    log_measure = log_measure.to(torch.promote_types(log_measure.dtype, torch.float32))
    present = log_measure > -math.inf
    mean = log_measure.where(present, 0.0).sum(-1, keepdim=True) / present.sum(-1, keepdim=True).clamp(min=1)
    return (log_measure - mean).clamp(min=FLOOR), mean


def _carry(query: Tensor, key: Tensor, bias: Float[Tensor, "batch key"], reserved: int) -> tuple[Tensor, Tensor]:
    """Write ones into the query's reserved channels, and a bias of the scores with its remainder into the key's."""
    rounded = bias.to(key.dtype)
    parts = torch.stack((rounded, (bias - rounded.to(bias.dtype)).to(key.dtype)), -1)
    parts = pad(parts, (0, reserved - 2))[:, None].expand(-1, key.shape[1], -1, -1)
    key = torch.cat((key[..., :-reserved], parts), -1)
    query = torch.cat((query[..., :-reserved], query.new_ones(()).expand(*query.shape[:-1], reserved)), -1)
    return query, key


def _explicit(
    query: Tensor, key: Tensor, value: Tensor, log_measure: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention and its log-sum-exp, in chunks of queries, both differentiable."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    transposed, wide_value = key.to(dtype).mT, value.to(dtype)
    bias = mean = None
    if log_measure is not None:
        bias, mean = (part.to(dtype)[:, None] for part in _centre(log_measure))
        bias = bias[:, :, None]
    outputs, sums = [], []
    chunk = max(1, SCORES // max(1, key.shape[-2] * query.shape[0] * query.shape[1]))
    with torch.autocast(query.device.type, enabled=False):
        for part in query.split(chunk, dim=-2):
            scores = (part.to(dtype) * scale) @ transposed
            if bias is not None:
                scores = scores + bias
            lse = scores.logsumexp(-1)
            outputs.append(((scores - lse[..., None]).exp() @ wide_value).to(query.dtype))
            sums.append(lse if mean is None else lse + mean)
    return torch.cat(outputs, -2), torch.cat(sums, -1)


def _sample_by_sample(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_measure: Tensor | None,
    query_offsets: Tensor | None,
    key_offsets: Tensor | None,
    *,
    reserved: int,
    return_lse: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention over packed samples: one fused call each, so nothing is padded and nothing leaks."""
    queries = split(query, query_offsets, dim=2)
    keys, values = split(key, key_offsets, dim=2), split(value, key_offsets, dim=2)
    measures = [None] * len(keys) if log_measure is None else split(log_measure, key_offsets, dim=1)
    if len(queries) != len(keys):
        raise ValueError(f"queries hold {len(queries)} samples and keys {len(keys)}; their offsets must agree")
    results = []
    for sample, (q, k, v, m) in enumerate(zip(queries, keys, values, measures, strict=True)):
        if q.shape[2] and not k.shape[2]:
            raise ValueError(f"sample {sample} has {q.shape[2]} queries but no keys to read")
        results.append(attention(q, k, v, log_measure=m, reserved=reserved, return_lse=return_lse))
    dim = 0 if query_offsets is None else 2
    if return_lse:
        outputs, sums = zip(*results, strict=True)
        return torch.cat(outputs, dim), torch.cat(sums, dim)
    return torch.cat(results, dim)


def split(tensor: Tensor, offsets: Int[Tensor, " sample_plus_one"] | None, *, dim: int) -> list[Tensor]:
    """Take a stacked or packed tensor apart into its samples, each with a batch axis of one."""
    if offsets is None:
        return list(tensor.split(1))
    return list(tensor.split(offsets.diff().tolist(), dim))
