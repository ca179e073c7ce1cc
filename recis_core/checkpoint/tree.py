"""Nested state as JSON: tensors go by name to a file beside it, nothing is pickled.

Plain JSON values stand for themselves; other values become {"@kind": content}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

PLAIN = (str, int, bool, type(None))


def pack(state: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`state` as JSON; its tensors are added to `tensors` under names that begin with `name`.

    TypeError names what cannot be stored.
    """
    if isinstance(state, Tensor):
        tensors[name] = state
        return {"@tensor": name}
    if isinstance(state, float):
        return state if math.isfinite(state) else {"@float": repr(state)}
    if isinstance(state, PLAIN):
        return state
    if isinstance(state, tuple | list):
        packed = [pack(item, f"{name}/{i}", tensors) for i, item in enumerate(state)]
        return packed if isinstance(state, list) else {"@tuple": packed}
    if isinstance(state, Mapping):
        if all(isinstance(key, str) and not key.startswith("@") for key in state):
            return {key: pack(item, f"{name}/{key}", tensors) for key, item in state.items()}
        pairs = [[k, pack(item, f"{name}/{k}", tensors)] for k, item in state.items()]
        if all(isinstance(key, PLAIN) for key in state):
            return {"@items": pairs}
    raise TypeError(f"state {name} is {type(state).__name__}, which a checkpoint does not hold")


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` was given."""
    if isinstance(packed, list):
        return [unpack(item, tensors) for item in packed]
    if not isinstance(packed, dict):
        return packed
    match packed:
        case {"@tensor": name}:
            return tensors[name]
        case {"@float": text}:
            return float(text)
        case {"@tuple": items}:
            return tuple(unpack(item, tensors) for item in items)
        case {"@items": pairs}:
            return {key: unpack(item, tensors) for key, item in pairs}
    return {key: unpack(item, tensors) for key, item in packed.items()}
