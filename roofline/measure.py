"""Measure one op of one backend on one case: agreement first, only then a time."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch

from recis_core.kernels import Kernels
from recis_core.roofs import Roofs
from recis_core.spec import Case, Op
from recis_core.tolerance import Disagreement
from roofline.bound import attainment, bound, impossible, mbu
from roofline.device import measure_roofs
from roofline.record import Record, versions
from roofline.stamp import device_of, source_digest
from roofline.subject import Subject, subject_of
from roofline.timer import Timer, Timing


@dataclass(frozen=True)
class Setting:
    """Where and how long is measured: roofs, the timer, and seconds of samples for a case."""

    roofs: Roofs
    timer: Timer
    budget: float = 1.0

    @classmethod
    def of(cls, device: torch.device | str = "cpu", budget: float = 1.0) -> Setting:
        return cls(measure_roofs(device), Timer.of(device), budget)


def measure(
    kernels: Kernels,
    op: Op[..., Any],
    case: Case,
    setting: Setting | None = None,
    subject: Subject | None = None,
) -> Record:
    """The record of `op` of `kernels` on `case`; what goes wrong is its status, never an exception.

    `subject`: the case already drawn, to be shared by the backends that are compared.
    """
    setting = setting or Setting.of(kernels.device)
    call = getattr(kernels, op.name)
    try:
        subject = subject or subject_of(op, case, kernels.device)
        subject.agree(call)
        timing = setting.timer.time(subject.call(call), subject.before(call), budget=setting.budget)
        # A result that went bad while being timed must not keep its time.
        subject.before(call)()
        subject.agree(call)
    except Disagreement as error:
        return record(kernels, op, case, setting, "wrong", str(error))
    except (Exception, MemoryError) as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return record(kernels, op, case, setting, "error", said)
    if reason := impossible(subject.traffic, timing.median, setting.roofs):
        return record(kernels, op, case, setting, "error", reason)
    return record(kernels, op, case, setting, "ok", **figures(subject, timing, setting.roofs))


def figures(subject: Subject, timing: Timing, roofs: Roofs) -> dict[str, Any]:
    """The numbers of a record that has a time."""
    traffic, seconds, width = subject.traffic, timing.median, subject.row_bytes
    requested = traffic.requested / seconds
    return dict(
        samples=timing.samples,
        median=seconds,
        spread=timing.spread,
        read_bytes=traffic.read,
        written_bytes=traffic.written,
        minimum_bytes=traffic.minimum,
        requested_bytes=traffic.requested,
        recis_bytes=traffic.recis,
        flops=traffic.flops,
        minimum_gbs=traffic.minimum / seconds / 1e9,
        requested_gbs=requested / 1e9,
        mbu=mbu(traffic, seconds, roofs),
        attainment=attainment(traffic, seconds, roofs),
        bound_by=bound(traffic, roofs).by,
        bounds=bound(traffic, roofs)._asdict(),
        intensity=traffic.flops / traffic.minimum if traffic.minimum else None,
        host=timing.host_median,
        row_bytes=width,
        random_share=requested / roofs.random_rows(width) if width else None,
    )


def record(
    kernels: Kernels,
    op: Op[..., Any],
    case: Case,
    setting: Setting,
    status: str,
    reason: str = "",
    **numbers: Any,
) -> Record:
    roofs = setting.roofs
    return Record(
        op=op.name,
        op_version=op.version,
        case=case.name,
        asked=kernels.name,
        run=kernels.origins[op.name],
        status=status,
        reason=reason,
        trusted="reference",
        device=device_of(roofs),
        threads=torch.get_num_threads(),
        versions=versions(),
        seed=int.from_bytes(sha256(case.name.encode()).digest()[:4]),
        roofs=roofs.as_dict(),
        source=source_digest(kernels.origins[op.name]),
        command=(
            f"recis roofline --again --device {roofs.kind} --backend {kernels.name} "
            f"--op {op.name} --case {case.name}"
        ),
        **numbers,
    )
