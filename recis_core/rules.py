"""What an op demands of its arguments beyond their kind: checked, and broken on purpose by tests.

A rule that must read tensor values (`reads_values`) would make a GPU wait, so it is checked only
in `checked` mode; the others are checked on every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Args = Mapping[str, Any]


class Rule(Protocol):
    reads_values: bool

    def check(self, args: Args) -> None:
        """Raise the rule's error, naming argument and value, if `args` break it."""
        ...

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        """Variations of legal `args` that break the rule, and the error each must get."""
        ...


@dataclass(frozen=True)
class Dims:
    """Number of dimensions of each named argument."""

    of: Mapping[str, int]
    reads_values = False

    def __init__(self, **of: int) -> None:
        object.__setattr__(self, "of", of)

    def check(self, args: Args) -> None:
        for name, ndim in self.of.items():
            if args[name] is not None and args[name].ndim != ndim:
                raise ValueError(
                    f"argument {name!r} has shape {tuple(args[name].shape)}, not {ndim} dimensions"
                )

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        for name in self.of:
            if args[name] is not None:
                yield {**args, name: args[name][None]}, ValueError


@dataclass(frozen=True)
class Same:
    """All named arguments that are given have one length."""

    names: tuple[str, ...]
    reads_values = False

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)

    def check(self, args: Args) -> None:
        # Not len(): of a tensor that takes a microsecond.
        lengths = {n: args[n].shape[0] for n in self.names if args[n] is not None}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{n!r} {length}" for n, length in lengths.items())
            raise ValueError(f"arguments must have one length, but have {said}")

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        given = [n for n in self.names if args[n] is not None and len(args[n])]
        for name in given if len(given) > 1 else ():
            yield {**args, name: args[name][:-1]}, ValueError


@dataclass(frozen=True)
class Columns:
    """The second dimension of `name` is `width(args)`."""

    name: str
    width: Callable[[Args], int]
    reads_values = False

    def check(self, args: Args) -> None:
        if args[self.name].shape[1] != self.width(args):
            raise ValueError(
                f"argument {self.name!r} has {args[self.name].shape[1]} columns, "
                f"expected {self.width(args)}"
            )

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        a = args[self.name]
        yield {**args, self.name: np.concatenate([a, a[:, :1]], 1)}, ValueError


@dataclass(frozen=True)
class Length:
    """The length of `name` is `length(args)`."""

    name: str
    length: Callable[[Args], int]
    reads_values = False

    def check(self, args: Args) -> None:
        if args[self.name] is not None and args[self.name].shape[0] != self.length(args):
            raise ValueError(
                f"argument {self.name!r} has length {len(args[self.name])}, "
                f"expected {self.length(args)}"
            )

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        a = args[self.name]
        if a is not None:
            yield {**args, self.name: np.concatenate([a, a[-1:], a[-1:], a[:1]])}, ValueError


@dataclass(frozen=True)
class Within:
    """Every element of `name` is in [low, high(args))."""

    name: str
    high: Callable[[Args], int]
    low: int = 0
    reads_values = True

    def check(self, args: Args) -> None:
        a = args[self.name]
        if a is None or len(a) == 0:
            return
        high = self.high(args)
        for value in (int(a.min()), int(a.max())):
            if not self.low <= value < high:
                raise IndexError(
                    f"argument {self.name!r} has value {value}, outside [{self.low}, {high})"
                )

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        a = args[self.name]
        if a is not None and len(a):
            for value in (self.low - 1, self.high(args)):
                if value in range(np.iinfo(a.dtype).min, np.iinfo(a.dtype).max + 1):
                    wrong = a.copy()
                    wrong[len(a) // 2] = value
                    yield {**args, self.name: wrong}, IndexError


@dataclass(frozen=True)
class NotEmpty:
    """`name` has an element at least, as offsets of no segments have."""

    name: str
    reads_values = False

    def check(self, args: Args) -> None:
        if args[self.name].shape[0] == 0:
            raise ValueError(f"argument {self.name!r} is empty; it needs one element at least")

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        yield {**args, self.name: args[self.name][:0]}, ValueError


@dataclass(frozen=True)
class Offsets:
    """`name` starts at 0, never decreases, and ends at `end(args)`."""

    name: str
    end: Callable[[Args], int]
    reads_values = True

    def check(self, args: Args) -> None:
        a = args[self.name]
        first, last, end = int(a[0]), int(a[-1]), self.end(args)
        if first != 0 or last != end:
            raise ValueError(
                f"argument {self.name!r} runs from {first} to {last}, expected 0 to {end}"
            )
        steps = a[1:] - a[:-1]
        if len(steps) and int(steps.min()) < 0:
            at = int(steps.argmin())
            raise ValueError(
                f"argument {self.name!r} decreases after position {at}: "
                f"{int(a[at])}, then {int(a[at + 1])}"
            )

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        a = args[self.name]
        yield {**args, self.name: a + 1}, ValueError
        if len(a) > 2 and a[-1] > 0:
            wrong = a.copy()
            wrong[1] = a[-1] + 1
            yield {**args, self.name: wrong}, ValueError


@dataclass(frozen=True)
class OneOf:
    """The scalar `name` is one of `values`."""

    name: str
    values: tuple[Any, ...]
    reads_values = False

    def check(self, args: Args) -> None:
        if args[self.name] not in self.values:
            said = ", ".join(map(repr, self.values))
            raise ValueError(f"argument {self.name!r} is {args[self.name]!r}, not one of {said}")

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        yield {**args, self.name: "nonsense"}, ValueError


@dataclass(frozen=True)
class AtLeast:
    """The scalar `name` is `low` or more."""

    name: str
    low: int
    reads_values = False

    def check(self, args: Args) -> None:
        if args[self.name] < self.low:
            raise ValueError(f"argument {self.name!r} is {args[self.name]!r}, less than {self.low}")

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        yield {**args, self.name: self.low - 1}, ValueError


@dataclass(frozen=True)
class Distinct:
    """No element of `name` but -1 appears twice."""

    name: str
    reads_values = True

    def check(self, args: Args) -> None:
        a = args[self.name]
        present = a[a >= 0]
        ordered = present.sort()[0] if hasattr(present, "unique") else np.sort(present)
        same = ordered[1:] == ordered[:-1]
        if len(same) and bool(same.any()):
            value = int(ordered[1:][same][0])
            raise ValueError(f"argument {self.name!r} must be distinct; {value} appears twice")

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        a = args[self.name]
        present = np.flatnonzero(a >= 0)
        if len(present) > 1:
            wrong = a.copy()
            wrong[present[0]] = wrong[present[-1]]
            yield {**args, self.name: wrong}, ValueError


@dataclass(frozen=True)
class HasSlots:
    """The blocks hold every named slot."""

    slots: tuple[str, ...]
    reads_values = False

    def __init__(self, *slots: str) -> None:
        object.__setattr__(self, "slots", slots)

    def check(self, args: Args) -> None:
        for slot in self.slots:
            if slot not in args["blocks"]:
                raise KeyError(f"argument 'blocks' has no slot {slot!r}")

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        for slot in self.slots:
            renamed = {n if n != slot else "other": a for n, a in args["blocks"].items()}
            yield {**args, "blocks": type(args["blocks"])(renamed)}, KeyError


@dataclass(frozen=True)
class NamesSlot:
    """The string `name` is a slot of the blocks."""

    name: str
    reads_values = False

    def check(self, args: Args) -> None:
        if args[self.name] not in args["blocks"]:
            raise KeyError(f"argument {self.name!r} is {args[self.name]!r}, no slot of the blocks")

    def broken(self, args: Args) -> Iterator[tuple[dict[str, Any], type[Exception]]]:
        yield {**args, self.name: "nonsense"}, KeyError
