"""Workloads: found by name, generated alike from the same seed, reused, resumed, refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as parquet
import pytest
import torch

import workloads
from recis_core.mixing import table_salt
from recis_core.task import tasks_of
from workloads.columns import IdColumn, draw_ids, ids_of
from workloads.files import open_sink
from workloads.mse import CONFIGS, TARGETS, MseConfig, MseModel, fields, teacher_of, write_mse
from workloads.synthetic import properties
from workloads.teacher import auc, effects

SMALL = replace(
    CONFIGS["tiny"], singles=4, bags=3, sequences=2, dims=((8, 5), (16, 4)), vocab_high=500,
    dense=2, train_rows=1000, valid_rows=300, parts=2,
)  # fmt: skip


def write(folder: Path, config: MseConfig = SMALL, **how: Any) -> dict[str, Any]:
    return write_mse(config, "test", folder, **how)


def content(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_names() -> None:
    assert {"mse", "lma-16k", "lma-100k", "movielens", "criteo", "recis-deepfm"} <= set(
        workloads.names()
    )
    for name in workloads.names():
        found = workloads.find(name)
        for size in found.sizes:
            with torch.device("meta"):  # shapes without memory: some are made for a large GPU
                model = found.model(size)
            assert model.features
            assert {task.label for task in tasks_of(model)} <= {c.name for c in model.columns}
            assert found.defaults(size).batch_size > 0
        with pytest.raises(ValueError, match="no size 'giant'"):
            found.config("giant")
    with pytest.raises(KeyError, match=r"no workload 'nothing'; there are .*mse"):
        workloads.find("nothing")


@pytest.mark.parametrize("format", ["parquet", "orc", "arrow"])
def test_same_seed_same_files(tmp_path: Path, format: str) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, format=format)
    write(tmp_path / "c", format=format, seed=1)
    first, other = content(tmp_path / "a"), content(tmp_path / "c")
    assert first == content(tmp_path / "b")
    assert len(first) == 5  # two train parts, one held out, its truth, the manifest
    assert all(first[name] != other[name] for name in first)


def test_formats_hold_the_same(tmp_path: Path) -> None:
    read = {
        "parquet": parquet.read_table,
        "orc": orc.read_table,
        "arrow": lambda path: pa.ipc.open_file(path).read_all(),
    }
    tables = []
    for format, reader in read.items():
        write(tmp_path / format, format=format)
        tables.append(reader(str(tmp_path / format / "train" / f"part-1.{format}")).to_pydict())
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]["label"]) == 500


def test_complete_folder_is_reused(tmp_path: Path) -> None:
    first = write(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    calls: list[tuple[int, int]] = []
    assert write(tmp_path, progress=lambda *at: calls.append(at)) == json.loads(json.dumps(first))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    assert calls == []


def test_interrupted_write_goes_on(tmp_path: Path) -> None:
    """After a stop, whole parts are kept and the files end as an uninterrupted write's."""

    class Stopped(KeyboardInterrupt):
        pass

    def stop(done: int, total: int) -> None:
        if done > 500:
            raise Stopped

    with pytest.raises(Stopped):
        write(tmp_path / "a", progress=stop)
    kept = tmp_path / "a" / "train" / "part-0.parquet"
    stamp = kept.stat().st_mtime_ns
    assert not (tmp_path / "a" / "train" / "part-1.parquet").exists()
    assert not list((tmp_path / "a").rglob(".*.part"))
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert kept.stat().st_mtime_ns == stamp
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write(tmp_path, progress=lambda *at: calls.append(at))
    assert calls[-1] == (1300, 1300)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


@pytest.mark.parametrize(
    ("config", "how", "said"),
    [
        (replace(SMALL, train_rows=2000), {}, "config.train_rows is 1000, asked for 2000"),
        (SMALL, {"seed": 3}, "seed is 0, asked for 3"),
        (SMALL, {"format": "orc"}, "format is 'parquet', asked for 'orc'"),
    ],
)
def test_other_data_is_refused(
    tmp_path: Path, config: MseConfig, how: dict[str, Any], said: str
) -> None:
    write(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ValueError, match=said):
        write(tmp_path, config, **how)
    assert content(tmp_path) == before


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format 'csv' is not one of parquet, orc, arrow"):
        write(tmp_path / "x", format="csv")
    assert not (tmp_path / "x").exists()


def test_damaged_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json: not a manifest"):
        write(tmp_path)


def test_failed_file_leaves_nothing(tmp_path: Path) -> None:
    schema = pa.schema([("x", pa.int64())])
    path = tmp_path / "a.parquet"
    with pytest.raises(OSError, match=r"a\.parquet: No space left"), open_sink(path, schema):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_manifest(tmp_path: Path) -> None:
    manifest = write(tmp_path)
    assert manifest["complete"]
    assert manifest["rows"] == {"train": 1000, "valid": 300}
    assert manifest["plan"]["config"] == asdict(SMALL)
    truth = parquet.read_table(tmp_path / "teacher.parquet")
    held_out = parquet.read_table(tmp_path / "valid")
    assert truth["label"].to_pylist() == held_out["label"].to_pylist()
    assert manifest["ceiling"] == auc(truth["logit"].to_numpy(), truth["label"].to_numpy())
    assert workloads.find("mse").ceiling(tmp_path) == manifest["ceiling"]
    assert workloads.find("mse").ceiling(tmp_path / "nowhere") is None


def test_teacher_is_what_was_asked_for(tmp_path: Path) -> None:
    """The three properties of `tiny`, on the held-out rows of a reduced number of training rows."""
    config = replace(CONFIGS["tiny"], train_rows=1000)
    write(tmp_path, config)
    found = properties(tmp_path)
    assert 0.75 <= found["ceiling"] <= 0.90
    assert found["ids_share"] >= 0.80
    assert found["dense_auc"] <= found["ceiling"] - 0.10
    assert 0.2 < found["positives"] < 0.5


def test_labels_follow_the_teacher(tmp_path: Path) -> None:
    """The true probabilities are calibrated: their mean is the share of positives."""
    write(tmp_path, replace(SMALL, valid_rows=20_000))
    truth = parquet.read_table(tmp_path / "teacher.parquet")
    probability = 1 / (1 + np.exp(-truth["logit"].to_numpy()))
    label = truth["label"].to_numpy()
    error = np.sqrt((probability * (1 - probability)).mean() / len(label))
    assert abs(probability.mean() - label.mean()) < 4 * error
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 1.0)):
        inside = (probability >= low) & (probability < high)
        error = 0.5 / np.sqrt(inside.sum())
        assert abs(probability[inside].mean() - label[inside].mean()) < 4 * error


def test_teacher_depends_on_id_alone() -> None:
    """Effects of ids do not depend on which other ids are asked for, nor on the order."""
    ranks = np.array([5, 70_000, 0, 5, 12])
    salt = table_salt("any")
    together = effects(ranks, salt)
    assert together[0] == together[3]
    assert [effects(r[None], salt)[0] for r in ranks] == together.tolist()
    assert not np.array_equal(together, effects(ranks, table_salt("other")))
    many = effects(np.arange(64), salt)
    assert abs(many.mean()) < 0.5
    assert 0.5 < many.std() < 1.2


def test_logit_parts_have_their_shares() -> None:
    teacher = teacher_of(SMALL, 0)
    rng = np.random.default_rng(7)
    drawn = {p.column.name: draw_ids(rng, p.column, 20_000) for p in teacher.parts}
    dense = rng.standard_normal((2, 20_000), dtype=np.float32)
    logits = teacher.logits(drawn, dense)
    wanted = SMALL.deviation**2
    assert logits.of(TARGETS[0]).std() == pytest.approx(SMALL.deviation, rel=0.1)
    assert logits.dense.var() == pytest.approx(wanted * SMALL.dense_share, rel=0.1)
    assert logits.of(TARGETS[0]).mean() == pytest.approx(SMALL.bias, abs=0.15)


def test_ids_are_a_bijection_of_ranks() -> None:
    ids = ids_of(np.arange(100_000))
    assert len(np.unique(ids)) == 100_000
    assert (ids < 0).any()


def test_columns_are_skewed_and_ragged() -> None:
    rng = np.random.default_rng(0)
    drawn = draw_ids(rng, IdColumn("x", 1000, mean=3.0, weighted=True), 5000)
    assert drawn.offsets is not None
    assert drawn.weights is not None
    lengths = np.diff(drawn.offsets)
    assert lengths.min() == 0
    assert lengths.mean() == pytest.approx(3, abs=0.15)
    assert len(drawn.weights) == len(drawn.ranks) == drawn.offsets[-1]
    assert (drawn.weights >= 0).all()
    counts = np.bincount(drawn.ranks, minlength=1000)
    assert counts[0] > 10 * counts[100] > 0


@pytest.mark.parametrize("size", ["tiny", "small", "bench", "paper"])
def test_sizes_are_as_defined(size: str) -> None:
    config = CONFIGS[size]
    found = fields(config)
    assert len(found) == config.singles + config.bags + config.sequences
    assert len({f.column.name for f in found}) == len(found)
    dims = [f.dim for f in found]
    assert {d: dims.count(d) for d in set(dims)} == dict(config.dims)
    assert sum(f.column.weighted for f in found) == config.weighted_bags
    assert {f.pooling for f in found} == {"sum", "mean", "tile"}


def test_model_shapes() -> None:
    model = MseModel(SMALL)
    rows = 5
    inputs = {name: torch.randn(rows, 1) for name in model.dense}
    for feature in model.features:
        shape = [rows, feature.table.dim]
        if feature.length is not None:
            shape.insert(1, feature.length)
        inputs[feature.name] = torch.randn(shape, requires_grad=True)
    logits = model(inputs)
    assert logits.shape == (rows,)
    logits.sum().backward()
    assert all(inputs[f.name].grad.abs().sum() > 0 for f in model.features)
    assert all(p.grad is not None for p in model.parameters())


def test_auc() -> None:
    label = np.array([0, 0, 1, 1])
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), label) == 0.75
    assert auc(np.array([1.0, 1.0, 1.0, 1.0]), label) == 0.5
    assert np.isnan(auc(np.arange(4.0), np.ones(4)))
