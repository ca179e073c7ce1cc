"""Drawing in SVG: elements, logarithmic axes, and marks that carry their words with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

# One shape and colour a backend, so that colour alone never carries the meaning.
MARKS = {
    "cuda": "circle", "triton": "square", "cupy": "diamond", "numba": "circle",
    "torch": "triangle", "reference": "cross",
}  # fmt: skip
SHAPES = ("circle", "triangle", "square", "diamond", "cross")


def element(name: str, *inner: str, **attributes: object) -> str:
    """An SVG element; "class_" is class, "_" in names is "-", numbers are rounded."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_plain(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{said}>{''.join(inner)}</{name}>" if inner else f"<{name}{said}/>"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return escape(str(value))


def text(x: float, y: float, said: str, **attributes: object) -> str:
    return element("text", escape(said), x=x, y=y, **attributes)


def drawing(width: int, height: int, label: str, *inner: str) -> str:
    """The whole picture, named for those who hear it."""
    return element(
        "svg",
        f"<title>{escape(label)}</title>",
        *inner,
        viewBox=f"0 0 {width} {height}",
        role="group",
        aria_label=label,
    )


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on pixels from `start` to `end`, by powers or evenly."""

    low: float
    high: float
    start: float
    end: float
    log: bool = True

    def __call__(self, value: float) -> float:
        a, b, v = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        share = (v - a) / (b - a) if b > a else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Powers of ten, with 2 and 5 between them where there are few; evenly if not log."""
        if not self.log:
            step = nice((self.high - self.low) / 5)
            first = math.ceil(self.low / step)
            return [k * step for k in range(first, math.floor(self.high / step) + 1)]
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        parts = (1, 2, 5) if high - low <= 3 else (1,)
        found = [m * 10.0**e for e in range(low, high + 1) for m in parts]
        return [v for v in found if self.low * 0.999 <= v <= self.high * 1.001]


def nice(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(m * power for m in (1, 2, 5, 10) if m * power >= value * 0.999)


def around(values: Iterable[float]) -> tuple[float, float]:
    """A range a little wider than `values`, for a logarithmic axis."""
    found = [v for v in values if v > 0]
    return (min(found) / 1.6, max(found) * 1.6) if found else (0.1, 10.0)


def short(value: float) -> str:
    """A tick's number with K, M, G."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= limit * 0.999:
            return f"{value / limit:g}{unit}"
    return f"{value:.3g}"


@dataclass(frozen=True)
class Frame:
    """A picture with two axes."""

    x: Scale
    y: Scale
    width: int
    height: int

    def axes(self, x_name: str, y_name: str) -> str:
        """Grid, numbers and names of both axes."""
        left, right, top, bottom = self.x.start, self.x.end, self.y.end, self.y.start
        parts = []
        for value in self.x.ticks():
            at = self.x(value)
            parts.append(element("line", x1=at, x2=at, y1=top, y2=bottom, class_="grid"))
            parts.append(text(at, bottom + 16, short(value), text_anchor="middle", class_="tick"))
        for value in self.y.ticks():
            at = self.y(value)
            parts.append(element("line", x1=left, x2=right, y1=at, y2=at, class_="grid"))
            parts.append(text(left - 6, at + 4, short(value), text_anchor="end", class_="tick"))
        parts.append(
            text((left + right) / 2, self.height - 4, x_name, text_anchor="middle", class_="axis")
        )
        parts.append(text(4, 13, y_name, class_="axis"))
        return element("g", *parts, aria_hidden="true")


def shape(kind: str, x: float, y: float, size: float = 4.5) -> str:
    """A mark centred on (x, y)."""
    s = size
    if kind == "circle":
        return element("circle", cx=x, cy=y, r=s)
    if kind == "cross":
        arms = f"M{x - s:.1f} {y - s:.1f}l{2 * s} {2 * s}m0 {-2 * s}l{-2 * s} {2 * s}"
        return element("path", d=arms, class_="stroked")
    corners: Sequence[tuple[float, float]] = {
        "square": ((-s, -s), (s, -s), (s, s), (-s, s)),
        "diamond": ((0, -1.3 * s), (1.3 * s, 0), (0, 1.3 * s), (-1.3 * s, 0)),
        "triangle": ((0, -1.2 * s), (1.15 * s, s), (-1.15 * s, s)),
    }[kind]
    return element("path", d="M" + "L".join(f"{x + a:.1f} {y + b:.1f}" for a, b in corners) + "z")


def mark(backend: str, x: float, y: float, said: str) -> str:
    """A backend's mark that can be pointed at and focused, and then says `said`."""
    kind = MARKS.get(backend.split("+")[0]) or SHAPES[sum(map(ord, backend)) % len(SHAPES)]
    inner = (f"<title>{escape(said)}</title>", shape(kind, x, y))
    return element(
        "g", *inner, class_=f"mark {css(backend)}", tabindex=0, role="img", aria_label=said
    )


def css(backend: str) -> str:
    """The class that gives a backend its colour."""
    first = backend.split("+")[0].split(" ")[0]
    return f"b-{first}" if first in MARKS else "b-any"


def legend(backends: Iterable[str], x: float, y: float) -> str:
    """Which mark is whose, in one row."""
    parts = []
    for backend in backends:
        kind = MARKS.get(backend.split("+")[0]) or SHAPES[sum(map(ord, backend)) % len(SHAPES)]
        parts.append(element("g", shape(kind, x + 5, y - 4), class_=css(backend)))
        parts.append(text(x + 14, y, backend, class_="key"))
        x += 26 + 7.5 * len(backend)
    return element("g", *parts)
