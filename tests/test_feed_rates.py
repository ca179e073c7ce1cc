"""The measuring of how fast files are read."""

from __future__ import annotations

import argparse

import pytest

from reports import feed_rates
from tests.small_mse import SMALL, shrink
from workloads import find


@pytest.mark.parametrize("format", ["arrow", "parquet"])
def test_a_rate_is_of_all_rows_read(tmp_path, monkeypatch, format):
    shrink(monkeypatch)
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None)
    monkeypatch.setattr("pyarrow.set_cpu_count", lambda _: None)
    find("mse").write("tiny", tmp_path, format)
    asked = argparse.Namespace(size="tiny", device="cpu", batch_size=100, batches=40, shuffle=True)
    found = feed_rates.rate(asked, tmp_path, 2)
    # More than an epoch of the file's rows.
    assert SMALL.train_rows < (40 + feed_rates.WARM) * 100
    assert len(found["samples"]) == 40
    assert found["rows_per_s"] * found["batch_s"] == pytest.approx(100)
    assert sum(found["samples"]) == pytest.approx(40 * found["batch_s"])
    assert found["bytes_per_s"] > 8 * SMALL.singles * found["rows_per_s"]
