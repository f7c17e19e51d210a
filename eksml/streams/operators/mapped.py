"""Tables on the local disk that are read as if they lay in memory."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

from eksml.errors import StorageUnavailable
from eksml.streams.batch import from_ipc

if TYPE_CHECKING:
    import pyarrow as pa


def mapped(batches: Iterable[pa.RecordBatch | pa.Table], schema: pa.Schema) -> pa.Table:
    """The same rows, in a file that is mapped into memory: the operating system keeps of it in
    memory what there is room for.

    The file lies where TMPDIR says and has no name: its space is free again as soon as nobody holds
    the table, or the process ends, however it ends.

    Raises:
        StorageUnavailable: The disk is full, or broken.
    """
    import pyarrow as pa

    try:
        with tempfile.TemporaryFile(prefix="eksml-state-") as file:
            with pa.ipc.new_stream(file, schema) as writer:
                for batch in batches:
                    writer.write(batch)
            file.flush()
            return from_ipc(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise StorageUnavailable(
            f"state that has no room in memory cannot be written to {tempfile.gettempdir()}: "
            f"{error}. Point TMPDIR to a larger disk, or give the stream more state_memory."
        ) from error
