"""Block shapes: a small declared space, searched by `tune`, the choice kept for each device.

A call never searches: it may be inside a graph capture, and most ops change their arguments. It
takes the stored choice of its device's name, or the best found on an H100.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch


class Choice(NamedTuple):
    """Elements of a program's tile, and its warps of 32 threads."""

    tile: int
    warps: int


SPACE: dict[str, tuple[Choice, ...]] = {
    "copy": (Choice(2048, 4), Choice(1024, 2), Choice(4096, 4), Choice(4096, 8)),
    "update": (Choice(1024, 8), Choice(512, 4), Choice(2048, 4), Choice(4096, 4)),
    "draw": (Choice(1024, 4), Choice(512, 2), Choice(2048, 4), Choice(2048, 8)),
    "segment": (Choice(512, 1), Choice(1024, 1), Choice(1024, 2), Choice(256, 1)),
    # Segments of two values and fewer on average, most often gradients.
    "short": (Choice(512, 1), Choice(1024, 1), Choice(1024, 2), Choice(512, 2)),
    "fused": (Choice(256, 1), Choice(512, 2), Choice(512, 1), Choice(1024, 4)),
}
# Where another than the first was the best found, by kind and columns.
BEST = {("short", 64): Choice(1024, 2), ("short", 128): Choice(1024, 2)}


def cache_file() -> Path:
    return Path.home() / ".cache" / "recis-suite" / "triton-tuning.json"


@cache
def stored(path: Path) -> dict[str, list[int]]:
    return json.loads(path.read_text()) if path.exists() else {}


@cache
def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@cache
def chosen(kind: str, columns: int, device: torch.device) -> Choice:
    """The shape for rows of `columns` elements (a power of two) on `device`."""
    found = stored(cache_file()).get(key_of(kind, columns, device))
    return Choice(*found) if found else BEST.get((kind, columns), SPACE[kind][0])


def key_of(kind: str, columns: int, device: torch.device) -> str:
    return f"{device_name(device)}/{kind}/{columns}"


def tune(
    kind: str, columns: int, device: torch.device, seconds: Callable[[], float]
) -> dict[Choice, float]:
    """Time every choice of a kind with `seconds()` and keep the fastest; returns the times.

    `seconds` runs the op in question on rows of `columns` elements and says how long it took; the
    caller owns the arguments, which an op may change.
    """
    key, times = key_of(kind, columns, device), {}
    for choice in SPACE[kind]:
        override(key, choice)
        times[choice] = seconds()
    override(key, min(times, key=lambda c: times[c]))
    return times


def override(key: str, choice: Choice) -> None:
    """Store a choice and use it from now on."""
    path = cache_file()
    kept = {**stored(path), key: list(choice)}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: another process reads either the old file or the new one.
    fresh = path.with_suffix(f".{id(kept)}.tmp")
    fresh.write_text(json.dumps(kept, indent=1))
    fresh.replace(path)
    stored.cache_clear()
    chosen.cache_clear()
