"""Append-only records in storage, for stores that cannot append.

A writer owns a *source*: objects ``<source>-<chunk>.jsonl``, one JSON value a line. The newest
chunk is rewritten whole until it holds 1 MiB, then the next one begins. Every write is atomic, so
a reader sees whole lines only, whatever happens to the writer. Sources sort by name, which is why
a restarted writer takes a later name (:func:`source_name`).
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from eksml.errors import Damaged, StorageError
from eksml.storage import URI

CHUNK_BYTES = 1 << 20
FLUSH_S = {"file": 0.5, "s3": 2.0}
"""Seconds between flushes: a reader lags by this, a store sees this many writes."""
MAX_WAITING = 200_000
"""Records kept while the storage does not answer; newer ones are counted and dropped."""
TIMEOUT_S = 60.0


def source_name(attempt: int, incarnation: int, writer: str) -> str:
    """The name of a writer's source. Later attempts and incarnations sort last.

    >>> source_name(1, 3, "rank0")
    'a000001-i0003-rank0'
    """
    return f"a{attempt:06d}-i{incarnation:04d}-{writer}"


class Journal:
    """The writing end of one source. Used from any thread; one background thread writes.

    ``append`` takes microseconds and never waits for storage. A text becomes the record
    ``{"time_s": now, "text": text}``. Storage errors are tried again in the background until
    ``flush`` or ``close`` is called, which raise what is still wrong then.

    >>> with Journal(run / "metrics", source_name(1, 0, "rank0")) as journal:  # doctest: +SKIP
    ...     journal.append({"step": 1, "loss": 0.5})
    """

    def __init__(self, folder: URI, source: str) -> None:
        self.folder = folder
        self.source = source
        self._waiting: deque[Any] = deque()
        self._dropped = 0
        self._appended = 0
        self._written = 0
        self._chunk: int | None = None
        self._data = bytearray()
        self._error: Exception | None = None
        self._failures = 0
        self._closed = False
        self._stop = False
        self._turn = threading.Condition()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"journal-{source}", daemon=True)
        self._thread.start()

    def append(self, record: Mapping[str, Any] | str) -> None:
        """Take one record; it is in storage after the next flush.

        Values on the CPU are read at once; a tensor on an accelerator is copied there and read by
        the background thread, so that logging never waits for the device.
        """
        if isinstance(record, str):
            kept: dict[str, Any] = {"time_s": time.time(), "text": record}
        else:
            kept = {key: _snapshot(value) for key, value in record.items()}
        with self._turn:
            if self._closed:
                raise ValueError(f"the journal {self.source} is closed")
            if len(self._waiting) >= MAX_WAITING:
                self._dropped += 1
                return
            self._waiting.append(kept)
            self._appended += 1

    def flush(self, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until everything appended before this call is in storage.

        Raises:
            StorageError: It is not there after ``timeout_s``, or records were dropped since the
                storage had not answered for long.
        """
        with self._turn:
            target = self._appended
            tries = self._failures
            self._wake.set()
            self._turn.wait_for(
                lambda: self._written >= target or self._failures > tries, timeout=timeout_s
            )
            self._raise_trouble(target)

    def close(self, timeout_s: float = TIMEOUT_S) -> None:
        """Flush and stop the background thread. Closing again does nothing.

        Raises:
            StorageError: As for :meth:`flush`.
        """
        with self._turn:
            if self._closed:
                return
            self._closed = True
        try:
            self.flush(timeout_s)
        finally:
            self._stop = True
            self._wake.set()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except StorageError:
            if error is None:
                raise

    def _raise_trouble(self, target: int) -> None:
        if self._written < target:
            raise StorageError(
                f"{self.folder}: records of {self.source} could not be written: "
                f"{self._error or 'the storage did not answer in time'}"
            ) from self._error
        if self._dropped:
            count, self._dropped = self._dropped, 0
            raise StorageError(
                f"{self.folder}: {count} records of {self.source} were dropped, since the storage "
                f"did not answer while {MAX_WAITING} others waited."
            ) from self._error

    def _loop(self) -> None:
        pause_s = FLUSH_S[self.folder.scheme]
        while not self._stop:
            self._wake.wait(pause_s)
            self._wake.clear()
            try:
                self._drain()
            except Exception as error:  # a thread has no caller: flush and close raise it
                with self._turn:
                    self._error = error
                    self._failures += 1
                    self._turn.notify_all()

    def _drain(self) -> None:
        """Write what waits, a chunk at a time. A record leaves the queue once it is stored."""
        if self._chunk is None and self._waiting:
            self._chunk = next_chunk(self.folder, self.source)
        while self._waiting:
            lines, count = bytearray(), 0
            for record in list(self._waiting):
                if count and len(self._data) + len(lines) >= CHUNK_BYTES:
                    break
                lines += _encode(record)
                count += 1
            self._write(lines, count)

    def _write(self, lines: bytearray, count: int) -> None:
        target = self.folder / f"{self.source}-{self._chunk:06d}.jsonl"
        target.write_bytes([memoryview(bytes(self._data)), memoryview(bytes(lines))])
        self._data += lines
        if len(self._data) >= CHUNK_BYTES:
            assert self._chunk is not None
            self._chunk += 1
            self._data = bytearray()
        with self._turn:
            for _ in range(count):
                self._waiting.popleft()
            self._written += count
            self._error, self._failures = None, 0
            self._turn.notify_all()


def next_chunk(folder: URI, source: str) -> int:
    """The first chunk number that no writer of this source has used."""
    names = [stat.uri.name for stat in folder.list()]
    used = [chunk for name, chunk in map(split_chunk, names) if name == source]
    return max(used, default=-1) + 1


def split_chunk(name: str) -> tuple[str, int]:
    """Source and chunk number of a chunk's file name.

    Raises:
        Damaged: It is no chunk's name.
    """
    source, _, chunk = name.removesuffix(".jsonl").rpartition("-")
    if not source or not chunk.isdigit() or not name.endswith(".jsonl"):
        raise Damaged(f"{name} is not a part of a journal; something else wrote into its folder.")
    return source, int(chunk)


def _snapshot(value: Any) -> Any:
    """The value as it is now, although a tensor may be changed in place later."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    device = getattr(value, "device", None)
    if getattr(device, "type", "cpu") != "cpu" and hasattr(value, "detach"):
        return value.detach().clone()
    return _plain(value)


def _plain(value: Any) -> Any:
    """A JSON value: scalars of numpy and torch by ``item()``, arrays by ``tolist()``."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    size = getattr(value, "size", None)
    count = getattr(value, "numel", lambda: size)()
    if count == 1 and hasattr(value, "item"):
        return _plain(value.item())
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return repr(value)


def _encode(record: Mapping[str, Any]) -> bytes:
    plain = {key: _plain(value) for key, value in record.items()}
    return json.dumps(plain, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
