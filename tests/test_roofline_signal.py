"""A real Ctrl-C during `recis roofline`: what is finished stays, the same command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reports.records import append, read
from reports.roofline import Place
from roofline.record import Record
from roofline.stamp import roofs_record
from tests.small_mse import ROOFS

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_ctrl_c_keeps_finished_records_and_the_command_goes_on(tmp_path):
    out, place = tmp_path / "r.jsonl", Place.of("cpu")
    fast = replace(ROOFS, device=place.device, threads=place.threads,
                   copy=1e15, read=1e15, write=1e15, cache=1e15, matmul=1e18)  # fmt: skip
    append(out, [roofs_record(fast)])
    words = [sys.executable, "-m", "reports", "roofline", "--backend", "torch", "--budget", "0.3",
             "--op", "ids_mod", "--op", "values_bucketize", "--op", "rows_norm", "--json",
             "--out", str(out), "--threads", str(torch.get_num_threads())]  # fmt: skip
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the same command goes on" in said
    assert "Traceback" not in said
    first = [r for r in read(out) if isinstance(r, Record)]
    assert 2 <= len(first) < 6
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"{6 - len(first)} measured, {len(first)} kept" in done.stderr
    assert read(out)[: len(first)] == first
