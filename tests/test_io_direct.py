"""Columns read from Arrow files straight into the buffer of a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import backends
from recis_core.io import ColumnError, Reader
from recis_core.io import reads as reading
from recis_core.io.copies import fill
from recis_core.io.dataset import Dataset
from recis_core.io.extents import Opened
from recis_core.io.files import source_open
from recis_core.io.picked import Picked, expanded
from recis_core.io.reads import Reads, calls
from recis_core.schema import Column
from tests.io_files import gathered, lists, sample, write

KERNELS = backends.load("torch", "reference")
INTEGERS = [getattr(pa, f"{u}int{b}")() for u in ("", "u") for b in (8, 16, 32, 64)]
FORMS = {"plain": None, "list": pa.list_, "large": pa.large_list}
FLOATS = [pa.float16(), pa.float32(), pa.float64()]


def numbers(rows: int, seed: int = 0) -> tuple[pa.Table, list[Column]]:
    """A column of each type that can be read so, and of each list of it; some lists are empty."""
    rng = np.random.default_rng(seed)
    arrays, columns = {}, []
    for number, kind in enumerate(INTEGERS + FLOATS):
        target = "ids" if kind in INTEGERS else "values"
        for called, form in FORMS.items():
            name = f"{kind}_{called}"
            offsets = np.concatenate([[0], rng.integers(0, 4, rows).cumsum()])
            many = rows if form is None else int(offsets[-1])
            values = pa.array(rng.integers(0, 100, many).astype(kind.to_pandas_dtype()))
            if form is not None:
                width = pa.int64() if form is pa.large_list else pa.int32()
                made = pa.LargeListArray if form is pa.large_list else pa.ListArray
                values = made.from_arrays(pa.array(offsets, width), values)
            arrays[name] = values
            columns.append(Column(name, target, 1 if form is None else None))
        if number % 3 == 0:
            arrays[f"between_{number}"] = pa.array(["x" * (7 * n % 5) for n in range(rows)])
    return pa.table(arrays), columns[::-1]


def able(data: Dataset) -> list[set[str]]:
    """Which columns of every piece are read straight from the file."""
    found = []
    for piece in data.pieces:
        own = data.extents(piece, data.read(piece))
        mask = own.able.tolist() if own else [False] * len(data.columns)
        found.append({c.name for c, one in zip(data.columns, mask, strict=True) if one})
    return found


def same(reader: Reader, table: pa.Table) -> None:
    batches = list(reader)
    for column in reader.stream.columns:
        want = table[column.name].to_pylist()
        if column.width == 1 and column.kind != "strings":
            want = [[value] for value in want]
        assert gathered(batches, column.name) == want, column.name


@pytest.mark.parametrize(("piece", "batch"), [(8, 8), (8, 3), (3, 8), (50, 7), (5, 40)])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_every_type_of_number_and_every_cut(tmp_path, piece, batch, prefetch):
    table, columns = numbers(40)
    path = write(table, tmp_path / "a.arrow", piece)
    assert able(Dataset(path, columns)) == [{c.name for c in columns}] * -(-40 // piece)
    same(Reader(path, columns, batch, prefetch=prefetch, kernels=KERNELS), table)


@pytest.mark.parametrize("shuffle", [False, True])
def test_beside_what_is_not(tmp_path, shuffle):
    """Files of other orders, list types and formats, nulls in some pieces, strings; batches that
    lie across all of them."""
    table, some = numbers(30)
    columns = [*some[:9], Column("text", "strings", missing="default"), *some[9:]]
    columns = [Column(c.name, c.kind, c.width, missing="default") for c in columns]
    text = pa.array([None if n % 7 == 3 else "w" * (n % 3) for n in range(30)])
    table = table.append_column("text", text)
    nulls = pa.array([None if n == 3 else n for n in range(10)], pa.int8())
    parts = [table[:10], table[10:20].set_column(0, "int8_plain", [nulls]), table[20:]]
    wide = parts[2].column("int64_list").cast(pa.large_list(pa.int64()))
    index = table.schema.get_field_index("int64_list")
    parts[2] = parts[2].set_column(index, "int64_list", wide)
    parts[2] = parts[2].select(parts[2].column_names[::-1])
    parts.append(parts[0])
    for number, part in enumerate(parts):
        write(part, tmp_path / f"{number}{'.parquet' if number == 3 else '.arrow'}", 4)
    names = {c.name for c in some}
    data = Dataset(tmp_path, columns)
    with_a_null = names - {"int8_plain"}
    assert able(data) == [*[names] * 3, with_a_null, *[names] * 5, *[set()] * 3]
    whole = [part.select(table.column_names).cast(table.schema) for part in parts]
    want = {}
    for column in columns:
        rows = [value for part in whole for value in part[column.name].to_pylist()]
        rows = [(0 if value is None else value) for value in rows]
        want[column.name] = [[v] for v in rows] if column.width else rows
    want["text"] = [[v.encode() if v else b""] for v in want["text"]]
    batches = list(Reader(tmp_path, columns, 9, shuffle=shuffle, seed=3, kernels=KERNELS))
    found = {c.name: gathered(batches, c.name) for c in columns}
    rows = list(zip(*found.values(), strict=True))
    expected = list(zip(*(want[name] for name in found), strict=True))
    assert sorted(map(repr, rows)) == sorted(map(repr, expected))
    assert (rows == expected) is not shuffle


def test_a_whole_record_batch_takes_few_calls(tmp_path):
    table, columns = numbers(64)
    path = write(table, tmp_path / "a.arrow", 64)
    data = Dataset(path, columns)
    extents = data.extents(data.pieces[0], data.read(data.pieces[0]))
    assert extents is not None
    cut = extents.cut(np.arange(len(columns)), 0, 64)
    at = np.concatenate([cut.values, cut.bounds])
    reads = Reads(cut.file, at, np.full(len(at), 8), np.arange(len(at)) * 16)
    found, alone, _ = calls(reads, 1 << 30)
    assert len(found) == 1
    assert not alone


def test_compressed_record_batches_are_not(tmp_path):
    table, columns = numbers(20)
    path = write(table, tmp_path / "a.arrow", 8, "lz4")
    assert able(Dataset(path, columns)) == [set()] * 3
    same(Reader(path, columns, 6, kernels=KERNELS), table)


def test_columns_of_any_other_type_hide_none(tmp_path):
    table, columns = numbers(6)
    for name, values in (
        ("pair", pa.array([{"a": n} for n in range(6)])),
        ("code", pa.array(["x", "y"] * 3).dictionary_encode()),
        ("text", pa.array(["long enough to have a buffer of its own"] * 6).cast(pa.string_view())),
    ):
        table = table.add_column(0, name, values)
        path = write(table, tmp_path / f"{name}.arrow", 4)
        assert able(Dataset(path, columns)) == [{c.name for c in columns}] * 2
        same(Reader(path, columns, 4, kernels=KERNELS), table)
    asked = [Column("code", "strings"), Column("text", "strings"), *columns]
    # Of views, no type says how many buffers they have.
    assert able(Dataset(path, asked)) == [set()] * 2
    assert able(Dataset(path, asked[:1] + columns)) == [{c.name for c in columns}] * 2
    found = gathered(Reader(path, asked, 5, kernels=KERNELS), "text")
    assert found == [[value.as_py().encode()] for value in table["text"]]


def test_columns_not_asked_for_are_not_decompressed(tmp_path):
    table = pa.table({"n": range(4000), "word": [f"{n:040}" for n in range(4000)]})
    path = write(table, tmp_path / "a.arrow", 4000, "zstd")
    content = bytearray(path.read_bytes())
    content[-3000:-2000] = b"\xff" * 1000
    path.write_bytes(content)
    columns = [Column("n", "ids", 1), Column("word", "strings")]
    same(Reader(path, columns[:1], 4000, kernels=KERNELS), table)
    with pytest.raises(ColumnError, match=r"a\.arrow: record batch 0, .* cannot be read"):
        list(Reader(path, columns, 4000, kernels=KERNELS))


def test_columns_that_are_not_compressed_are_not_copied(tmp_path):
    path = write(pa.table({name: range(4000) for name in "abc"}), tmp_path / "a.arrow", 1000)
    source = source_open(path)
    before = pa.total_allocated_bytes()
    read = source.read(2, ["b"])
    assert pa.total_allocated_bytes() == before
    assert read["b"].to_pylist() == list(range(2000, 3000))


def test_lists_whose_width_is_declared_are_checked(tmp_path):
    path = write(sample(12), tmp_path / "a.arrow")
    columns = [Column("vector", "values", 3), Column("number", "ids", 1), Column("tags", "ids")]
    assert able(Dataset(path, columns))[0] == {"number", "tags"}
    (batch,) = Reader(path, columns, 12, kernels=KERNELS)
    assert lists(batch.columns["tags"]) == sample(12)["tags"].to_pylist()
    with pytest.raises(ColumnError, match=r"column 'tags', row .* values where there must be 2"):
        list(Reader(path, [Column("tags", "ids", 2)], 12, kernels=KERNELS))


def test_an_index_that_points_outside_is_refused(tmp_path):
    table = pa.table({"n": pa.array(range(9))})
    path = write(table, tmp_path / "a.arrow", 9)
    content = path.read_bytes()
    footer = len(content) - 10 - int.from_bytes(content[-10:-6], "little")
    blocks = [
        at
        for at in range(footer, len(content) - 24)
        if 0 < int.from_bytes(content[at : at + 8], "little") < footer
        and content[int.from_bytes(content[at : at + 8], "little") :][:4] == b"\xff" * 4
    ]
    assert len(blocks) == 1
    damaged = bytearray(content)
    damaged[blocks[0] : blocks[0] + 8] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(damaged)
    with pytest.raises(ColumnError, match=r"a\.arrow: record batch 0, rows 0 to 8, cannot be read"):
        list(Reader(path, [Column("n", "ids", 1)], 3, kernels=KERNELS))


@pytest.mark.parametrize("most", [500, 3])
@pytest.mark.parametrize("share", [1 << 20, 900])
def test_stretches_of_a_file(tmp_path, monkeypatch, most, share):
    monkeypatch.setattr(reading, "MOST", most)
    rng = np.random.default_rng(0)
    content = rng.integers(0, 256, 60_000, np.uint8)
    path = tmp_path / "a"
    path.write_bytes(content)
    opened = Opened(path, content)
    # Side by side, a little apart, far apart, over each other, empty; in any order.
    nbytes = rng.integers(0, 300, 60)
    at = np.minimum((nbytes + rng.choice([0, 8, -40, 5000], 60, p=[.6, .3, .05, .05])).cumsum(),
                    59_000).clip(0)  # fmt: skip
    mixed = rng.permutation(60)
    at, nbytes = at[mixed], nbytes[mixed]
    start = np.concatenate([[0], (nbytes + 5).cumsum()[:-1]])
    into = np.zeros(int((nbytes + 5).sum()), np.uint8)
    reads = Reads(opened, at, nbytes, start)
    found, alone, _ = calls(reads, share)
    assert found
    assert alone
    assert sum(len(c.first) for c in found) + len(alone) == (nbytes > 0).sum()
    assert max(len(c.first) for c in found) <= most
    monkeypatch.setattr("recis_core.io.copies.SHARE", 2000)
    monkeypatch.setattr("recis_core.io.copies.cores", lambda: 8)
    fill(into, [reads], [], [])
    for first, size, to in zip(at, nbytes, start, strict=True):
        assert (into[to : to + size] == content[first : first + size]).all()
        assert not into[to + size : to + size + 5].any()


def test_a_file_that_became_shorter_is_named(tmp_path):
    path = tmp_path / "a.arrow"
    path.write_bytes(bytes(100))
    opened = Opened(path, bytes(100))
    reads = Reads(opened, np.array([0, 60]), np.array([50, 40]), np.array([0, 64]))
    path.write_bytes(bytes(90))
    with pytest.raises(ColumnError, match=r"a\.arrow: .* has become shorter"):
        fill(np.zeros(128, np.uint8), [reads], [], [])


@pytest.mark.parametrize(("at", "nbytes"), [(60, 41), (0, -8)])
def test_what_is_not_in_the_file_is_not_read(tmp_path, at, nbytes):
    path = tmp_path / "a.arrow"
    path.write_bytes(bytes(100))
    reads = Reads(Opened(path, bytes(100)), np.array([0, at]), np.array([50, nbytes]), np.arange(2))
    with pytest.raises(ColumnError, match=r"a\.arrow: has changed"):
        fill(np.zeros(128, np.uint8), [reads], [], [])


def test_picked_rows():
    rng = np.random.default_rng(0)
    sizes = rng.integers(0, 5, 50)
    bounds = np.concatenate([[0], sizes.cumsum()])
    values = rng.standard_normal(int(bounds[-1]))
    rows = rng.permutation(50)[:33]
    own = np.concatenate([[0], sizes[rows].cumsum()])
    want = np.concatenate([values[bounds[r] : bounds[r + 1]] for r in rows])
    assert (values[expanded(bounds[rows], own)] == want).all()
    one = Picked(values, bounds[rows], own)
    out = np.zeros(len(one))
    one.write(out)
    assert (out == want).all()
    assert one.nbytes == want.nbytes


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_shuffled_rows_of_every_kind_stay_together(tmp_path, suffix):
    table = sample(37, seed=5)
    path = write(table, tmp_path / f"a{suffix}", 16)
    columns = [
        Column("number", "ids", 1),
        Column("tags", "ids"),
        Column("nested", "ids", depth=2),
        Column("vector", "values", 3),
        Column("words", "strings"),
        Column("name", "strings"),
        Column("flag", "values", 1),
    ]
    batches = list(Reader(path, columns, 9, shuffle=True, seed=1, kernels=KERNELS))
    rows = table.to_pylist()
    order = [row[0] for row in gathered(batches, "number")]
    assert sorted(order) == list(range(37)) != order
    for name in ("tags", "nested"):
        assert gathered(batches, name) == [rows[n][name] for n in order]
    words = [[w.encode() for w in rows[n]["words"]] for n in order]
    assert gathered(batches, "words") == words
    assert gathered(batches, "name") == [[rows[n]["name"].encode()] for n in order]
    assert gathered(batches, "flag") == [[float(rows[n]["flag"])] for n in order]
    vectors = np.array(gathered(batches, "vector"), np.float32)
    assert (vectors == np.array([rows[n]["vector"] for n in order], np.float32)).all()


def test_files_are_closed_with_their_readers(tmp_path):
    table, columns = numbers(8)
    path = write(table, tmp_path / "a.arrow", 4)
    reader = Reader(path, columns, 4, kernels=KERNELS)
    assert len(list(reader)) == 2
    assert path in opened()
    del reader
    assert path not in opened()


def opened() -> list[Path]:
    return [link.resolve() for link in Path("/proc/self/fd").iterdir()]
