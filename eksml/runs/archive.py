"""Folders and modules as content-addressed zips in storage: the same files give the same bytes."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from eksml import env
from eksml.errors import AlreadyExists, CallError, Damaged
from eksml.runs.credentials import check_bytes
from eksml.storage import URI

MAX_BYTES = 256 << 20
"""Of the files in one archive. Data belongs in storage, not in code."""
SCANNED_BYTES = 1 << 20
"""Files up to this size are searched for AWS keys."""
CODE = ".code"

# fmt: off
LEFT_OUT_FOLDERS = (
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".ipynb_checkpoints",
    ".aws", ".ssh", ".kube", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis",
    ".tox", ".nox", ".eggs", "*.egg-info",
)
LEFT_OUT_FILES = (
    ".env", ".env.*", "*.pem", "*.key", "*.p12", "id_rsa*", "id_ed25519*", ".netrc", ".pypirc",
    "*.pyc", ".DS_Store",
)
# fmt: on

Files = dict[str, Path]
"""Name inside the archive → file."""


def files_of_folder(folder: Path, prefix: str = "") -> Files:
    """The files that travel with a folder.

    Left out: version control, virtual environments, caches, notebook checkpoints, and files that
    hold secrets by their name. Links to folders are not followed.
    """
    found: Files = {}
    for where, folders, names in os.walk(folder):
        here = Path(where)
        folders[:] = [
            name
            for name in folders
            if not _matches(name, LEFT_OUT_FOLDERS)
            and not (here / name / "pyvenv.cfg").exists()
            and not (here / name).is_symlink()
        ]
        for name in names:
            if not _matches(name, LEFT_OUT_FILES) and (here / name).is_file():
                inside = PurePosixPath(prefix, (here / name).relative_to(folder).as_posix())
                found[str(inside)] = here / name
    return found


def build(files: Files, what: str) -> bytes:
    """A zip of the files; its bytes depend on their names, modes and contents only.

    Raises:
        CallError: The files are too large (names the largest), or an AWS key is in one.
    """
    _check_size(files, what)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(files):
            data = files[name].read_bytes()
            if len(data) <= SCANNED_BYTES:
                check_bytes(data, f"{files[name]}, which would travel with {what}")
            archive.writestr(_entry(name, files[name]), data)
    return buffer.getvalue()


def upload(storage: URI, data: bytes) -> str:
    """Store a zip unless it is there; returns its sha256, which is its name."""
    digest = hashlib.sha256(data).hexdigest()
    target = archive_uri(storage, digest)
    if not target.exists():
        try:
            target.write_bytes(data, if_absent=True)
        except AlreadyExists:  # the same bytes, from somebody else, just now
            return digest
    return digest


def fetch(storage: URI, digest: str) -> Path:
    """The unpacked archive, in this machine's cache ``<EKSML_HOME>/code``.

    Verified before it is opened. Several processes may fetch at once: one wins, all get the same.

    Raises:
        Damaged: The bytes are not those that were uploaded.
        CallError: It would write outside its folder, or unpacks to too much.
    """
    target = env.HOME() / "code" / digest
    if target.is_dir():
        return target
    uri = archive_uri(storage, digest)
    data = uri.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise Damaged(f"{uri} has sha256 {found}. Delete it and start the run again.")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{digest[:12]}-", dir=target.parent))
    try:
        _extract(uri, data, fresh)
        fresh.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def archive_uri(storage: URI, digest: str) -> URI:
    """Where the archive with that sha256 lies."""
    return storage / CODE / f"{digest}.zip"


def _extract(uri: URI, data: bytes, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > MAX_BYTES:
            raise CallError(f"{uri} unpacks to more than {MAX_BYTES >> 20} MiB.")
        for entry in entries:
            _check_inside(uri, entry)
            path = Path(archive.extract(entry, folder))
            path.chmod((entry.external_attr >> 16) & 0o755 | 0o600)


def _check_inside(uri: URI, entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or is_link:
        raise CallError(f"{uri} holds {entry.filename!r}, which would leave its folder.")


def _entry(name: str, file: Path) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    executable = file.stat().st_mode & 0o100
    entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    entry.create_system = 3
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _check_size(files: Files, what: str) -> None:
    sizes = {name: file.stat().st_size for name, file in files.items()}
    total = sum(sizes.values())
    if total <= MAX_BYTES:
        return
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:5]
    listed = ", ".join(f"{name} ({sizes[name] / (1 << 20):.1f} MiB)" for name in largest)
    raise CallError(
        f"{what} holds {total / (1 << 20):.0f} MiB; {MAX_BYTES >> 20} MiB may travel. "
        f"Largest: {listed}. Keep data in storage and read it from there."
    )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def python_files(files: Files) -> Iterator[Path]:
    """The Python sources among the files."""
    return (file for name, file in files.items() if name.endswith(".py"))
