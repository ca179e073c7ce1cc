"""Synthetic data on disk: skewed columns and a teacher's labels, the same files for the same seed.

A folder holds `train/part-N.<suffix>`, `valid/part-0.<suffix>`, `teacher.parquet` (the held-out
rows' true logits) and `manifest.json`. Parts are drawn from streams of their own, so an interrupted
write goes on after the last whole part; memory is bounded by one chunk of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from workloads.columns import arrow_arrays
from workloads.files import open_sink, suffix_of
from workloads.manifest import check_plan, read_manifest, write_manifest
from workloads.teacher import Logits, Teacher, auc, sample_chunk

CHUNK_ROWS = 1 << 13
TRAIN, VALID = 0, 1
LABEL = "label"
Progress = Callable[[int, int], None]


class Split(NamedTuple):
    """Rows of one split, in how many files."""

    name: str
    stream: int
    rows: int
    parts: int


def write_data(
    folder: Path | str,
    teacher: Teacher,
    plan: Mapping[str, Any],
    *,
    train_rows: int,
    valid_rows: int,
    parts: int,
    format: str = "parquet",
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write train and held-out files once; -> the manifest (plan, rows, ceiling).

    A complete folder of the same plan is left alone; ValueError names what differs otherwise.
    `plan` is what makes the data what it is: workload, size, configuration.
    """
    folder, suffix = Path(folder), suffix_of(format)
    plan = {**plan, "format": format, "seed": seed}
    found = read_manifest(folder)
    if found is not None:
        check_plan(folder, found, plan)
        if found["complete"]:
            return found
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, {"complete": False, "plan": plan})
    total = train_rows + valid_rows
    done = 0
    for split in (Split("train", TRAIN, train_rows, parts), Split("valid", VALID, valid_rows, 1)):
        for part in range(split.parts):
            path = folder / split.name / f"part-{part}{suffix}"
            rows = split.rows * (part + 1) // split.parts - split.rows * part // split.parts
            # The held-out part is drawn again: its true logits are needed for the ceiling.
            if split.stream == VALID or not path.exists():
                report = _offset(progress, done, total)
                truth = _write_part(path, teacher, [seed, split.stream, part], rows, report)
                if split.stream == VALID:
                    _write_truth(folder / "teacher.parquet", truth)
            done += rows
            if progress:
                progress(done, total)
    manifest = {
        "complete": True,
        "plan": plan,
        "rows": {"train": train_rows, "valid": valid_rows},
        "ceiling": properties(folder)["ceiling"],
        "versions": {"pyarrow": pa.__version__, "numpy": np.__version__},
    }
    write_manifest(folder, manifest)
    return manifest


def _offset(progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
    return lambda rows: progress(done + rows, total) if progress else None


def _write_part(
    path: Path,
    teacher: Teacher,
    stream: Sequence[int],
    rows: int,
    report: Callable[[int], None],
) -> list[tuple[Logits, np.ndarray]]:
    """One file, chunk after chunk; -> (logits, labels) of every chunk."""
    first, _, _ = _chunk(teacher, [*stream, 0], 0)
    truth = []
    with open_sink(path, first.schema) as sink:
        for number, at in enumerate(range(0, rows, CHUNK_ROWS)):
            n = min(CHUNK_ROWS, rows - at)
            table, logits, labels = _chunk(teacher, [*stream, number], n)
            sink.write(table)
            truth.append((logits, labels))
            report(at + n)
    return truth


def _chunk(
    teacher: Teacher, stream: Sequence[int], rows: int
) -> tuple[pa.Table, Logits, np.ndarray]:
    rng = np.random.default_rng(list(stream))
    drawn, dense = sample_chunk(rng, teacher.parts, teacher.dense, rows)
    logits = teacher.logits(drawn, dense)
    labels = (rng.random(rows) < logits.probability).astype(np.float32)
    arrays: dict[str, pa.Array] = {LABEL: pa.array(labels)}
    for part in teacher.parts:
        arrays |= arrow_arrays(part.column, drawn[part.column.name])
    arrays |= {name: pa.array(values) for name, values in zip(teacher.dense, dense, strict=True)}
    return pa.table(arrays), logits, labels


def _write_truth(path: Path, truth: Sequence[tuple[Logits, np.ndarray]]) -> None:
    """float64 columns ids, dense, logit and float32 label of the held-out rows."""
    columns = {
        "ids": np.concatenate([logits.ids for logits, _ in truth]),
        "dense": np.concatenate([logits.dense for logits, _ in truth]),
        "logit": np.concatenate([logits.total for logits, _ in truth]),
        "label": np.concatenate([labels for _, labels in truth]),
    }
    table = pa.table(columns)
    with open_sink(path, table.schema) as sink:
        sink.write(table)


def properties(folder: Path | str) -> dict[str, float]:
    """What the held-out rows of `folder` say of their teacher.

    ceiling: AUC of its own probability. ids_share: part of the logit's variance from id features.
    dense_auc: AUC of the true dense part, the best any dense-only model can reach (the ids are
    independent of the dense columns). positives: share of label 1.
    """
    table = parquet.read_table(Path(folder) / "teacher.parquet")
    ids, dense, logit, label = (table[n].to_numpy() for n in ("ids", "dense", "logit", "label"))
    return {
        "ceiling": auc(logit, label),
        "ids_share": float(ids.var() / (ids.var() + dense.var())),
        "dense_auc": auc(dense, label),
        "positives": float(label.mean()),
    }
