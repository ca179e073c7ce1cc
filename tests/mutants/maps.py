"""Id maps that break a promise, and three that keep all of them in another way."""

from __future__ import annotations

import numpy as np

from recis_core.kernels import find_op

id_map = find_op("id_map").reference


class LosesFreedRows(id_map):
    def erase(self, tables, ids):
        rows = super().erase(tables, ids)
        self.free = []
        return rows


class ReusesLiveRows(id_map):
    def erase(self, tables, ids):
        rows = super().erase(tables, ids)
        self.free += list(self.row_of.values())[:1]
        return rows


class Low52Bits(id_map):
    """Takes an id for a held one of the table that has the same low 52 bits."""

    def alike(self, tables, ids):
        low = (1 << 52) - 1
        held = {(table, id & low): id for table, id in self.row_of}
        pairs = zip(tables.tolist(), ids.tolist(), strict=True)
        return tables, np.array([held.get((t, i & low), i) for t, i in pairs], np.int64)

    def find(self, tables, ids):
        return super().find(*self.alike(tables, ids))

    def insert(self, tables, ids):
        return super().insert(*self.alike(tables, ids))


class OneTable(id_map):
    def find(self, tables, ids):
        return super().find(tables * 0, ids)

    def insert(self, tables, ids):
        return super().insert(tables * 0, ids)

    def erase(self, tables, ids):
        return super().erase(tables * 0, ids)


def reserving(key: int) -> type:
    class Reserves(id_map):
        def find(self, tables, ids):
            rows, _ = super().find(tables, ids)
            rows = np.where(ids == key, -1, rows).astype(rows.dtype)
            return rows, np.array([(rows < 0).sum()])

    return Reserves


class AllFresh(id_map):
    def insert(self, tables, ids):
        rows, fresh = super().insert(tables, ids)
        return rows, np.ones_like(fresh)


class MissesNothing(id_map):
    def find(self, tables, ids):
        rows, missing = super().find(tables, ids)
        return rows, missing * 0


class FarRows(id_map):
    """Rows + 10^12, where the dtype can hold them, + 1000 elsewhere."""

    def insert(self, tables, ids):
        rows, fresh = super().insert(tables, ids)
        return rows + (10**12 if rows.dtype == np.int64 else 1000), fresh


class WideRows(id_map):
    def find(self, tables, ids):
        rows, missing = super().find(tables, ids)
        return rows.astype(np.int64), missing


class NoLimit(id_map):
    def insert(self, tables, ids):
        limit, self.limit = self.limit, 1 << 30
        try:
            return super().insert(tables, ids)
        finally:
            self.limit = limit


class HalfInserted(id_map):
    """A refused insertion leaves the pairs that still fitted."""

    def insert(self, tables, ids):
        try:
            return super().insert(tables, ids)
        except OverflowError:
            super().insert(tables[:1], ids[:1])
            raise


class ForgetsItems(id_map):
    def items(self):
        return tuple(part[:-1] for part in super().items())


class KeepsErased(id_map):
    def erase(self, tables, ids):
        return self.find(tables, ids)[0]


class ZeroesItsInput(id_map):
    def find(self, tables, ids):
        answer = super().find(tables.copy(), ids.copy())
        ids[:] = 0
        return answer


class OneBuffer(id_map):
    def find(self, tables, ids):
        rows, missing = super().find(tables, ids)
        self.count = getattr(self, "count", missing)
        self.count[:] = missing
        return rows, self.count


class ExtentOfNow(id_map):
    """Says the largest row in use, not the largest ever given out."""

    @property
    def extent(self):
        return max(self.row_of.values(), default=-1) + 1 if hasattr(self, "row_of") else 0

    @extent.setter
    def extent(self, value):
        pass


class SwapsTwo(id_map):
    """The rows of two of many pairs exchanged, in answers only."""

    def find(self, tables, ids):
        rows, missing = super().find(tables, ids)
        held = (rows >= 0).nonzero()[0]
        if len(held):
            rows[held[[0, -1]]] = rows[held[[-1, 0]]]
        return rows, missing


class SharesOne(id_map):
    """One row of many given to two pairs."""

    def insert(self, tables, ids):
        rows, fresh = super().insert(tables, ids)
        if len(rows) > 1:
            rows[len(rows) // 2] = rows[0]
        return rows, fresh


class LowestRowFirst(id_map):
    """Legal: the lowest freed row is reused first."""

    def erase(self, tables, ids):
        rows = super().erase(tables, ids)
        self.free.sort(reverse=True)
        return rows


class RowsBackwards(id_map):
    """Legal: new pairs take rows from the last to the first."""

    def insert(self, tables, ids):
        rows, fresh = super().insert(tables[::-1], ids[::-1])
        return rows[::-1].copy(), fresh[::-1].copy()


class ItemsSorted(id_map):
    """Legal: items in another order."""

    def items(self):
        tables, ids, rows = super().items()
        order = np.lexsort((ids, tables))
        return tables[order], ids[order], rows[order]


WRONG = (
    LosesFreedRows,
    ReusesLiveRows,
    Low52Bits,
    OneTable,
    AllFresh,
    MissesNothing,
    FarRows,
    WideRows,
    NoLimit,
    HalfInserted,
    ForgetsItems,
    KeepsErased,
    ZeroesItsInput,
    OneBuffer,
    ExtentOfNow,
    SwapsTwo,
    SharesOne,
)
LEGAL = (LowestRowFirst, RowsBackwards, ItemsSorted)
