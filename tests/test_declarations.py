"""The declarations themselves: complete, deterministic, covering what they promise to cover."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backends.arrays import BASE, to_numpy
from backends.conformance import present, variants
from recis_core.draw import HOSTILE_IDS
from recis_core.kernels import Kernels, every_op
from recis_core.ops.ids_hash import ids_hash
from recis_core.spec import Args, Op, params_of
from recis_core.tolerance import Disagreement
from recis_core.types import Slots

pytestmark = pytest.mark.usefixtures("one_torch_thread")

KINDS = {"Ids", "Index", "Values", "Bytes", "Flags", "Double", "Blocks", "int", "float", "str"}
SCALARS = {"int", "float", "str"}
# A hint changes how fast an op is, never what it gives.
HINTS = {("id_map", "capacity")}
CPU = torch.device("cpu")
OPS = list(every_op())
PLAIN = [op for op in OPS if not op.machine]
each_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
each_plain = pytest.mark.parametrize("op", PLAIN, ids=lambda op: op.name)


@each_op
def test_is_complete(op: Op[..., Any]) -> None:
    assert getattr(Kernels, op.name) is op
    assert op.reference.__doc__
    assert list(op.cases("test"))
    assert list(op.cases("bench"))
    assert callable(op._hooks["moves"])
    assert op.rules
    assert set(op.mutates) <= {p.name for p in op.params}
    assert all(p.kind == "Blocks" for p in op.params if p.name in op.mutates)
    if not op.machine:
        assert op.mutates or "outputs" in op._hooks
        assert ("outputs" in op._hooks) != bool(op.mutates)


@each_op
def test_annotations_are_kinds(op: Op[..., Any]) -> None:
    functions = [op.reference]
    if op.machine:
        methods = vars(op.reference).items()
        functions += [m for n, m in methods if inspect.isfunction(m) and not n.startswith("_")]
    for function in functions:
        assert {p.kind for p in params_of(function)} <= KINDS
        target = function.__init__ if inspect.isclass(function) else function
        for parameter in inspect.signature(target).parameters.values():
            assert parameter.default is parameter.empty, "arguments have no defaults"


@each_op
def test_file_and_case_names(op: Op[..., Any]) -> None:
    assert op.reference.__module__ == f"recis_core.ops.{op.name}"
    names = [case.name for size in ("test", "bench") for case in op.cases(size)]
    assert len(set(names)) == len(names)


@each_op
def test_the_same_case_gives_the_same_arrays(op: Op[..., Any]) -> None:
    for case in op.cases("test"):
        assert flat(case.make()) == flat(case.make())


def flat(value: Any) -> Any:
    """Anything a case draws, as something that compares."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        fill = getattr(value, "fill", None)
        return [(name, flat(item)) for name, item in value.items()], fill
    if isinstance(value, list | tuple):
        return [flat(item) for item in value]
    return value


# --- scalars


def seen(op: Op[..., Any], args: Args) -> Args:
    """Drawn arguments as the reference gets them, free to be written to."""
    if op.machine:
        return dict(args)
    return {n: to_numpy(v) for n, v in present(op, args, BASE, CPU).items()}


def results(op: Op[..., Any], drawn: Args) -> Any:
    """What the reference gives, and the content of what it mutates."""
    args = seen(op, drawn)
    if op.machine:
        return machine_results(op, args)
    returned = op.reference(*args.values())
    outputs = returned if isinstance(returned, tuple) else (returned,) * (returned is not None)
    arrays = list(op.canonical(seen(op, drawn), outputs))
    for name in op.mutates:
        arrays += args[name].values()
    return arrays


def machine_results(op: Op[..., Any], args: Args) -> Any:
    state = op.reference(*(args[p.name] for p in op.params))
    arrays = []
    for method, *given in args["trace"]:
        try:
            returned = getattr(state, method)(*given)
        except OverflowError:
            returned = np.array("refused")
        arrays += returned if isinstance(returned, tuple) else (returned,)
    return arrays


def differs(op: Op[..., Any], one: Any, other: Any) -> bool:
    for a, b in zip(one, other, strict=True):
        if a.dtype.kind != b.dtype.kind or a.dtype.itemsize != b.dtype.itemsize:
            return True
        try:
            op.tolerance.check("result", a, b, "float32" if a.dtype.kind == "f" else str(a.dtype))
        except Disagreement:
            return True
    return False


@each_op
def test_every_scalar_matters(op: Op[..., Any]) -> None:
    """Another value of any scalar, or None for what may be None, changes some result."""
    drawn = [case.make() for case in op.cases("test")]
    base = [results(op, args) for args in drawn]
    for param in op.params:
        if (op.name, param.name) in HINTS or not (param.kind in SCALARS or param.optional):
            continue
        if param.kind in SCALARS:
            values = list(dict.fromkeys(args[param.name] for args in drawn))
            assert len(values) >= 2, f"{param.name} has one value only"
        else:
            assert any(args[param.name] is not None for args in drawn)
            assert any(args[param.name] is None for args in drawn)
            values = [None]
        assert any(
            changes(op, args, {**args, param.name: value}, right)
            for args, right in zip(drawn, base, strict=True)
            for value in values
            if args[param.name] is not value
        ), f"{param.name} does not matter"


def changes(op: Op[..., Any], args: Args, perturbed: Args, right: Any) -> bool:
    """Whether the reference gives something else; a call it cannot make tells nothing."""
    try:
        return differs(op, right, results(op, perturbed))
    except (ValueError, IndexError, KeyError):
        return False


# --- edge cases


def edges(op: Op[..., Any], args: Args) -> set[str]:
    """The named edge cases that these arguments are."""
    first = args.get("rows", args[op.params[0].name])
    found = sizes(len(first))
    if "blocks" in args:
        found |= {"absent row"} if (first < 0).any() else set()
        found |= {"every row"} if set(first) >= set(range(args["blocks"].capacity)) else set()
    for name, value in args.items():
        if name in ("offsets", "starts"):
            found |= segments(np.diff(value))
        elif name in ("index", "inverse", "ids") and isinstance(value, np.ndarray):
            found |= repeats(value)
        if name == "ids" and isinstance(value, np.ndarray):
            found |= {n for n, id in zip(HOSTILE, HOSTILE_IDS[:4], strict=True) if id in value}
        if isinstance(value, Slots) or np.ndim(value) > 1:
            dim = value.dim("weight") if isinstance(value, Slots) else value.shape[-1]
            found |= {"odd dim"} if dim & (dim - 1) else set()
    return found


def sizes(length: int) -> set[str]:
    return {("empty", "one")[length]} if length < 2 else set()


def segments(lengths: np.ndarray) -> set[str]:
    found = sizes(len(lengths))
    found |= {"empty segment"} if (lengths == 0).any() else set()
    return found | ({"huge segment"} if lengths.max(initial=0) >= 400 else set())


def repeats(values: np.ndarray) -> set[str]:
    count = len(np.unique(values))
    if len(values) < 10 or 1 < count < len(values):
        return set()
    return {"all equal"} if count == 1 else {"all distinct"}


HOSTILE = ("-2^63", "2^63-1", "-1", "-2")
SIZES = {"empty", "one"}
SEGMENTS = SIZES | {"empty segment", "huge segment"}
ROWS = SIZES | {"odd dim", "absent row", "every row"}
REDUCING = [op.name for op in OPS if op.name.startswith("rows_reduce_")]
EDGES = {
    "columns_unpack": {"empty"},
    "ids_hash": SIZES | {"empty segment"},
    "ids_mod": SIZES | set(HOSTILE),
    "values_bucketize": SIZES,
    "ids_partition": SIZES | set(HOSTILE) | {"all equal", "all distinct"},
    "ids_transpose": SEGMENTS | {"all equal", "all distinct"},
    "rows_init": SIZES | set(HOSTILE) | {"odd dim", "absent row", "all distinct"},
    "rows_gather": ROWS,
    "rows_scatter": ROWS,
    "segment_sum": SEGMENTS | {"odd dim", "all equal", "all distinct"},
    "segment_mean": SEGMENTS | {"odd dim", "all equal"},
    "segment_tile": SEGMENTS | {"odd dim", "all equal"},
    "segment_sum_grad": SEGMENTS | {"odd dim"},
    "segment_mean_grad": SEGMENTS | {"odd dim"},
    "segment_tile_grad": SEGMENTS | {"odd dim"},
    "rows_pool": SEGMENTS | {"odd dim", "absent row"},
    "rows_reduce": SIZES | {"odd dim", "all equal", "all distinct"},
    "rows_norm": SIZES | {"odd dim"},
    "rows_sgd": ROWS,
    "rows_adagrad": ROWS,
    "rows_adagrad_rowwise": ROWS,
    "rows_adam": ROWS,
    "rows_adamw": ROWS,
    **dict.fromkeys(REDUCING, ROWS | SEGMENTS),
    "auc_grouped": SEGMENTS,
}


@each_plain
def test_edge_cases(op: Op[..., Any]) -> None:
    found = set().union(*(edges(op, case.make()) for case in op.cases("test")))
    assert EDGES[op.name] - found == set()


def test_edge_cases_of_the_map() -> None:
    (op,) = (op for op in OPS if op.machine)
    drawn = [case.make() for case in op.cases("test")]
    ids = np.concatenate([step[2] for args in drawn for step in args["trace"] if len(step) > 1])
    assert set(HOSTILE_IDS.tolist()) <= set(ids.tolist())
    lengths = {len(step[2]) for args in drawn for step in args["trace"] if len(step) > 1}
    assert {0, 1} <= lengths
    assert min(args["capacity"] for args in drawn) == 1


@each_plain
def test_layouts_are_varied(op: Op[..., Any]) -> None:
    shown = {v for case in op.cases("test") for v in variants(op, case)}
    assert {"contiguous", "strided", "offset"} == {v.layout for v in shown}
    kinds = {p.kind for p in op.params}
    if "Values" in kinds:
        assert {"float32", "float16", "bfloat16"} == {v.values for v in shown}
    if "Index" in kinds:
        assert {"int32", "int64"} == {v.index for v in shown}
    if "Blocks" in kinds:
        assert len({v.log2_rows for v in shown}) > 1


# --- version

TEMPLATE = """
from recis_core.spec import Traffic, op

FACTOR = {factor}

def helper(values):
    return values * {helper}

@op()
def doubled(values: "Values"):
    '''Twice the values.'''
    return helper(values) * FACTOR

@doubled.inputs(test=[dict(n=1)], bench=[dict(n={bench})])
def _(rng, n):
    return dict(values=rng.random(n))

@doubled.moves
def _(values):
    return Traffic({moves}, 0, 0)

def unrelated():
    return {unrelated}
"""


def version(folder: Path, name: str, **changed: int) -> str:
    text = dict(factor=1, helper=2, bench=4, moves=8, unrelated=0) | changed
    (folder / f"{name}.py").write_text(TEMPLATE.format(**text))
    return import_module(name).doubled.version


@pytest.mark.parametrize("what", ["factor", "helper", "bench", "moves"])
def test_version_changes_with_what_an_op_rests_on(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        plain = version(tmp_path, f"op_{what}_plain")
        assert version(tmp_path, f"op_{what}_again") == plain
        assert version(tmp_path, f"op_{what}_unrelated", unrelated=9) == plain
        assert version(tmp_path, f"op_{what}_other", **{what: 9}) != plain
    finally:
        for name in [n for n in sys.modules if n.startswith(f"op_{what}_")]:
            del sys.modules[name]


def test_versions_differ() -> None:
    assert len({op.version for op in OPS}) == len(OPS)
    assert ids_hash.version == ids_hash.version


def test_infinity_is_close_to_itself_alone() -> None:
    """A bound that grows with what is expected must not admit anything beside an infinity."""
    for op in OPS:
        inf, nan = np.array([np.inf]), np.array([np.nan])
        op.tolerance.check("inf", inf, inf, "float32")
        op.tolerance.check("nan", nan, nan, "float32")
        for wrong in (-inf, nan, np.array([1e30])):
            with pytest.raises(Disagreement):
                op.tolerance.check("inf", wrong, inf, "float32")
        for wrong in (inf, np.array([0.0])):
            with pytest.raises(Disagreement):
                op.tolerance.check("nan", wrong, nan, "float32")
