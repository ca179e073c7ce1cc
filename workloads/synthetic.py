"""Synthetic data on disk: skewed columns and a teacher's labels, the same files for the same seed.

A folder holds `train/part-N.<suffix>`, `valid/part-0.<suffix>`, `teacher.parquet` (the held-out
rows' true logits) and `manifest.json`. Parts are drawn from streams of their own, so an interrupted
write goes on after the last whole part; memory is bounded by one chunk of rows.
"""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from workloads.columns import Drawn, arrow_arrays
from workloads.files import open_sink, suffix_of
from workloads.manifest import check_plan, read_manifest, write_manifest
from workloads.teacher import Logits, Teacher, auc, probability, sample_chunk

CHUNK_ROWS = 1 << 13
PROBE_ROWS = 64
TRAIN, VALID, PROBE = 0, 1, 3
LABEL = "label"
Progress = Callable[[int, int], None]
Truth = list[tuple[Logits, np.ndarray]]  # of each chunk; labels [targets, rows]


class Job(NamedTuple):
    """One file to write: where, from which random stream, how many rows."""

    path: Path
    stream: tuple[int, ...]
    rows: int


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
    workers: int = 1,
) -> dict[str, Any]:
    """Write train and held-out files once; -> the manifest (plan, rows, ceilings).

    A complete folder of the same plan is left alone; ValueError names what differs otherwise.
    `plan` is what makes the data what it is: workload, size, configuration. With `workers` > 1
    as many processes write a part each, and one that was begun is finished before an interrupt
    is passed on; the files are the same. OSError if the disk has surely too little room.
    """
    folder, suffix = Path(folder), suffix_of(format)
    plan = {**plan, "format": format, "seed": seed}
    found = read_manifest(folder)
    if found is not None:
        check_plan(folder, found, plan)
        if found["complete"]:
            return found
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for part in range(parts):
        rows = train_rows * (part + 1) // parts - train_rows * part // parts
        jobs.append(Job(folder / "train" / f"part-{part}{suffix}", (seed, TRAIN, part), rows))
    jobs.append(Job(folder / "valid" / f"part-0{suffix}", (seed, VALID, 0), valid_rows))
    # The held-out part is drawn again: its true logits are needed for the ceiling.
    missing = [job for job in jobs if job.stream[1] == VALID or not job.path.exists()]
    require_room(folder, teacher, sum(job.rows for job in missing), format)
    write_manifest(folder, {"complete": False, "plan": plan})
    total = train_rows + valid_rows
    done = total - sum(job.rows for job in missing)
    written = _written_apart(teacher, missing, workers) if workers > 1 else None
    for job, truth in written or _written(teacher, missing, _offset(progress, done, total)):
        if job.stream[1] == VALID:
            _write_truth(folder / "teacher.parquet", teacher, truth)
        done += job.rows
        if progress:
            progress(done, total)
    manifest = {
        "complete": True,
        "plan": plan,
        "rows": {"train": train_rows, "valid": valid_rows},
        "ceiling": properties(folder)["ceiling"],
        "ceilings": {t.label: properties(folder, t.label)["ceiling"] for t in teacher.targets},
        "versions": {"pyarrow": pa.__version__, "numpy": np.__version__},
    }
    write_manifest(folder, manifest)
    return manifest


def require_room(folder: Path, teacher: Teacher, rows: int, format: str) -> None:
    """OSError if `rows` rows do not fit on the disk of `folder`.

    Arrow IPC takes what the columns take; the other formats at least a third of it.
    """
    sample, _ = _chunk(teacher, (0, PROBE), PROBE_ROWS)
    least = sample.nbytes / PROBE_ROWS * rows / (1 if format == "arrow" else 3)
    free = shutil.disk_usage(folder).free
    if least > free:
        raise OSError(
            f"{folder}: {rows:,} rows as {format} take at least {least / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free"
        )


def _offset(progress: Progress | None, done: int, total: int) -> Progress | None:
    return (lambda rows, _: progress(done + rows, total)) if progress else None


def _written(
    teacher: Teacher, jobs: Sequence[Job], progress: Progress | None
) -> Iterator[tuple[Job, Truth]]:
    """The jobs one after the other, `progress` told of every chunk."""
    done = 0
    for job in jobs:
        yield job, write_part(teacher, job, _offset(progress, done, 0))
        done += job.rows


def _written_apart(
    teacher: Teacher, jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Truth]]:
    """The jobs in processes of their own, as they are done."""
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        longest_first = sorted(jobs, key=lambda job: -job.rows)
        running = {pool.submit(write_part, teacher, job): job for job in longest_first}
        for one in as_completed(running):
            yield running[one], one.result()
    finally:
        pool.shutdown(cancel_futures=True)


def write_part(teacher: Teacher, job: Job, progress: Progress | None = None) -> Truth:
    """One file, chunk after chunk; -> the true logits and the labels of held-out rows."""
    first, _ = _chunk(teacher, (*job.stream, 0), 0)
    truth: Truth = []
    with open_sink(job.path, first.schema) as sink:
        for number, at in enumerate(range(0, job.rows, CHUNK_ROWS)):
            n = min(CHUNK_ROWS, job.rows - at)
            table, logits = _chunk(teacher, (*job.stream, number), n)
            sink.write(table)
            if job.stream[1] == VALID:
                labels = [table[t.label].to_numpy() for t in teacher.targets]
                truth.append((logits, np.stack(labels)))
            if progress:
                progress(at + n, job.rows)
    return truth


class Chunk(NamedTuple):
    """Rows as they are drawn: of each id column, dense [columns, rows], labels [targets, rows]."""

    drawn: dict[str, Drawn]
    dense: np.ndarray
    logits: Logits
    labels: list[np.ndarray]


def draw_chunk(teacher: Teacher, stream: Sequence[int], rows: int) -> Chunk:
    """The chunk `stream` stands for: seed, TRAIN or VALID, part, number of the chunk in it."""
    rng = np.random.default_rng(list(stream))
    drawn, dense = sample_chunk(rng, teacher.parts, teacher.dense, rows)
    logits = teacher.logits(drawn, dense)
    labels = [
        (rng.random(rows) < probability(logits.of(target))).astype(np.float32)
        for target in teacher.targets
    ]
    return Chunk(drawn, dense, logits, labels)


def _chunk(teacher: Teacher, stream: Sequence[int], rows: int) -> tuple[pa.Table, Logits]:
    drawn, dense, logits, labels = draw_chunk(teacher, stream, rows)
    arrays: dict[str, pa.Array] = {}
    for target, label in zip(teacher.targets, labels, strict=True):
        arrays[target.label] = pa.array(label)
    for part in teacher.parts:
        arrays |= arrow_arrays(part.column, drawn[part.column.name])
    arrays |= {name: pa.array(values) for name, values in zip(teacher.dense, dense, strict=True)}
    return pa.table(arrays), logits


def _write_truth(path: Path, teacher: Teacher, truth: Truth) -> None:
    """Of the held-out rows: float64 ids and dense parts, of every target logit and label.

    The first target's columns are called "logit" and "label", another's after its label.
    """
    columns = {
        "ids": np.concatenate([logits.ids for logits, _ in truth]),
        "dense": np.concatenate([logits.dense for logits, _ in truth]),
    }
    for i, target in enumerate(teacher.targets):
        columns[logit_name(target.label)] = np.concatenate([lo.of(target) for lo, _ in truth])
        columns[target.label] = np.concatenate([labels[i] for _, labels in truth])
    table = pa.table(columns)
    with open_sink(path, table.schema) as sink:
        sink.write(table)


def logit_name(label: str) -> str:
    return "logit" + label.removeprefix(LABEL)


def properties(folder: Path | str, label: str = LABEL) -> dict[str, float]:
    """What the held-out rows of `folder` say of their teacher.

    ceiling: AUC of its own probability. ids_share: part of the logit's variance from id features.
    dense_auc: AUC of the true dense part, the best any dense-only model can reach (the ids are
    independent of the dense columns). positives: share of label 1.
    """
    table = parquet.read_table(Path(folder) / "teacher.parquet")
    names = "ids", "dense", logit_name(label), label
    ids, dense, logit, labels = (table[name].to_numpy() for name in names)
    return {
        "ceiling": auc(logit, labels),
        "ids_share": float(ids.var() / (ids.var() + dense.var())),
        "dense_auc": auc(dense, labels),
        "positives": float(labels.mean()),
    }
