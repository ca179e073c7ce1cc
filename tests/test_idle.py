"""Shares of a trace in which a GPU was idle."""

from __future__ import annotations

import pytest

from roofline.idle import shares_of


def test_shares_leave_the_edges_out_and_count_overlaps_once():
    spans = [
        (0, 100, 1, "first"),
        (300, 500, 1, "gather"),
        (400, 600, 2, "Memcpy HtoD"),
        (900, 1000, 1, "last"),
    ]
    found = shares_of(spans)
    # Of 200 to 800 the device is busy from 300 to 600, with kernels until 500.
    assert found["idle"] == pytest.approx(0.5)
    assert found["kernels idle"] == pytest.approx(1 - 200 / 600)
    assert found["stream 1"] == found["stream 2"] == pytest.approx(1 / 3)
    assert shares_of([]) == {}
