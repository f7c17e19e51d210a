"""Where runs, checkpoints and results are kept: a local folder or S3, behind one ``URI``.

A single file is written atomically. A set of files is committed: its parts first, then one
manifest; readers see all of it or nothing, and every byte is verified when it is read.
"""

from eksml.storage.arrow import arrow_filesystem
from eksml.storage.commit import (
    Manifest,
    Part,
    commit,
    commit_files,
    read_manifest,
    read_part,
    verify,
    write_part,
)
from eksml.storage.retention import committed, retain, sweep
from eksml.storage.uri import URI, Stat

__all__ = [
    "URI",
    "Manifest",
    "Part",
    "Stat",
    "arrow_filesystem",
    "commit",
    "commit_files",
    "committed",
    "read_manifest",
    "read_part",
    "retain",
    "sweep",
    "verify",
    "write_part",
]
