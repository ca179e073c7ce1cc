"""What an op must refuse is refused at the boundary: the declared error, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from backends import load
from backends.arrays import Variant
from backends.boundary import DTYPES, Bound
from backends.conformance import present, same, snapshot
from recis_core.kernels import every_op, find_op
from recis_core.ops.id_map import id_map
from recis_core.spec import Args, Op, Param

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CPU = torch.device("cpu")
# Blocks of one row, so that their capacity is the declared one.
EXACT_CAPACITY = Variant(log2_rows=0)
PLAIN = [op for op in every_op() if not op.machine]
RULED = [
    pytest.param(op, rule, id=f"{op.name}-{at}-{type(rule).__name__}")
    for op in PLAIN
    for at, rule in enumerate(op.rules)
]
WRONG_DTYPE = {
    "Ids": (torch.int32, torch.float32),
    "Index": (torch.int16, torch.float32),
    "Values": (torch.float64, torch.int32),
    "Bytes": (torch.int8, torch.int64),
    "Flags": (torch.uint8,),
    "Double": (torch.float32,),
}
WRONG_SCALAR: dict[str, tuple[Any, ...]] = {
    "int": (1.5, "1", True, None, np.float32(1)),
    "float": ("1", False, None),
    "str": (1, None, b"weight"),
}


class ReachedError(Exception):
    """The implementation was called."""


def reach(*args: Any) -> None:
    raise ReachedError


def spy(op: Op[..., Any], checked: bool = False) -> Bound:
    return Bound.of(op, reach, "spy", CPU, checked)


def given(op: Op[..., Any], at: int = -1) -> Args:
    """Arguments of the test case at `at`, as an implementation gets them."""
    return present(op, list(op.cases("test"))[at].make(), EXACT_CAPACITY, CPU)


def refused(call: Any, args: list[Any], error: type[Exception], *said: str) -> None:
    """`call(*args)` raises exactly `error`, says each of `said` in one line, changes nothing."""
    before = [snapshot(value) for value in args]
    with pytest.raises(error) as caught:
        call(*args)
    assert caught.type is error
    message = str(caught.value)
    assert all(word in message for word in said), message
    assert "\n" not in message
    assert all(same(old, value) for old, value in zip(before, args, strict=True))


@pytest.mark.parametrize(("op", "rule"), RULED)
def test_broken_rule(op: Op[..., Any], rule: Any) -> None:
    tried = 0
    for case in op.cases("test"):
        drawn = case.make()
        for wrong, error in rule.broken(drawn):
            changed = [name for name in wrong if wrong[name] is not drawn[name]]
            args = list(present(op, wrong, EXACT_CAPACITY, CPU).values())
            refused(spy(op, checked=True), args, error, op.name, *changed)
            if rule.reads_values:
                with pytest.raises(ReachedError):
                    spy(op)(*args)
            else:
                refused(spy(op), args, error, op.name, *changed)
            tried += 1
    assert tried, "no test case lets this rule be broken"


@pytest.mark.parametrize("op", PLAIN, ids=lambda op: op.name)
def test_legal_arguments_pass(op: Op[..., Any]) -> None:
    for case in op.cases("test"):
        args = present(op, case.make(), EXACT_CAPACITY, CPU)
        with pytest.raises(ReachedError):
            spy(op, checked=True)(*args.values())


def wrong_values(param: Param, value: Any) -> Iterator[tuple[Any, type[Exception]]]:
    if param.kind in WRONG_SCALAR:
        for wrong in WRONG_SCALAR[param.kind]:
            if wrong is not None or not param.optional:
                yield wrong, TypeError
    elif param.kind == "Blocks":
        yield torch.zeros(3, 4), TypeError
        yield None, TypeError
    else:
        value = torch.ones(2, dtype=DTYPES[param.kind][0]) if value is None else value
        for dtype in WRONG_DTYPE[param.kind]:
            yield value.to(dtype), TypeError
        yield value.tolist(), TypeError
        if value.dtype != torch.bfloat16:
            yield value.numpy(), TypeError
        if not param.optional:
            yield None, TypeError
        if value.dtype.is_floating_point:
            yield value.clone().requires_grad_(), ValueError


@pytest.mark.parametrize("op", PLAIN, ids=lambda op: op.name)
def test_wrong_kind(op: Op[..., Any]) -> None:
    args = given(op)
    for param in op.params:
        for wrong, error in wrong_values(param, args[param.name]):
            values = list({**args, param.name: wrong}.values())
            refused(spy(op), values, error, op.name, repr(param.name))


@pytest.mark.parametrize("op", list(every_op()), ids=lambda op: op.name)
def test_wrong_number_of_arguments(op: Op[..., Any]) -> None:
    call = load("reference").id_map if op.machine else spy(op)
    args = [4, 100] if op.machine else list(given(op).values())
    names = [p.name for p in op.params]
    refused(call, args[:-1], TypeError, op.name, *names)
    refused(call, [*args, 1], TypeError, op.name, *names)


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        ([1.5, 9], TypeError, "capacity"),
        ([9, "9"], TypeError, "limit"),
        ([-1, 9], ValueError, "capacity"),
        ([1, -9], ValueError, "limit"),
    ],
)
def test_id_map_is_not_made(args: list[Any], error: type[Exception], said: str) -> None:
    refused(load("reference").id_map, args, error, "id_map", said)


def ints(*values: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


IDS = ints(5, 6, dtype=torch.int64)
# tables, ids, error, words said, whether that takes reading values
PAIRS = [
    pytest.param(ints(0, 1), ints(5, 6), TypeError, "ids", False, id="ids int32"),
    pytest.param(ints(0, 1).float(), IDS, TypeError, "tables", False, id="tables float32"),
    pytest.param([0, 1], IDS, TypeError, "tables", False, id="list"),
    pytest.param(ints(0), IDS, ValueError, "tables", False, id="lengths"),
    pytest.param(ints(0, 1)[None], IDS, ValueError, "tables", False, id="two dimensions"),
    pytest.param(ints(0, 1), IDS[None], ValueError, "ids", False, id="ids of two dimensions"),
    pytest.param(ints(-1, 1), IDS, IndexError, "tables", True, id="negative table"),
    pytest.param(IDS + (1 << 31), IDS, IndexError, "tables", True, id="table of 2^31"),
]


@pytest.mark.parametrize("method", ["find", "insert", "erase"])
@pytest.mark.parametrize(("tables", "ids", "error", "said", "reads"), PAIRS)
def test_id_map_refuses(
    method: str, tables: Any, ids: Any, error: type[Exception], said: str, reads: bool
) -> None:
    for checked in (True,) if reads else (True, False):
        table = load("reference", checked=checked).id_map(4, 100)
        table.insert(ints(0, 1), IDS)
        refused(getattr(table, method), [tables, ids], error, f"id_map.{method}", said)
        assert len(table) == 2


@pytest.mark.parametrize("method", ["insert", "erase"])
def test_id_map_refuses_equal_pairs_when_checked(method: str) -> None:
    table = load("reference", checked=True).id_map(4, 100)
    twice = [ints(1, 0, 1), ints(7, 7, 7, dtype=torch.int64)]
    refused(getattr(table, method), twice, ValueError, f"id_map.{method}", "tables", "ids", "7")
    assert len(table) == 0


def test_id_map_methods_count_their_arguments() -> None:
    table = load("reference").id_map(4, 100)
    refused(table.find, [IDS], TypeError, "id_map.find", "tables", "ids")
    refused(table.items, [IDS], TypeError, "id_map.items")


def test_every_rule_is_tested() -> None:
    """The machine's rules, which `test_broken_rule` leaves out, are those tested above."""
    assert [type(rule).__name__ for rule in id_map.rules] == ["AtLeast", "AtLeast"]
    assert find_op("id_map") is id_map
