"""Overlapped training that lets a batch's memory go too early: python -m tests.unheld_run.

Prints the losses, or dies of an illegal access: hence a process of its own.
"""

from __future__ import annotations

import backends
from recis_core.pipeline import Pipeline
from tests.test_pipeline_gpu import DEVICE, LATE, Hostile, losses


class Zeros(Hostile):
    """Free memory becomes zeros, legal as indices."""

    value = 0
    update = 30 * LATE  # so late that the batch after the next is prepared before


class Forgetful(Pipeline):
    """Holds nothing until the step that uses it is done."""

    def retire(self, items):
        del items


if __name__ == "__main__":
    Pipeline.retire = Forgetful.retire
    print(*losses(backends.load("cuda", device=DEVICE), 1, Zeros, guard=0))
