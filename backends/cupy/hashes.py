"""CUDA text of the hashes, shared with backend cuda, whose host twins test it bit for bit."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def hashes() -> str:
    """The header without its includes: device.py has the types."""
    text = (Path(__file__).parent.parent / "cuda" / "hash.cuh").read_text()
    lines = text.splitlines(True)
    return "".join(line for line in lines if not line.startswith(("#include", "#pragma once")))
