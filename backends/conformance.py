"""The conformance kit: does an implementation do what the declaration says, on every case?

Used by the tests, by `recis check` and before every timing. A check draws the case, presents it
in a `Variant`, poisons the outputs, calls, and compares outputs, mutated arguments and untouched
ones with the NumPy reference run in float64 on the very values the variant can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backends.arrays import BASE, Variant, to_numpy, to_torch
from backends.boundary import Bound, torch_dtype
from recis_core.blocks import Blocks
from recis_core.kernels import Kernels, every_op
from recis_core.spec import ARRAY_KINDS, Args, Case, Op, Out, Step, params_of
from recis_core.tolerance import Disagreement
from recis_core.types import Slots


@dataclass(frozen=True)
class Verdict:
    """What checking one case in one variant found: status "ok", "wrong" or "error"."""

    op: str
    case: str
    variant: str
    status: str
    detail: str = ""


def variants(op: Op[..., Any], case: Case) -> Iterator[Variant]:
    """The base presentation of every case; the others of the last two, which are not trivial."""
    yield BASE
    if case.name not in [c.name for c in list(op.cases("test"))[-2:]] or op.machine:
        return
    kinds = {p.kind for p in op.params}
    if kinds & {"Values", "Blocks"}:
        yield Variant(values="float16")
        yield Variant(values="bfloat16")
    if "Index" in kinds:
        yield Variant(index="int64")
    if kinds & set(ARRAY_KINDS):
        yield Variant(layout="strided")
        yield Variant(layout="offset")


def check(bound: Any, op: Op[..., Any], case: Case, variant: Variant = BASE) -> None:
    """Raise Disagreement unless `bound` agrees with the reference of `op` on `case`."""
    if op.machine:
        check_machine(bound, op, case)
    else:
        check_call(bound, op, case, variant)


def check_call(bound: Bound, op: Op[..., Any], case: Case, variant: Variant) -> None:
    given = present(op, case.make(), variant, bound.device)
    want_args = {p.name: to_numpy(given[p.name]) for p in op.params}
    declared = op.outs(*given.values())
    want = as_tuple(op.reference(*want_args.values()), len(declared))
    before = {name: snapshot(value) for name, value in given.items()}
    poisoned = replace(bound, empty=poison)
    with poisoned_memory():
        got = as_tuple(poisoned(*given.values()), len(declared))
        # A second call with the first one's outputs alive: an implementation that hands out the
        # same buffer again, or depends on what it left behind, shows here.
        again = {name: restored(before[name], value) for name, value in given.items()}
        for tensor in got:
            require_fresh(op, tensor, given)
        kept = [t.clone() for t in got]
        for tensor in got:
            fill(tensor)
        second = as_tuple(poisoned(*again.values()), len(declared))
        for first, tensor in zip(got, second, strict=True):
            if tensor.numel() and tensor.data_ptr() == first.data_ptr():
                raise Disagreement("returns the same buffer on every call")
    for outputs, arguments in ((kept, given), (second, again)):
        compare(op, want_args, declared, outputs, want)
        for param in op.params:
            if param.name in op.mutates:
                compare_blocks(op, arguments[param.name], want_args[param.name], before[param.name])
            elif not same(before[param.name], arguments[param.name]):
                raise Disagreement(f"argument {param.name!r} was written to")


def present(op: Op[..., Any], drawn: Args, variant: Variant, device: torch.device) -> Args:
    """Drawn arguments as an implementation gets them, in the order of the parameters."""
    return {p.name: to_torch(p.kind, drawn[p.name], variant, device) for p in op.params}


def as_tuple(returned: Any, count: int) -> tuple[Any, ...]:
    values = returned if isinstance(returned, tuple) else () if returned is None else (returned,)
    if len(values) != count:
        raise Disagreement(f"{len(values)} outputs, declared are {count}")
    return values


def compare(
    op: Op[..., Any], args: Args, declared: tuple[Out, ...], got: Any, want: tuple[Any, ...]
) -> None:
    """Trim padding, erase declared freedom, compare each output within the op's tolerance."""
    counted = {o.valid for o in declared}
    sums = zip(declared, got, strict=True)
    lengths = {o.name: int(t.sum()) for o, t in sums if o.name in counted}
    arrays = []
    for out, tensor in zip(declared, got, strict=True):
        if tensor.dtype != torch_dtype(out.dtype):
            raise Disagreement(f"{out.name} is {tensor.dtype}, declared {out.dtype}")
        array = to_numpy(tensor)
        if out.valid:
            if not 0 <= lengths[out.valid] <= len(array):
                raise Disagreement(
                    f"{out.valid} says {lengths[out.valid]} of {len(array)} elements"
                )
            array = array[: lengths[out.valid]]
        arrays.append(array)
    for out, g, w in zip(
        declared, op.canonical(args, tuple(arrays)), op.canonical(args, want), strict=True
    ):
        dtype = str(torch_dtype(out.dtype)).removeprefix("torch.")
        op.tolerance.check(out.name, g, np.asarray(w).astype(g.dtype, copy=False), dtype)


def compare_blocks(op: Op[..., Any], blocks: Blocks, want: Slots, before: Any) -> None:
    """Every slot of every row; and no byte outside the slots may have changed."""
    got = to_numpy(blocks)
    for name in blocks.slots:
        dtype = str(blocks.dtype(name)).removeprefix("torch.")
        op.tolerance.check(f"slot {name!r}", got[name], want[name], dtype)
    used = torch.zeros(blocks.stride, dtype=torch.bool)
    for slot in blocks.slots.values():
        used[slot.offset : slot.offset + slot.nbytes] = True
    for old, new in zip(before.tensors, blocks.tensors, strict=True):
        if not torch.equal(old.cpu()[:, ~used], new.cpu()[:, ~used]):
            raise Disagreement("bytes of the blocks outside every slot were written")


def snapshot(value: Any) -> Any:
    """A copy to compare with later; blocks byte by byte."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Blocks):
        return clone_blocks(value)
    return value


def clone_blocks(blocks: Blocks) -> Blocks:
    """Blocks of their own with the same bytes."""
    copy = Blocks(list(blocks.slots.values()), blocks.log2_rows, blocks.device)
    copy.grow(blocks.capacity)
    for mine, other in zip(copy.tensors, blocks.tensors, strict=True):
        mine.copy_(other)
    return copy


def restored(before: Any, value: Any) -> Any:
    """The argument as it was before the first call, for a second one."""
    return clone_blocks(before) if isinstance(value, Blocks) else value


def same(before: Any, value: Any) -> bool:
    if isinstance(value, Tensor):
        return before.dtype == value.dtype and bits_equal(before, value)
    if isinstance(value, Blocks):
        pairs = zip(before.tensors, value.tensors, strict=True)
        return all(torch.equal(a, b) for a, b in pairs)
    return before is value or before == value


def bits_equal(a: Tensor, b: Tensor) -> bool:
    """Equality in which a NaN equals itself."""
    return bool(((a == b) | ((a != a) & (b != b))).all())


def require_fresh(op: Op[..., Any], tensor: Tensor, given: Args) -> None:
    """An output that shares memory with an argument would change when that one does."""
    for name, value in given.items():
        if (
            isinstance(value, Tensor)
            and tensor.numel()
            and value.numel()
            and tensor.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()
        ):
            raise Disagreement(f"an output shares memory with argument {name!r}")


def fill(tensor: Tensor) -> Tensor:
    """Poison: NaN, or a number no result has."""
    if tensor.dtype.is_floating_point:
        return tensor.fill_(float("nan"))
    return tensor.fill_(True if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max)


def poison(*args: Any, **kwargs: Any) -> Tensor:
    return fill(torch.empty(*args, **kwargs))


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Within, torch fills what `torch.empty` returns, also inside implementations."""
    mode = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode, warn_only=warn)


def check_machine(make: Callable[..., Any], op: Op[..., Any], case: Case) -> None:
    """Replay the case's trace on an implementation and on the reference, then compare."""
    drawn = case.make()
    init = [drawn[p.name] for p in op.params]
    device = torch.device("cpu") if not hasattr(make, "device") else make.device
    with poisoned_memory():
        got = replay(make(*init), op, drawn["trace"], device)
    want = replay(op.reference(*init), op, drawn["trace"], None)
    for outputs, right in zip(got, want, strict=True):
        for g, w in zip(outputs.outputs, right.outputs, strict=True):
            if g.dtype != w.dtype:
                raise Disagreement(f"{outputs.method} returned {g.dtype}, declared {w.dtype}")
    for g, w in zip(op.canonical(drawn, got), op.canonical(drawn, want), strict=True):
        op.tolerance.check("result", g, w, str(g.dtype))


def replay(state: Any, op: Op[..., Any], trace: Any, device: torch.device | None) -> list[Step]:
    """Run a trace; outputs are copied at once, as later steps may reuse buffers."""
    steps = []
    for method, *args in trace:
        given = args
        if device is not None:
            kinds = [p.kind for p in params_of(getattr(op.reference, method))]
            given = [to_torch(k, a, BASE, device) for k, a in zip(kinds, args, strict=True)]
        returned = getattr(state, method)(*given)
        outputs = returned if isinstance(returned, tuple) else (returned,)
        copied = tuple(np.array(to_numpy(o)) for o in outputs)
        steps.append(Step(method, tuple(args), copied))
    if len(state) != len(set(row_count(steps))):
        raise Disagreement(f"len is {len(state)}, but {len(set(row_count(steps)))} pairs are held")
    return steps


def row_count(steps: list[Step]) -> set[Any]:
    """The pairs a trace leaves in the map."""
    held: set[Any] = set()
    for step in steps:
        if step.method in ("insert", "erase"):
            pairs = set(zip(*(a.tolist() for a in step.args), strict=True))
            held = held | pairs if step.method == "insert" else held - pairs
    return held


def examine(kernels: Kernels, only: tuple[str, ...] = ()) -> Iterator[Verdict]:
    """Check every op of `kernels` on every test case and variant; never raises, yields verdicts."""
    for op in every_op():
        if only and op.name not in only:
            continue
        for case in op.cases("test"):
            for variant in variants(op, case):
                yield verdict(getattr(kernels, op.name), op, case, variant)


def verdict(bound: Any, op: Op[..., Any], case: Case, variant: Variant) -> Verdict:
    try:
        check(bound, op, case, variant)
    except Disagreement as error:
        return Verdict(op.name, case.name, str(variant), "wrong", str(error))
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
        return Verdict(op.name, case.name, str(variant), "error", detail)
    return Verdict(op.name, case.name, str(variant), "ok")
