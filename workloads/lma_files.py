"""Writing the data of `lma` once: a stream for each part, a manifest with what is known."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from recis_core.mixing import mix64
from workloads.files import open_sink, suffix_of
from workloads.lma_data import BAND, BANDS, STEPS, Planted, Users, draw_users
from workloads.manifest import check_plan, read_manifest, write_manifest
from workloads.teacher import auc

EVENTS = ("item", "shop", "category", "brand", "age")
CHUNK_EVENTS = 1 << 19
STREAMS = {"train": 0, "valid": 1}
TRUTH = {"click": pa.float64(), "label": pa.float32(), "next": pa.float64(), "count": pa.int64()}


@dataclass(frozen=True)
class Rows:
    """How many users a split has and in how many files."""

    train: int
    valid: int
    parts: int


def write_users(
    folder: Path | str,
    planted: Planted,
    plan: Mapping[str, Any],
    rows: Rows,
    positions: int,
    *,
    format: str = "parquet",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write both splits once; -> the manifest, whose "known" are the least losses of each split:
    nats of the next item over the last `positions` of each user, nats of the click, its AUC.

    A complete folder of the same plan is left alone; ValueError names what differs otherwise.
    """
    folder, suffix = Path(folder), suffix_of(format)
    structure = {"bands": BANDS, "band": BAND, "steps": STEPS}
    plan = {**plan, "structure": structure, "format": format, "seed": seed}
    found = read_manifest(folder)
    if found is not None:
        check_plan(folder, found, plan)
        if found["complete"]:
            return found
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, {"complete": False, "plan": plan})
    done, lock, total = 0, Lock(), rows.train + rows.valid

    def report(users: int) -> None:
        nonlocal done
        with lock:
            done += users
            if progress:
                progress(done, total)

    def write(split: str, part: int, users: int) -> pa.Table:
        name, stream = f"part-{part}{suffix}", [seed, STREAMS[split], part]
        truth = folder / "truth" / f"{split}-{part}.parquet"
        if not (folder / split / name).exists() or not truth.exists():
            known = _part(folder / split / name, planted, stream, users, positions, report)
            with open_sink(truth, known.schema) as sink:
                sink.write(known)
        else:
            report(users)
        return parquet.read_table(truth)

    jobs = [
        *(("train", i, users_of(rows.train, rows.parts, i)) for i in range(rows.parts)),
        ("valid", 0, rows.valid),
    ]
    with ThreadPoolExecutor(min(len(jobs), os.cpu_count() or 1)) as pool:
        truths = list(pool.map(lambda job: write(*job), jobs))
    manifest = {
        "complete": True,
        "plan": plan,
        "rows": {"train": rows.train, "valid": rows.valid},
        "known": {"train": known(pa.concat_tables(truths[:-1])), "valid": known(truths[-1])},
        "versions": {"pyarrow": pa.__version__, "numpy": np.__version__},
    }
    manifest["ceiling"] = manifest["known"]["valid"]["auc"]
    write_manifest(folder, manifest)
    return manifest


def users_of(rows: int, parts: int, part: int) -> int:
    return rows * (part + 1) // parts - rows * part // parts


def _part(
    path: Path,
    planted: Planted,
    stream: list[int],
    users: int,
    positions: int,
    report: Callable[[int], None],
) -> pa.Table:
    """One file, chunk after chunk; -> what is known of each of its users."""
    chunk = max(1, CHUNK_EVENTS // planted.length)
    truths = []
    with open_sink(path, arrow(planted, _draw(planted, stream, 0, 0)).schema) as sink:
        for number, at in enumerate(range(0, users, chunk)):
            n = min(chunk, users - at)
            drawn = _draw(planted, stream, number, n)
            sink.write(arrow(planted, drawn))
            truths.append(truth(drawn, positions))
            report(n)
    return pa.concat_tables(truths) if truths else truth(_draw(planted, stream, 0, 0), positions)


def _draw(planted: Planted, stream: list[int], chunk: int, users: int) -> Users:
    return draw_users(planted, np.random.default_rng([*stream, chunk]), users)


def arrow(planted: Planted, users: Users) -> pa.Table:
    """Columns: the five lists of event ids, the candidate's four ids, label."""
    offsets = pa.array(users.offsets.astype(np.int32))
    ends = np.repeat(users.offsets[1:], np.diff(users.offsets))
    ago = ends - np.arange(len(users.items))
    age = np.frexp(ago.astype(np.float64))[1].astype(np.int64)  # 1 + floor(log2)
    lists = {**ids_of(planted, users.items), "age": age}
    columns: dict[str, pa.Array] = {
        name: pa.ListArray.from_arrays(offsets, pa.array(lists[name])) for name in EVENTS
    }
    columns |= {f"candidate_{n}": pa.array(v) for n, v in ids_of(planted, users.candidate).items()}
    return pa.table({**columns, "label": pa.array(users.label)})


def ids_of(planted: Planted, items: np.ndarray) -> dict[str, np.ndarray]:
    """The ids of items' features. An item's own is its number: it is a class of the output too."""

    def mixed(x: np.ndarray) -> np.ndarray:
        return mix64(x.astype(np.uint64) + np.uint64(1)).view(np.int64)

    return {
        "item": items,
        "shop": mixed(mix64(items) % np.uint64(planted.shops)),
        "category": mixed(items % planted.categories),
        "brand": mixed(items // planted.categories // BAND),
    }


def truth(users: Users, positions: int) -> pa.Table:
    """Of each user: Bayes probability of a click, label, Bayes nats of the last `positions` events
    that have one before them, and how many those are."""
    total = np.concatenate([[0.0], np.cumsum(users.surprise)])
    ends = users.offsets[1:]
    begins = np.minimum(np.maximum(ends - positions, users.offsets[:-1] + 1), ends)
    columns = [users.click, users.label, total[ends] - total[begins], ends - begins]
    return pa.table({n: pa.array(c, TRUTH[n]) for n, c in zip(TRUTH, columns, strict=True)})


def known(truth: pa.Table) -> dict[str, float]:
    """Expected nats of a click, nats of a next item, AUC of the Bayes probability."""
    click, label, nats, count = (truth[name].to_numpy() for name in TRUTH)
    each = -(click * np.log(click) + (1 - click) * np.log1p(-click))
    return {
        "click": float(each.mean()),
        "next": float(nats.sum() / max(count.sum(), 1)),
        "auc": auc(click, label),
        "events": int(count.sum()),
    }
