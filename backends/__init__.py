"""Backends are packages of op modules, found by name; `load` binds one implementation of each op.

A backend is a package whose modules are named like ops and hold a function (for a stateful op a
class) of that name. Its `__init__` says `DEVICES`, the device types it serves, and
`absent(device)`, the reason why it cannot run there, or None; it may also define
`implementation(op, deterministic)` to find code its own way. Others' packages join through the
entry-point group `recis.backends`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Not `import torch`: loading the backend of that name binds `backends.torch` to it.
from torch import device as torch_device
from torch.cuda import is_available as cuda_is_available

from backends.boundary import Bound, bind_machine
from recis_core.kernels import Kernels, every_op
from recis_core.spec import Op

# What `load("auto")` tries for each op, by device type.
ORDER = {"cpu": ("numba", "torch"), "cuda": ("cuda", "triton", "cupy", "torch")}


class BackendError(RuntimeError):
    """A backend, or an op of one, cannot be had: the message says which and why."""


@dataclass(frozen=True)
class Backend:
    """A package of op implementations, imported when first asked for."""

    name: str
    package: str

    def absent(self, device: torch_device | str = "cpu") -> str | None:
        """Why it cannot run on `device`, or None if it can."""
        kind = torch_device(device).type
        try:
            module = import_module(self.package)
        except Exception as error:  # whatever another's package raises is the reason to give
            return f"import fails: {type(error).__name__}: {error}"
        if kind not in module.DEVICES:
            return f"runs on {' and '.join(module.DEVICES)}, not on {kind}"
        if kind == "cuda" and not cuda_is_available():
            return "this torch sees no CUDA device"
        return module.absent(kind)

    def implementation(self, op: Op[..., Any], deterministic: bool = False) -> Callable | None:
        """Its function or class for `op`, or None where it has none.

        Where a module has a second, deterministic form it is named `<op>_deterministic`.
        """
        package = import_module(self.package)
        if hasattr(package, "implementation"):
            return package.implementation(op, deterministic)
        if find_spec(f"{self.package}.{op.name}") is None:
            return None
        module = import_module(f"{self.package}.{op.name}")
        if not hasattr(module, op.name):
            raise BackendError(
                f"module {module.__name__} of backend {self.name!r} has no {op.name}"
            )
        plain = getattr(module, op.name)
        return getattr(module, f"{op.name}_deterministic", plain) if deterministic else plain


def shipped() -> list[Backend]:
    """The backends beside this file."""
    folders = sorted(p.parent.name for p in Path(__file__).parent.glob("*/__init__.py"))
    return [Backend(name, f"backends.{name}") for name in folders]


def known() -> dict[str, Backend]:
    """Every backend by name: the shipped ones, then those of installed packages."""
    found = {b.name: b for b in shipped()}
    for point in entry_points(group="recis.backends"):
        if point.name in found and found[point.name].package != point.value:
            raise BackendError(
                f"two backends are called {point.name!r}: "
                f"{found[point.name].package} and {point.value}"
            )
        found[point.name] = Backend(point.name, point.value)
    return found


def find(name: str) -> Backend:
    """The backend called `name`, or BackendError naming those there are."""
    backends = known()
    if name not in backends:
        raise BackendError(f"no backend {name!r}; there are {', '.join(backends)}")
    return backends[name]


def load(
    *names: str,
    device: torch_device | str = "cpu",
    checked: bool = False,
    deterministic: bool = False,
) -> Kernels:
    """Bind every op to the first named backend that has it; raise BackendError if one is left out.

    One name is strict. "auto" is `ORDER` of the device type without what is absent. `checked`
    also verifies what needs to read tensors: indices, offsets, distinctness.
    """
    kind = torch_device(device).type
    if not names:
        raise BackendError(f"no backend is named; there are {', '.join(known())}")
    if names == ("auto",):
        if kind not in ORDER:
            raise BackendError(f"no order of backends is known for device {kind!r}")
        chosen = [b for b in map(find, ORDER[kind]) if b.absent(device) is None]
    else:
        chosen = [find(name) for name in names]
        for backend in chosen:
            if reason := backend.absent(device):
                raise BackendError(f"backend {backend.name!r} is absent: {reason}")
    label = "+".join(names)
    bound: dict[str, Any] = {}
    origins: dict[str, str] = {}
    composed = []
    for op in every_op():
        for backend in chosen:
            call = backend.implementation(op, deterministic)
            if call is not None:
                bind = bind_machine if op.machine else Bound.of
                bound[op.name] = bind(op, call, backend.name, device, checked)
                origins[op.name] = backend.name
                break
        else:
            if op.default is None:
                asked = " and ".join(repr(b.name) for b in chosen) or "no available backend"
                raise BackendError(f"op {op.name!r} is not implemented by backend {asked}")
            composed.append(op)
    for op in composed:
        # The default calls the ops it is made of, so they must be bound before it runs.
        call = Composed(op)
        bound[op.name] = Bound.of(op, call, label, device, checked)
        origins[op.name] = f"{label} (composed)"
    kernels = Kernels(label, bound, origins, str(device))
    for op in composed:
        bound[op.name].call.kernels = kernels
    return kernels


class Composed:
    """A fused op's default, calling smaller ops of the kernels it is bound in."""

    kernels: Kernels

    def __init__(self, op: Op[..., Any]) -> None:
        assert op.default is not None
        self.default = op.default

    def __call__(self, *args: Any) -> Any:
        return self.default(self.kernels, *args)
