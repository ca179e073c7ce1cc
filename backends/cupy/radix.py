"""A stable radix sort of keys with a payload: three kernels a digit, over the bits that vary.

Each pass counts the digits of every tile, adds the counts up over tiles, and moves a tile's
elements in the order of their digits through shared memory, so that runs are written at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.queue import THREADS, Queue, Source

DIGIT = 8
# Threads that add up the counts of one digit.
SCAN = 1024

SOURCE = Source(
    "radix",
    DEVICE
    + r"""
// FROM: type of the keys read. KEY: of those written. PAYLOAD: what travels with a key, or none.
// EACH: elements a thread holds. POSITION: the payload read is an element's own position.
constexpr int THREADS = 256, WARPS = THREADS / 32, TILE = THREADS * EACH, DIGITS = 256;

INLINE int digit_of(u64 key, int shift, int bits) { return int(key >> shift) & ((1 << bits) - 1); }

// counts[digit][tile].
KERNEL count_digits(const FROM* keys, i64 n, i64 shift, i64 bits, u32* counts) {
    __shared__ u32 own[DIGITS];
    own[threadIdx.x] = 0;
    __syncthreads();
    i64 begin = i64(blockIdx.x) * TILE;
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        i64 i = begin + threadIdx.x + k * THREADS;
        if (i < n) atomicAdd(own + digit_of(u64(keys[i]), int(shift), int(bits)), 1u);
    }
    __syncthreads();
    if (threadIdx.x < (1 << bits))
        counts[i64(threadIdx.x) * gridDim.x + blockIdx.x] = own[threadIdx.x];
}

// Sum over the threads before this one; `warps` is shared, of one element a warp.
template <typename T> INLINE T before(T own, T* warps, T* total) {
    T at = own;
    for (int step = 1; step < 32; step *= 2) {
        T left = __shfl_up_sync(~0u, at, step);
        if (threadIdx.x % 32 >= step) at += left;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 31) warps[threadIdx.x / 32] = at;
    __syncthreads();
    T lower = 0, all = 0;
    for (int w = 0; w < blockDim.x / 32; ++w) {
        if (w < threadIdx.x / 32) lower += warps[w];
        all += warps[w];
    }
    *total = all;
    return lower + at - own;
}

// A block a digit: its counts become sums over the tiles before, and their sum goes to totals.
KERNEL add_up(u32* counts, i64 tiles, u64* totals) {
    __shared__ u64 warps[32];
    u32* row = counts + blockIdx.x * tiles;
    u64 carried = 0, total;
    for (i64 t = threadIdx.x; t - threadIdx.x < tiles; t += blockDim.x) {
        u64 own = t < tiles ? row[t] : 0, at = before<u64>(own, warps, &total);
        if (t < tiles) row[t] = u32(carried + at);
        carried += total;
    }
    if (threadIdx.x == 0) totals[blockIdx.x] = carried;
}

KERNEL move_digits(const FROM* keys, const PAYLOAD* payload, i64 n, i64 shift, i64 bits,
                   const u32* counts, const u64* totals, KEY* keys_out, PAYLOAD* payload_out) {
    __shared__ u32 ranks[WARPS][DIGITS];
    __shared__ i64 target[DIGITS];
    __shared__ KEY sorted[TILE];
    __shared__ PAYLOAD carried[HAS_PAYLOAD ? TILE : 1];
    __shared__ u64 warps[WARPS];
    __shared__ u32 narrow_warps[WARPS];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, digits = 1 << bits;
    i64 begin = i64(blockIdx.x) * TILE;
    int here = int(n - begin < TILE ? n - begin : TILE);
#pragma unroll
    for (int w = 0; w < WARPS; ++w) ranks[w][threadIdx.x] = 0;
    __syncthreads();
    // A warp holds 32 * EACH elements that follow each other, a row of 32 a step: ranks are stable.
    KEY key[EACH];
    u16 rank[EACH];
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        int local = warp * 32 * EACH + k * 32 + lane;
        bool real = local < here;
        key[k] = real ? KEY(keys[begin + local]) : KEY(0);
    }
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        int local = warp * 32 * EACH + k * 32 + lane;
        bool real = local < here;
        // Lanes past the end share a digit that there is not.
        int digit = real ? digit_of(u64(key[k]), int(shift), int(bits)) : DIGITS;
        unsigned peers = __match_any_sync(~0u, digit);
        int below = __popc(peers & ((1u << lane) - 1));
        u32 start = real ? ranks[warp][digit] : 0;
        rank[k] = u16(start + below);
        __syncwarp();
        if (real && below == 0) ranks[warp][digit] = start + __popc(peers);
        __syncwarp();
    }
    __syncthreads();
    // Of each digit: where its elements begin in the tile, and where in the result.
    u32 own = 0, all;
#pragma unroll
    for (int w = 0; w < WARPS; ++w) {
        u32 count = ranks[w][threadIdx.x];
        ranks[w][threadIdx.x] = own;
        own += count;
    }
    u32 at = before<u32>(own, narrow_warps, &all);
    u64 total = threadIdx.x < digits ? totals[threadIdx.x] : 0, ignored;
    u64 lower = before<u64>(total, warps, &ignored);
    if (threadIdx.x < digits)
        target[threadIdx.x] = i64(lower + counts[i64(threadIdx.x) * gridDim.x + blockIdx.x]) - at;
#pragma unroll
    for (int w = 0; w < WARPS; ++w) ranks[w][threadIdx.x] += at;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        int local = warp * 32 * EACH + k * 32 + lane;
        if (local >= here) continue;
        u32 place = ranks[warp][digit_of(u64(key[k]), int(shift), int(bits))] + rank[k];
        sorted[place] = key[k];
        if (HAS_PAYLOAD)
            carried[place] = POSITION ? PAYLOAD(begin + local) : payload[begin + local];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        int place = threadIdx.x + k * THREADS;
        if (place >= here) continue;
        KEY one = sorted[place];
        i64 to = target[digit_of(u64(one), int(shift), int(bits))] + place;
        keys_out[to] = one;
        if (HAS_PAYLOAD) payload_out[to] = carried[place];
    }
}

// starts[u]: the first position whose key is u or more, for u up to `distinct`.
KERNEL mark_starts(const KEY* keys, i64 n, i64 distinct, i64 code, void* starts) {
    for (i64 u = THIS_THREAD; u <= distinct; u += ALL_THREADS) {
        i64 low = 0, high = n;
        while (low < high) {
            i64 middle = (low + high) / 2;
            if (i64(keys[middle]) < u) low = middle + 1;
            else high = middle;
        }
        put(starts, code, u, low);
    }
}
""",
    tuple(
        {"FROM": f, "KEY": k, "PAYLOAD": p, "HAS_PAYLOAD": h, "EACH": e, "POSITION": o}
        for f, k, p, h, e, o in (
            ("u32", "u32", "u32", 1, 16, 0),
            ("i64", "u32", "u64", 1, 8, 0),
            ("u64", "u64", "u32", 1, 8, 1),
            ("u64", "u64", "u8", 0, 16, 0),
        )
    ),
)

SPELLED = {1: "u8", 4: "u32", 8: "u64"}


def bits_of(distinct: int) -> int:
    """Bits that numbers below `distinct` need; one at least."""
    return max(1, (distinct - 1).bit_length())


def macros_of(read: int, key: int, payload: int, position: bool = False) -> dict[str, Any]:
    """Macros for keys read and written, and a payload, of so many bytes each."""
    return {
        "FROM": SPELLED[read],
        "KEY": SPELLED[key],
        "PAYLOAD": SPELLED[payload or 1],
        "HAS_PAYLOAD": int(payload > 0),
        "EACH": 16 if key + payload <= 8 else 8,
        "POSITION": int(position),
    }


def sort(
    queue: Queue,
    keys: Tensor,
    bits: int,
    payload: Tensor | None,
    payload_bytes: int = 0,
    into: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Keys (integers >= 0 of `bits` bits, [n]) in order and their payload, stable, as bytes.

    Keys come out in 4 bytes where `bits` fit. `payload` None with `payload_bytes`: the elements'
    positions. `into`: where the payload is to end. n >= 1.
    """
    n = len(keys)
    if n >> 32:
        raise ValueError(f"{n} keys to sort: counts of a digit are below {1 << 32}")
    key = 4 if bits <= 32 else 8
    with_payload = payload_bytes or (0 if payload is None else payload.itemsize)
    passes = -(-bits // DIGIT)
    width = -(-bits // passes)
    each = macros_of(keys.itemsize, key, with_payload)["EACH"]
    tiles = -(-n // (THREADS * each))
    pairs = [queue.scratch(n * key, n * with_payload) for _ in range(min(passes, 2))]
    counts, totals = queue.scratch(4 * tiles << width, 8 << width)
    read, carried = keys, payload
    for number in range(passes):
        position = number == 0 and payload is None and with_payload > 0
        macros = macros_of(keys.itemsize if number == 0 else key, key, with_payload, position)
        shift, to = number * width, pairs[number % 2]
        this = min(width, bits - shift)
        if into is not None and number == passes - 1:
            to = [to[0], into]
        queue.launch(SOURCE, "count_digits", tiles, read, n, shift, this, counts, **macros)
        queue.launch(SOURCE, "add_up", 1 << this, counts, tiles, totals, block=SCAN, **macros)
        queue.launch(
            SOURCE, "move_digits", tiles,
            read, carried, n, shift, this, counts, totals, *to, **macros,
        )  # fmt: skip
        read, carried = to
    return read, carried if with_payload else None


def starts_of(queue: Queue, keys: Tensor, n: int, bits: int, distinct: int, starts: Tensor) -> None:
    """starts[u] for u in [0, distinct] of sorted keys from `sort`."""
    macros = macros_of(4, 4 if bits <= 32 else 8, 0)
    blocks = max(1, -(-(distinct + 1) // THREADS))
    width = int(starts.dtype == torch.int64)
    queue.launch(SOURCE, "mark_starts", blocks, keys, n, distinct, width, starts, **macros)
