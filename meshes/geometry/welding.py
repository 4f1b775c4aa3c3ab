"""Corners that lie at exactly the same place become one point."""

import numpy as np
from jaxtyping import Float, Int, UInt32, UInt64

# Points that are entered at once; they stay in the processor's cache.
CHUNK = 1 << 14
# Odd constants that spread the bits of a coordinate over the whole word (Fibonacci hashing by the golden ratio, and
# the multiplier of Steele, Lea and Flood 2014).
_SPREAD, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def weld(
    points: Float[np.ndarray, "point 3"],
) -> tuple[Int[np.ndarray, " distinct"], Int[np.ndarray, " point"]]:
    """Find points in exactly the same place; -0.0 and 0.0 are the same.

    The points are entered into a table by a hash of their bits, all at once: those that find their slot taken by
    another place go on to the next slot of theirs. Sorting 27 million corners took six times as long.

    Returns:
        The first point at each place, in order, and for each point which of those places is its own.
    """
    count = len(points)
    mask = (1 << max(count, 1).bit_length()) - 1  # more slots than points, so every point finds one
    small = np.int32 if count < 2**31 else np.int64
    table, first = np.full(mask + 1, -1, small), np.empty(count, small)
    waiting, trial = np.arange(count, dtype=small), 0
    while len(waiting):
        left = []
        for start in range(0, len(waiting), CHUNK):
            mine = waiting[start : start + CHUNK]
            rows = _bits(points, mine)
            hashed = _hashes(rows)
            # Odd steps visit every slot of a table whose size is a power of two.
            step = (hashed >> np.uint64(40)) | np.uint64(1)
            slot = ((hashed + np.uint64(trial) * step) & np.uint64(mask)).view(np.int64)
            free = np.flatnonzero(table[slot] < 0)[::-1]
            # From the last to the first: of those that want a slot, the first is written last and keeps it.
            table[slot[free]] = mine[free]
            first[mine] = owner = table[slot]
            other = np.zeros(len(mine), bool)
            for ours, theirs in zip(rows.T, _bits(points, owner).T, strict=True):
                other |= ours != theirs
            left.append(mine[other])
        waiting, trial = np.concatenate(left), trial + 1
    is_first = first == np.arange(count, dtype=small)
    number, place = np.cumsum(is_first, dtype=small) - small(1), np.empty(count, np.int64)
    for start in range(0, count, CHUNK):
        place[start : start + CHUNK] = number[first[start : start + CHUNK]]
    return np.flatnonzero(is_first), place


def _bits(points: Float[np.ndarray, "point 3"], rows: Int[np.ndarray, " row"]) -> UInt32[np.ndarray, "row word"]:
    # Adding zero makes -0.0 and 0.0 the same bits.
    return (np.take(points, rows, axis=0) + points.dtype.type(0)).view(np.uint32)


def _hashes(bits: UInt32[np.ndarray, "point word"]) -> UInt64[np.ndarray, " point"]:
    hashed = np.zeros(len(bits), np.uint64)
    for column in bits.T:
        hashed ^= column
        hashed *= _SPREAD
        hashed ^= hashed >> np.uint64(29)
    hashed *= _MIX
    return hashed ^ (hashed >> np.uint64(32))
