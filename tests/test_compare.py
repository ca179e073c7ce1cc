"""Comparing contenders: equal losses first, ratios of turns with an interval, absent ones said."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import backends
import workloads
from backends.arrays import BASE
from backends.boundary import Bound
from backends.conformance import check_call
from recis_core.kernels import Kernels, every_op, find_op
from recis_core.tolerance import SUMMED
from reports import choice, compare, compare_drift, records
from reports.compare import Turns, interleaved, judge, ratio_of, ratios, warmed
from roofline.kinds import Comparison
from tests.small_mse import recis, shrink
from workloads import mse
from workloads.baselines import definition, numbered, packed, plain_torch
from workloads.columns import IdColumn

CPU = torch.device("cpu")


def counting(losses, seconds=0.0):
    """A step that gives the losses in turn and takes its time."""
    source = iter(losses)

    def step():
        time.sleep(seconds)
        return next(source)

    return step


def test_losses_are_compared_before_anything_is_timed():
    steps = {"a": counting([0.7, 0.6]), "b": counting([0.7, 0.6]), "c": counting([0.7, 0.61])}
    found = warmed(steps, 2)
    assert [t.agrees for t in found.values()] == [True, True, False]
    assert "losses of c beside a" in found["c"].reason
    assert ratios(list(found.values())) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_no_agreement(bad):
    found = warmed({"a": counting([bad]), "b": counting([bad])}, 1)
    assert not found["a"].agrees


def test_losses_that_part_later_cost_the_ratio():
    same = [0.7, 0.6, 0.5, 0.4]
    steps = {"a": counting(same), "b": counting([*same[:3], 0.3])}
    found = warmed(steps, 1)
    interleaved(steps, found, 3, 1, CPU)
    judge(found)
    assert not found["b"].agrees
    assert ratios(list(found.values())) == []
    assert compare.facts(found["b"], "backend", 9, {})["rows_per_s"] is None


def test_after_many_steps_losses_may_part_as_far_as_rounding_takes_them():
    """Within the reach of a step a contender keeps its time, one step beyond it does not."""
    first, twin = [0.7, 0.6, 0.5, 0.4], [0.7, 0.6001, 0.5, 0.4]
    reach = compare_drift.reach(first, twin)
    np.testing.assert_allclose(reach, 1e-6 + 2e-5 * np.array(first) + [0, 4e-4, 4e-4, 4e-4])
    for last, agrees in ((0.4003, True), (0.4005, False), (math.nan, False)):
        found = {"a": Turns("a", first), "b": Turns("b", [*first[:3], last])}
        judge(found, reach)
        assert found["b"].agrees == agrees
    assert "part from a's at step 4 of 4" in found["b"].reason
    assert "rounding explains 0.00041" in found["b"].reason


def test_a_disturbed_twin_is_off_by_rounding_and_no_more():
    """Terms and results, not what must be exact; so little that no single op is wrong."""
    right = backends.load("reference")
    twin = compare_drift.disturbed(right)
    for op in (o for o in every_op() if not o.machine and o.tolerance is SUMMED):
        case = list(op.cases("test"))[-1]
        check_call(Bound.of(op, getattr(twin, op.name), "twin", "cpu"), op, case, BASE)
    values, index = torch.randn(50, 3), torch.arange(50, dtype=torch.int32)
    offsets = torch.tensor([0, 50], dtype=torch.int32)
    one, other = (k.segment_sum(values, index, offsets, None) for k in (right, twin))
    assert not torch.equal(one, other)
    noise = compare_drift.Noise("cpu", 0)
    for count in (1, 1000, (1 << 20) + 5):
        assert (noise.stretch(count) - 1).abs().max() <= 16 * 2.0**-24 + 2.0**-24
    assert len(noise.stretch(3 << 20)) == 3 << 20


def test_turns_alternate_and_each_begins_in_its_turn():
    order = []
    steps = {name: lambda name=name: order.append(name) or 0.5 for name in "ab"}
    interleaved(steps, {name: Turns(name) for name in "ab"}, 2, 2, CPU)
    assert "".join(order) == "aabbbbaa"


def test_a_ratio_is_of_paired_turns_with_an_interval_that_holds_it():
    rng = np.random.default_rng(0)
    machine = np.exp(rng.normal(0, 0.5, 12))  # both turns of a round meet the same machine
    one = Turns("one", seconds=list(machine * 2 * np.exp(rng.normal(0, 0.02, 12))))
    other = Turns("other", seconds=list(machine))
    found = ratio_of(one, other)
    assert found.low < found.ratio < found.high
    assert found.low < 2 < found.high
    assert found.high / found.low < 1.06
    assert ratio_of(other, one).ratio == pytest.approx(1 / found.ratio)
    again = ratio_of(other, Turns("same", seconds=list(machine)))
    assert (again.ratio, again.low, again.high) == (1, 1, 1)


def test_numbered_ids_are_the_same_ids(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as parquet

    ids = pa.array([7, -3, 7, 2**62, 5, 6, 8], pa.int64())
    lists = pa.array([[1], [], [1, -9], [4], [], [4], [2]], pa.list_(pa.int64()))
    (tmp_path / "train").mkdir()
    for at in (0, 3):
        size = 3 if at == 0 else 4
        table = pa.table({"id": ids.slice(at, size), "bag": lists.slice(at, size)})
        parquet.write_table(table, tmp_path / "train" / f"part-{at}.parquet")
    made = numbered.numbered(tmp_path, tmp_path / "new", ["id", "bag"], 2, 3)
    table = parquet.read_table(tmp_path / "new" / "train")
    assert [int(made.ids["id"][i]) for i in table["id"].to_pylist()] == ids.to_pylist()[:6]
    back = [[int(made.ids["bag"][i]) for i in row] for row in table["bag"].to_pylist()]
    assert back == lists.to_pylist()[:6]
    with pytest.raises(ValueError, match="3 whole batches"):
        list(numbered.first_batches(tmp_path / "train", 2, 4))


def test_baselines_say_why_they_are_absent(tmp_path):
    there = definition.known()
    assert {"plain", "compile", "fbgemm", "torchrec", "dynamicemb"} <= set(there)
    said = definition.not_installed("no_such_package", "a-distribution")
    assert said == "package no_such_package is not installed: pip install a-distribution"
    assert definition.not_installed("json", "") is None
    terms = definition.Terms(mse.workload, "tiny", tmp_path, tmp_path, 9, 1, 0.1, 0.1, CPU)
    assert "runs on GPUs alone" in str(there["dynamicemb"].absent(terms))
    (tmp_path / "train").mkdir()
    assert "has none" in str(plain_torch.unfit(terms, ("adam",), "it"))
    (tmp_path / "train" / "a.parquet").touch()
    assert plain_torch.unfit(terms, ("adam",), "it") is None
    for change, said in (
        ({"optimizer": "adagrad"}, "it has adam for rows, not adagrad"),
        ({"size": "bench"}, "one target"),
        ({"device": torch.device("cuda")}, "the device is cuda"),
        ({"workload": workloads.find("lma-16k")}, "mse alone, not for lma-16k"),
    ):
        assert said in str(plain_torch.unfit(replace(terms, **change), ("adam",), "it"))


def test_ids_are_packed_as_batched_tables_take_them():
    import pyarrow as pa

    lists = pa.array([[9], [1, 2], [], [3, 4, 5], [6]], pa.list_(pa.int64())).slice(1)
    weights = pa.array([[0.5], [1, 3], [], [0, 0, 2], [1]], pa.list_(pa.float32())).slice(1)
    batch = pa.record_batch({"x": lists, "x_weights": weights, "one": pa.array([7, 8, 7, 8])})
    bag = mse.Field(IdColumn("x", 10, 1.0, 2.0, weighted=False), 8, "mean")
    plain = packed.bags_of(batch, bag)
    assert plain.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert plain.offsets.tolist() == [0, 2, 2, 5, 6]
    np.testing.assert_allclose(plain.weights, [0.5, 0.5, 1 / 3, 1 / 3, 1 / 3, 1])
    weighted = mse.Field(IdColumn("x", 10, 1.0, 2.0, weighted=True), 8, "sum")
    batch = batch.rename_columns(["x", weighted.column.weight_name, "one"])
    assert packed.bags_of(batch, weighted).weights.tolist() == [1, 3, 0, 0, 2, 1]
    one = packed.bags_of(batch, mse.Field(IdColumn("one", 10, 1.0), 8, "sum"))
    assert (one.ids.tolist(), one.lengths.tolist()) == ([7, 8, 7, 8], [1] * 4)
    cut = packed.cut(batch, bag._replace(length=2))
    assert (cut.ids.tolist(), cut.lengths.tolist()) == ([1, 2, 3, 4, 6], [2, 0, 2, 1])
    assert packed.single(cut, 2).lengths.tolist() == [1, 1, 0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("optimizer", ["adagrad", "adagrad_rowwise"])
@pytest.mark.parametrize("name", ["fbgemm", "torchrec"])
def test_a_librarys_tables_train_as_the_engine_does(name, optimizer, tmp_path, monkeypatch, capsys):
    packages = {"fbgemm": ("fbgemm_gpu", "fbgemm-gpu-cpu"), "torchrec": ("torchrec", "torchrec")}
    if reason := definition.not_installed(*packages[name]):
        pytest.skip(reason)
    shrink(monkeypatch)
    given = words(tmp_path, "torch", "--baseline", name, "--optimizer", optimizer, "--warm", 6)
    assert recis(*given) == 0, capsys.readouterr().err
    [r] = records.read(tmp_path / "c.jsonl", Comparison)
    assert [c["status"] for c in r.contenders] == ["ok", "ok"]
    assert (r.optimizer, r.agreed) == (optimizer, True)


def words(folder, backend, *more):
    return ("compare", "mse", "--data", folder / "data", "--out", folder / "c.jsonl",
            "--backend", backend, "--batch-size", 100, "--rounds", 2, "--steps", 1,
            "--warm", 3, *more)  # fmt: skip


def test_the_command_compares_backends_and_plain_pytorch(tmp_path, monkeypatch, capsys):
    shrink(monkeypatch)
    assert recis(*words(tmp_path, "torch,reference", "--baseline", "plain,dynamicemb")) == 0
    [r] = records.read(tmp_path / "c.jsonl", Comparison)
    status = {c["name"]: c["status"] for c in r.contenders}
    assert status == {"torch": "ok", "reference": "ok", "plain": "ok", "dynamicemb": "skipped"}
    by_name = {c["name"]: c for c in r.contenders}
    assert len(by_name["plain"]["losses"]) == 3 + 2
    assert by_name["plain"]["what"] == "baseline"
    assert {ratio["name"] for ratio in r.ratios} == {"reference", "plain"}
    assert all(ratio["over"] == "torch" for ratio in r.ratios)
    assert {s["stage"] for s in by_name["torch"]["stages"]} >= {"read", "forward", "update"}
    said = capsys.readouterr().err
    assert "dynamicemb is left out: there is no plug-in" in said
    assert "where a step's time goes" in said


def test_a_wrong_backend_gets_no_ratio(tmp_path, monkeypatch, capsys):
    """Its optimizer takes a slightly larger step: each of its ops looks plausible alone."""
    shrink(monkeypatch)
    right = backends.load("torch")

    def hasty(blocks, rows, grad, scale, rate, lr, *rest):
        right.rows_adam(blocks, rows, grad, scale, rate, lr * 1.5, *rest)

    bound = {op.name: getattr(right, op.name) for op in every_op()}
    bound["rows_adam"] = Bound.of(find_op("rows_adam"), hasty, "hasty", "cpu")
    wrong = Kernels("hasty", bound, {**right.origins, "rows_adam": "hasty"})
    monkeypatch.setattr(choice, "kernels_of", lambda name, device: {"t": right, "h": wrong}[name])
    assert recis(*words(tmp_path, "t,h", "--warm", 8)) == 1
    [r] = records.read(tmp_path / "c.jsonl", Comparison)
    assert not r.agreed
    assert r.ratios == []
    hasty_facts = next(c for c in r.contenders if c["name"] == "hasty")
    assert hasty_facts["status"] == "wrong"
    assert hasty_facts["rows_per_s"] is None
    assert "hasty gets no time: losses of hasty beside torch" in capsys.readouterr().err


def test_an_unknown_baseline_is_misuse(tmp_path, capsys):
    assert recis(*words(tmp_path, "torch", "--baseline", "nobody")) == 2
    assert "no baseline 'nobody'" in capsys.readouterr().err
