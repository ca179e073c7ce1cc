"""Workloads: a model, its data and its defaults, each a file whose `workload` is found by name."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from workloads.definition import Defaults, Workload

__all__ = ["Defaults", "Workload", "find", "names"]


def names() -> tuple[str, ...]:
    return tuple(sorted(_all()))


def find(name: str) -> Workload:
    """The workload called `name`, or KeyError naming those there are."""
    found = _all()
    if name not in found:
        raise KeyError(f"no workload {name!r}; there are {', '.join(sorted(found))}")
    return found[name]


def _all() -> dict[str, Workload]:
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.ispkg:
            there = import_module(f"{__name__}.{module.name}")
            one = getattr(there, "workload", None)
            each = getattr(there, "workloads", () if one is None else (one,))
            found |= {workload.name: workload for workload in each}
    return found
