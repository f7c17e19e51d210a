"""Find runs again, from any process and machine that reaches their storage."""

from __future__ import annotations

import difflib
import os
from concurrent.futures import ThreadPoolExecutor

from eksml import env
from eksml.errors import RunNotFound
from eksml.runs.record import RECORD, RunRecord, check_name, read_record
from eksml.runs.run import Run
from eksml.storage import URI

READERS = 16
SHOWN = 10


def list_runs(storage: str | os.PathLike[str] | URI | None = None) -> list[Run]:
    """The runs in a storage, newest first; in ``EKSML_STORAGE`` unless one is given.

    >>> for run in eksml.list_runs(): print(run)      # doctest: +SKIP

    One listing of the storage, and one read of each run's record. A folder without a record is
    not a run; a damaged record is raised.
    """
    folders = [folder for folder in _root(storage).folders() if not folder.name.startswith(".")]
    with ThreadPoolExecutor(READERS) as pool:
        records = list(pool.map(_record, folders))
    found = [
        (record.created_s, Run(folder))
        for folder, record in zip(folders, records, strict=True)
        if record is not None
    ]
    return [run for _, run in sorted(found, key=lambda item: item[0], reverse=True)]


def get_run(name: str, storage: str | os.PathLike[str] | URI | None = None) -> Run:
    """The run of that name.

    >>> eksml.get_run("digits").wait()                # doctest: +SKIP

    Raises:
        RunNotFound: There is none; names those that exist.
    """
    check_name(name)
    root = _root(storage)
    run = Run(root / name)
    if (run.uri / RECORD).exists():
        return run
    names = [found.name for found in list_runs(root)]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    raise RunNotFound(
        f"There is no run {name!r} in {root}.{hint} "
        + (f"It holds: {listed}." if names else "It holds no runs.")
    )


def _root(storage: str | os.PathLike[str] | URI | None) -> URI:
    return URI.parse(env.STORAGE() if storage is None else storage)


def _record(folder: URI) -> RunRecord | None:
    try:
        return read_record(folder)
    except RunNotFound:
        return None
