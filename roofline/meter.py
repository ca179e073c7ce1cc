"""How near recent steps come to the hardware, for a progress display: MBU and MFU."""

from __future__ import annotations

from collections import deque

from recis_core.callbacks import Step
from recis_core.roofs import Roofs
from roofline.trace import StepTrace

RECENT = 20


class Meter:
    """Figures of the last steps, from the bytes a mean watched step of `trace` needs.

    MBU: these bytes / time / copy roof. MFU: `flops` of a step, None where they are not known,
    / time / matrix product roof.
    """

    def __init__(self, trace: StepTrace, roofs: Roofs, flops: float | None = None) -> None:
        self.trace, self.roofs, self.flops = trace, roofs, flops
        self._seconds: deque[float] = deque(maxlen=RECENT)

    def __call__(self, step: Step) -> dict[str, float]:
        """Take a step up; the figures there are, as shares of 1."""
        self._seconds.append(step.seconds)
        mean = sum(self._seconds) / len(self._seconds)
        if not mean:
            return {}
        needed = self.trace.needed
        shares = {} if needed is None else {"MBU": needed / mean / self.roofs.copy}
        if self.flops is not None:
            shares["MFU"] = self.flops / mean / self.roofs.matmul
        return shares
