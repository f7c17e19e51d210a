"""Packing: what a notebook or a script calls arrives elsewhere as it was, and secrets stay home."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eksml.errors import CallError, Damaged
from eksml.runs import archive
from eksml.runs.archive import build, fetch, files_of_folder, upload
from eksml.runs.call import check_call, pack, unpack
from eksml.storage import URI, read_manifest, read_part

SECRET = "AKIA" + "Z" * 16

SCRIPT = """
import sys
import helper
from shapes.circle import Circle

SCALE = 3

class Model:
    def __init__(self, width): self.width = width

def inner(value): return helper.double(value) * SCALE

def fit(config):
    import lazy_friend
    return inner(config["model"].width) + Circle(1).area() + lazy_friend.ONE

from eksml.runs.call import pack
from eksml.storage import URI
print(pack(fit, {"model": Model(7)}, URI.parse(sys.argv[1]), working_dir=sys.argv[2]))
"""

RECEIVER = """
import sys
from eksml.runs.call import unpack
from eksml.storage import URI
call = unpack(URI.parse(sys.argv[1]))
print(call.function(call.config))
print((call.working_dir / "settings.txt").read_text(), end="")
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EKSML_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder with a script, modules, data, and what must not travel."""
    files = {
        "script.py": SCRIPT,
        "helper.py": "import deeper\ndef double(value): return deeper.twice(value)\n",
        "deeper.py": "def twice(value): return 2 * value\n",
        "lazy_friend.py": "ONE = 1\n",
        "unrelated.py": "raise SystemExit('nobody needs this')\n",
        "shapes/__init__.py": "",
        "shapes/circle.py": "from .pi import PI\n\nclass Circle:\n"
        "    def __init__(self, r): self.r = r\n    def area(self): return PI * self.r\n",
        "shapes/pi.py": "PI = 3\n",
        "settings.txt": "settings of the folder\n",
        ".env": f"AWS_ACCESS_KEY_ID={SECRET}\n",
        ".aws/credentials": SECRET,
        "server.pem": "-----BEGIN",
        ".git/config": "x",
        ".venv/bin/python": "x",
        "my-env/pyvenv.cfg": "x",
        "my-env/lib.py": "x",
        "__pycache__/helper.pyc": "x",
    }
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "project"


def run_script(code: str, *arguments: object, cwd: Path, script: Path | None = None) -> str:
    command = [sys.executable, str(script)] if script else [sys.executable, "-c", code]
    done = subprocess.run(
        [*command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_scripts_function_arrives_with_its_modules_and_folder(
    project: Path, root: URI, tmp_path: Path
) -> None:
    folder = run_script("", root, project, cwd=project, script=project / "script.py").strip()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    received = run_script(RECEIVER, folder, cwd=elsewhere)
    assert received == f"{7 * 2 * 3 + 3 + 1}\nsettings of the folder\n"


def test_code_typed_into_a_notebook_cell_arrives(project: Path, root: URI, tmp_path: Path) -> None:
    cells = (
        "namespace = {'__name__': '__main__'}\n"
        "exec(compile('import helper\\nfactor = 5', '<cell 1>', 'exec'), globals())\n"
        "exec(compile('def fit(config): return helper.double(config) * factor', '<cell 2>',"
        " 'exec'), globals())\n"
        "import sys\nfrom eksml.runs.call import pack\nfrom eksml.storage import URI\n"
        "print(pack(fit, 2, URI.parse(sys.argv[1]), working_dir=sys.argv[2]))"
    )
    folder = run_script(cells, root, project, cwd=project).strip()
    assert run_script(RECEIVER, folder, cwd=tmp_path).splitlines()[0] == "20"


def test_only_what_is_needed_travels(project: Path, tmp_path: Path) -> None:
    storage = URI.parse(tmp_path / "storage")
    folder = run_script("", storage, project, cwd=project, script=project / "script.py").strip()
    header = json.loads(bytes(read_part(URI.parse(folder), "call.json")))
    assert sorted(header["modules"]) == ["deeper", "helper", "lazy_friend", "shapes"]
    assert header["entry"] == "__main__.fit"
    sent = zipfile.ZipFile(
        io.BytesIO((storage / ".code" / f"{header['working_dir']}.zip").read_bytes())
    ).namelist()
    modules = {"deeper.py", "helper.py", "lazy_friend.py", "script.py", "unrelated.py"}
    package = {"shapes/__init__.py", "shapes/circle.py", "shapes/pi.py"}
    assert set(sent) == modules | package | {"settings.txt"}


def test_the_same_files_give_the_same_bytes_and_are_uploaded_once(project: Path, root: URI) -> None:
    first = build(files_of_folder(project), "project")
    for file in files_of_folder(project).values():
        file.touch()
    assert build(files_of_folder(project), "project") == first
    digest = upload(root, first)
    before = (root / ".code" / f"{digest}.zip").stat()
    assert upload(root, first) == digest
    after = (root / ".code" / f"{digest}.zip").stat()
    assert before is not None
    assert after is not None
    assert after.age_s >= before.age_s


def test_packing_the_same_call_twice_stores_it_once(tmp_path: Path) -> None:
    storage = URI.parse(tmp_path)
    assert pack(len, [1, 2], storage) == pack(len, [1, 2], storage)
    assert unpack(pack(len, [1, 2], storage)).config == [1, 2]


def lock_in_closure() -> Callable[[], Any]:
    lock = threading.Lock()

    def fit() -> Any:
        return lock

    return fit


def lock_deep_inside() -> Callable[[], Any]:
    state = {"queues": [1, threading.Lock()]}

    def fit() -> Any:
        return state

    return fit


def lock_in_a_default() -> Callable[..., Any]:
    def fit(*, guard: Any = threading.Lock()) -> Any:  # noqa: B008
        return guard

    return fit


def file_in_partial() -> Callable[..., Any]:
    return functools.partial(print, file=sys.__stdout__)


def lock_in_a_helper() -> Callable[[], Any]:
    helper = lock_in_closure()

    def fit() -> Any:
        return helper()

    return fit


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lock_in_closure, "variable 'lock' holds a _thread.lock"),
        (lock_deep_inside, r"variable 'state', there 'queues', there \[1\] holds a _thread.lock"),
        (lock_in_a_default, "variable 'guard' holds a _thread.lock"),
        (lock_in_a_helper, "variable 'helper', there lock holds a _thread.lock"),
        (file_in_partial, "_io.TextIOWrapper"),
    ],
)
def test_a_variable_that_cannot_travel_is_named(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(CallError, match=named):
        check_call(make())


def test_a_configuration_that_cannot_travel_is_named() -> None:
    with pytest.raises(CallError, match=r"'lock'.*_thread.lock"):
        check_call(print, {"lock": threading.Lock()})


def test_an_aws_key_in_a_variable_a_file_or_the_configuration_stays_home(tmp_path: Path) -> None:
    storage = URI.parse(tmp_path / "storage")
    key = SECRET

    def fit() -> str:
        return key

    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "notes.txt").write_text(f"key={SECRET}")
    for call in (
        lambda: pack(fit, None, storage),
        lambda: pack(print, {"aws_secret_access_key": "x" * 40}, storage),
        lambda: pack(print, [SECRET], storage),
        lambda: pack(print, None, storage, working_dir=tmp_path / "work"),
    ):
        with pytest.raises(CallError, match="AWS") as refusal:
            call()
        assert SECRET not in str(refusal.value)
    stored = b"".join(stat.uri.read_bytes() for stat in storage.list(recursive=True))
    assert SECRET.encode() not in stored


def test_aws_own_documentation_sample_is_no_secret(tmp_path: Path) -> None:
    sample = {"aws_note": "AKIAIOSFODNN7EXAMPLE"}
    assert unpack(pack(print, sample, URI.parse(tmp_path))).config == sample


def test_a_folder_that_is_too_large_names_its_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 20)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "data.bin").write_bytes(bytes(3 << 20))
    (tmp_path / "work" / "code.py").write_text("x = 1")
    with pytest.raises(CallError, match=r"Largest: data.bin \(3.0 MiB\), code.py"):
        pack(print, None, URI.parse(tmp_path / "storage"), working_dir=tmp_path / "work")


def test_another_python_is_refused_before_anything_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pack(print, None, URI.parse(tmp_path))
    monkeypatch.setattr("platform.python_version_tuple", lambda: ("3", "99", "0"))
    with pytest.raises(CallError, match="same minor version"):
        unpack(folder)


def test_a_changed_call_is_not_unpickled(tmp_path: Path) -> None:
    folder = pack(print, None, URI.parse(tmp_path / "storage"))
    canary = tmp_path / "canary"
    evil = f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode()
    manifest = read_manifest(folder)
    assert manifest is not None
    (folder / manifest.part("call.pkl").file).path.write_bytes(evil)
    with pytest.raises(Damaged, match="call"):
        unpack(folder)
    assert not canary.exists()


def test_a_changed_archive_is_not_opened(tmp_path: Path) -> None:
    storage = URI.parse(tmp_path / "storage")
    (tmp_path / "code.py").write_text("x = 1")
    digest = upload(storage, build({"code.py": tmp_path / "code.py"}, "code"))
    (storage / ".code" / f"{digest}.zip").path.write_bytes(b"PK")
    with pytest.raises(Damaged, match=digest):
        fetch(storage, digest)


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py", "..\\evil.py"])
def test_an_archive_that_would_write_outside_its_folder_is_refused(
    tmp_path: Path, home: Path, name: str
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as crafted:
        crafted.writestr("fine.py", "x = 1")
        crafted.writestr(name, "x = 2")
    storage = URI.parse(tmp_path / "storage")
    digest = upload(storage, buffer.getvalue())
    with pytest.raises(CallError, match="leave its folder"):
        fetch(storage, digest)
    assert not list(tmp_path.rglob("evil.py"))
    assert not (home / "code" / digest).exists()


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as crafted:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        crafted.writestr(link, "/etc/passwd")
    storage = URI.parse(tmp_path / "storage")
    digest = upload(storage, buffer.getvalue())
    with pytest.raises(CallError, match="leave its folder"):
        fetch(storage, digest)


def test_processes_that_fetch_at_once_all_get_the_same(tmp_path: Path) -> None:
    storage = URI.parse(tmp_path / "storage")
    (tmp_path / "code.py").write_text("x = 1")
    digest = upload(storage, build({"code.py": tmp_path / "code.py"}, "code"))
    found: list[Path] = []
    fetchers = [
        threading.Thread(target=lambda: found.append(fetch(storage, digest))) for _ in range(8)
    ]
    for thread in fetchers:
        thread.start()
    for thread in fetchers:
        thread.join()
    assert len(found) == 8
    assert {(path / "code.py").read_text() for path in found} == {"x = 1"}
    assert [path.name for path in found[0].parent.iterdir()] == [digest]


def test_a_missing_package_is_told_with_its_name(tmp_path: Path) -> None:
    script = (
        "import sys, types\n"
        "module = types.ModuleType('absent_package'); sys.modules['absent_package'] = module\n"
        "exec('def helper(): return 1', module.__dict__)\n"
        "from eksml.runs.call import pack\nfrom eksml.storage import URI\n"
        "print(pack(module.helper, None, URI.parse(sys.argv[1])))"
    )
    folder = run_script(script, tmp_path / "storage", cwd=tmp_path).strip()
    with pytest.raises(CallError, match="absent_package"):
        unpack(URI.parse(folder))
