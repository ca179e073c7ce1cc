"""The conformance kit: does an implementation do what the declaration says, on every case?

Used by the tests, by `recis check` and before every timing. A check draws the case, presents it
in a `Variant`, poisons the outputs, calls, and compares outputs, mutated arguments and untouched
ones with the NumPy reference run in float64 on the very values the variant can hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backends.arrays import BASE, Variant, to_numpy, to_torch
from backends.boundary import Bound, torch_dtype
from backends.poison import fill, other_poison, poison, poisoned_memory
from backends.replay import check_machine
from recis_core.blocks import Blocks
from recis_core.kernels import Kernels, every_op
from recis_core.spec import ARRAY_KINDS, Args, Case, Op, Out
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
    if case.name not in [c.name for c in list(op.cases("test"))[-2:]]:
        return
    if op.machine:
        yield Variant(index="int64")
        yield Variant(layout="strided")
        return
    kinds = {p.kind for p in op.params}
    if "Blocks" in kinds:
        yield Variant(log2_rows=4)
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
        check_machine(bound, op, case, variant)
    else:
        check_call(bound, op, case, variant)


def check_call(bound: Bound, op: Op[..., Any], case: Case, variant: Variant) -> None:
    given = present(op, case.make(), variant, bound.device)
    want_args = {p.name: own(to_numpy(given[p.name])) for p in op.params}
    declared = op.outs(*given.values())
    want = as_tuple(op.reference(*want_args.values()), len(declared))
    before = {name: snapshot(value) for name, value in given.items()}
    got = as_tuple(replace(bound, empty=poison)(*given.values()), len(declared))
    require_untouched(op, before, given)
    for tensor in got:
        require_fresh(op, tensor, given)
    kept = [t.clone() for t in got]
    for tensor in got:
        fill(tensor)
    # A second call with the first one's outputs alive: an implementation that hands out the same
    # buffer again, or depends on what it left behind, shows here. What it allocates itself is
    # poisoned too; not in the first call, as torch then chooses other algorithms.
    again = {name: restored(before[name], value) for name, value in given.items()}
    with poisoned_memory():
        second = as_tuple(replace(bound, empty=other_poison)(*again.values()), len(declared))
    require_untouched(op, before, again)
    for first, tensor in zip(got, second, strict=True):
        if tensor.numel() and tensor.data_ptr() == first.data_ptr():
            raise Disagreement("returns the same buffer on every call")
    for outputs, arguments in ((kept, given), (second, again)):
        compare(op, want_args, declared, outputs, want)
        for param in op.params:
            if param.name in op.mutates:
                compare_blocks(op, arguments[param.name], want_args[param.name], before[param.name])


def own(value: Any) -> Any:
    """An array of its own, so that an implementation cannot write into what is expected."""
    return value.copy() if isinstance(value, np.ndarray) else value


def require_untouched(op: Op[..., Any], before: Args, given: Args) -> None:
    for name, value in given.items():
        if name not in op.mutates and not same(before[name], value):
            raise Disagreement(f"argument {name!r} was written to")


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


def compare_blocks(
    op: Op[..., Any], blocks: Blocks, want: Slots, before: Blocks, old: Slots | None = None
) -> None:
    """Every slot of every row; no byte may change outside the slots, nor in a row that stays.

    `old`: the content of `before`, where it is known already.
    """
    got = to_numpy(blocks)
    was = old or to_numpy(before)
    stays = np.ones(blocks.capacity, bool)
    for name in blocks.slots:
        dtype = str(blocks.dtype(name)).removeprefix("torch.")
        op.tolerance.check(f"slot {name!r}", got[name], want[name], dtype)
        stays &= ((want[name] == was[name]) | (np.isnan(want[name]) & np.isnan(was[name]))).all(1)
    used = torch.zeros(blocks.stride, dtype=torch.bool)
    for slot in blocks.slots.values():
        used[slot.offset : slot.offset + slot.nbytes] = True
    past, now = (torch.cat(b.tensors).cpu() for b in (before, blocks))
    if not torch.equal(past[:, ~used], now[:, ~used]):
        raise Disagreement("bytes of the blocks outside every slot were written")
    if not torch.equal(past[torch.from_numpy(stays)], now[torch.from_numpy(stays)]):
        raise Disagreement("a row that is to stay as it is was written")


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
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def require_fresh(op: Op[..., Any], tensor: Tensor, given: Args) -> None:
    """An output that shares memory with an argument would change when that one does."""
    for name, value in given.items():
        owned = value.tensors if isinstance(value, Blocks) else (value,)
        starts = [t.untyped_storage().data_ptr() for t in owned if isinstance(t, Tensor)]
        if tensor.numel() and tensor.untyped_storage().data_ptr() in starts:
            raise Disagreement(f"an output shares memory with argument {name!r}")


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
