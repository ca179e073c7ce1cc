"""Do two roofline runs on one idle machine agree?

    python -m reports.repeat ONE.jsonl TWO.jsonl

compares the median times of the cases both files have; 1 if any that takes longer than 20 µs
differs by more than 3 %. Case by case on standard output, as a table of text.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reports.records import read
from roofline.record import Record

LONG = 20e-6  # seconds; below, a launch's own jitter is a large part
APART = 0.03


@dataclass(frozen=True)
class Pair:
    """A case in both runs, median seconds of each."""

    op: str
    case: str
    backend: str
    one: float
    two: float

    @property
    def change(self) -> float:
        return self.two / self.one - 1

    @property
    def long(self) -> bool:
        return max(self.one, self.two) > LONG

    @property
    def agrees(self) -> bool:
        return not self.long or abs(self.change) <= APART


def pairs_of(one: Sequence[Record], two: Sequence[Record]) -> list[Pair]:
    """The cases that both have a time of, the last one of each, in the first's order."""
    first, second = (
        {(r.op, r.case, r.asked): r.median for r in rs if r.median} for rs in (one, two)
    )
    return [Pair(*key, first[key] or 0.0, second[key] or 0.0) for key in first if key in second]


def lines_of(pairs: Sequence[Pair], only_one: int) -> list[str]:
    """A line for each case, then what they come to."""
    said = [
        f"{p.op:22} {p.backend:8} {p.one * 1e6:10.1f} {p.two * 1e6:10.1f} us {p.change:+7.2%} "
        f"{'' if p.agrees else 'APART '} {p.case}"
        for p in pairs
    ]
    long = [p for p in pairs if p.long]
    apart = [p for p in long if not p.agrees]
    largest = max((abs(p.change) for p in long), default=0.0)
    return [
        *said,
        f"{len(pairs)} cases in both, {len(long)} longer than {LONG * 1e6:.0f} us: "
        f"{len(long) - len(apart)} within {APART:.0%}, {len(apart)} apart, largest difference "
        f"{largest:.2%}; {only_one} in the first run alone",
    ]


def main(one: Path, two: Path) -> int:
    first, second = read(one), read(two)
    pairs = pairs_of(first, second)
    timed = len({(r.op, r.case, r.asked) for r in first if r.median})
    print("\n".join(lines_of(pairs, timed - len(pairs))))
    return 1 if not pairs or any(not p.agrees for p in pairs) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
