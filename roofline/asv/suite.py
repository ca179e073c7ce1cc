"""What asv tracks of an op: its bench cases on every backend, in microseconds.

asv takes lower as better for whatever it tracks, so it tracks times and never rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from recis_core.kernels import every_op, find_op
from recis_core.spec import Op

METHOD, UNIT = "track_microseconds", "µs"
PARAMETERS = ("case", "backend")


@dataclass(frozen=True)
class Suite:
    """One benchmark: an op's bench cases by backends, its version that of the declaration.

    Backends are all that ship, so that machines share one list; what is absent has no value.
    """

    op: str
    version: str
    cases: tuple[str, ...]
    backends: tuple[str, ...]

    @property
    def name(self) -> str:
        """As asv calls it: module, class, method."""
        return f"ops.{self.op}.{METHOD}"

    @property
    def params(self) -> list[list[str]]:
        """Values as asv writes them."""
        return [[repr(case) for case in self.cases], [repr(name) for name in self.backends]]

    @property
    def points(self) -> list[tuple[str, str]]:
        """Case and backend in the order of asv's flat lists."""
        return list(product(self.cases, self.backends))


def suite_of(op: Op[..., Any]) -> Suite:
    import backends

    names = tuple(b.name for b in backends.shipped() if b.name != "reference")
    return Suite(op.name, op.version, tuple(c.name for c in op.cases("bench")), names)


def suites() -> list[Suite]:
    """A suite for each declared op."""
    return [suite_of(op) for op in every_op()]


def device_here() -> str:
    """The GPU where there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def benchmark(suite: Suite) -> type:
    """The class that asv runs."""

    class Benchmark:
        """Agreement with the reference first; a case that disagrees fails and has no time."""

        version = suite.version
        unit = UNIT
        params = (suite.cases, suite.backends)
        param_names = PARAMETERS
        timeout = 600

        def setup(self, case: str, backend: str) -> None:
            import backends

            if backends.known()[backend].absent(device_here()):
                raise NotImplementedError  # how asv is told that there is no such point

        def track_microseconds(self, case: str, backend: str) -> float:
            return microseconds(suite.op, case, backend)

    Benchmark.__name__ = Benchmark.__qualname__ = suite.op
    return Benchmark


@lru_cache(1)
def _setting() -> Any:
    from recis_core.allocator import keep_freed_memory
    from roofline.device import measure_roofs
    from roofline.measure import Setting
    from roofline.timer import Timer

    keep_freed_memory()
    device = device_here()
    return Setting(measure_roofs(device, quick=True), Timer.of(device))


def microseconds(op: str, case: str, backend: str) -> float:
    """The median time of a case; RuntimeError with the reason where it has none."""
    import backends
    from roofline.measure import measure

    declared = find_op(op)
    drawn = next(c for c in declared.cases("bench") if c.name == case)
    record = measure(backends.load(backend, device=device_here()), declared, drawn, _setting())
    if record.median is None:
        raise RuntimeError(f"{record.status}: {record.reason}")
    return record.median * 1e6
