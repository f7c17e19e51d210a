"""Where files and batches lie in storage, and how they are named.

::

    <root>/open/<batch>.json                 one for each batch that has not ended
    <root>/tenants/<tenant>/files/<file>/    a committed set: the parts of one file
    <root>/tenants/<tenant>/batches/<batch>/ see ``records``
    <root>/everybody/…                       the same, where there are no tenants

Identifiers begin with the time, so that names sort by age, and end with 48 random bits.
"""

from __future__ import annotations

import re
import secrets

from eksml.storage import URI

_HEX = "[0-9a-f]{24}"
_FILE = re.compile(f"file-{_HEX}(-output|-errors)?")
_BATCH = re.compile(f"batch_{_HEX}")


def new_file_id(now_s: float) -> str:
    """A file's identifier, never given before."""
    return f"file-{_stamp(now_s)}"


def new_batch_id(now_s: float) -> str:
    """A batch's identifier, never given before."""
    return f"batch_{_stamp(now_s)}"


def result_id(batch: str, kind: str) -> str:
    """The identifier of a batch's ``output`` or ``errors``: whoever writes it writes this one."""
    return f"file-{batch.removeprefix('batch_')}-{kind}"


def is_file_id(text: str) -> bool:
    """Whether it can be a file's name in storage; anything else names no file."""
    return _FILE.fullmatch(text) is not None


def is_batch_id(text: str) -> bool:
    """Whether it can be a batch's name in storage."""
    return _BATCH.fullmatch(text) is not None


def files_of(root: URI, tenant: str) -> URI:
    """The folder of a tenant's files; ``tenant`` is empty where there are no tenants."""
    return _home(root, tenant) / "files"


def batches_of(root: URI, tenant: str) -> URI:
    """The folder of a tenant's batches."""
    return _home(root, tenant) / "batches"


def open_batches(root: URI) -> URI:
    """The folder with a mark for each batch that has not ended, of all tenants."""
    return root / "open"


def _home(root: URI, tenant: str) -> URI:
    return root / "tenants" / tenant if tenant else root / "everybody"


def _stamp(now_s: float) -> str:
    return f"{int(now_s * 1000):012x}{secrets.token_hex(6)}"
