"""Rooflines on logarithmic axes: by intensity for ops that compute, by size for ops that move."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.chart import Frame, Scale, around, drawing, element, legend, mark, text

WIDTH, HEIGHT = 720, 400
# Names of flat roofs stand right of the frame, where no mark can be.
LEFT, RIGHT, TOP, BOTTOM = 54, 580, 46, 346


@dataclass(frozen=True)
class Point:
    """One measurement: its place, whose it is, and what is said when it is pointed at."""

    x: float
    y: float
    backend: str
    said: str


def _frame(xs: Sequence[float], ys: Sequence[float]) -> Frame:
    x = Scale(*around(xs), LEFT, RIGHT)
    return Frame(x, Scale(*around(ys), BOTTOM, TOP), WIDTH, HEIGHT)


def _marks(frame: Frame, points: Sequence[Point]) -> str:
    drawn = [mark(p.backend, frame.x(p.x), frame.y(p.y), p.said) for p in points]
    return element("g", *drawn, class_="marks") if drawn else ""


def _names(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(p.backend for p in points))


def by_intensity(
    points: Sequence[Point], memory: Mapping[str, float], peaks: Mapping[str, float], label: str
) -> str:
    """Gflop/s over flops per byte. `memory`: roofs in GB/s, drawn as slopes; `peaks`: in Gflop/s,
    drawn flat; both by name."""
    top = max([*peaks.values(), *(p.y for p in points)])
    highest = max(memory.values())
    ridge = top / highest
    frame = _frame([ridge, *(p.x for p in points)], [top, *(p.y for p in points)])
    drawn = [frame.axes("flops per minimum byte", "Gflop/s")]
    for name, rate in memory.items():
        # The slope, cut where it leaves the frame or meets the highest peak.
        low = max(frame.x.low, frame.y.low / rate)
        high = min(frame.x.high, top / rate)
        if low < high:
            drawn.append(_line(frame, low, low * rate, high, high * rate))
            x, y = frame.x(low) + 8, frame.y(low * rate) - 8
            slope = f"rotate({_angle(frame, low, high, rate):.1f} {x:.1f} {y:.1f})"
            drawn.append(
                text(x, y, f"{name} {rate:,.0f} GB/s", class_="roof-name", transform=slope)
            )
    for rate in peaks.values():
        drawn.append(_line(frame, max(rate / highest, frame.x.low), rate, frame.x.high, rate))
    drawn.append(_named(frame, peaks, "Gflop/s"))
    drawn += [_marks(frame, points), legend(_names(points), LEFT, 34)]
    return drawing(WIDTH, HEIGHT, label, *drawn)


def _angle(frame: Frame, low: float, high: float, rate: float) -> float:
    rise = frame.y(high * rate) - frame.y(low * rate)
    return math.degrees(math.atan2(rise, frame.x(high) - frame.x(low)))


def by_size(
    points: Sequence[Point], roofs: Mapping[str, float], label: str, x_name: str, y_name: str
) -> str:
    """GB/s over bytes, with `roofs` in GB/s drawn flat."""
    frame = _frame([p.x for p in points], [*roofs.values(), *(p.y for p in points)])
    drawn = [frame.axes(x_name, y_name)]
    for rate in roofs.values():
        drawn.append(_line(frame, frame.x.low, rate, frame.x.high, rate))
    drawn.append(_named(frame, roofs, "GB/s"))
    drawn += [_marks(frame, points), legend(_names(points), LEFT, 34)]
    return drawing(WIDTH, HEIGHT, label, *drawn)


def _named(frame: Frame, rates: Mapping[str, float], unit: str) -> str:
    """The names of flat lines, moved apart where they would overlap."""
    drawn, last = [], float("inf")
    for name, rate in sorted(rates.items(), key=lambda each: each[1]):
        last = min(frame.y(rate) + 4, last - 25)
        drawn.append(text(RIGHT + 8, last, name, class_="roof-name"))
        drawn.append(text(RIGHT + 8, last + 12, f"{rate:,.0f} {unit}", class_="roof-name"))
    return element("g", *drawn) if drawn else ""


def _line(frame: Frame, x1: float, y1: float, x2: float, y2: float) -> str:
    a, b = (frame.x(x1), frame.y(y1)), (frame.x(x2), frame.y(y2))
    return element("line", x1=a[0], y1=a[1], x2=b[0], y2=b[1], class_="roof")
