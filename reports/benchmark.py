"""Which cases a benchmark measures, each on every contender in turn."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Any

from recis_core.kernels import Kernels
from recis_core.spec import Case, Op
from reports.failure import Misuse
from roofline.measure import Setting, measure, record
from roofline.record import Record
from roofline.subject import subject_of

Plan = list[tuple[Op[..., Any], Case]]


def plan_of(ops: Sequence[Op[..., Any]], part: str | None = None) -> Plan:
    """The bench cases of `ops`, only those whose name holds `part`; Misuse if that leaves none."""
    plan = [(op, c) for op in ops for c in op.cases("bench") if part is None or part in c.name]
    if not plan:
        raise Misuse(f"no bench case of {', '.join(op.name for op in ops)} holds {part!r}")
    return plan


def measured(contenders: Sequence[Kernels], plan: Plan, setting: Setting) -> Iterator[Record]:
    """A record for each case and contender; one drawing serves all of a case."""
    for op, case in plan:
        try:
            subject = subject_of(op, case, contenders[0].device)
        except MemoryError as error:
            for kernels in contenders:
                yield record(kernels, op, case, setting, "skipped", f"not enough memory: {error}")
            continue
        for kernels in contenders:
            yield measure(kernels, op, case, setting, subject)
        # The next case's tables must not come on top of these.
        del subject
        gc.collect()
