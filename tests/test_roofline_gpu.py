"""Roofs of a GPU: the loops do what their rates are said to be of, and the rates are sane."""

from __future__ import annotations

import pytest
import torch

from roofline.datasheet import sheet_of
from roofline.gpu import measure_gpu
from roofline.timer import Timer

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")


def test_the_loops_move_what_they_say():
    loops = pytest.importorskip("roofline.loops")
    table = torch.randn(1000, 64, device=GPU)
    rows = torch.randperm(1000, device=GPU, dtype=torch.int32)[:777]
    for form in loops.FORMS:
        out = torch.full((777, 64), float("nan"), device=GPU)
        loops.gather(table, rows, out, form)
        assert torch.equal(out, table[rows.long()])
        target = torch.zeros_like(table)
        loops.scatter(out, rows, target, form)
        assert torch.equal(target[rows.long()], out)
        assert int((target != 0).any(1).sum()) == 777
    words = torch.zeros(10, dtype=torch.int32, device=GPU)
    loops.add(words, torch.randint(0, 10, (5000,), dtype=torch.int32, device=GPU))
    assert int(words.sum()) == 5000
    sink = torch.zeros(8, device=GPU)
    loops.read(torch.ones(2048 * 16, device=GPU), sink, 3)
    assert float(sink.sum()) == 2048 * 16 * 3


def test_a_launch_is_hidden_behind_work_of_the_device():
    timer = Timer.of(GPU)
    x = torch.ones(1 << 10, device=GPU)
    timing = timer.time(lambda: [x.add_(1) for _ in range(3)])
    assert timing.host_median is not None
    # Three tiny kernels: microseconds on the device, more than that to launch.
    assert timing.median < 3 * timing.host_median


def test_roofs_are_below_the_data_sheet_and_above_half_of_it():
    roofs = measure_gpu(GPU, 1)
    sheet = sheet_of(roofs.device)
    if sheet is None:
        pytest.skip(f"no data sheet of {roofs.device}")
    assert 0.5 * sheet.memory < roofs.copy < 1.05 * sheet.memory
    assert 0.5 * sheet.memory < roofs.read < 1.05 * sheet.memory
    assert 0.4 * sheet.matmul < roofs.matmul < 1.05 * sheet.matmul
    assert sheet.bf16 is not None
    assert roofs.bf16 is not None
    assert 0.4 * sheet.bf16 < roofs.bf16 < 1.05 * sheet.bf16
    assert roofs.cache > roofs.read
    assert roofs.random[64] < roofs.random[256] < 1.1 * roofs.copy
    assert sheet.link is not None
    for rate in (roofs.to_device, roofs.to_host):
        assert rate is not None
        assert rate < 1.05 * sheet.link
