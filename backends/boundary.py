"""The boundary every call of an op crosses: arguments checked, outputs allocated and verified."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recis_core.blocks import Blocks
from recis_core.spec import ARRAY_KINDS, Op, Out, Param, params_of

DTYPES = {
    "Ids": (torch.int64,),
    "Index": (torch.int32, torch.int64),
    "Values": (torch.float32, torch.float16, torch.bfloat16),
    "Bytes": (torch.uint8,),
    "Flags": (torch.bool,),
    "Double": (torch.float64,),
}
SCALARS = {"int": int, "float": (float, int), "str": str}


def check_kind(param: Param, value: Any, device: torch.device) -> None:
    """Raise TypeError or ValueError unless `value` is of the declared kind and on `device`."""
    if value is None and param.optional:
        return
    if param.kind in DTYPES:
        if not isinstance(value, Tensor):
            raise TypeError(f"argument {param.name!r} is {type(value).__name__}, not a tensor")
        if value.dtype not in DTYPES[param.kind]:
            allowed = " or ".join(str(d).removeprefix("torch.") for d in DTYPES[param.kind])
            raise TypeError(f"argument {param.name!r} has dtype {value.dtype}, not {allowed}")
        if value.device.type != device.type or value.requires_grad:
            what = "requires grad" if value.requires_grad else f"is on {value.device}, not {device}"
            raise ValueError(f"argument {param.name!r} {what}")
    elif param.kind == "Blocks":
        if not isinstance(value, Blocks):
            raise TypeError(f"argument {param.name!r} is {type(value).__name__}, not Blocks")
        if value.device.type != device.type:
            raise ValueError(f"argument {param.name!r} is on {value.device}, not {device}")
    elif not isinstance(value, SCALARS[param.kind]) or isinstance(value, bool):
        raise TypeError(f"argument {param.name!r} is {value!r}, not of type {param.kind}")


def torch_dtype(dtype: Any) -> torch.dtype:
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype


@dataclass(frozen=True, eq=False)
class Bound:
    """One op of one backend, ready to call with torch tensors.

    `call` either takes the outputs, named as declared, as its last parameters (they are allocated
    here) or returns them. `empty` allocates; tests put a poisoning one in its place.
    """

    op: Op[..., Any]
    call: Callable[..., Any]
    backend: str
    device: torch.device
    checked: bool = False
    empty: Callable[..., Tensor] = torch.empty
    params: tuple[Param, ...] = ()
    gives: bool = False

    @classmethod
    def of(
        cls,
        op: Op[..., Any],
        call: Callable[..., Any],
        backend: str,
        device: torch.device | str,
        checked: bool = False,
    ) -> Bound:
        taken = inspect.signature(call).parameters.values()
        variadic = any(p.kind is p.VAR_POSITIONAL for p in taken)
        gives = not getattr(call, "takes_outputs", False) and (
            variadic or len(taken) == len(op.params)
        )
        device = torch.device(device)
        return cls(op, call, backend, device, checked, params=op.params, gives=gives)

    def __call__(self, *args: Any, out: Tensor | None = None) -> Any:
        """`out`: memory for the only output, which is then what is returned."""
        verify(self.op, self.params, args, self.device, self.checked)
        args = tuple(a.contiguous() if isinstance(a, Tensor) else a for a in args)
        outs = self.op.outs(*args)
        if out is not None:
            verify_outputs(self, outs, (out,))
        if self.gives:
            returned = self.call(*args)
            tensors = returned if isinstance(returned, tuple) else (returned,) * bool(outs)
            verify_outputs(self, outs, tensors)
            if out is not None:
                tensors = (out.copy_(tensors[0]),)
        elif out is not None:
            self.call(*args, out)
            tensors = (out,)
        else:
            tensors = tuple(
                self.empty(o.shape, dtype=torch_dtype(o.dtype), device=self.device) for o in outs
            )
            self.call(*args, *tensors)
        return tensors[0] if len(tensors) == 1 else tensors or None


def check_kinds(params: Sequence[Param], args: Sequence[Any], device: torch.device) -> None:
    """Raise TypeError or ValueError unless each of `params` has an argument of its kind."""
    if len(args) != len(params):
        names = ", ".join(p.name for p in params)
        raise TypeError(f"takes ({names}), got {len(args)} arguments")
    on = device.type
    on_host = on == "cpu"
    for param, value in zip(params, args, strict=True):
        # What nearly every argument is, told without a further call: a step checks hundreds.
        usual = (
            isinstance(value, Tensor)
            and value.dtype in DTYPES.get(param.kind, ())
            and (value.is_cpu if on_host else value.device.type == on)
            and not value.requires_grad
        )
        if not usual:
            check_kind(param, value, device)


def verify(
    op: Any,  # an Op; as an attribute its type is that of what it describes
    params: Sequence[Param],
    args: Sequence[Any],
    device: torch.device,
    checked: bool,
) -> None:
    """Raise an error that names op, argument and value if the call is not a legal one."""
    try:
        check_kinds(params, args, device)
        named = {p.name: a for p, a in zip(params, args, strict=True)}
        for rule in op.rules:
            if checked or not rule.reads_values:
                rule.check(named)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise type(error)(f"{op.name}: {error.args[0]}") from None


def verify_outputs(bound: Bound, outs: tuple[Out, ...], tensors: tuple[Tensor, ...]) -> None:
    """Raise TypeError unless an implementation returned what the declaration says."""
    said = f"{bound.op.name} of backend {bound.backend}"
    if len(tensors) != len(outs):
        raise TypeError(f"{said} returned {len(tensors)} outputs, declared are {len(outs)}")
    for out, tensor in zip(outs, tensors, strict=True):
        padded = out.valid is not None and tensor.shape[1:] == out.shape[1:]
        if tuple(tensor.shape) != tuple(out.shape) and not padded:
            raise TypeError(f"{said}: {out.name} has shape {tuple(tensor.shape)}, not {out.shape}")
        if tensor.dtype != torch_dtype(out.dtype):
            raise TypeError(f"{said}: {out.name} is {tensor.dtype}, not {torch_dtype(out.dtype)}")


class Machine:
    """A stateful op's object behind the boundary: each method's arguments are checked."""

    def __init__(
        self, op: Op[..., Any], state: Any, backend: str, device: torch.device, checked: bool
    ) -> None:
        self._state = state
        for name, method in vars(op.reference).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                bound = Method(
                    op.name, name, getattr(state, name), params_of(method), device, checked
                )
                setattr(self, name, bound)

    def __len__(self) -> int:
        return len(self._state)

    @property
    def extent(self) -> int:
        """One more than the largest row ever given out."""
        return self._state.extent


@dataclass(frozen=True)
class Method:
    """One method of a stateful op, behind the boundary."""

    op: str
    name: str
    call: Callable[..., Any]
    params: tuple[Param, ...]
    device: torch.device
    checked: bool

    def __call__(self, *args: Any) -> Any:
        try:
            check_kinds(self.params, args, self.device)
            for param, value in zip(self.params, args, strict=True):
                if value.ndim != 1:
                    raise ValueError(
                        f"argument {param.name!r} has shape {tuple(value.shape)}, not 1 dimensions"
                    )
            if len({a.shape[0] for a in args}) > 1:
                said = ", ".join(
                    f"{p.name!r} {len(a)}" for p, a in zip(self.params, args, strict=True)
                )
                raise ValueError(f"arguments must have one length, but have {said}")
            if self.checked and args:
                require_tables(args[0])
                if self.name != "find":
                    require_distinct(*args)
        except (TypeError, ValueError, IndexError) as error:
            raise type(error)(f"{self.op}.{self.name}: {error}") from None
        return self.call(*(a.contiguous() for a in args))


def require_tables(tables: Tensor) -> None:
    """Raise IndexError unless every table is in [0, 2^31)."""
    for value in (int(tables.min()), int(tables.max())) if len(tables) else ():
        if not 0 <= value < 1 << 31:
            raise IndexError(f"argument 'tables' has value {value}, outside [0, {1 << 31})")


def require_distinct(tables: Tensor, ids: Tensor) -> None:
    """Raise ValueError naming a (table, id) pair that comes twice."""
    pairs, counts = torch.stack([tables.long(), ids], 1).unique(dim=0, return_counts=True)
    if len(pairs) < len(ids):
        twice = pairs[counts > 1][0].tolist()
        raise ValueError(
            f"arguments 'tables' and 'ids' must be distinct pairs; "
            f"table {twice[0]}, id {twice[1]} comes twice"
        )


@dataclass(frozen=True)
class Constructor:
    """Makes objects of a stateful op behind the boundary; the device is passed on by name."""

    op: Any
    make: Callable[..., Any]
    backend: str
    device: torch.device
    checked: bool

    def __call__(self, *args: Any) -> Machine:
        verify(self.op, self.op.params, args, self.device, self.checked)
        state = self.make(*args, device=self.device)
        return Machine(self.op, state, self.backend, self.device, self.checked)


def bind_machine(
    op: Op[..., Any],
    make: Callable[..., Any],
    backend: str,
    device: torch.device | str,
    checked: bool,
) -> Constructor:
    """The constructor of a stateful op behind the boundary."""
    return Constructor(op, make, backend, torch.device(device), checked)


__all__ = ["ARRAY_KINDS", "Bound", "Machine", "bind_machine", "check_kind", "torch_dtype"]
