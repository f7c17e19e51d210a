"""The server's half of a websocket, as far as exec and port-forward need it (RFC 6455)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import select
import socket
import struct
from typing import BinaryIO

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PROTOCOL = "v4.channel.k8s.io"
_BINARY, _CLOSE = 2, 8


def accept_key(key: str) -> str:
    """The answer to a handshake's key."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


class WebSocket:
    """Frames on a connection whose handshake is done."""

    def __init__(self, connection: socket.socket, reader: BinaryIO) -> None:
        self.connection = connection
        self._reader = reader

    def send(self, channel: int, data: bytes) -> None:
        """One binary frame for a channel."""
        self._send(_BINARY, bytes([channel]) + data)

    def close(self) -> None:
        """Say that it is over, and hear that the other side has understood."""
        self._send(_CLOSE, struct.pack(">H", 1000))
        self.connection.settimeout(1)
        with contextlib.suppress(OSError):
            while self.receive() is not None:
                pass

    def receive(self) -> tuple[int, bytes] | None:
        """The next frame's channel and data; None at the end."""
        head = self._reader.read(2)
        if len(head) < 2 or head[0] & 15 == _CLOSE:
            return None
        size = head[1] & 127
        if size == 126:
            (size,) = struct.unpack(">H", self._reader.read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._reader.read(8))
        mask = self._reader.read(4)
        data = self._reader.read(size)
        plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        return plain[0], plain[1:]

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 0x80 | opcode, size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", 0x80 | opcode, 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 127, size)
        self.connection.sendall(head + payload)


def forward(line: WebSocket, port: int, target: tuple[str, int]) -> None:
    """Carry channel 0 to a TCP address, as the kubelet does to a pod's port."""
    for channel in (0, 1):
        line.send(channel, struct.pack("<H", port))
    try:
        far = socket.create_connection(target, timeout=5)
    except OSError as error:
        line.send(1, f"an error occurred forwarding: {error}".encode())
        line.close()
        return
    with far:
        while True:
            readable, _, _ = select.select([line.connection, far], [], [])
            if far in readable:
                data = far.recv(1 << 16)
                if not data:
                    break
                line.send(0, data)
            if line.connection in readable:
                frame = line.receive()
                if frame is None:
                    return
                far.sendall(frame[1])
    line.close()
