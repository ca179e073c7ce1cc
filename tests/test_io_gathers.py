"""Rows of Arrow files gathered in another order straight into the buffer of a batch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import backends
from recis_core.io import ColumnError, Reader
from recis_core.io.column import Raw
from recis_core.io.copies import fill
from recis_core.io.dataset import Dataset
from recis_core.io.direct import direct
from recis_core.schema import Column
from tests.io_files import gathered, write

KERNELS = backends.load("torch", "reference")
COLUMNS = (
    Column("number", "ids", 1),
    Column("tags", "ids"),
    Column("marks", "ids"),
    Column("weights", "values"),
    Column("price", "values", 1),
)


def table_of(rows: int) -> pa.Table:
    """What every column of a row is follows from its number."""
    lists = [[n * 10 + k for k in range(n * 7 % 5)] for n in range(rows)]
    return pa.table(
        {
            "tags": pa.array(lists, pa.list_(pa.int64())),
            "number": pa.array(range(rows), pa.int64()),
            "marks": pa.array([one[1:] for one in lists], pa.large_list(pa.int32())),
            "weights": pa.array([one[:2] for one in lists], pa.list_(pa.float32())),
            "price": pa.array(np.arange(rows) / 4, pa.float32()),
        }
    )


@pytest.mark.parametrize(("piece", "batch"), [(64, 64), (64, 9), (7, 50), (1, 3)])
@pytest.mark.parametrize("cores", [1, 16])
def test_rows_stay_together(tmp_path, monkeypatch, piece, batch, cores):
    monkeypatch.setattr("recis_core.io.copies.SHARE", 200)
    monkeypatch.setattr("recis_core.io.copies.cores", lambda: cores)
    monkeypatch.setattr(Raw, "pick", None)  # no column takes the other way
    path = write(table_of(120), tmp_path / "a.arrow", piece)
    reader = Reader(path, COLUMNS, batch, shuffle=True, seed=2, prefetch=0, kernels=KERNELS)
    batches = list(reader)
    order = [row[0] for row in gathered(batches, "number")]
    assert sorted(order) == list(range(120)) != order
    rows = table_of(120).to_pylist()
    for column in COLUMNS:
        want = [rows[n][column.name] for n in order]
        want = [[value] for value in want] if column.width else want
        assert gathered(batches, column.name) == want, column.name


def test_another_epoch_has_another_order(tmp_path):
    path = write(table_of(40), tmp_path / "a.arrow", 20)
    reader = Reader(path, COLUMNS, 20, shuffle=True, epochs=2, kernels=KERNELS)
    order = [row[0] for row in gathered(reader, "number")]
    assert sorted(order[:40]) == sorted(order[40:]) == list(range(40))
    assert order[:40] != order[40:]


FAR = 1 << 28


BOUNDS = {
    "backwards": [0, 3, 2, 6],
    "longer": [0, 2, 3, 9],
    "before the file": [-FAR, 2 - FAR, 3 - FAR, 6 - FAR],
    "after the file": [FAR, FAR + 2, FAR + 3, FAR + 6],
}


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS)
def test_lists_that_changed_after_they_were_measured(tmp_path, bounds):
    table = pa.table({"tags": pa.array([[1, 2], [3], [4, 5, 6]])})
    path = write(table, tmp_path / "a.arrow")
    data = Dataset(path, [Column("tags", "ids")])
    extents = data.extents(data.pieces[0], data.read(data.pieces[0]))
    assert extents is not None
    cut = extents.pick(np.arange(1), np.array([1, 0, 2]))
    assert cut.count.tolist() == [6]
    laid = direct(extents.plan.choose(extents.able), [cut])
    into = np.zeros(laid.nbytes + 256, np.uint8)
    fill(into, laid.reads, [], [])
    assert into[:48].view(np.int64).tolist() == [3, 1, 2, 4, 5, 6]
    at = int(extents.bounds[0])
    with path.open("r+b") as file:
        file.seek(at)
        file.write(np.array(bounds, np.int32).tobytes())
    with pytest.raises(ColumnError, match=r"a\.arrow: has changed since it was opened"):
        fill(into, laid.reads, [], [])
    assert not into[laid.nbytes :].any()
