"""Ranks by sorting: short groups by insertion, long ones by radix; groups side by side."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from backends.numba.lanes import bits32, form_of, scalar
from backends.numba.threads import cuts, function, inlined, kernel, run

# Up to this many samples insertion beats clearing a radix sort's counters.
SHORT = 48
# Bits sorted at a time, and the samples from which the wider counters pay.
NARROW, WIDE, MANY = 8, 11, 1 << 12


@inlined
def key_of(score, positive):
    """uint64 that ascends with the score, the label in bit 0; -0 is 0, NaN is above all."""
    bits = np.int64(bits32(score + np.float32(0)))
    if score != score:
        bits = np.int64(0x7FC00000)
    turned = bits ^ 0xFFFFFFFF if bits & 0x80000000 else bits | 0x80000000
    return np.uint64(turned << 1 | (1 if positive else 0))


@function
def insertion_sort(keys, n):
    for i in range(1, n):
        key = keys[i]
        j = i - 1
        while j >= 0 and keys[j] > key:
            keys[j + 1] = keys[j]
            j -= 1
        keys[j + 1] = key


@function
def radix_sort(keys, other, n, counts):
    """Sort n keys by bits 1 to 32, least digit first; returns where they ended up."""
    width = WIDE if n >= MANY else NARROW
    buckets = 1 << width
    mask = np.uint64(buckets - 1)
    for digit in range(0, 32, width):
        shift = np.uint64(1 + digit)
        counts[:buckets] = 0
        for i in range(n):
            counts[np.int64((keys[i] >> shift) & mask)] += 1
        at = 0
        for bucket in range(buckets):
            own = counts[bucket]
            counts[bucket] = at
            at += own
        for i in range(n):
            bucket = np.int64((keys[i] >> shift) & mask)
            other[counts[bucket]] = keys[i]
            counts[bucket] += 1
        keys, other = other, keys
    return keys


@inlined
def rank_sum(keys, n):
    """Sum of the positives' ranks from 1, ties at their mean; exact: multiples of ½ below 2^53."""
    whole = 0.0
    i = 0
    while i < n:
        j, positive = i, 0
        score = keys[i] >> np.uint64(1)
        while j < n and keys[j] >> np.uint64(1) == score:
            positive += np.int64(keys[j] & np.uint64(1))
            j += 1
        whole += positive * ((i + 1 + j) * 0.5)
        i = j
    return whole


@kernel
def rank(begin, end, bounds, labels, scores, label_form, score_form, offsets, auc, positives):
    """Groups bounds[begin]:bounds[end]."""
    longest = 0
    for g in range(bounds[begin], bounds[end]):
        longest = max(longest, np.int64(offsets[g + 1] - offsets[g]))
    keys, other = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    counts = np.empty(1 << WIDE, np.int64)
    for g in range(bounds[begin], bounds[end]):
        first = np.int64(offsets[g])
        n = np.int64(offsets[g + 1]) - first
        p = 0
        for i in range(n):
            positive = scalar(labels, first + i, label_form) > 0.5
            p += 1 if positive else 0
            keys[i] = key_of(scalar(scores, first + i, score_form), positive)
        positives[g] = p
        auc[g] = np.nan
        if 0 < p < n:
            ordered = keys
            if n <= SHORT:
                insertion_sort(keys, n)
            else:
                ordered = radix_sort(keys, other, n, counts)
            auc[g] = (rank_sum(ordered, n) - p * (p + 1) / 2) / (p * (n - p))


def auc_grouped(
    labels: Tensor, scores: Tensor, offsets: Tensor, auc: Tensor, positives: Tensor
) -> None:
    n = len(labels)
    ends = offsets.numpy()
    # Ranges of equal numbers of samples, cut where a group begins.
    bounds = np.searchsorted(ends[:-1], cuts(n, 64 * n))
    bounds[0], bounds[-1] = 0, len(auc)
    run(
        rank,
        [*range(len(bounds))],
        bounds,
        labels.data_ptr(),
        scores.data_ptr(),
        form_of(labels),
        form_of(scores),
        ends,
        auc.numpy(),
        positives.numpy(),
    )
