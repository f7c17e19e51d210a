"""Documents as text: PDF, HTML, Markdown and plain text, whole or in chunks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from eksml.batches.blocks import Piece
from eksml.batches.sources.base import Inventory
from eksml.batches.sources.chunks import chunks
from eksml.batches.sources.files import Files, Paths, ending_of
from eksml.batches.sources.markup import text_of
from eksml.batches.sources.reading import content
from eksml.batches.sources.selected import marked
from eksml.batches.sources.whole import decoded, library, pieces_of
from eksml.cluster.problems import Refused
from eksml.errors import Problem

if TYPE_CHECKING:
    import pyarrow as pa

_EMPTY = "It holds no text; scanned pages have to be recognised (OCR) first."
_MARKUP = (".html", ".htm", ".xhtml")

Chunk = tuple[int | None, str | None, str | None]
"""Page, text, and error in place of the text."""


def documents(path: Paths, chunk_chars: int | None = None, overlap_chars: int = 0) -> Documents:
    """Text of documents in the column ``text``, with ``path``, ``page`` (of a PDF, from 1; else
    null) and ``chunk`` (from 0 in each document).

    Without ``chunk_chars`` a row is a page of a PDF, or a whole document of another sort. Pages
    without text have no row. A document that cannot be read, or without any text, is a row with
    an error, as is a page that cannot be read.

    Args:
        path: A file, a folder, a pattern with ``*``, or several; local or ``s3://``.
        chunk_chars: Characters of a row at most: it ends with a paragraph or a sentence where it
            can, and never goes on over a page's end.
        overlap_chars: Characters, at most, that a row repeats of the one before it.

    Raises:
        InvalidSpec: An argument is wrong.
    """
    return Documents(
        **dict[str, Any](path=path, chunk_chars=chunk_chars, overlap_chars=overlap_chars)
    )


class Documents(Files):
    """See ``documents``."""

    kind: ClassVar[str] = "documents"
    endings: ClassVar[tuple[str, ...]] = (".pdf", *_MARKUP, ".md", ".txt")

    chunk_chars: Annotated[int, Field(ge=16)] | None = None
    """Characters of a row at most; None leaves pages and documents whole."""
    overlap_chars: Annotated[int, Field(ge=0)] = 0
    """Characters, at most, that a row repeats of the one before it."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.overlap_chars and self.overlap_chars * 2 > (self.chunk_chars or 0):
            told = f"{self.overlap_chars} is more than half of chunk_chars={self.chunk_chars}."
            raise Refused([Problem("overlap_chars", told, "Make chunks longer, or overlap less.")])
        return self

    def inventory(self) -> Inventory:
        """Lists the files."""
        files = self.files()
        if any(ending_of(file.uri.name) == ".pdf" for file in files):
            library("pypdf", "documents")
        return Inventory(pieces_of(files, None), _schema(), "files")

    def read(self, piece: Piece) -> pa.Table:
        import pyarrow as pa

        data = content(piece.file, piece.size)
        found, error = decoded(lambda: list(self._chunks(data, ending_of(piece.file))))
        rows: list[Chunk] = found or [(None, None, error or _EMPTY)]
        pages, texts, errors = zip(*rows, strict=True)
        columns = [[piece.file] * len(rows), pages, range(len(rows)), texts]
        arrays = [pa.array(list(c), f.type) for c, f in zip(columns, _schema(), strict=True)]
        table = pa.Table.from_arrays(arrays, schema=_schema())
        return marked(table, piece.file, range(len(rows)), list(errors))

    def _chunks(self, data: bytes, ending: str) -> Iterator[Chunk]:
        for page, text, error in _pages(data, ending):
            if error is not None:
                yield page, None, error
            elif self.chunk_chars is None:
                yield from [(page, text, None)] if text and text.strip() else []
            else:
                for part in chunks(text or "", self.chunk_chars, self.overlap_chars):
                    yield page, part, None


def _pages(data: bytes, ending: str) -> Iterator[Chunk]:
    if ending != ".pdf":
        text = text_of(data) if ending in _MARKUP else data.decode("utf-8-sig")
        yield None, text, None
        return
    for number, page in enumerate(
        library("pypdf", "documents").PdfReader(io.BytesIO(data)).pages, 1
    ):
        text_, error = decoded(page.extract_text)
        # Half of a pair of surrogates, as broken fonts give it, is no text
        yield number, text_ and text_.encode("utf-8", "replace").decode(), error


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [("path", pa.string()), ("page", pa.int32()), ("chunk", pa.int32()), ("text", pa.string())]
    )
