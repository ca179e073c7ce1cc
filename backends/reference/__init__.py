"""The NumPy references behind the torch boundary: slow, and right by definition.

The only place where references are adapted to torch tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backends.arrays import to_numpy, write_back
from backends.boundary import torch_dtype
from recis_core.spec import Op

DEVICES = ("cpu",)


def absent(device: str) -> str | None:
    return None


def implementation(op: Op[..., Any], deterministic: bool = False) -> Callable[..., Any]:
    return adapt_machine(op) if op.machine else adapt(op)


def adapt(op: Op[..., Any]) -> Callable[..., Any]:
    """The reference of `op` on torch arguments, its outputs cast to the declared dtypes."""
    mutated = [i for i, p in enumerate(op.params) if p.name in op.mutates]

    def call(*args: Any) -> Any:
        seen = [to_numpy(a) for a in args]
        returned = op.reference(*seen)
        for i in mutated:
            write_back(args[i], seen[i])
        outs = op.outs(*args)
        arrays = returned if isinstance(returned, tuple) else (returned,)
        tensors = [to_tensor(a, torch_dtype(o.dtype)) for a, o in zip(arrays, outs, strict=False)]
        return tuple(tensors)

    return call


def to_tensor(array: Any, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)


def adapt_machine(op: Op[..., Any]) -> Callable[..., Any]:
    """A class whose methods call those of the NumPy machine."""

    class Adapted:
        def __init__(self, *args: Any, device: torch.device) -> None:
            self.state = op.reference(*args)

        def __getattr__(self, name: str) -> Any:
            found = getattr(self.state, name)
            if not callable(found):
                return found

            def call(*args: Any) -> Any:
                returned = found(*map(to_numpy, args))
                if isinstance(returned, tuple):
                    return tuple(map(torch.from_numpy, returned))
                return torch.from_numpy(returned)

            return call

        def __len__(self) -> int:
            return len(self.state)

    return Adapted
