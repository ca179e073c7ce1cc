"""Records of what is not one op: measured roofs, a training step, a comparison, counters.

Like `Record` each is a flat JSON object of plain data with its `kind` and `schema`; times are
seconds, rates a second, shares fractions of 1. `device`, `threads`, `versions` and `taken` say
where and when, `command` how to make it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

SCHEMA = 1
Facts = Mapping[str, Any]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Stamped:
    """Where and when something was measured."""

    device: Facts
    threads: int
    versions: Mapping[str, str]
    taken: str = field(default_factory=now)
    command: str = ""
    kind: str = ""
    schema: int = SCHEMA

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Facts) -> Self:
        """The inverse of `as_dict`; ValueError for another schema, TypeError for other fields."""
        if content.get("schema") != SCHEMA:
            raise ValueError(f"a record of schema {content.get('schema')!r}; this reads {SCHEMA}")
        return cls(**content)


@dataclass(frozen=True, kw_only=True)
class RoofsRecord(Stamped):
    """Measured roofs (`recis_core.roofs.Roofs` as a dictionary) beside the data sheet's.

    `sheet`: of the same names, what the maker says, with "name" and "source"; None if the device
    is not in the table.
    """

    roofs: Facts
    sheet: Facts | None = None
    kind: str = "roofs"


@dataclass(frozen=True, kw_only=True)
class StepRecord(Stamped):
    """A training step of a workload: the mean of the watched ones.

    `stages`: in the order of a step, each {stage, seconds, share, bytes, gbs, mbu, calls};
    `ops`: {op, backend, stage, calls, seconds, bytes, gbs, mbu, share}; `waterfall`: {name,
    seconds}, which add up from the bound to the measured step; `sparse`: {seconds, bytes, mbu},
    bytes by the backend-independent minimum of a step; `dense`: {seconds, flops, mfu}. `exposed`:
    seconds waited for data; `idle`: seconds the device did nothing (None where unknown); `busy`:
    share of the cores' (or the device's) time in use. `first`: what to fix first.
    """

    workload: str
    size: str
    backend: str
    origins: Mapping[str, str]
    batch: int
    steps: int
    samples: Sequence[float]
    seconds: float
    rows_per_s: float
    bytes: float
    mbu: float
    stages: Sequence[Facts]
    ops: Sequence[Facts]
    waterfall: Sequence[Facts]
    sparse: Facts
    dense: Facts
    exposed: float
    idle: float | None
    busy: float | None
    first: str
    roofs: Facts
    seed: int = 0
    kind: str = "step"


@dataclass(frozen=True, kw_only=True)
class Comparison(Stamped):
    """Contenders that trained the same batches in turns.

    `contenders`: {name, what ("backend" or "baseline"), status, reason, seconds (of a step, one a
    round), rows_per_s, losses, origins, stages}. `ratios`: {name, over, ratio, low, high, level}:
    time of `name` over time of `over`, with its confidence interval; only between contenders whose
    losses agreed. `agreed`: whether all did. `optimizer`: of the rows. `reach`: how far the losses
    of each step may lie apart, empty where all were within the tolerance of one step.
    """

    workload: str
    size: str
    batch: int
    seed: int
    warm: int
    turn: int
    rounds: int
    contenders: Sequence[Facts]
    ratios: Sequence[Facts]
    agreed: bool
    optimizer: str = "adam"
    reach: Sequence[float] = ()
    kind: str = "compare"


@dataclass(frozen=True, kw_only=True)
class Training(Stamped):
    """A training of a workload whose steps differ in size, and what its data allow at best.

    Of the steps after the first `warm`: `seconds`, `tokens` (events) and `flops` of each (counted
    from its lengths, backward as two forwards; what is computed again does not count), their means
    a second, `mfu`: flops a second over the data sheet's and over a measured matrix product's of
    the same type (None where unknown). `losses`: of every step, by part; `reached`: their means
    over the last `window` steps; `known`: the least anybody can reach; `gap`: share by which the
    sum of the former exceeds that of the latter. `metrics`: of the held-out rows at the end (empty
    where nothing was evaluated), `ceiling`: the best AUC possible.
    """

    workload: str
    size: str
    backend: str
    batch: int
    steps: int
    warm: int
    precision: str
    compiled: bool
    settings: Facts
    seconds: Sequence[float]
    tokens: Sequence[int]
    flops: Sequence[float]
    tokens_per_s: float
    flops_per_s: float
    mfu: Facts
    peak_bytes: int | None
    rows: int
    losses: Facts
    window: int
    reached: Facts
    known: Facts
    gap: float | None
    metrics: Facts
    ceiling: float | None
    seed: int = 0
    kind: str = "training"


@dataclass(frozen=True, kw_only=True)
class LargestBatch(Stamped):
    """The largest batch of each contender that trains two steps, all found by the same search.

    `limit`: bytes there were. `tried`: of each contender {users, events, fits, seconds,
    peak_bytes} of every batch tried. `within`: the share by which a larger batch may still fit.
    """

    workload: str
    size: str
    precision: str
    limit: int
    within: float
    largest: Mapping[str, int]
    tried: Mapping[str, Sequence[Facts]]
    kind: str = "largest"


@dataclass(frozen=True, kw_only=True)
class Counters(Stamped):
    """What a GPU's counters say one call moved through DRAM, beside the declared minimum.

    `waste`: counted over minimum bytes. `kernels`: how many the call launched. Without status "ok"
    there are no numbers, and `reason` says why.
    """

    op: str
    op_version: str
    case: str
    asked: str
    run: str
    status: str
    reason: str = ""
    read_bytes: int | None = None
    written_bytes: int | None = None
    minimum_bytes: int | None = None
    waste: float | None = None
    kernels: int | None = None
    kind: str = "counters"
