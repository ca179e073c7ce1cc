"""An op, declared once: what it means, what it is fed, what it must move, how close is close."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar, overload

import numpy as np

from recis_core.rules import Rule
from recis_core.sources import sources
from recis_core.tolerance import EXACT, Disagreement, Tolerance

P = ParamSpec("P")
R = TypeVar("R")
Args = dict[str, Any]
Outputs = tuple[Any, ...]
Size = Literal["test", "bench"]

ARRAY_KINDS = ("Ids", "Index", "Values", "Bytes", "Flags", "Double")


class Traffic(NamedTuple):
    """Bytes an op moves, by three rules that are never mixed.

    minimum = `read` + `written`: each needed byte of memory once, outputs included.
    `requested`: every access, repeats included; what caches have to serve.
    `recis`: what RecIS's own profiler would count, None where it has no formula.
    `flops`: arithmetic operations.
    """

    read: int
    written: int
    requested: int
    flops: int = 0
    recis: int | None = None

    @property
    def minimum(self) -> int:
        return self.read + self.written


class Out(NamedTuple):
    """An output tensor the caller allocates: dtype by name ("int64") or taken from an argument.

    `valid`: of a padded output, the name of the output whose sum says how many leading elements
    mean something.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Any
    valid: str | None = None


class Param(NamedTuple):
    """An argument: `kind` is its annotation without "| None", which `optional` keeps."""

    name: str
    kind: str
    optional: bool


@dataclass(frozen=True)
class Case:
    """One named point of an op's input space; the same name always gives the same arrays."""

    name: str
    size: Args
    draw: Callable[..., Args]

    def make(self) -> Args:
        seed = int.from_bytes(sha256(self.name.encode()).digest()[:4])
        return self.draw(np.random.default_rng(seed), **self.size)


class Step(NamedTuple):
    """One call of a machine's trace and what it returned."""

    method: str
    args: tuple[Any, ...]
    outputs: Outputs


@dataclass(frozen=True, eq=False)
class Op(Generic[P, R]):
    """An operation: a NumPy reference plus what tests, benchmarks and rooflines need to know.

    The reference sees NumPy arrays, floats widened to float64, blocks as `Slots`; it returns its
    outputs at their exact length and writes the arguments it `mutates` in place.
    On a class it is the declaration; on an instance of `Kernels` that instance's implementation.
    """

    reference: Callable[P, R]
    tolerance: Tolerance = EXACT
    mutates: tuple[str, ...] = ()
    machine: bool = False
    _hooks: dict[str, Any] = field(default_factory=dict, repr=False)

    # Declared beside the reference.

    def inputs(self, *, test: Sequence[Args], bench: Sequence[Args]) -> Callable[..., None]:
        """Register the generator `(rng, **size) -> args` and the sizes it is called with."""

        def register(draw: Callable[..., Args]) -> None:
            self._hooks.update(draw=draw, test=test, bench=bench)

        return register

    def outputs(self, shapes: Callable[..., Out | tuple[Out, ...]]) -> None:
        """Register `(*args) -> Out | (Out, …)`; an op without outputs only mutates."""
        self._hooks["outputs"] = shapes

    def moves(self, count: Callable[..., Traffic]) -> None:
        """Register `(*args) -> Traffic`, from what the implementation is given (torch tensors)."""
        self._hooks["moves"] = count

    def up_to(self, canonical: Callable[[Args, Outputs], Outputs]) -> None:
        """Register `(args, outputs) -> outputs`: checks what freedom leaves fixed (raising
        Disagreement), then erases the freedom. For a machine `outputs` is the list of `Step`."""
        self._hooks["up_to"] = canonical

    def requires(self, *rules: Rule) -> None:
        """Register what arguments must satisfy beyond their kinds."""
        self._hooks["rules"] = rules

    def composed(self, default: Callable[..., Any]) -> None:
        """Register `(kernels, *args)`: a fused op's meaning in smaller ops of the same kernels."""
        self._hooks["composed"] = default

    # Derived.

    @property
    def name(self) -> str:
        return self.reference.__name__

    @property
    def params(self) -> tuple[Param, ...]:
        return params_of(self.reference)

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self._hooks.get("rules", ())

    @property
    def default(self) -> Callable[..., Any] | None:
        return self._hooks.get("composed")

    @property
    def version(self) -> str:
        """Changes when the meaning or the inputs change; old timings then stop counting."""
        parts = (self.reference, *(hook for hook in self._hooks.values() if callable(hook)))
        texts = [text for part in parts for text in sources(part)]
        text = "".join(texts) + repr(self._hooks["bench"])
        return sha256(text.encode()).hexdigest()[:12]

    def cases(self, size: Size) -> Iterator[Case]:
        for one in self._hooks[size]:
            yield Case("-".join(f"{k}={v}" for k, v in one.items()), one, self._hooks["draw"])

    def case(self, size: Size, name: str) -> Case:
        return next(case for case in self.cases(size) if case.name == name)

    def outs(self, *args: Any) -> tuple[Out, ...]:
        """The outputs a call with `args` has."""
        shapes = self._hooks.get("outputs")
        declared = shapes(*args) if shapes else ()
        return (declared,) if isinstance(declared, Out) else declared

    def traffic(self, *args: Any) -> Traffic:
        return self._hooks["moves"](*args)

    def canonical(self, args: Args, outputs: Any) -> Any:
        return self._hooks["up_to"](args, outputs) if "up_to" in self._hooks else outputs

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> Op[P, R]: ...
    @overload
    def __get__(self, obj: object, owner: type | None = None) -> Callable[P, Any]: ...
    def __get__(self, obj: object | None, owner: type | None = None) -> Any:
        if obj is None:
            return self
        raise AttributeError(f"{obj!r} has no implementation of {self.name}")


def op(
    *, tolerance: Tolerance = EXACT, mutates: tuple[str, ...] = ()
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Declare the decorated NumPy function to be the meaning of an op."""
    return lambda reference: Op(reference, tolerance, mutates)


def machine(*, tolerance: Tolerance = EXACT) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Declare the decorated class to be the meaning of a stateful op, replayed step by step.

    Its inputs are the constructor's arguments plus `trace`, a list of (method, *arguments); the
    last step is the one that is timed.
    """
    return lambda reference: Op(reference, tolerance, machine=True)


def params_of(function: Callable[..., Any]) -> tuple[Param, ...]:
    """Arguments of a reference, or of a machine's method or constructor, by their annotations."""
    target = function.__init__ if inspect.isclass(function) else function
    found = []
    for p in inspect.signature(target).parameters.values():
        if p.name == "self":
            continue
        kind, _, none = str(p.annotation).partition(" | ")
        found.append(Param(p.name, kind, none == "None"))
    return tuple(found)


def distinct(values: Any) -> int:
    """How many different elements a tensor has."""
    return len(values.unique())


def nbytes(*values: Any) -> int:
    """Bytes of all given tensors; None counts nothing."""
    return sum(v.nbytes for v in values if v is not None)


def expect(truth: Any, what: str) -> None:
    """Raise Disagreement with `what` unless `truth`: for the fixed part of an op's freedom."""
    if not truth:
        raise Disagreement(what)
