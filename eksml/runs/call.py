"""Pack a function call so that it runs elsewhere: the pickled function and configuration, the local
modules they need and a working folder, all content-addressed in ``<storage>/.code``.

Functions of notebooks and scripts (``__main__``) travel by value, functions of local modules by
name together with their module's files. Only what :func:`pack` wrote is ever unpickled, after its
checksum was verified.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eksml.errors import AlreadyExists, CallError
from eksml.runs import archive
from eksml.runs.credentials import check_bytes, check_config
from eksml.runs.modules import local_modules
from eksml.runs.pickling import check_picklable
from eksml.storage import URI, commit_files, read_part

MAX_PICKLE_BYTES = 64 << 20


@dataclass(frozen=True)
class Call:
    """A call as it arrived: run it with ``call.function``."""

    function: Callable[..., Any]
    config: Any
    paths: tuple[Path, ...]
    """Folders that were put in front of ``sys.path``; other processes need them too."""
    working_dir: Path | None
    """The caller's working folder, a shared copy on this machine; one of ``paths``."""


@dataclass(frozen=True)
class Packed:
    """``call.json``: what must be there before ``call.pkl`` is opened."""

    entry: str
    python: str
    cloudpickle: str
    modules: dict[str, str]
    """Top-level module → sha256 of its archive."""
    working_dir: str | None
    """sha256 of the working folder's archive."""


def entry_name(function: Callable[..., Any]) -> str:
    """``module.qualname``, as records and messages call a function."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None) or '__main__'}.{name}"


def check_call(function: Callable[..., Any], config: Any = None) -> None:
    """All that can be refused without touching storage.

    Raises:
        CallError: The function or the configuration cannot travel, or holds AWS credentials.
    """
    check_config(config)
    check_picklable(function)
    check_picklable(config, "config")


def pack(
    function: Callable[..., Any],
    config: Any,
    storage: URI,
    *,
    working_dir: str | os.PathLike[str] | None = None,
) -> URI:
    """Store the call under ``<storage>/.code``; returns its folder, for :func:`unpack`.

    What is there already is not uploaded again. ``working_dir`` is left without version control,
    virtual environments, caches and secrets.

    Raises:
        CallError: It cannot travel: unpicklable (names the variable), too large (names the
            largest), or with AWS credentials in it.
    """
    import cloudpickle

    check_call(function, config)
    payload = cloudpickle.dumps((function, config))
    _check_payload(payload, entry_name(function))
    modules = {
        name: archive.upload(storage, archive.build(files, f"the module {name}"))
        for name, files in sorted(local_modules((function, config)).items())
    }
    packed = Packed(
        entry=entry_name(function),
        python=platform.python_version(),
        cloudpickle=cloudpickle.__version__,
        modules=modules,
        working_dir=_upload_folder(storage, working_dir),
    )
    header = json.dumps(asdict(packed), sort_keys=True).encode()
    digest = hashlib.sha256(header + payload).hexdigest()
    folder = storage / archive.CODE / f"call-{digest[:32]}"
    try:
        commit_files(folder, {"call.json": header, "call.pkl": payload})
    except AlreadyExists:  # the very same call
        return folder
    return folder


def unpack(folder: URI) -> Call:
    """Fetch a packed call into this process: its modules become importable here.

    Raises:
        NotFound: There is no such call.
        Damaged: Something differs from what was packed; names it.
        CallError: It was packed by another minor version of Python, or its modules fail to load.
    """
    import cloudpickle

    packed = Packed(**json.loads(bytes(read_part(folder, "call.json"))))
    _check_python(packed)
    storage = folder.parent.parent
    digests = list(packed.modules.values())
    if packed.working_dir:
        digests.insert(0, packed.working_dir)
    paths = tuple(archive.fetch(storage, digest) for digest in dict.fromkeys(digests))
    sys.path[:0] = [str(path) for path in paths if str(path) not in sys.path]
    payload = bytes(read_part(folder, "call.pkl"))
    try:
        function, config = cloudpickle.loads(payload)
    except (ImportError, AttributeError) as error:
        raise CallError(
            f"{packed.entry} needs something that this machine does not have: {error}. "
            "Install it in the cluster's image, or keep it in a local module."
        ) from error
    return Call(function, config, paths, paths[0] if packed.working_dir else None)


def _upload_folder(storage: URI, folder: str | os.PathLike[str] | None) -> str | None:
    if folder is None:
        return None
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise CallError(f"The working folder {path} does not exist.")
    return archive.upload(storage, archive.build(archive.files_of_folder(path), str(path)))


def _check_payload(payload: bytes, entry: str) -> None:
    if len(payload) > MAX_PICKLE_BYTES:
        raise CallError(
            f"{entry} and its variables are {len(payload) >> 20} MiB when pickled; "
            f"{MAX_PICKLE_BYTES >> 20} MiB may travel. Load data inside the function."
        )
    check_bytes(payload, f"{entry} or a variable that it uses")


def _check_python(packed: Packed) -> None:
    here = platform.python_version_tuple()[:2]
    if tuple(packed.python.split(".")[:2]) != here:
        raise CallError(
            f"{packed.entry} was packed by Python {packed.python} and cannot be opened by Python "
            f"{platform.python_version()}. Use the same minor version on both sides."
        )
