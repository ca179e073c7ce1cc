"""Bars: a step's waterfall from its bound to its time, and the rounds of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.chart import Frame, Scale, drawing, element, legend, mark, nice, text

WIDTH, ROW, NAME, RIGHT = 680, 26, 215, 600


@dataclass(frozen=True)
class Bar:
    """A stretch of a waterfall: `seconds` from where the one before it ended.

    `kind`: "bound", "total" (both from zero), "least", "traffic", "op", "other"; `said` as spoken.
    """

    name: str
    seconds: float
    kind: str
    said: str

    @property
    def whole(self) -> bool:
        """Whether it starts from zero."""
        return self.kind in ("bound", "total")

    @property
    def form(self) -> str:
        """How its milliseconds are written: with a sign where it adds to what came before."""
        return ".3f" if self.whole else "+.3f"


def waterfall(bars: Sequence[Bar], label: str) -> str:
    """Bars one below the other, each beginning where the last ended."""
    height = ROW * len(bars) + 40
    longest = max(b.seconds for b in bars)
    x = Scale(0.0, longest * 1e3 * 1.02, NAME, RIGHT, log=False)
    drawn, at = [], 0.0
    for value in x.ticks():
        where = x(value)
        drawn.append(element("line", x1=where, x2=where, y1=4, y2=height - 34, class_="grid"))
        drawn.append(text(where, height - 18, f"{value:g}", text_anchor="middle", class_="tick"))
    drawn.append(text(RIGHT, height - 3, "ms", text_anchor="end", class_="axis"))
    for row, bar in enumerate(bars):
        begin = 0.0 if bar.whole else at
        at = begin + bar.seconds
        low, high = sorted((begin * 1e3, at * 1e3))
        y, left, right = 6.0 + row * ROW, x(max(low, 0.0)), x(high)
        box = element("rect", x=left, y=y, width=max(right - left, 1.0), height=ROW - 7.0, rx=2)
        value = text(right + 5, y + 15, format(bar.seconds * 1e3, bar.form), class_="tick")
        inner = (element("title", bar.said), box, value)
        about = {"tabindex": 0, "role": "img", "aria_label": bar.said}
        drawn.append(text(NAME - 8, y + 15, bar.name, text_anchor="end", class_="key"))
        drawn.append(element("g", *inner, class_=f"mark bar {bar.kind}", **about))
    return drawing(WIDTH, height, label, *drawn)


def rounds(times: Mapping[str, Sequence[float]], label: str) -> str:
    """Milliseconds a step of every round, one row of marks a contender."""
    every = [t * 1e3 for values in times.values() for t in values]
    height = 34 * len(times) + 44
    x = Scale(0.0, max(every) * 1.05, NAME, WIDTH - 20, log=False)
    drawn = []
    for value in x.ticks():
        where = x(value)
        drawn.append(element("line", x1=where, x2=where, y1=4, y2=height - 34, class_="grid"))
        drawn.append(text(where, height - 18, f"{value:g}", text_anchor="middle", class_="tick"))
    drawn.append(text(WIDTH - 20, height - 3, "ms a step", text_anchor="end", class_="axis"))
    for row, (name, values) in enumerate(times.items()):
        y = 24 + 34 * row
        drawn.append(text(NAME - 8, y + 5, name, text_anchor="end", class_="key"))
        said = [f"{name}, round {k}: {t * 1e3:.2f} ms a step" for k, t in enumerate(values, 1)]
        marks = [mark(name, x(t * 1e3), y, s) for t, s in zip(values, said, strict=True)]
        drawn.append(element("g", *marks, class_="marks"))
    return drawing(WIDTH, height, label, *drawn)


def history(lines: Mapping[str, Sequence[tuple[str, float, str]]], label: str) -> str:
    """Time relative to the first, for each backend over the dates: (date, ratio, words)."""
    dates = sorted({date for points in lines.values() for date, _, _ in points})
    ratios = [ratio for points in lines.values() for _, ratio, _ in points]
    low, high = min([*ratios, 0.8]), max([*ratios, 1.25])
    places = Scale(0.0, max(len(dates) - 1, 1), 60, WIDTH - 30, log=False)
    frame = Frame(places, Scale(low / 1.05, high * 1.05, 200, 46), WIDTH, 250)
    drawn = []
    step = nice(len(dates) / 8) if len(dates) > 8 else 1
    for k, date in enumerate(dates):
        if k % int(step) == 0:
            drawn.append(
                text(places(k), 218, date.lstrip("0"), text_anchor="middle", class_="tick")
            )
    for value in frame.y.ticks():
        at = frame.y(value)
        drawn.append(element("line", x1=60, x2=WIDTH - 30, y1=at, y2=at, class_="grid"))
        drawn.append(text(54, at + 4, f"{value:g}", text_anchor="end", class_="tick"))
    drawn.append(text(4, 13, "time over the first record's", class_="axis"))
    for name, points in lines.items():
        spots = [(places(dates.index(d)), frame.y(r), said) for d, r, said in points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in spots)
        drawn.append(element("path", d=path, class_="trend"))
        drawn.append(element("g", *(mark(name, *spot) for spot in spots), class_="marks"))
    drawn.append(legend(lines, 60, 34))
    return drawing(WIDTH, 250, label, *drawn)
