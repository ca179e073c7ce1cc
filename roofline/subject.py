"""One case of an op made ready to be timed: presented once, its state restored between calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from backends import conformance
from backends.arrays import Variant, to_numpy, to_torch
from backends.poison import fill, other_poison, poison, poisoned_memory
from backends.replay import check_machine, replay
from recis_core.blocks import Blocks
from recis_core.spec import Args, Case, Op, Traffic, params_of
from recis_core.tolerance import Disagreement
from recis_core.types import Slots
from roofline import rounding
from roofline.bound import row_bytes
from roofline.ledger import check_steps, continued
from roofline.rounding import Rounding

BENCH = Variant(log2_rows=20)


class Subject(Protocol):
    """What a measurement needs of a case."""

    traffic: Traffic
    row_bytes: int | None

    def agree(self, bound: Any) -> None:
        """Raise Disagreement unless `bound` does to this case what the reference does."""
        ...

    def before(self, bound: Any) -> Callable[[], None]:
        """What puts the state back, untimed, in front of every call."""
        ...

    def call(self, bound: Any) -> Callable[[], Any]:
        """What is timed."""
        ...


def subject_of(op: Op[..., Any], case: Case, device: torch.device | str = "cpu") -> Subject:
    """Draw `case` and present it on `device`, rows in blocks of 2^20."""
    device = torch.device(device)
    return MachineSubject(op, case, device) if op.machine else CallSubject(op, case, device)


@dataclass(frozen=True)
class Rows:
    """The content of the rows of `blocks` that a call names, and where they belong."""

    rows: Tensor  # distinct, ascending
    content: Blocks  # these rows alone, in that order

    @classmethod
    def of(cls, blocks: Blocks, rows: Tensor) -> Rows:
        log2 = max(int(len(rows) - 1).bit_length(), 0) if len(rows) else 0
        content = Blocks(list(blocks.slots.values()), log2, blocks.device)
        content.grow(max(len(rows), 1))
        for part, block in _parts(blocks, rows):
            content.tensors[0][part] = block[rows[part] & (len(block) - 1)]
        return cls(rows, content)

    def put_back(self, blocks: Blocks) -> None:
        for part, block in _parts(blocks, self.rows):
            block[self.rows[part] & (len(block) - 1)] = self.content.tensors[0][part]


def _parts(blocks: Blocks, rows: Tensor) -> list[tuple[slice, Tensor]]:
    """For each block, which of the ascending `rows` lie in it."""
    edges = torch.arange(len(blocks.tensors) + 1, device=rows.device) << blocks.log2_rows
    cuts = torch.searchsorted(rows, edges).tolist()
    return [(slice(a, b), t) for a, b, t in zip(cuts, cuts[1:], blocks.tensors, strict=False)]


def put(source: Any, target: Any) -> None:
    """Copy the content of an argument back into it."""
    if isinstance(source, Tensor):
        target.copy_(source)
    elif isinstance(source, Blocks):
        for kept, block in zip(source.tensors, target.tensors, strict=True):
            block.copy_(kept)


class CallSubject:
    """A case of an op that is a function."""

    def __init__(self, op: Op[..., Any], case: Case, device: torch.device) -> None:
        self.op = op
        self.args = conformance.present(op, case.make(), BENCH, device)
        self.traffic = op.traffic(*self.args.values())
        self.row_bytes = row_bytes(op, self.args)
        self.declared = op.outs(*self.args.values())
        self._kept = {n: conformance.snapshot(v) for n, v in self.args.items()}
        self._touched: Rows | None = None
        if isinstance(self.args.get("blocks"), Blocks):
            rows = self.args["rows"].long()
            self._touched = Rows.of(self.args["blocks"], rows[rows >= 0].unique())

    @cached_property
    def _want(self) -> tuple[Args, tuple[Any, ...]]:
        """The reference's arguments after its call, and its outputs. Of a table only the rows that
        are named: what stays as it is needs no reference."""
        args = {n: to_numpy(v) for n, v in self.args.items() if not isinstance(v, Blocks)}
        if self._touched is not None:
            rows = np.asarray(args["rows"])
            place = np.searchsorted(self._touched.rows.cpu().numpy(), rows)
            args["rows"] = np.where(rows >= 0, place, -1)
            args["blocks"] = to_numpy(self._touched.content)
        args = {n: args[n] for n in self.args}
        returned = self.op.reference(*args.values())
        return args, conformance.as_tuple(returned, len(self.declared))

    @cached_property
    def _before(self) -> Slots:
        """The rows that are named as they were drawn."""
        assert self._touched is not None
        return to_numpy(self._touched.content)

    @cached_property
    def _rounding(self) -> Op[..., Any]:
        """The op with a tolerance that knows the size of what is added up, see `rounding`."""
        return replace(self.op, tolerance=Rounding(self.op.tolerance.by_dtype, lambda: self._sizes))

    @cached_property
    def _sizes(self) -> Mapping[str, np.ndarray]:
        args, _ = self._want
        if self._touched is not None and "blocks" in self.op.mutates:
            return rounding.of_rows(self.op, args, self._before, args["blocks"])
        return rounding.of_sums(self.op, args, [o.name for o in self.declared])

    def agree(self, bound: Any) -> None:
        """Two calls on poisoned outputs, the first one's still alive during the second."""
        try:
            self._agree(bound)
        except BaseException:
            # Whatever it wrote, the next contender finds the case as drawn.
            for name, kept in self._kept.items():
                put(kept, self.args[name])
            raise

    def _agree(self, bound: Any) -> None:
        with poisoned_memory():
            first = self._poisoned(bound, poison)
            self._require(first)
            for tensor in first:
                fill(tensor)
            self.restore()
            second = self._poisoned(bound, other_poison)
        for old, new in zip(first, second, strict=True):
            if new.numel() and new.data_ptr() == old.data_ptr():
                raise Disagreement("returns the same buffer on every call")
        self._require(second)
        self.restore()

    def _poisoned(self, bound: Any, empty: Callable[..., Tensor]) -> tuple[Any, ...]:
        returned = replace(bound, empty=empty)(*self.args.values())
        return conformance.as_tuple(returned, len(self.declared))

    def _require(self, outputs: tuple[Any, ...]) -> None:
        args, want = self._want
        conformance.compare(self._rounding, args, self.declared, outputs, want)
        for tensor in outputs:
            conformance.require_fresh(self.op, tensor, self.args)
        for name, value in self.args.items():
            if name not in self.op.mutates and not conformance.same(self._kept[name], value):
                raise Disagreement(f"argument {name!r} was written to")
        if self._touched is not None and "blocks" in self.op.mutates:
            now = Rows.of(self.args["blocks"], self._touched.rows)
            before = self._touched.content
            conformance.compare_blocks(
                self._rounding, now.content, args["blocks"], before, self._before
            )
            self.restore()
            if not conformance.same(self._kept["blocks"], self.args["blocks"]):
                raise Disagreement("a row that no argument names was written to")

    def restore(self) -> None:
        if self._touched is not None and "blocks" in self.op.mutates:
            self._touched.put_back(self.args["blocks"])

    def before(self, bound: Any) -> Callable[[], None]:
        return self.restore

    def call(self, bound: Any) -> Callable[[], Any]:
        arguments = tuple(self.args.values())
        return lambda: bound(*arguments)


class MachineSubject:
    """A case of a stateful op: the last step of its trace is timed on a state made anew."""

    row_bytes: int | None = None

    def __init__(self, op: Op[..., Any], case: Case, device: torch.device) -> None:
        self.op, self.case, self.device = op, case, device
        self.drawn = drawn = case.make()
        self.init = [drawn[p.name] for p in op.params]
        self.trace = [
            (method, self._present(method, args, device)) for method, *args in drawn["trace"]
        ]
        method, args = self.trace[-1]
        self.traffic = op.traffic(method, args, drawn["limit"])
        self._state: Any = None

    def _present(self, method: str, args: list[Any], device: torch.device) -> list[Any]:
        kinds = [p.kind for p in params_of(getattr(self.op.reference, method))]
        return [to_torch(k, a, BENCH, device) for k, a in zip(kinds, args, strict=True)]

    def agree(self, bound: Any) -> None:
        """The trace answered as declared: by a ledger of arrays where there is one, as replaying a
        million pairs on a reference written as a dictionary takes minutes."""
        if self.op.name != "id_map":
            check_machine(bound, self.op, self.case, BENCH)
            return
        with poisoned_memory():
            state = bound(*self.init)
            steps = replay(state, self.op, continued(self.drawn["trace"]), BENCH, self.device)
        check_steps(state, self.drawn["limit"], steps)

    def before(self, bound: Any) -> Callable[[], None]:
        def rebuild() -> None:
            self._state = None
            self._state = bound(*self.init)
            for method, args in self.trace[:-1]:
                getattr(self._state, method)(*args)

        return rebuild

    def call(self, bound: Any) -> Callable[[], Any]:
        method, args = self.trace[-1]
        return lambda: getattr(self._state, method)(*args)
