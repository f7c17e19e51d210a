"""From committed blocks to the two files that a client reads. Blocks: for threads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from eksml.errors import AlreadyExists, Damaged
from eksml.serving.batch_jobs import answers
from eksml.serving.batch_jobs.answers import EXPIRED, Answer
from eksml.serving.batch_jobs.files import FileWriter, StoredFile, find_file
from eksml.serving.batch_jobs.places import result_id
from eksml.serving.batch_jobs.records import Closing, Counts, End, Plan
from eksml.serving.batch_jobs.usage import Usage
from eksml.storage import URI, commit_files, read_manifest, read_part

if TYPE_CHECKING:
    from eksml.serving.batch_jobs.lines import Block
    from eksml.serving.batch_jobs.plan import RowReader
    from eksml.serving.batch_jobs.records import Batch

_READERS = 8


class Tally(NamedTuple):
    """Answers, counted."""

    counts: Counts
    usage: Usage

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        mine, theirs = self.counts, other.counts
        counts = Counts(
            total=mine.total + theirs.total,
            completed=mine.completed + theirs.completed,
            failed=mine.failed + theirs.failed,
        )
        return Tally(counts, self.usage + other.usage)


NOTHING = Tally(Counts(), Usage())


def tally_of(made: Iterable[Answer]) -> Tally:
    """Of answers in memory."""
    made = list(made)
    return Tally(answers.counts_of(made), answers.usage_of(made))


def write_block(batch: Batch, index: int, made: list[Answer]) -> Tally:
    """Commit a block's answers; gives what counts, another worker's if that was faster."""
    folder, tally = batch.block_folder(index), tally_of(made)
    meta = {"counts": tally.counts.model_dump(), "usage": tally.usage.model_dump()}
    try:
        commit_files(folder, answers.texts(made), meta)
    except AlreadyExists:
        return read_block(batch, index) or NOTHING
    return tally


def read_block(batch: Batch, index: int) -> Tally | None:
    """What a committed block holds; None if it is not committed.

    Raises:
        Damaged: its manifest is none of a block.
    """
    folder = batch.block_folder(index)
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    try:
        return Tally(Counts(**manifest.meta["counts"]), Usage(**manifest.meta["usage"]))
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{folder} is no block of a batch: {error}.") from error


def read_blocks(batch: Batch, indexes: Iterable[int]) -> dict[int, Tally]:
    """Those of the blocks that are committed."""
    indexes = list(indexes)
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda index: read_block(batch, index), indexes)
        return {index: tally for index, tally in zip(indexes, found, strict=True) if tally}


def assemble(batch: Batch, files: URI, closing: Closing, plan: Plan, rows: RowReader) -> End:
    """Write the output and error file of a closed batch; gives how it ends.

    Done again after a death, it finds what is written already. Which blocks count stands in
    ``closing``, so whoever does it writes the same lines.
    """
    counting = set(closing.blocks)
    blocks = batch.blocks()
    tally = NOTHING
    for found in read_blocks(batch, counting).values():
        tally = tally.plus(found)
    unanswered = plan.total - tally.counts.total if closing.status == "expired" else 0
    failed = tally.counts.failed + unanswered
    output = errors = None
    if tally.counts.completed:
        output = _join(batch, files, "output", _outputs(batch, blocks, counting))
    if failed:
        expired = rows if closing.status == "expired" else None
        errors = _join(batch, files, "errors", _errors(batch, blocks, counting, expired))
    return End(
        at=int(time.time()),
        status=closing.status,
        in_progress_at=plan.at,
        finalizing_at=closing.at,
        counts=Counts(total=plan.total, completed=tally.counts.completed, failed=failed),
        usage=tally.usage,
        output_file_id=output.id if output else None,
        error_file_id=errors.id if errors else None,
    )


def _outputs(batch: Batch, blocks: list[Block], counting: set[int]) -> Iterator[bytes | bytearray]:
    for block in blocks:
        if block.index in counting:
            yield read_part(batch.block_folder(block.index), "output")


def _errors(
    batch: Batch, blocks: list[Block], counting: set[int], expired: RowReader | None
) -> Iterator[bytes | bytearray]:
    """The bad answers, and those that were never given if there is a reader for their rows."""
    for block in blocks:
        answered: set[str] = set()
        if block.index in counting:
            folder = batch.block_folder(block.index)
            text = read_part(folder, "errors")
            yield text
            if expired is not None:
                answered = answers.custom_ids(text + read_part(folder, "output"))
        if expired is not None and len(answered) < block.rows:
            for row in expired.read(block):
                if row.custom_id not in answered:
                    yield Answer.without_reply(row, "batch_expired", EXPIRED).line


def _join(batch: Batch, files: URI, kind: str, texts: Iterator[bytes | bytearray]) -> StoredFile:
    name = result_id(batch.id, kind)
    found = find_file(files, name)
    if found is not None:
        return found
    writer = FileWriter(files / name)
    for text in texts:
        writer.append(bytes(text))
        if writer.is_full:
            writer.flush()
    return writer.finish(f"{batch.id}_{kind}.jsonl", "batch_output")
