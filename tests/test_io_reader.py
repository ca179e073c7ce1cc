"""Batches, positions and threads of the reader."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import backends
from recis_core.io import ColumnError, Reader
from recis_core.io.prefetch import Prefetch
from recis_core.schema import Column
from tests.io_files import SUFFIXES, gathered, lists, sample, write

KERNELS = backends.load("torch", "reference")
COLUMNS = (
    Column("number", "ids", width=1),
    Column("nested", "ids", depth=2),
    Column("words", "strings"),
    Column("weights", "values"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """47 + 0 + 31 rows in three files of three formats, ten rows a piece."""
    path = tmp_path_factory.mktemp("data")
    table = sample(78)
    for start, rows, suffix in ((0, 47, ".parquet"), (47, 0, ".orc"), (47, 31, ".arrow")):
        write(table.slice(start, rows), path / f"{start:02}{suffix[1]}{suffix}")
    return path


def reader(folder, batch_size=8, **options):
    return Reader(folder, COLUMNS, batch_size, kernels=KERNELS, **options)


def plain(batches):
    """Batches as Python values, to compare bit for bit."""
    return [{n: lists(c) for n, c in b.columns.items()} for b in batches]


def numbers(batches):
    return [row[0] for row in gathered(batches, "number")]


def threads():
    return {t for t in threading.enumerate() if t.name.startswith("recis-")}


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_unshuffled_epochs_are_the_files_in_order(folder, prefetch):
    batches = list(reader(folder, epochs=2, prefetch=prefetch))
    assert numbers(batches) == [*range(78)] * 2
    assert [b.rows for b in batches] == ([8] * 9 + [6]) * 2


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_remainder_can_be_dropped(folder, prefetch):
    one = reader(folder, epochs=2, prefetch=prefetch, drop_remainder=True)
    batches = list(one)
    assert one.batches == 9
    assert [b.rows for b in batches] == [8] * 18
    assert numbers(batches) == [*range(72)] * 2
    assert one.state()["epoch"] == 2


def test_shuffled_epochs_are_different_permutations_of_whole_rows(folder):
    batches = plain(reader(folder, shuffle=True, seed=4, epochs=3))
    rows = [
        dict(zip(b, row, strict=True)) for b in batches for row in zip(*b.values(), strict=True)
    ]
    table = sample(78).to_pylist()
    for row in rows:
        (number,) = row["number"]
        assert row["nested"] == table[number]["nested"]
        assert row["words"] == [w.encode() for w in table[number]["words"]]
    order = [row["number"][0] for row in rows]
    epochs = [tuple(order[i : i + 78]) for i in (0, 78, 156)]
    assert all(sorted(e) == list(range(78)) for e in epochs)
    assert len({*epochs, tuple(range(78))}) == 4


def test_shuffles_depend_on_the_seed_alone(folder):
    def order(**options):
        return numbers(reader(folder, shuffle=True, **options))

    assert order(seed=1) == order(seed=1, prefetch=0) == order(seed=1, batch_size=5)
    assert order(seed=1) != order(seed=2)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("workers", [1, 3, 5])
def test_workers_share_each_epoch(folder, workers, shuffle):
    shares = [
        reader(folder, 7, shuffle=shuffle, seed=2, worker=w, workers=workers)
        for w in range(workers)
    ]
    read = [numbers(r) for r in shares]
    assert sorted(n for part in read for n in part) == list(range(78))
    assert [len(part) for part in read] == [r.rows for r in shares]
    assert {len(part) for part in read} <= {78 // workers, 78 // workers + 1}


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("worker", "workers"), [(0, 1), (1, 2)])
@pytest.mark.parametrize("drop_remainder", [False, True])
def test_a_resume_at_every_batch_is_exact(
    folder, prefetch, shuffle, worker, workers, drop_remainder
):
    options = dict(
        shuffle=shuffle,
        seed=9,
        worker=worker,
        workers=workers,
        epochs=3,
        drop_remainder=drop_remainder,
    )
    whole = plain(reader(folder, prefetch=2, **options))
    for done in range(len(whole) + 1):
        first = reader(folder, prefetch=prefetch, **options)
        assert plain(islice(first, done)) == whole[:done]
        state = json.loads(json.dumps(first.state()))
        second = reader(folder, prefetch=prefetch, **options)
        second.restore(state)
        assert second.state() == state
        assert plain(second) == whole[done:]


def test_a_broken_off_loop_goes_on_and_a_finished_one_begins_anew(folder):
    one = reader(folder, prefetch=3)
    assert numbers(islice(one, 2)) == [*range(16)]
    time.sleep(0.05)  # what was prefetched meanwhile was not handed out
    assert numbers(one) == [*range(16, 78)]
    assert numbers(one) == [*range(78)]
    end = one.state()
    again = reader(folder)
    again.restore(end)
    assert numbers(again) == []


def test_a_reader_without_end(folder):
    batches = list(islice(reader(folder, epochs=None, shuffle=True), 25))
    assert sum(b.rows for b in batches) == 2 * 78 + 5 * 8


def test_an_endless_reader_of_nothing_is_refused(folder):
    with pytest.raises(ColumnError, match=r"78 rows .* make no batch of 100"):
        reader(folder, 100, epochs=None, drop_remainder=True)


@pytest.mark.parametrize(
    ("option", "value"),
    [("seed", 5), ("shuffle", True), ("workers", 2), ("batch_size", 9), ("drop_remainder", True)],
)
def test_a_state_of_another_reader_is_refused(folder, option, value):
    state = reader(folder).state()
    other = reader(folder, **{option: value})
    with pytest.raises(ColumnError, match=f"cannot resume, {option} was .* and is now {value}"):
        other.restore(state)


def test_a_state_is_of_its_files_wherever_they_are(folder, tmp_path):
    state = reader(folder).state()
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    reader(tmp_path).restore(state)
    write(sample(78), tmp_path / "zz.parquet")
    with pytest.raises(ColumnError, match="cannot resume, files was"):
        reader(tmp_path).restore(state)


@pytest.mark.parametrize("leave", ["break", "raise", "drop", "close"])
def test_threads_end_with_the_loop(folder, leave):
    before = threads()
    one = reader(folder, epochs=None, prefetch=2)
    if leave == "break":
        for _ in one:
            assert len(threads() - before) == 2
            break
    elif leave == "raise":
        with pytest.raises(KeyboardInterrupt):
            interrupt(one)
    elif leave == "drop":
        next(iter(one))
    else:
        ahead = iter(one)
        next(ahead)
        one.close()
        assert list(ahead) == []
    assert threads() <= before


def interrupt(batches):
    for _ in batches:
        raise KeyboardInterrupt


def test_a_finished_loop_leaves_no_thread(folder):
    before = threads()
    list(reader(folder, epochs=2))
    assert threads() == before


def test_an_interpreter_ends_with_a_loop_in_progress(folder):
    code = (
        "import sys, backends\n"
        "from recis_core.io import Reader\n"
        "from recis_core.schema import Column\n"
        "reader = Reader(sys.argv[1], [Column('number', 'ids')], 8, epochs=None,\n"
        "                kernels=backends.load('reference'))\n"
        "batches = iter(reader)\n"
        "next(batches)\n"
        "print('read')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "read\n", "")


def test_prefetch_makes_no_more_than_its_depth_ahead():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    with Prefetch(items(), 3) as ahead:
        for taken in range(20):
            assert next(ahead) == taken
            time.sleep(0.002)
            assert len(made) <= taken + 1 + 3


def test_an_error_of_the_thread_comes_after_the_items_before_it():
    def items():
        yield 1
        raise ColumnError("bad row")

    ahead = Prefetch(items(), 5)
    assert next(ahead) == 1
    with pytest.raises(ColumnError, match="bad row"):
        next(ahead)
    assert list(ahead) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("piece", "batch"), [(4000, 500), (500, 2000)])
def test_memory_is_bounded_whatever_the_file(tmp_path, suffix, shuffle, piece, batch):
    rng = np.random.default_rng(0)
    rows, each, prefetch = 200_000, 16, 2
    offsets = pa.array(np.arange(rows + 1) * each, pa.int32())
    child = pa.array(rng.integers(0, 1 << 40, rows * each))
    table = pa.table({"tags": pa.ListArray.from_arrays(offsets, child)})
    path = tmp_path / f"a{suffix}"
    # Compressed, as an Arrow file that is only mapped would hold no memory of its own.
    write(table, path, piece, "zstd")
    row_bytes = each * 8 + 4
    del table, child, offsets
    before = pa.total_allocated_bytes()
    one = Reader(
        path, [Column("tags", "ids")], batch, shuffle=shuffle, prefetch=prefetch, kernels=KERNELS
    )
    most = 0
    for done in one:
        assert done.rows == batch
        most = max(most, pa.total_allocated_bytes() - before)
    # Arrow holds pieces only; the staged batches come on top, prefetch + 1 of them. The factor
    # is what Parquet's decoder takes.
    held = most / row_bytes + (prefetch + 1) * batch
    assert most > 0
    assert held <= 3 * (prefetch + 2) * max(piece, batch) < rows / 4
