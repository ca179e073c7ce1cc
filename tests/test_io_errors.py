"""Bad input is one line that names the file and what is wrong with it."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest

import backends
from recis_core.io import ColumnError, Reader, describe
from recis_core.schema import Column
from tests.io_files import SUFFIXES, sample, write

KERNELS = backends.load("torch", "reference")
NUMBER = Column("number", "ids", width=1)


def fails(path, columns, *parts, prefetch=2, **options):
    """Reading must raise a ColumnError of one line that has all of `parts` in it."""
    with pytest.raises(ColumnError) as caught:
        list(Reader(path, columns, 8, prefetch=prefetch, kernels=KERNELS, **options))
    said = str(caught.value)
    assert "\n" not in said
    for part in parts:
        assert str(part) in said, said


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_files(tmp_path, suffix):
    path = tmp_path / f"none{suffix}"
    fails(path, [NUMBER], path, "no such file or folder")
    with pytest.raises(ColumnError, match="no such file"):
        describe(path)


def test_folders_without_column_files(tmp_path):
    (tmp_path / "readme.txt").write_text("none here")
    fails(tmp_path, [NUMBER], tmp_path, "has no file ending in .parquet, .orc, .arrow, .feather")
    fails(tmp_path / "readme.txt", [NUMBER], "readme.txt", "'.txt'")
    fails([], [NUMBER], "no path given")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("left", [0.0, 0.001, 0.5, 0.95])
def test_truncated_files(tmp_path, suffix, left):
    path = write(sample(400), tmp_path / f"a{suffix}", 100)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * left)])
    fails(path, [NUMBER], path, "cannot be opened")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_another_format(tmp_path, suffix):
    other = write(sample(9), tmp_path / ("a.orc" if suffix != ".orc" else "a.parquet"))
    path = tmp_path / f"b{suffix}"
    path.write_bytes(other.read_bytes())
    fails(path, [NUMBER], path, "cannot be opened")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_that_are_not_text(tmp_path, suffix):
    path = write(pa.table({"number": range(4), "another": range(4)}), tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes().replace(b"another", b"\xff" * 7))
    fails(path, [NUMBER], path, "cannot be opened")


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damage_in_the_middle(tmp_path, suffix, prefetch):
    table = pa.table({"word": [f"{i:040}" for i in range(4000)], "number": range(4000)})
    # Of the three formats only compressed data tells that it is damaged.
    path = write(table, tmp_path / f"a{suffix}", 1000, "zstd")
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 2000] = b"\xff" * 2000
    path.write_bytes(content)
    columns = [NUMBER, Column("word", "strings")]
    with pytest.raises(ColumnError, match=re.escape(str(path))) as caught:
        list(Reader(path, columns, 8, prefetch=prefetch, kernels=KERNELS))
    assert "cannot be read" in str(caught.value) or "cannot be opened" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_offsets_that_run_backwards_in_a_mapped_file(tmp_path):
    table = pa.table({"tags": pa.array([[1, 2], [3], [4, 5, 6]])})
    path = write(table, tmp_path / "a.arrow")
    content = path.read_bytes()
    offsets = np.array([0, 2, 3, 6], np.int32).tobytes()
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, np.array([0, 5, 3, 6], np.int32).tobytes()))
    fails(path, [Column("tags", "ids")], path, "record batch 0, rows 0 to 2, cannot be read")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_columns(tmp_path, suffix):
    path = write(sample(3), tmp_path / f"a{suffix}")
    fails(path, [Column("numbr", "ids")], path, "column 'numbr' is missing", "'number'", "'flag'")
    fails(path, [NUMBER, NUMBER], "'number' is asked for twice")
    fails(path, [], "no column asked for")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("column", "said"),
    [
        (Column("price", "ids"), "double, but 'ids' are made from integers"),
        (Column("flag", "ids"), "bool, but 'ids' are made from integers"),
        (Column("name", "values"), "string, but 'values' are made from numbers"),
        (Column("number", "strings"), "int64, but 'strings' are made from strings"),
        (Column("tags", "ids", depth=2), "nests 1 lists, not 2"),
        (Column("nested", "ids"), "nests 2 lists, not 1"),
        (Column("number", "ids", depth=2), "nests 0 lists, not 2"),
        (Column("number", "ids", width=3), "one value a row, not 3"),
    ],
    ids=repr,
)
def test_wrong_types(tmp_path, suffix, column, said):
    path = write(sample(3), tmp_path / f"a{suffix}")
    fails(path, [column], path, f"column {column.name!r}", said)


def test_types_that_are_not_numbers(tmp_path):
    table = pa.table(
        {
            "when": pa.array([0], pa.timestamp("s")),
            "pair": pa.array([{"a": 1}]),
            "pairs": pa.array([[{"a": 1}]]),
            "nothing": pa.nulls(1),
        }
    )
    path = write(table, tmp_path / "a.parquet")
    for name in table.column_names:
        for kind in ("ids", "values", "strings"):
            fails(path, [Column(name, kind)], path, f"column {name!r}", "its type")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_nulls_are_found_by_row(tmp_path, suffix, shuffle, prefetch):
    plain = [*range(33), None, *range(34, 50)]
    lists = [[1]] * 27 + [[1, None]] + [[2]] * 22
    table = pa.table({"n": pa.array(plain, pa.int64()), "l": pa.array(lists, pa.list_(pa.int64()))})
    write(table[:10], tmp_path / f"a{suffix}")
    path = write(table[10:], tmp_path / f"b{suffix}")
    options = dict(shuffle=shuffle, prefetch=prefetch)
    ids = Column("n", "ids", width=1)
    fails(tmp_path, [ids], path, "column 'n', row 23:", "null where none is allowed", **options)
    for missing in ("error", "empty"):
        column = Column("l", "ids", missing=missing)
        fails(tmp_path, [column], path, "column 'l', row 17:", "null", "[1, None]", **options)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shuffle", [False, True])
def test_wrong_lengths_are_found_by_row(tmp_path, suffix, shuffle):
    rows = [[1.0, 2.0]] * 50
    rows[41] = [1.0, 2.0, 3.0]
    path = write(pa.table({"v": rows}), tmp_path / f"a{suffix}")
    column = Column("v", "values", width=2)
    fails(path, [column], path, "'v', row 41: 3 values where there must be 2", shuffle=shuffle)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_batches_before_a_bad_row_arrive(tmp_path, suffix):
    values = pa.array([*range(20), None], pa.int64())
    path = write(pa.table({"n": values}), tmp_path / f"a{suffix}")
    reader = Reader(path, [Column("n", "ids")], 8, prefetch=4, kernels=KERNELS)
    batches = iter(reader)
    assert next(batches).ragged("n").flat.tolist() == [*range(8)]
    assert next(batches).ragged("n").flat.tolist() == [*range(8, 16)]
    with pytest.raises(ColumnError, match="row 20"):
        next(batches)
    assert reader.state()["row"] == 16


def test_files_that_differ(tmp_path):
    first = write(pa.table({"n": pa.array([1], pa.int64()), "m": [1.0]}), tmp_path / "a.parquet")
    write(pa.table({"n": pa.array([1], pa.int64()), "m": [2.0]}), tmp_path / "b.orc")
    last = write(pa.table({"n": pa.array([1], pa.int32())}), tmp_path / "c.arrow")
    fails(tmp_path, [Column("n", "ids")], first, last, "column 'n' has type int32, but int64")
    with pytest.raises(ColumnError, match=r"c\.arrow: differs from .*a\.parquet in columns m, n"):
        describe(tmp_path)


def test_lists_may_be_of_any_kind_in_files_alike(tmp_path):
    write(pa.table({"n": pa.array([[1]], pa.list_(pa.int64()))}), tmp_path / "a.parquet")
    write(pa.table({"n": pa.array([[2]], pa.large_list(pa.int64()))}), tmp_path / "b.arrow")
    write(pa.table({"n": pa.array([[3]], pa.list_(pa.int64(), 1))}), tmp_path / "c.arrow")
    batch = next(iter(Reader(tmp_path, [Column("n", "ids", width=1)], 8, kernels=KERNELS)))
    assert batch.dense("n").tolist() == [[1], [2], [3]]


@pytest.mark.parametrize(
    "options",
    [dict(batch_size=0), dict(worker=2, workers=2), dict(worker=-1), dict(prefetch=-1)],
    ids=str,
)
def test_senseless_options(tmp_path, options):
    path = write(sample(3), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=re.escape(next(iter(options)))):
        Reader(path, [NUMBER], options.pop("batch_size", 8), kernels=KERNELS, **options)
