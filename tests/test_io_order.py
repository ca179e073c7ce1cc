"""Which rows a worker reads and in which order."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recis_core.io.order import Piece, Span, epoch_spans, permutation

SIZES = st.lists(st.integers(0, 50), max_size=12)
FIXED = [6, 2, 5, 7, 0, 9, 4, 3, 8, 1]


def pieces_of(sizes):
    return [Piece(0, i, sum(sizes[:i]), n) for i, n in enumerate(sizes)]


def places(pieces, spans, seed, epoch, shuffle):
    """The rows of the data set that some spans read, in order."""
    rows = []
    for span in spans:
        piece = pieces[span.piece]
        order = np.arange(piece.rows)
        if shuffle:
            order = permutation(piece.rows, seed, epoch, 1 + span.piece)
        rows += (piece.first + order[span.start : span.stop]).tolist()
    return rows


@given(SIZES, st.integers(1, 9), st.booleans(), st.integers(-5, 1 << 70), st.integers(0, 3))
def test_workers_read_every_row_once_in_nearly_equal_shares(sizes, workers, shuffle, seed, epoch):
    pieces = pieces_of(sizes)
    shares = [
        places(
            pieces,
            epoch_spans(pieces, shuffle=shuffle, seed=seed, epoch=epoch, worker=w, workers=workers),
            seed,
            epoch,
            shuffle,
        )
        for w in range(workers)
    ]
    assert Counter(row for part in shares for row in part) == Counter(range(sum(sizes)))
    lengths = [len(part) for part in shares]
    assert max(lengths) - min(lengths) <= 1


@given(SIZES, st.integers(1, 4), st.booleans(), st.integers(0, 700))
def test_what_is_skipped_is_the_beginning(sizes, workers, shuffle, skip):
    pieces = pieces_of(sizes)
    for worker in range(workers):
        which = dict(shuffle=shuffle, seed=3, epoch=1, worker=worker, workers=workers)
        whole = places(pieces, epoch_spans(pieces, **which), 3, 1, shuffle)
        rest = places(pieces, epoch_spans(pieces, skip=skip, **which), 3, 1, shuffle)
        assert rest == whole[skip:]


def test_unshuffled_is_the_order_of_the_files():
    assert epoch_spans(pieces_of([3, 0, 2]), shuffle=False, seed=0, epoch=9) == [
        Span(0, 0, 3),
        Span(2, 0, 2),
    ]


def test_permutations_differ_by_every_key_and_are_fixed():
    assert sorted(permutation(1000, 0, 0)) == list(range(1000))
    drawn = [tuple(permutation(100, *keys)) for keys in [(0,), (1,), (0, 0), (0, 1), (1, 0), (-1,)]]
    assert len(set(drawn)) == len(drawn)
    # Written down once: a resumed training must find the order its first half was read in.
    assert permutation(10, 42, 0).tolist() == FIXED


def test_permutations_are_even():
    """Each of 5 positions takes each value about equally often: chi-squared below its 1e-6 tail."""
    drawn = np.array([permutation(5, seed, 7) for seed in range(5000)])
    counts = np.array([np.bincount(drawn[:, i], minlength=5) for i in range(5)])
    assert ((counts - 1000) ** 2 / 1000).sum() < 60
