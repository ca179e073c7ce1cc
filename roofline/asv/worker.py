"""Measures what it is asked to, line by line, with the code of the checkout it is started in.

    PYTHONPATH=CHECKOUT python -P roofline/asv/worker.py cpu

A line of standard input is {"op", "case", "backend", "budget"}; a line of standard output the
record, or {"status": "skipped", "reason"} where that checkout has no such thing. Only this file
is of the newer checkout, so it uses little of the code it measures.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


class Worker:
    """Keeps the last case drawn, so that rounds of it cost the timing alone."""

    def __init__(self, device: str) -> None:
        from recis_core.allocator import keep_freed_memory
        from roofline.device import measure_roofs
        from roofline.timer import Timer

        keep_freed_memory()
        self.device = device
        self.roofs, self.timer = measure_roofs(device, quick=True), Timer.of(device)
        self.drawn: tuple[str, str, Any] = ("", "", None)

    def answer(self, op: str, case: str, backend: str, budget: float) -> dict[str, Any]:
        import backends
        from recis_core.kernels import find_op
        from roofline.measure import Setting, measure
        from roofline.subject import subject_of

        try:
            declared = find_op(op)
            found = next(c for c in declared.cases("bench") if c.name == case)
            kernels = backends.load(backend, device=self.device)
        except (KeyError, StopIteration, RuntimeError, ValueError) as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            return {"status": "skipped", "reason": said}
        if self.drawn[:2] != (op, case):
            self.drawn = ("", "", None)
            self.drawn = (op, case, subject_of(declared, found, self.device))
        setting = Setting(self.roofs, self.timer, budget)
        return measure(kernels, declared, found, setting, self.drawn[2]).as_dict()


def main(device: str) -> None:
    # What kernels print must not come between the lines.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(device)
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(**json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
