"""From the bytes an op must move to the least time it can take, and to MBU and attainment."""

from __future__ import annotations

from typing import Any, NamedTuple

from recis_core.roofs import Roofs
from recis_core.spec import Op, Traffic

# Above this on traffic the caches cannot hold, the timer or the count of bytes is wrong.
IMPOSSIBLE = 1.05


class Bound(NamedTuple):
    """Seconds that `Traffic` takes at least: through memory, through the cache, as arithmetic."""

    memory: float
    cache: float
    arithmetic: float

    @property
    def seconds(self) -> float:
        return max(self)

    @property
    def by(self) -> str:
        """The name of the largest."""
        return self._fields[self.index(self.seconds)]


def bound(traffic: Traffic, roofs: Roofs) -> Bound:
    """The bounds of `traffic` on `roofs`.

    Memory: the largest of reads at the read roof, writes at the write roof, the copy both contain
    at the copy roof, and all bytes at the fastest of these roofs, as both share one bus.
    """
    both = 2 * min(traffic.read, traffic.written)
    fastest = max(roofs.copy, roofs.read, roofs.write, roofs.update)
    memory = max(
        traffic.read / roofs.read,
        traffic.written / roofs.write,
        both / roofs.copy,
        traffic.minimum / fastest,
    )
    return Bound(memory, traffic.requested / roofs.cache, traffic.flops / roofs.matmul)


def mbu(traffic: Traffic, seconds: float, roofs: Roofs) -> float:
    """Minimum bytes a second over the copy roof."""
    return traffic.minimum / seconds / roofs.copy


def attainment(traffic: Traffic, seconds: float, roofs: Roofs) -> float:
    """Share of the time that the largest bound explains."""
    return bound(traffic, roofs).seconds / seconds


def impossible(traffic: Traffic, seconds: float, roofs: Roofs) -> str | None:
    """Why a time cannot be true, or None."""
    reached = attainment(traffic, seconds, roofs)
    if reached > IMPOSSIBLE and traffic.minimum > 4 * roofs.last_level:
        return (
            f"attainment {reached:.2f} is above {IMPOSSIBLE}: "
            "the timer, the roof or the count of bytes is wrong"
        )
    return None


def row_bytes(op: Op[..., Any], args: dict[str, Any]) -> int | None:
    """Bytes of the rows an op reads or writes at random, None if it does not work on rows."""
    kinds = {p.name: p.kind for p in op.params}
    if "blocks" in kinds:
        return args["blocks"].row_bytes(args.get("slot", "weight"))
    if "Index" not in kinds.values():
        return None
    for name, kind in kinds.items():
        if kind == "Values" and args[name] is not None and args[name].ndim > 1:
            return args[name].shape[-1] * args[name].itemsize
    return None
