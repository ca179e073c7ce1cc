"""Ranks by sorting: short groups by insertion, long ones by radix; groups side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from backends.numba.arithmetic import halves_below
from backends.numba.lanes import WIDTH, bits32, form_of, load, scalar
from backends.numba.threads import cuts, function, inlined, kernel, run

# A group of more samples than this is shared among threads, the others each go to one.
LONG = 1 << 16
# It is first parted by the upper bits of its keys; the lower ones are left to sort.
PARTS, LOW = 1 << 12, 21
# Up to this many samples comparing each positive with every negative, sixteen at a time, is
# fastest: of random scores no sort's branches are predicted.
FEW = 256
# Up to this many samples insertion beats clearing a radix sort's counters.
SHORT = 48
# Bits sorted at a time, and the samples from which the wider counters pay.
NARROW, BROAD, MANY = 8, 11, 1 << 12


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
def radix_sort(keys, other, n, bits, counts):
    """Sort n keys by bits 1 to `bits`, least digit first; returns where they ended up."""
    width = BROAD if n >= MANY else NARROW
    buckets = 1 << width
    mask = np.uint64(buckets - 1)
    for digit in range(0, bits, width):
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


@inlined
def ordered(keys, other, n, bits, counts):
    """The n keys in ascending order, that are alike above `bits`: these or in `other`."""
    if n > SHORT:
        return radix_sort(keys, other, n, bits, counts)
    insertion_sort(keys, n)
    return keys


@inlined
def wins(up, p, down, q):
    """How often positives up[:p] beat negatives down[:q], draws a half: twice that."""
    twice = 0
    at = down.ctypes.data
    for i in range(p):
        for k in range(0, q, WIDTH):
            twice += halves_below(load(at + 4 * k, q - k, np.float32(0)), q - k, up[i])
    return twice


@inlined
def sorted_area(scores, labels, first, n, p, score_form, label_form, keys, other, counts):
    """The area by the positives' ranks."""
    for i in range(n):
        positive = scalar(labels, first + i, label_form) > 0.5
        keys[i] = key_of(scalar(scores, first + i, score_form), positive)
    ranks = rank_sum(ordered(keys, other, n, 32, counts), n)
    return (ranks - p * (p + 1) / 2) / (p * (n - p))


@kernel
def rank(begin, end, bounds, labels, scores, label_form, score_form, offsets, auc, positives):
    """Groups bounds[begin]:bounds[end], but for long ones."""
    keys, other = np.empty(LONG, np.uint64), np.empty(LONG, np.uint64)
    counts = np.empty(1 << BROAD, np.int64)
    up, down = np.empty(FEW + 1, np.float32), np.empty(FEW + WIDTH, np.float32)
    for g in range(bounds[begin], bounds[end]):
        first = np.int64(offsets[g])
        n = np.int64(offsets[g + 1]) - first
        if n > LONG:
            continue
        p = 0
        nans = 0
        for i in range(first, first + n):
            # Without a branch each sample goes to both ends, and stays at the right one.
            positive = np.int64(scalar(labels, i, label_form) > 0.5)
            score = scalar(scores, i, score_form)
            up[min(p, FEW)] = score
            down[min(i - first - p, FEW)] = score
            p += positive
            nans += np.int64(score != score)
        positives[g] = p
        auc[g] = np.nan
        if 0 < p < n and n <= FEW and nans == 0:
            auc[g] = wins(up, p, down, n - p) / (2.0 * p * (n - p))
        elif 0 < p < n:
            auc[g] = sorted_area(
                scores, labels, first, n, p, score_form, label_form, keys, other, counts
            )


@kernel
def count_parts(begin, end, bounds, labels, scores, label_form, score_form, keys, counts):
    """Keys of the samples of ranges [begin, end), and how many of each range every part gets."""
    for own in range(begin, end):
        mine = counts[own]
        mine[:] = 0
        for i in range(bounds[own], bounds[own + 1]):
            positive = scalar(labels, i, label_form) > 0.5
            key = key_of(scalar(scores, i, score_form), positive)
            keys[i - bounds[0]] = key
            mine[np.int64(key >> np.uint64(LOW))] += 1


@kernel
def part_keys(begin, end, bounds, keys, counts, parted):
    """Keys of ranges [begin, end) to their places, part by part."""
    for own in range(begin, end):
        mine = counts[own]
        for i in range(bounds[own], bounds[own + 1]):
            key = keys[i - bounds[0]]
            part = np.int64(key >> np.uint64(LOW))
            parted[mine[part]] = key
            mine[part] += 1


@kernel
def rank_parts(begin, end, firsts, keys, other, ranks, positives):
    """For parts [begin, end), whose keys are in `keys`: positives, and the sum of their ranks."""
    counts = np.empty(1 << BROAD, np.int64)
    for part in range(begin, end):
        first = firsts[part]
        n = firsts[part + 1] - first
        p = 0
        for i in range(first, first + n):
            p += np.int64(keys[i] & np.uint64(1))
        positives[part] = p
        ranks[part] = 0
        if p:
            own, spare = keys[first : first + n], other[first : first + n]
            ranks[part] = rank_sum(ordered(own, spare, n, LOW - 1, counts), n) + p * float(first)


def rank_long(
    g: int, first: int, n: int, given: tuple[Any, ...], auc: np.ndarray, positives: np.ndarray
) -> None:
    """One long group, its parts side by side. Equal scores lie in one part, so ranks add up."""
    bounds = first + np.array(cuts(n, 64 * n))
    each = [*range(len(bounds))]
    counts = np.empty((len(each) - 1, PARTS), np.int64)
    keys, parted = np.empty(n, np.uint64), np.empty(n, np.uint64)
    run(count_parts, each, bounds, *given, keys, counts)
    # Part by part and in each range by range; an exclusive sum.
    places = np.cumsum(counts.T).reshape(PARTS, -1).T
    counts[:] = places - counts
    firsts = np.append(counts[0], n)
    run(part_keys, each, bounds, keys, counts, parted)
    ranks, found = np.empty(PARTS), np.empty(PARTS, np.int64)
    groups = np.searchsorted(firsts, bounds - first)
    groups[0], groups[-1] = 0, PARTS
    run(rank_parts, groups, firsts, parted, keys, ranks, found)
    positive = int(found.sum())
    positives[g], auc[g] = positive, np.nan
    if 0 < positive < n:
        # Multiples of a half below 2^53, so exact in any order.
        auc[g] = (ranks.sum() - positive * (positive + 1) / 2) / (positive * (n - positive))


def auc_grouped(
    labels: Tensor, scores: Tensor, offsets: Tensor, auc: Tensor, positives: Tensor
) -> None:
    n = len(labels)
    ends = offsets.numpy()
    given = labels.data_ptr(), scores.data_ptr(), form_of(labels), form_of(scores)
    # Ranges of equal numbers of samples, cut where a group begins.
    bounds = np.searchsorted(ends[:-1], cuts(n, 64 * n))
    bounds[0], bounds[-1] = 0, len(auc)
    outputs = auc.numpy(), positives.numpy()
    run(rank, [*range(len(bounds))], bounds, *given, ends, *outputs)
    lengths = np.diff(ends)
    for g in np.flatnonzero(lengths > LONG).tolist():
        rank_long(g, int(ends[g]), int(lengths[g]), given, *outputs)
