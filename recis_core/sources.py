"""The source text that a function's behaviour rests on, so that a change of any of it shows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CodeType, ModuleType
from typing import Any

# What these hold is the frame every op is declared in, not the meaning of one.
FRAME = ("recis_core.spec", "recis_core.types", "recis_core.rules", "recis_core.tolerance")


def sources(start: Callable[..., Any], seen: set[Any] | None = None) -> Iterator[str]:
    """Source of a function or class, then of each it names in its own package, each once."""
    seen = set() if seen is None else seen
    if start in seen:
        return
    seen.add(start)
    yield inspect.getsource(start)
    methods = vars(start).values() if inspect.isclass(start) else (start,)
    for method in filter(inspect.isfunction, methods):
        names = sorted(named(method.__code__))
        for name in names:
            for value in resolve(method.__globals__.get(name), names):
                if inspect.isfunction(value) or inspect.isclass(value):
                    ours = value.__module__.partition(".")[0] == start.__module__.partition(".")[0]
                    if ours and value.__module__ not in FRAME:
                        yield from sources(value, seen)
                elif isinstance(value, int | float | str | tuple):
                    yield f"{name} = {value!r}"


def resolve(value: Any, names: list[str]) -> list[Any]:
    """A global; of an imported module the attributes that are named, of an op its reference."""
    if isinstance(value, ModuleType):
        if value.__name__.startswith("numpy"):
            return []
        return [getattr(value, name) for name in names if hasattr(value, name)]
    return [getattr(value, "reference", value)]


def named(code: CodeType) -> set[str]:
    """Every global or attribute that code names, nested functions included."""
    inner = (named(c) for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*inner)
