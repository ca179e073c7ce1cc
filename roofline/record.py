"""A measurement as data: everything needed to read it later, in one flat JSON object."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

# Raise when a field changes its meaning or goes; a new field with a default needs no change.
SCHEMA = 1
STATUSES = ("ok", "wrong", "error", "skipped")


@dataclass(frozen=True)
class Record:
    """One op of one backend on one case.

    `asked` is the backend named by the user, `run` the one the op came from. Times are seconds,
    rates 10^9 bytes a second. Without status "ok" there is no time, and `reason` says why.
    `trusted` is the backend the results were compared with. `bounds`: the least seconds by memory,
    cache and arithmetic. `intensity`: flops over minimum bytes. `host`: median seconds until the
    call returned, apart from the device's. `source`: a digest of the backend's files. `command`
    makes the record again.
    """

    op: str
    op_version: str
    case: str
    asked: str
    run: str
    status: str
    device: Mapping[str, Any]
    threads: int
    versions: Mapping[str, str]
    seed: int
    reason: str = ""
    trusted: str = ""
    taken: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    samples: tuple[float, ...] = ()
    median: float | None = None
    spread: float | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    minimum_bytes: int | None = None
    requested_bytes: int | None = None
    recis_bytes: int | None = None
    flops: int | None = None
    minimum_gbs: float | None = None
    requested_gbs: float | None = None
    mbu: float | None = None
    attainment: float | None = None
    bound_by: str | None = None
    row_bytes: int | None = None
    random_share: float | None = None
    roofs: Mapping[str, Any] | None = None
    bounds: Mapping[str, float] | None = None
    intensity: float | None = None
    host: float | None = None
    source: str = ""
    command: str = ""
    kind: str = "op"
    schema: int = SCHEMA

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Record:
        """The inverse of `as_dict`; ValueError for another schema, TypeError for other fields."""
        if content.get("schema") != SCHEMA:
            raise ValueError(f"a record of schema {content.get('schema')!r}; this reads {SCHEMA}")
        return cls(**{**content, "samples": tuple(content.get("samples", ()))})


def versions() -> dict[str, str]:
    """What ran: Python, and the libraries results depend on."""
    import numba

    found = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "numba": numba.__version__,
    }
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
    return found
