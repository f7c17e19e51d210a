"""Text files: one row a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from eksml.batches.blocks import Piece
from eksml.batches.sources.base import Inventory
from eksml.batches.sources.files import Files, Paths
from eksml.batches.sources.lines import (
    FIRST_SAMPLE,
    Lines,
    check_compression,
    inventory_of,
    lines_of,
    sample_of,
)
from eksml.batches.sources.selected import marked

if TYPE_CHECKING:
    import pyarrow as pa


def text(path: Paths) -> Text:
    """Lines of text files (UTF-8) in the column ``text``, empty ones too; also compressed as
    ``.gz`` or ``.zst`` (then a file is read whole).

    Raises:
        InvalidSpec: The path is wrong.
    """
    return Text(**dict[str, Any](path=path))


class Text(Files):
    """See ``text``."""

    kind: ClassVar[str] = "text"
    endings: ClassVar[tuple[str, ...]] = (".txt", ".txt.gz", ".txt.zst")

    def inventory(self) -> Inventory:
        """Lists the files and reads the beginning of the first."""
        import pyarrow as pa

        files = self.files()
        check_compression(files)
        first = sample_of(files[0], FIRST_SAMPLE)
        return inventory_of(files, pa.schema([("text", pa.string())]), first, [0] * len(files))

    def read(self, piece: Piece) -> pa.Table:
        import pyarrow as pa

        lines = lines_of(piece, empty=True)
        texts, errors = _decoded(lines)
        table = pa.table({"text": pa.array(texts, pa.string())})
        return marked(table, piece.file, lines.places, errors)


def _decoded(lines: Lines) -> tuple[list[str | None], list[str | None]]:
    """Each line's text, or why it has none."""
    texts, errors = list[str | None](), list[str | None]()
    for begin, end in zip(lines.begins.tolist(), lines.ends.tolist(), strict=True):
        try:
            texts.append(lines.data[begin:end].decode())
            errors.append(None)
        except UnicodeDecodeError as error:
            texts.append(None)
            errors.append(f"It is not UTF-8: {error.reason} at its byte {error.start}.")
    return texts, errors
