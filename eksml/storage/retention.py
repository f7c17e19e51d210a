"""Which committed sets lie under a root, and which of them may go."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping

from eksml.errors import Damaged, InvalidSpec, Problem
from eksml.storage.commit import MANIFEST, Manifest, read_manifest
from eksml.storage.patience import patiently
from eksml.storage.uri import URI, Stat

Folder = Mapping[str, Stat]
"""The files of a folder by their names inside it."""


def committed(root: URI) -> Iterator[URI]:
    """The folders directly in ``root`` that hold a committed set, sorted by name.

    Number the names with leading zeros, and the last is the newest.
    """
    return (root / name for name, files in _folders(root).items() if MANIFEST in files)


def retain(root: URI, keep: int) -> list[URI]:
    """Delete committed sets so that the ``keep`` newest good ones remain; returns what went.

    Good means: the manifest is valid, and every part is there with its size. Sets that are not good
    do not count, and go only when ``keep`` newer good ones exist. So the newest good set never
    goes, nor anything newer than it. What was never committed is left to ``sweep``.

    Killed on the way, it leaves each set whole or uncommitted: manifests go first.

    Raises:
        InvalidSpec: ``keep`` is less than 1.
    """
    if keep < 1:
        raise InvalidSpec([Problem("keep", f"is {keep}.", "Keep at least 1.")], "retention")
    sets = {name: files for name, files in _folders(root).items() if MANIFEST in files}
    good = 0
    gone = []
    for name, files in reversed(sets.items()):
        folder = root / name
        if good == keep:
            patiently((folder / MANIFEST).delete)
            patiently(functools.partial(folder.delete, recursive=True))
            gone.append(folder)
        elif _is_good(folder, files):
            good += 1
    return gone


def sweep(root: URI, *, older_than_s: float) -> list[URI]:
    """Delete what writers under ``root`` left without committing it; returns what went.

    That is: folders without a manifest, files that a committed set does not name, half-written
    files and unfinished uploads. Each only if all of it is older than ``older_than_s`` on the
    store's clock: choose more than a writer may need from its first part to its commit.
    """
    gone = []
    for name, files in _folders(root).items():
        folder = root / name
        if MANIFEST in files:
            gone += _delete_strays(folder, files, older_than_s)
        elif all(file.age_s >= older_than_s for file in files.values()):
            folder.delete(recursive=True)
            gone.append(folder)
    return gone + list(root.store.delete_unfinished(root, older_than_s=older_than_s))


def _folders(root: URI) -> dict[str, dict[str, Stat]]:
    """The folders in ``root`` by name, sorted, from one listing."""
    folders: dict[str, dict[str, Stat]] = defaultdict(dict)
    for file in patiently(lambda: root.list(recursive=True)):
        name, slash, inside = file.uri.relative_to(root).partition("/")
        if slash:
            folders[name][inside] = file
    return dict(sorted(folders.items()))


def _is_good(folder: URI, files: Folder) -> bool:
    manifest = _read_if_valid(folder)
    return manifest is not None and all(
        part.file in files and files[part.file].size == part.size for part in manifest.parts
    )


def _delete_strays(folder: URI, files: Folder, older_than_s: float) -> list[URI]:
    manifest = _read_if_valid(folder)
    if manifest is None:
        return []  # what it named cannot be told: nothing is a stray for certain
    named = {MANIFEST, *(part.file for part in manifest.parts)}
    strays = [
        file.uri for name, file in files.items() if name not in named and file.age_s >= older_than_s
    ]
    folder.store.delete(strays)
    return strays


def _read_if_valid(folder: URI) -> Manifest | None:
    try:
        return read_manifest(folder)
    except Damaged:
        return None
