"""How long a traced GPU did something."""

from __future__ import annotations

import pytest

from roofline.idle import busy_of


def test_what_overlaps_counts_once():
    spans = [
        (900, 1000, 1, "last"),
        (300, 500, 1, "gather"),
        (400, 600, 2, "Memcpy HtoD"),
        (0, 100, 1, "first"),
    ]
    found = {name: 1e9 * seconds for name, seconds in busy_of(spans).items()}
    want = {"any": 500, "kernels": 400, "stream 1": 400, "stream 2": 200}
    assert found == pytest.approx(want)
    assert busy_of([]) == {"any": 0, "kernels": 0}
