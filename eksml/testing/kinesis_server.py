"""A stand-in for Kinesis in a process of its own."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from eksml.errors import MissingExtra
from eksml.testing.process import OwnServer


class KinesisServer(OwnServer):
    """kinesalite on a free port: streams whose shards can be split and merged, in memory.

    It is a package of npm's: ``npm install --prefix .venv kinesalite``. It takes any credentials.
    """

    name = "kinesis"

    def _command(self) -> list[str]:
        return [
            *(_binary(), "--port", str(self._port)),
            *("--createStreamMs", "20", "--updateStreamMs", "20", "--deleteStreamMs", "20"),
        ]

    def env(self) -> dict[str, str]:
        """The AWS variables of a user."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "EKSMLTEST",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """boto3's client for this server."""
        import boto3

        return boto3.Session(
            aws_access_key_id="EKSMLTEST",
            aws_secret_access_key="anything",
            region_name="us-east-1",
        ).client("kinesis", endpoint_url=f"http://127.0.0.1:{self._port}")

    def make_stream(self, stream: str, shards: int) -> None:
        """Make a stream."""
        self.client().create_stream(StreamName=stream, ShardCount=shards)
        self._settle(stream)

    def split(self, stream: str, shard: str) -> None:
        """Split a shard in the middle of its keys."""
        [found] = [each for each in self._shards(stream) if each["ShardId"] == shard]
        bounds = found["HashKeyRange"]
        middle = (int(bounds["StartingHashKey"]) + int(bounds["EndingHashKey"])) // 2
        self.client().split_shard(
            StreamName=stream, ShardToSplit=shard, NewStartingHashKey=str(middle)
        )
        self._settle(stream)

    def merge(self, stream: str, first: str, second: str) -> None:
        """Merge two shards that lie beside each other."""
        self.client().merge_shards(
            StreamName=stream, ShardToMerge=first, AdjacentShardToMerge=second
        )
        self._settle(stream)

    def _shards(self, stream: str) -> list[Any]:
        return list(self.client().list_shards(StreamName=stream)["Shards"])

    def _settle(self, stream: str) -> None:
        """Wait until what was asked is done."""
        client = self.client()
        while True:
            summary = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
            if summary["StreamStatus"] == "ACTIVE":
                return
            time.sleep(0.02)


def _binary() -> str:
    beside = Path(sys.prefix) / "node_modules" / ".bin" / "kinesalite"
    found = str(beside) if beside.exists() else shutil.which("kinesalite")
    if found is None:
        raise MissingExtra("kinesalite is not installed: npm install --prefix .venv kinesalite.")
    return found
