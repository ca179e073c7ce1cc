"""The examples as a reader would start them: real processes, made-up data, seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CRITEO = ROOT.parent / "shared" / "data" / "criteo-sample" / "criteo_sample.txt"


def lines_of(*command: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", *command, "--backend", "torch"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def figures(lines: list[str], name: str) -> list[float]:
    return [float(found[1]) for line in lines if (found := re.search(rf"{name} ([\d.]+)", line))]


def test_deepfm() -> None:
    lines = lines_of("examples.deepfm_criteo", "--epochs", "2")
    losses = figures(lines, "loss")
    assert losses[1] < losses[0]
    assert figures(lines, "AUC")[-1] > 0.6


@pytest.mark.skipif(not CRITEO.exists(), reason="the Criteo sample is not here")
def test_deepfm_reads_the_published_format() -> None:
    assert len(lines_of("examples.deepfm_criteo", str(CRITEO), "--epochs", "1")) == 1


def test_sequence() -> None:
    lines = lines_of("examples.sequence_movielens", "--epochs", "3")
    losses = figures(lines, "loss")
    assert losses[2] < losses[0]
    # Ten of about 130 items by chance.
    assert figures(lines, "recall@10")[-1] > 0.3
