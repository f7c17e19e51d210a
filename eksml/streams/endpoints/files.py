"""Files in a folder or in S3, at either end of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from eksml.errors import InvalidSpec, Problem
from eksml.storage import URI
from eksml.streams.sinks.base import Desk, Sink, Writer
from eksml.streams.sources.base import Guarantee, Place, Reader, Source

Format = Literal["parquet", "jsonl"]
FORMATS = ("parquet", "jsonl")


@dataclass(frozen=True)
class Files(Source, Sink):
    """As a source: the files of a folder in the order of their names, and new ones as they come.
    As a sink: new files with every checkpoint."""

    kind: ClassVar[str] = "files"
    source_guarantee: ClassVar[Guarantee] = "exactly-once"
    sink_guarantee: ClassVar[Guarantee] = "exactly-once"
    path: Any
    format: Format = "parquet"
    follow: bool = False

    @property
    def folder(self) -> URI:
        return URI.parse(self.path)

    def problems(self) -> Iterator[Problem]:
        try:
            URI.parse(self.path)
        except InvalidSpec as error:
            yield from error.problems
        if self.format not in FORMATS:
            yield Problem("format", f"{self.format!r:.40} is no format.", "Use parquet or jsonl.")

    async def reader(self, place: Place) -> Reader:
        from eksml.streams.sources.files import FilesReader

        return FilesReader(self.folder, self.format, self.follow, place)

    def decode(self, batch: Any) -> Any:
        if self.format != "jsonl":
            return batch
        from eksml.streams.sources.json_lines import decode

        return batch.with_columns(decode(batch.column("line")))

    async def writer(self, desk: Desk) -> Writer:
        from eksml.streams.sinks.files import FilesWriter

        return FilesWriter(self.folder, self.format, desk)
