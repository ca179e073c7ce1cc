"""What files hold is what batches hold, in each format, across pieces and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pytest
import torch

import backends
from recis_core.io import Reader, describe
from recis_core.io.files import source_open
from recis_core.schema import Column
from tests.io_files import SUFFIXES, gathered, lists, sample, write

KERNELS = backends.load("reference")
COLUMNS = (
    Column("number", "ids", width=1),
    Column("tags", "ids"),
    Column("nested", "ids", depth=2),
    Column("weights", "values"),
    Column("price", "values", width=1),
    Column("vector", "values", width=3),
    Column("words", "strings"),
    Column("name", "strings"),
    Column("flag", "values", width=1),
)
RECIS = Path(__file__).parents[2] / "shared/data/recis-deepfm"


def expected(table: pa.Table) -> dict[str, list]:
    """The rows of `sample` as batches should give them, by plain Python."""
    rows = table.to_pydict()
    single = np.float32(rows["price"]).tolist()
    return {
        "number": [[n] for n in rows["number"]],
        "tags": rows["tags"],
        "nested": rows["nested"],
        "weights": rows["weights"],
        "price": [[p] for p in single],
        "vector": rows["vector"],
        "words": [[w.encode() for w in row] for row in rows["words"]],
        "name": [[w.encode()] for w in rows["name"]],
        "flag": [[float(f)] for f in rows["flag"]],
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("rows", "piece", "batch"), [(47, 10, 7), (47, 5, 23), (30, 100, 30)])
def test_batches_hold_what_was_written(tmp_path, suffix, rows, piece, batch):
    table = sample(rows)
    path = write(table, tmp_path / f"a{suffix}", piece)
    reader = Reader(path, COLUMNS, batch, kernels=KERNELS)
    batches = list(reader)
    assert [b.rows for b in batches] == [min(batch, rows - i) for i in range(0, rows, batch)]
    for name, want in expected(table).items():
        assert gathered(batches, name) == want, name
    assert reader.rows == rows
    assert reader.batches == len(batches)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pieces_are_as_written(tmp_path, suffix):
    path = write(sample(47), tmp_path / f"a{suffix}", 10)
    assert source_open(path).pieces == (10, 10, 10, 10, 7)


def test_files_of_a_folder_follow_each_other_by_name(tmp_path):
    tables = [sample(n, seed=n) for n in (11, 0, 6, 25)]
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    for table, name in zip(
        tables, ("a.orc", "b.arrow", "c.parquet", "deep/d.feather"), strict=True
    ):
        write(table, folder / name)
    for passed_over in ("_SUCCESS", ".hidden.parquet", "a.parquet.part", "notes.txt"):
        (folder / passed_over).write_text("not data")
    batches = list(Reader(folder, COLUMNS, 9, kernels=KERNELS))
    assert [b.rows for b in batches] == [9, 9, 9, 9, 6]
    want = expected(pa.concat_tables(tables))
    assert all(gathered(batches, c.name) == want[c.name] for c in COLUMNS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_rows_gives_no_batch(tmp_path, suffix):
    path = write(sample(0), tmp_path / f"a{suffix}")
    assert list(Reader(path, COLUMNS, 4, kernels=KERNELS)) == []
    assert list(Reader(path, COLUMNS, 4, shuffle=True, epochs=3, kernels=KERNELS)) == []
    assert describe(path).rows == 0


def test_a_record_batch_without_rows_is_passed_over(tmp_path):
    table = sample(6)
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as out:
        for part in (table[:0], table[:3], table[3:3], table[3:]):
            for one in part.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]:
                out.write_batch(one)
    batches = list(Reader(tmp_path / "a.arrow", COLUMNS, 4, kernels=KERNELS))
    assert gathered(batches, "words") == expected(table)["words"]


@pytest.mark.parametrize("codec", ["lz4", "zstd", None])
def test_compressed_record_batches(tmp_path, codec):
    table = sample(20)
    write(table, tmp_path / "a.arrow", 8, codec)
    batches = list(Reader(tmp_path / "a.arrow", COLUMNS, 20, kernels=KERNELS))
    assert gathered(batches, "tags") == expected(table)["tags"]


def test_a_column_whose_name_begins_like_another(tmp_path):
    table = pa.table({"a": [1, 2], "a.b": [[3], [4]], "ab": [5, 6]})
    for suffix in SUFFIXES:
        path = write(table, tmp_path / f"x{suffix}")
        columns = [Column("a", "ids", width=1), Column("ab", "ids", width=1)]
        batch = next(iter(Reader(path, columns, 2, kernels=KERNELS)))
        assert lists(batch.columns["a"]) == [[1], [2]]
        assert lists(batch.columns["ab"]) == [[5], [6]]


def test_dtypes_and_shapes(tmp_path):
    path = write(sample(12), tmp_path / "a.parquet")
    batch = next(iter(Reader(path, COLUMNS, 12, kernels=KERNELS)))
    assert batch.dense("number").dtype == torch.int64
    assert batch.dense("number").shape == (12, 1)
    assert batch.dense("vector").dtype == torch.float32
    assert batch.dense("vector").shape == (12, 3)
    assert batch.ragged("tags").offsets.dtype == torch.int32
    assert batch.ragged("words").flat.dtype == torch.uint8


def test_describe(tmp_path):
    for name in ("a.parquet", "b.parquet"):
        write(sample(25), tmp_path / name, 10)
    found = describe(tmp_path)
    assert (found.rows, found.pieces, found.unit) == (50, 6, "row group")
    assert ("price", "double") in found.columns
    assert found.nbytes == sum(f.stat().st_size for f in tmp_path.iterdir())
    assert [f.name for f in found.files] == ["a.parquet", "b.parquet"]


@pytest.mark.skipif(not RECIS.is_dir(), reason="RecIS's example ORC files are not here")
def test_the_example_files_of_recis_are_read_as_pyarrow_reads_them():
    files = sorted(RECIS.glob("*.orc"))
    schema = orc.ORCFile(files[0]).schema
    columns = [
        Column(f.name, "ids" if f.type.value_type == pa.int64() else "values") for f in schema
    ]
    table = pa.concat_tables(orc.read_table(f) for f in files)
    assert describe(RECIS).columns == tuple((f.name, str(f.type)) for f in schema)
    assert describe(RECIS).rows == table.num_rows
    reader = Reader(RECIS, columns, 3000, kernels=backends.load("torch", "reference"))
    batches = list(reader)
    assert sum(b.rows for b in batches) == reader.rows == table.num_rows
    for column in columns:
        whole = table[column.name].combine_chunks()
        lengths = np.concatenate([b.ragged(column.name).offsets.diff() for b in batches])
        values = np.concatenate([b.ragged(column.name).flat for b in batches])
        assert np.array_equal(lengths, np.diff(whole.offsets)), column.name
        assert np.array_equal(values, np.asarray(whole.flatten()).astype(values.dtype))


@pytest.mark.skipif(not RECIS.is_dir(), reason="RecIS's example ORC files are not here")
def test_empty_lists_of_a_fixed_column_take_the_default():
    columns = [Column("i1", "values", width=1, missing="default", default=-7)]
    batch = next(iter(Reader(RECIS, columns, 10_000, kernels=KERNELS)))
    rows = orc.ORCFile(RECIS / "part-0.orc").read(columns=["i1"])["i1"].to_pylist()
    assert lists(batch.columns["i1"]) == [row or [-7.0] for row in rows]
