"""The nearest points within a radius on CUDA, by kernels that leave every size on the device.

Points are counted into buckets by the cell they lie in, cells being as wide as the radius, and put in the order of
their buckets. A program per centre then reads the buckets of the 3^space cells around it, a chunk of candidates at a
time, and inserts those within the radius into a list of the nearest that its lanes hold. Buckets are a hash of the
cell, at most twice as many as points, so memory does not depend on how far the points reach. What shares a bucket by
chance is refused by its distance like any other candidate; a bucket that two of the cells share is read once.

Counted for 16,384 centres among 65,536 points uniform in a box, 12 within the radius and at most 32 kept: 27 / (4π/3) ×
12 ≈ 77 candidates a centre, 1.3 million distances, which is nothing; in bytes 2 MB for the sort and, from the second
level cache, 27 buckets × (2 starts, 3 candidates of 16 B) a centre, about 6 sectors of 32 B each: 85 MB, 15 µs. A warp
works on a centre: about 250 instructions to find its buckets, 150 for each chunk of 32 candidates and 60 for each that
enters the list, some 1,500 in all, 25 million for all centres, where an H100 issues 0.9 million a microsecond. So some
30 µs, and about 20 more for the sort's launches. Where thousands lie within the radius, few candidates are nearer than
the last of the list, and looking at every pair of the above would take 6 ms.
"""
# pyright: reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = tl.constexpr(32)
# Cells beyond are counted as the outermost, which keeps neighbours neighbours. Below it, the slack in the width of a
# cell is eight times what rounding can do to a cell's number.
FAR = tl.constexpr(2.0**30)
SLACK = 2.0**-20

# Kernels are compiled once for all sizes. jaxtyping's import hook would wrap them; no_type_check tells it not to.


@triton.jit
@no_type_check
def _mix(state, position, step, inverse_width):
    """Hash in the cell along one more axis, or the `step`-th from it."""
    scaled = position.to(tl.float64) * inverse_width
    cell = tl.floor(tl.minimum(tl.maximum(scaled, -FAR), FAR)).to(tl.int32) + step
    state = (state ^ cell.to(tl.uint32)) * 0x9E3779B1
    return state ^ (state >> 15)


@triton.jit
@no_type_check
def _sample(index, offsets, samples):
    sample = index * 0
    for following in range(1, samples):
        sample += (index >= tl.load(offsets + following)).to(tl.int32)
    return sample


@triton.jit(do_not_specialize=["count", "samples", "last_bucket"])
@no_type_check
def _count(
    points,
    offsets,
    buckets,
    ranks,
    counts,
    count,
    samples,
    last_bucket,
    inverse_width: tl.float64,
    SPACE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Tell each point's bucket and its rank there, and count; `counts[b + 1]` is of bucket b."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    state = _sample(index, offsets, samples).to(tl.uint32)
    for axis in tl.static_range(SPACE):
        position = tl.load(points + index.to(tl.int64) * SPACE + axis, mask=inside, other=0.0)
        state = _mix(state, position, 0, inverse_width)
    bucket = (state & last_bucket).to(tl.int32)
    rank = tl.atomic_add(counts + 1 + bucket, 1, mask=inside, sem="relaxed")
    tl.store(buckets + index, bucket, mask=inside)
    tl.store(ranks + index, rank, mask=inside)


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _put(points, buckets, ranks, starts, order, placed, count, SPACE: tl.constexpr, BLOCK: tl.constexpr):
    """Put points, and which they were, in the order of their buckets."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    bucket = tl.load(buckets + index, mask=inside, other=0)
    slot = tl.load(starts + bucket, mask=inside, other=0) + tl.load(ranks + index, mask=inside, other=0)
    tl.store(order + slot, index, mask=inside)
    for axis in tl.static_range(SPACE):
        position = tl.load(points + index.to(tl.int64) * SPACE + axis, mask=inside, other=0.0)
        tl.store(placed + slot.to(tl.int64) * SPACE + axis, position, mask=inside)


@triton.jit
@no_type_check
def _places(points, index, inside, SPACE: tl.constexpr):
    """Load positions, with zero for axes that there are not."""
    first = points + index.to(tl.int64) * SPACE
    x = tl.load(first, mask=inside, other=0.0)
    y, z = x * 0, x * 0
    if SPACE > 1:
        y = tl.load(first + 1, mask=inside, other=0.0)
    if SPACE > 2:
        z = tl.load(first + 2, mask=inside, other=0.0)
    return x, y, z


@triton.jit
@no_type_check
def _squared(x, y, z, x0, y0, z0):
    """Squared distance, its terms rounded one by one and added in the order of the axes."""
    dx, dy, dz = x.to(tl.float64) - x0, y.to(tl.float64) - y0, z.to(tl.float64) - z0
    return dx * dx + dy * dy + dz * dz


@triton.jit(do_not_specialize=["count", "samples", "last_bucket"])
@no_type_check
def _nearest(
    points,
    centres,
    points_offsets,
    centres_offsets,
    starts,
    order,
    placed,
    indices,
    found,
    count,
    samples,
    last_bucket,
    inverse_width: tl.float64,
    radius_squared: tl.float64,
    SPACE: tl.constexpr,
    CELLS: tl.constexpr,
    MAX_COUNT: tl.constexpr,
    KEEP: tl.constexpr,
):
    """Keep the nearest of one centre: `indices` and how many were `found`."""
    centre = tl.program_id(0)
    sample = _sample(centre, centres_offsets, samples)
    low, high = 0, count
    if samples > 1:
        low = tl.load(points_offsets + sample).to(tl.int32)
        high = tl.load(points_offsets + sample + 1).to(tl.int32)

    # The buckets of the cells around, each once.
    cell = tl.arange(0, CELLS)
    state = (cell * 0 + sample).to(tl.uint32)
    digits = cell
    around = 1
    for axis in tl.static_range(SPACE):
        position = tl.load(centres + centre.to(tl.int64) * SPACE + axis)
        state = _mix(state, position, digits % 3 - 1, inverse_width)
        digits = digits // 3
        around *= 3
    bucket = (state & last_bucket).to(tl.int32)
    again = (bucket[:, None] == bucket[None, :]) & (cell[:, None] < cell[None, :])
    read = (cell < around) & (tl.sum(again.to(tl.int32), 0) == 0)
    begin = tl.load(starts + bucket, mask=read, other=0)
    length = tl.load(starts + bucket + 1, mask=read, other=0) - begin
    # Candidate t of the `total` in them lies in the first whose `until` is beyond t, at slot t + shift.
    until = tl.cumsum(length, 0)
    shift = begin - (until - length)
    total = tl.sum(length, 0)

    x0, y0, z0 = _places(centres, centre, True, SPACE)
    x0, y0, z0 = x0.to(tl.float64), y0.to(tl.float64), z0.to(tl.float64)
    rank = tl.arange(0, KEEP)
    lane = tl.arange(0, CHUNK)
    # The list: the first `kept` are held, nearest first.
    kept = 0
    best = rank * 0
    best_d = best.to(tl.float64)
    limit = radius_squared
    for first in range(0, total, CHUNK):
        t = first + lane
        inside = t < total
        cell_of = tl.minimum(tl.sum((until[:, None] <= t[None, :]).to(tl.int32), 0), CELLS - 1)
        slot = t + tl.gather(shift, cell_of, 0)
        x, y, z = _places(placed, slot, inside, SPACE)
        index = tl.load(order + slot, mask=inside, other=0)
        d = _squared(x, y, z, x0, y0, z0)
        near = inside & (d <= limit) & (index >= low) & (index < high)
        which = tl.cumsum(near.to(tl.int32), 0)
        for one in range(1, tl.max(which, 0) + 1):
            # Insert one candidate: all lanes learn it, and those of its place or after give way.
            source = tl.min(tl.where(which >= one, lane, CHUNK), 0) + rank * 0
            new, new_d = tl.gather(index, source, 0), tl.gather(d, source, 0)
            held = rank < kept
            before = held & (best_d < new_d)
            equal = held & (best_d == new_d)
            if tl.max(equal.to(tl.int32), 0) > 0:
                x1, y1, z1 = _places(points, best, held, SPACE)
                x2, y2, z2 = _places(points, new, held, SPACE)
                less = (x1 < x2) | ((x1 == x2) & ((y1 < y2) | ((y1 == y2) & ((z1 < z2) | ((z1 == z2) & (best < new))))))
                before = before | (equal & less)
            place = tl.sum(before.to(tl.int32), 0)
            previous = tl.maximum(rank - 1, 0)
            moved, moved_d = tl.gather(best, previous, 0), tl.gather(best_d, previous, 0)
            best = tl.where(rank < place, best, tl.where(rank == place, new, moved))
            best_d = tl.where(rank < place, best_d, tl.where(rank == place, new_d, moved_d))
            kept = tl.minimum(kept + 1, MAX_COUNT)
        if kept == MAX_COUNT:
            limit = tl.max(tl.where(rank < kept, best_d, 0.0), 0)
    row = centre.to(tl.int64) * MAX_COUNT
    tl.store(indices + row + rank, tl.where(rank < kept, best, 0).to(tl.int64), mask=rank < MAX_COUNT)
    tl.store(found + centre, kept.to(tl.int64))


@torch.library.custom_op("anchorfield::nearest_within", mutates_args=())
def nearest_within(
    points: Tensor,
    centres: Tensor,
    radius: float,
    max_count: int,
    points_offsets: Tensor | None,
    centres_offsets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Do what `radius_padded` does, as one node of a compiled or captured graph."""
    device, (count, space) = points.device, points.shape
    indices, found = _outputs(centres, max_count)
    if not count or not len(centres):
        return indices.zero_(), found.zero_()
    points, centres = (
        each.contiguous() if each.dtype in (torch.float32, torch.float64) else each.float().contiguous()
        for each in (points, centres)
    )
    samples = 1 if points_offsets is None else len(points_offsets) - 1
    points_offsets = points if points_offsets is None else points_offsets.contiguous()
    centres_offsets = points if centres_offsets is None else centres_offsets.contiguous()
    buckets = triton.next_power_of_2(count)
    # Below the reciprocal of the smallest float32, an infinite or zero one would put neighbours cells apart.
    inverse_width = min(1 / (radius * (1 + SLACK)), 1e300)

    starts = torch.zeros(buckets + 1, dtype=torch.int32, device=device)
    bucket, rank, order = torch.empty((3, count), dtype=torch.int32, device=device)
    placed = torch.empty_like(points)
    block = 256
    blocks = (triton.cdiv(count, block),)
    _count[blocks](
        points, points_offsets, bucket, rank, starts, count, samples, buckets - 1, inverse_width, space, block
    )
    starts = starts.cumsum(0, dtype=torch.int32)
    _put[blocks](points, bucket, rank, starts, order, placed, count, space, block)
    _nearest[(len(centres),)](
        points,
        centres,
        points_offsets,
        centres_offsets,
        starts,
        order,
        placed,
        indices,
        found,
        count,
        samples,
        buckets - 1,
        inverse_width,
        radius**2,
        space,
        triton.next_power_of_2(3**space),
        max_count,
        triton.next_power_of_2(max_count),
        num_warps=1,
        num_stages=1,
        enable_fp_fusion=False,  # a fused multiply and add would round otherwise than the reference
    )
    return indices, found


@nearest_within.register_fake
def _(points, centres, radius, max_count, points_offsets, centres_offsets):
    return _outputs(centres, max_count)


def _outputs(centres: Tensor, max_count: int) -> tuple[Tensor, Tensor]:
    indices = torch.empty((len(centres), max_count), dtype=torch.int64, device=centres.device)
    return indices, torch.empty(len(centres), dtype=torch.int64, device=centres.device)
