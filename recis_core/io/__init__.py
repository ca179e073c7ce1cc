"""Column files to batches: Parquet, ORC and Arrow IPC through pyarrow."""

from __future__ import annotations

from recis_core.io.error import ColumnError
from recis_core.io.reader import Reader
from recis_core.io.schema import describe

__all__ = ["ColumnError", "Reader", "describe"]
