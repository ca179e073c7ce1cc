"""`mse` at a size of seconds: what the tests of the command line train, write and break."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import recis_core.allocator
import reports.trained
import reports.training
import roofline.device
from recis_core.roofs import Roofs
from workloads import mse

# Of a cache so large that no time is refused for beating these roofs, however fast the machine.
ROOFS = Roofs(
    device="a processor", kind="cpu", cores=2, threads=2, memory=1 << 34, caches={"L2": 1 << 30},
    copy=20e9, read=15e9, write=10e9, update=18e9, cache=100e9, random={64: 4e9, 256: 8e9},
    matmul=1e11, working_set=1 << 30,
)  # fmt: skip
SMALL = replace(
    mse.CONFIGS["tiny"], singles=3, bags=2, sequences=1, dims=((8, 6),), vocab_high=300, dense=2,
    hidden=(8,), train_rows=3000, valid_rows=600, parts=2, pairs=0, weighted_bags=1,
)  # fmt: skip


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Make `tiny` small, and roofs given instead of measured."""
    patch.setitem(mse.CONFIGS, "tiny", SMALL)
    patch.setattr(reports.training, "measure_roofs", lambda *args, **kwargs: ROOFS)
    # Memory kept for ever would mislead tests that look at this process's memory.
    for module in (reports.training, reports.trained, recis_core.allocator):
        patch.setattr(module, "keep_freed_memory", lambda: False)
    patch.setattr(roofline.device, "measure_roofs", lambda *args, **kwargs: ROOFS)


def recis(*words: object) -> int:
    """The command in this process."""
    from reports.cli import main

    return main([str(word) for word in words])


def train(folder: Path, *words: object) -> int:
    """Train small `mse` on the numba backend into `folder`/run, data in `folder`/data."""
    given = ("--data", folder / "data", "--out", folder / "run", "--batch-size", 500)
    return recis("train", "mse", *given, "--backend", "torch", *words)
