"""What tables that keep a list of their files have in common: Delta and Iceberg."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eksml.batches.blocks import Piece
from eksml.batches.sources.parquet_rows import rows_of
from eksml.batches.sources.selected import Selected
from eksml.cluster.problems import Refused
from eksml.errors import Problem

if TYPE_CHECKING:
    import pyarrow as pa


class Listed(Selected):
    """Rows of the Parquet files that a table lists. A column that a file lacks, as it was added
    later, is null there."""

    def model_post_init(self, context: object) -> None:
        if len(self.path) > 1 or "*" in self.path[0]:
            told = "a table is one folder."
            raise Refused([Problem("path", told, "Give each table to a run of its own.")])

    def read(self, piece: Piece) -> pa.Table:
        return self.hand_over(rows_of(piece, self.types(), self.filter))
