"""Arrow arrays of every type to raw views, staged and unpacked: values, nulls, widths, copies."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import backends
from recis_core.io.column import column_raw, piece_raw
from recis_core.io.copies import fill, shared_out
from recis_core.io.kind import check_declared, check_type
from recis_core.io.missing import RowError
from recis_core.io.stage import stage, unpack
from recis_core.ops.columns_unpack import ALIGN
from recis_core.schema import Column
from tests.io_files import lists

KERNELS = backends.load("reference")
INTEGERS = [getattr(pa, f"{u}int{b}")() for u in ("", "u") for b in (8, 16, 32, 64)]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
LISTS = [pa.list_, pa.large_list]


def read(column: Column, *arrays: pa.Array) -> list:
    """The rows of some arrays, one after the other, by way of a staged buffer."""
    for array in arrays:
        check_type(array.type, column)
    raws = [column_raw(a, column) for a in arrays]
    staged = stage([column], {column.name: raws}, sum(map(len, arrays)))
    assert not (staged.pieces[:, 0] % ALIGN).any()
    return lists(unpack(staged, KERNELS).columns[column.name])


@pytest.mark.parametrize("kind", INTEGERS + FLOATS, ids=str)
@pytest.mark.parametrize("wrap", [None, *LISTS], ids=["plain", "list", "large_list"])
def test_every_number_type(kind, wrap):
    numbers = [0, 1, 2, 3, 127]
    if wrap is None:
        array = pa.array(numbers, kind)
        want = [[n] for n in numbers]
    else:
        want = [[], numbers, [7], [], [1, 2]]
        array = pa.array(want, wrap(kind))
    targets = ["ids", "values"] if kind in INTEGERS else ["values"]
    for target in targets:
        assert read(Column("c", target), array) == want
        assert read(Column("c", target), array[1:4], array[2:], array[:0]) == want[1:4] + want[2:]


def test_unsigned_integers_keep_their_bits():
    array = pa.array([(1 << 64) - 1, 1 << 63, 5], pa.uint64())
    assert read(Column("c", "ids", width=1), array) == [[-1], [-(1 << 63)], [5]]
    filled = Column("c", "ids", width=1, missing="default", default=-3)
    with_null = pa.array([(1 << 64) - 1, None], pa.uint64())
    assert read(filled, with_null) == [[-1], [-3]]
    assert read(filled, pa.array([255, None], pa.uint8())) == [[255], [-3]]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_doubles_round_to_nearest():
    values = [0.1, 1 / 3, 1e300, -1e-46, float("nan")]
    got = np.float32(read(Column("c", "values", width=1), pa.array(values)))[:, 0]
    with np.errstate(over="ignore"):
        assert np.array_equal(got, np.float32(values), equal_nan=True)


def test_fixed_size_lists_and_slices():
    array = pa.array([[i, i + 1] for i in range(6)], pa.list_(pa.int32(), 2))
    for width in (2, None):
        column = Column("c", "ids", width=width)
        assert read(column, array[2:4], array[5:]) == [[2, 3], [3, 4], [5, 6]]
    nested = pa.array([[[1, 2]], [], [[3, 4], [5, 6]]], pa.list_(pa.list_(pa.int8(), 2)))
    assert read(Column("c", "ids", depth=2), nested[1:]) == [[], [[3, 4], [5, 6]]]


def test_nested_lists_over_runs():
    rows = [[[1], [], [2, 3]], [], [[]], [[4, 5, 6]]]
    array = pa.array(rows, pa.list_(pa.large_list(pa.int64())))
    assert read(Column("c", "ids", depth=2), array[2:], array, array[:1]) == [
        *rows[2:],
        *rows,
        rows[0],
    ]
    deep = [[[[1, 2], []], []], [], [[[3]]]]
    three = pa.array(deep, pa.list_(pa.list_(pa.list_(pa.float32()))))
    assert read(Column("c", "values", depth=3), three[1:], three) == [*deep[1:], *deep]


STRINGS = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]
VIEWS = [pa.string_view(), pa.binary_view()]


@pytest.mark.parametrize("kind", STRINGS + VIEWS, ids=str)
def test_every_string_type(kind):
    words = ["", "a", "βγδ", "two words"]
    octets = [w.encode() for w in words]
    plain = pa.array(octets, pa.binary()).cast(kind)
    assert read(Column("c", "strings"), plain[1:], plain) == [[o] for o in octets[1:] + octets]
    if kind in VIEWS:
        return
    rows = [octets, [], octets[2:]]
    array = pa.array(rows, pa.list_(pa.binary())).cast(pa.list_(kind))
    assert read(Column("c", "strings"), array[1:], array) == rows[1:] + rows
    deep = pa.array([[["a"], []], [], [["b", "c"]]], pa.list_(pa.list_(pa.string())))
    assert read(Column("c", "strings", depth=2), deep) == [[[b"a"], []], [], [[b"b", b"c"]]]


def test_fixed_size_binary_and_dictionaries():
    fixed = pa.array([b"abc", b"def", b"ghi"], pa.binary(3))
    assert read(Column("c", "strings"), fixed[1:], fixed[:1]) == [[b"def"], [b"ghi"], [b"abc"]]
    words = pa.array(["x", "yy", "x", None]).dictionary_encode()
    column = Column("c", "strings", missing="empty")
    assert read(column, words[1:]) == [[b"yy"], [b"x"], []]
    inside = pa.ListArray.from_arrays([0, 2, 2, 3], words[:3])
    assert read(Column("c", "strings"), inside[1:], inside) == [
        [],
        [b"x"],
        [b"x", b"yy"],
        [],
        [b"x"],
    ]


def test_strings_of_fixed_width_must_have_it():
    array = pa.array([["a", "b"], ["c", ""]])
    assert read(Column("c", "strings", width=2), array) == [[b"a", b"b"], [b"c", b""]]
    with pytest.raises(RowError, match="2 values where there must be 3"):
        read(Column("c", "strings", width=3), array)


def test_booleans_become_values():
    array = pa.array([True, False, True, True])
    assert read(Column("c", "values", width=1), array[1:]) == [[0.0], [1.0], [1.0]]
    inside = pa.array([[True], [], [False, True]])
    assert read(Column("c", "values"), inside[1:]) == [[], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("array", "column", "levels"),
    [
        (pa.array(range(1000), pa.int64()), Column("c", "ids", width=1), 0),
        (pa.array([[i, i] for i in range(500)]), Column("c", "ids"), 1),
        (pa.array([[float(i)] * 3 for i in range(500)]), Column("c", "values", width=3), 0),
        (pa.array([[[i], [i, 2]] for i in range(500)]), Column("c", "ids", depth=2), 2),
        (pa.array(["word"] * 500), Column("c", "strings"), 1),
        (pa.array([["word"]] * 500), Column("c", "strings"), 2),
    ],
    ids=["plain", "list", "dense", "nested", "strings", "string lists"],
)
def test_nothing_is_copied_before_staging(array, column, levels):
    before = pa.total_allocated_bytes()
    raw = column_raw(array[100:400], column)
    assert pa.total_allocated_bytes() == before
    places = [(b.address, b.address + b.size) for b in array.buffers() if b is not None]
    bounds = raw.bounds[len(raw.bounds) - levels :]
    assert len(bounds) == levels
    for one in (*bounds, raw.values):
        start = one.__array_interface__["data"][0]
        assert any(a <= start and start + one.nbytes <= b for a, b in places)


NULLS = [[1, 2], None, [], [3, None], [4]]


@pytest.mark.parametrize("wrap", LISTS, ids=["list", "large_list"])
def test_null_policies_of_lists(wrap):
    array = pa.array(NULLS, wrap(pa.int64()))
    with pytest.raises(RowError, match="null where none is allowed: None") as caught:
        read(Column("c", "ids"), array)
    assert caught.value.row == 1
    with pytest.raises(RowError, match="a null inside a list") as caught:
        read(Column("c", "ids", missing="empty"), array)
    assert caught.value.row == 3
    assert read(Column("c", "ids", missing="empty"), array[:3]) == [[1, 2], [], []]
    filled = Column("c", "ids", missing="default", default=9)
    assert read(filled, array) == [[1, 2], [9], [], [3, 9], [4]]
    assert read(filled, array[1:], array[4:]) == [[9], [], [3, 9], [4], [4]]


def test_null_policies_of_plain_numbers():
    array = pa.array([1.5, None, float("nan")])
    with pytest.raises(RowError) as caught:
        read(Column("c", "values", width=1), array)
    assert caught.value.row == 1
    got = read(Column("c", "values", width=1, missing="default", default=0.1), array)
    assert got[:2] == [[1.5], [float(np.float32(0.1))]]
    assert np.isnan(got[2][0])
    assert read(Column("c", "values", missing="empty"), array[:2]) == [[1.5], []]
    half = pa.array(np.float16([1, 2]), mask=np.array([True, False]))
    assert read(Column("c", "values", width=1, missing="default", default=0.1), half) == [
        [float(np.float32(0.1))],
        [2.0],
    ]
    bools = pa.array([None, True])
    assert read(Column("c", "values", width=1, missing="default"), bools) == [[0.0], [1.0]]


def test_missing_rows_of_fixed_width():
    column = Column("c", "values", width=2, missing="default", default=-1)
    rows = pa.array([[1, 2], None, [], [3, None]], pa.list_(pa.float32()))
    want = [[1, 2], [-1, -1], [-1, -1], [3, -1]]
    assert read(column, rows) == want
    assert read(column, rows[2:3]) == [[-1, -1]]
    fixed = pa.array([[1, 2], None, [3, None]], pa.list_(pa.float32(), 2))
    assert read(column, fixed[1:], fixed) == [want[1], want[3], want[0], want[1], want[3]]
    with pytest.raises(RowError, match="1 values where there must be 2") as caught:
        read(column, pa.array([[1, 2], None, [5]], pa.list_(pa.float32())))
    assert caught.value.row == 2


def test_nulls_deep_inside():
    rows = [[[1], None], None, [[None, 2]], []]
    array = pa.array(rows, pa.list_(pa.list_(pa.int64())))
    filled = Column("c", "ids", depth=2, missing="default", default=5)
    assert read(filled, array) == [[[1], [5]], [[5]], [[5, 2]], []]
    with pytest.raises(RowError, match="inside"):
        read(Column("c", "ids", depth=2, missing="empty"), array)
    words = pa.array([["a", None], None, []])
    assert read(Column("c", "strings", missing="default"), words) == [[b"a", b""], [b""], []]


def test_values_under_a_null_row_do_not_show():
    child = pa.array([1, 2, 3, 4])
    for kind in (pa.ListArray, pa.LargeListArray):
        offsets = pa.array([0, 1, 3, 4], pa.int32() if kind is pa.ListArray else pa.int64())
        array = kind.from_arrays(offsets, child, mask=pa.array([False, True, False]))
        assert read(Column("c", "ids", missing="empty"), array) == [[1], [], [4]]
        filled = Column("c", "ids", missing="default", default=0)
        assert read(filled, array) == [[1], [0], [4]]


def test_no_rows():
    for column, kind in (
        (Column("c", "ids"), pa.list_(pa.int64())),
        (Column("c", "ids", depth=2), pa.list_(pa.list_(pa.int64()))),
        (Column("c", "strings"), pa.list_(pa.string())),
        (Column("c", "strings"), pa.string()),
        (Column("c", "values", width=4), pa.list_(pa.float32(), 4)),
    ):
        assert read(column, pa.array([], kind)) == []


@pytest.mark.parametrize(
    "column",
    [
        Column("c", "idz"),  # pyright: ignore
        Column("c", "ids", missing="zero"),  # pyright: ignore
        Column("c", "ids", width=0),
        Column("c", "ids", width=2, depth=2),
        Column("c", "ids", depth=0),
        Column("c", "ids", width=2, missing="empty"),
        Column("c", "ids", missing="default", default=0.5),
        Column("c", "strings", missing="default", default=1),
    ],
    ids=repr,
)
def test_senseless_declarations_are_refused(column):
    with pytest.raises(ValueError, match="column 'c'"):
        check_declared(column)


@pytest.mark.parametrize(
    ("array", "column"),
    [
        (pa.array(range(40), pa.int32()), Column("c", "ids", width=1)),
        (pa.array([[i, -i] for i in range(40)]), Column("c", "ids", width=2)),
        (pa.array([[float(i)] * (i % 4) for i in range(40)]), Column("c", "values")),
        (pa.array([[[i] * (i % 3), []] for i in range(40)]), Column("c", "ids", depth=2)),
        (pa.array([["word"[: i % 5]] * (i % 3) for i in range(40)]), Column("c", "strings")),
    ],
    ids=["plain", "width", "list", "nested", "strings"],
)
def test_a_part_of_a_piece_is_what_its_rows_are(array, column):
    piece = array[3:37]
    whole = piece_raw(piece, column)
    assert whole is not None
    for start, stop in ((0, 34), (5, 20), (9, 9), (33, 34)):
        part, alone = whole.part(start, stop), column_raw(piece[start:stop], column)
        assert part.rows == alone.rows == stop - start
        assert part.values.tolist() == alone.values.tolist()
        for one, other in zip(part.bounds, alone.bounds, strict=True):
            assert (one - one[0]).tolist() == (other - other[0]).tolist()


@pytest.mark.parametrize(
    ("array", "column"),
    [
        (pa.array([1, None]), Column("c", "ids", width=1)),
        (pa.array([[1], [1, 2]]), Column("c", "ids", width=1)),
        (pa.array([True, False]), Column("c", "values", width=1)),
        (pa.array([[1], []]), Column("c", "ids", width=1, missing="default")),
    ],
    ids=["null", "wrong width", "bits", "filled"],
)
def test_what_is_copied_or_wrong_is_not_taken_as_a_piece(array, column):
    assert piece_raw(array, column) is None


@pytest.mark.parametrize("cores", [1, 6])
def test_copies_by_several_threads_are_the_same(monkeypatch, cores):
    monkeypatch.setattr("recis_core.io.copies.cores", lambda: cores)
    monkeypatch.setattr("recis_core.io.copies.SHARE", 256)
    arrays = [np.arange(n, dtype=dtype) for n in (0, 5, 300, 40) for dtype in ("int64", "uint8")]
    starts = np.cumsum([0, *(-(-a.nbytes // 16) * 16 for a in arrays)]).tolist()
    into = np.full(starts[-1], 255, np.uint8)
    fill(into, [], starts[:-1], arrays)
    for start, array in zip(starts, arrays, strict=False):
        assert (into[start : start + array.nbytes].view(array.dtype) == array).all()
    shares = list(shared_out(1000, arrays))
    assert len(shares) > 1
    assert [id(a) for share in shares for a in share] == [id(a) for a in arrays]
