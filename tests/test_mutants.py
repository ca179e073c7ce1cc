"""The kit is tested too: known-wrong implementations it must catch, legal ones it must admit.

Each is the reference with one change: of its arguments (`given`), of its outputs (`then`), of
memory it has no business with (`besides`), or of the NumPy function itself (`meaning`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from backends.boundary import Bound, bind_machine
from backends.conformance import Verdict, variants, verdict
from recis_core.kernels import every_op, find_op
from tests.mutants import kernels as k
from tests.mutants import maps
from tests.mutants import meanings as m
from tests.mutants.change import Change, besides, given, into, meaning, then

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def set_to(value: Any) -> Callable[[Any], Any]:
    return lambda old: value


WRONG: list[tuple[str, str, Change]] = [
    ("rows_adamw", "ignores step", k.at_first_step),
    ("rows_adamw", "ignores lr", given(lr=set_to(1e-3))),
    ("rows_adamw", "ignores beta1", given(beta1=set_to(0.9))),
    ("rows_adamw", "ignores beta2", given(beta2=set_to(0.999))),
    ("rows_adamw", "ignores eps", given(eps=set_to(1e-8))),
    ("rows_adamw", "ignores decay", given(decay=set_to(0.01))),
    ("rows_adamw", "no decay", given(decay=set_to(0.0))),
    *(("rows_adamw", f"always {f}", given(form=set_to(f))) for f in ("torch", "recis")),
    ("rows_adamw", "recis as tensorflow", given(form=lambda f: f.replace("recis", "tensorflow"))),
    ("rows_adamw", "ignores rate", given(rate=set_to(None))),
    ("rows_adamw", "ignores scale", given(scale=set_to(None))),
    ("rows_adamw", "writes -1", k.minus_one_written),
    ("rows_adamw", "writes padding", besides(k.spill)),
    ("rows_adamw", "touches another row", besides(k.nudge)),
    ("rows_adam", "always torch", given(form=set_to("torch"))),
    ("rows_adam", "no decay", given(decay=set_to(0.0))),
    ("rows_sgd", "scales its gradient", besides(lambda b, rows, grad, *_: grad.mul_(2))),
    ("rows_sgd", "writes -1", k.minus_one_written),
    ("rows_adagrad", "ignores eps", given(eps=set_to(1e-10))),
    ("rows_adagrad_rowwise", "sum for mean", meaning(m.rowwise_by_sum)),
    ("rows_scatter", "always weight", given(slot=set_to("weight"))),
    ("rows_gather", "always weight", given(slot=set_to("weight"))),
    ("rows_gather", "-1 is the last row", given(rows=lambda r: r.where(r >= 0, r * 0 + 7))),
    ("rows_gather", "a view of the blocks", then(lambda out, b, s, r: b.views(s)[0][: len(r)])),
    ("rows_gather", "wide", then(lambda out, *_: torch.cat([out, out], 1))),
    ("rows_gather", "float64", then(lambda out, *_: out.double())),
    ("rows_init", "by row number", meaning(m.init_by_row)),
    ("rows_init", "1 - u", meaning(m.init_in_float32)),
    ("rows_init", "ignores seed", given(seed=set_to(1))),
    ("rows_init", "one table", given(tables=lambda t: t * 0)),
    ("rows_init", "not fresh ones too", given(fresh=lambda f: f | True)),
    ("rows_init", "not truncated", given(kind=lambda k: k.removeprefix("truncated_"))),
    ("rows_norm", "squared", meaning(m.norm_unrooted)),
    ("rows_norm", "blind to NaN", meaning(m.norm_of_finite)),
    ("segment_sum", "zeroes its values", besides(lambda values, *_: values.zero_())),
    ("segment_sum", "flips the sign of its values", besides(lambda values, *_: values.neg_())),
    ("segment_sum", "ignores weights", given(weights=set_to(None))),
    ("segment_sum", "last segment skipped", then(k.without_last)),
    ("segment_sum", "half unwritten", into(k.half_of)),
    ("segment_sum", "one buffer", k.static),
    ("segment_sum", "previous buffer", k.stale),
    ("segment_sum", "padded", then(lambda out, *_: torch.cat([out, out]))),
    ("segment_sum", "off by 1e-3", then(lambda out, *_: out * 1.001)),
    ("segment_mean", "by length", meaning(m.mean_by_length)),
    ("segment_tile", "one shorter", then(lambda out, *_: out.index_fill(1, torch.tensor(0), 0))),
    ("segment_sum_grad", "ignores weights", given(weights=set_to(None))),
    ("segment_mean_grad", "ignores scale", given(scale=lambda s: s * 0 + 1)),
    ("segment_tile_grad", "last row skipped", then(k.without_last)),
    ("rows_pool", "-1 is row 0", given(rows=lambda r: r.clamp(min=0))),
    ("rows_reduce", "last one wins", then(lambda out, v, i, d: out.index_copy(0, i.long(), v))),
    ("rows_reduce_sgd", "ignores scale", given(scale=set_to(None))),
    ("rows_reduce_sgd", "ignores weights", given(weights=set_to(None))),
    ("rows_reduce_sgd", "writes -1", k.minus_one_written),
    ("rows_reduce_adagrad", "square of each leaf", meaning(m.leaf_squares)),
    ("rows_reduce_adagrad_rowwise", "skips huge rows", k.without_huge_rows),
    ("rows_reduce_adam", "rounds the sum", k.rounded_between),
    ("rows_reduce_adam", "always torch", given(form=set_to("torch"))),
    ("rows_reduce_adam", "no decay", given(decay=set_to(0.0))),
    ("rows_reduce_adamw", "ignores rate", given(rate=set_to(None))),
    ("rows_reduce_adamw", "touches another row", besides(k.nudge)),
    ("rows_reduce_adamw", "writes its gradient", besides(lambda b, r, grad, *_: grad.mul_(2))),
    ("ids_transpose", "unstable", meaning(m.unstable)),
    ("ids_transpose", "weights left in place", meaning(m.carried_in_place)),
    ("ids_transpose", "wide segments", then(lambda out, *_: out.to(torch.int64), at=1)),
    ("ids_partition", "tables merged", meaning(m.tables_merged)),
    ("ids_partition", "owner by id", meaning(m.by_id)),
    ("ids_partition", "owner by remainder", meaning(m.by_hash)),
    ("ids_partition", "int64 inverse", then(lambda out, *_: out.long(), at=3)),
    ("ids_partition", "inverse off by one", then(lambda out, *_: (out - 1).clamp(min=0), at=3)),
    ("ids_partition", "counts too many", then(lambda out, *_: out + 10**12, at=2)),
    *(("ids_hash", f"wrong at {n}", meaning(m.hashed_but(n))) for n in (0, 7, 33, 187, 300)),
    ("ids_hash", "signed bytes", meaning(m.signed_bytes)),
    ("ids_hash", "always farm", given(kind=set_to("farm"))),
    ("ids_hash", "63 bits", then(lambda out, *_: out & ((1 << 63) - 1))),
    ("ids_mod", "signed", meaning(m.signed_mod)),
    ("ids_mod", "first modulus", given(moduli=lambda m: m[:1].expand(len(m)).contiguous())),
    ("values_bucketize", "side left", meaning(m.bucketize("left"))),
    ("values_bucketize", "NaN is 0", meaning(m.bucketize("right", nan=0))),
    ("auc_grouped", "ties by order", meaning(m.auc_by_order)),
    ("auc_grouped", "NaN left unwritten", k.unwritten_nan),
    ("auc_grouped", "NaN is 0.5", then(lambda out, *_: out.nan_to_num(0.5))),
    ("columns_unpack", "bounds not rebased", then(lambda out, *_: out + (out > 9).int(), at=3)),
    ("columns_unpack", "wide bounds", then(lambda out, *_: out.long(), at=3)),
    *(("id_map", c.__name__, meaning(c)) for c in maps.WRONG),
    *(("id_map", f"reserves {k}", meaning(maps.reserving(k))) for k in (-1, -2, 0, -(2**63))),
]


LEGAL: list[tuple[str, str, Change]] = [
    ("segment_sum", "float32, backwards", meaning(m.sum_in_float32)),
    ("segment_sum", "outputs from the boundary", into(lambda out, right: out.copy_(right))),
    ("segment_sum", "strided output", then(lambda out, *_: out.T.contiguous().T)),
    ("segment_sum", "off by rounding", then(lambda out, *_: out * (1 + 2.0**-23))),
    ("rows_gather", "strided output", then(lambda out, *_: out.T.contiguous().T)),
    ("rows_norm", "float32 squares", then(lambda out, *_: out.float().double())),
    ("rows_adamw", "as it is", besides(lambda *args: None)),
    ("rows_reduce_adam", "summed in float32", k.float32_between),
    ("ids_partition", "padded", k.padded(40)),
    ("ids_partition", "shards reversed", k.shard_reversed),
    ("ids_transpose", "strided weights", then(lambda out, *_: out.repeat(2, 1).T[:, 0], at=2)),
    *(("id_map", c.__name__, meaning(c)) for c in maps.LEGAL),
]


def verdicts(name: str, change: Change) -> Iterator[Verdict]:
    op = find_op(name)
    bind = bind_machine if op.machine else Bound.of
    bound = bind(op, change(op), "mutant", "cpu", False)
    for case in op.cases("test"):
        for variant in variants(op, case):
            yield verdict(bound, op, case, variant)


def points(table: list[tuple[str, str, Change]]) -> list[Any]:
    return [pytest.param(name, change, id=f"{name}-{what}") for name, what, change in table]


@pytest.mark.parametrize(("name", "change"), points(WRONG))
def test_wrong_is_caught(name: str, change: Change) -> None:
    found = next((v for v in verdicts(name, change) if v.status != "ok"), None)
    assert found is not None, "every case passed"
    assert found.detail


@pytest.mark.parametrize(("name", "change"), points(LEGAL))
def test_legal_is_admitted(name: str, change: Change) -> None:
    assert [v for v in verdicts(name, change) if v.status != "ok"] == []


def test_there_are_enough() -> None:
    assert len(WRONG) >= 45
    assert len(LEGAL) >= 8
    assert {name for name, _, _ in WRONG} == {op.name for op in every_op()}
