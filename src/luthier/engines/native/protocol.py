"""What a service and its engine process say to each other: messages in MessagePack, each behind its length.

A message is a map. From the service: `op` and `call`, the number of the call that answers bear too. One connection
carries all calls of a service; its first message bears the key that the process was started with.
"""

import socket
import struct
from typing import Any

import msgspec

INVALID = "invalid_request"
"""The error of a call that can never succeed as it is."""
MAX_BYTES = 1 << 28
_LENGTH = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()

Message = dict[str, Any]


def encode(*messages: Message) -> bytes:
    """The messages as they are sent: each in MessagePack behind its length in bytes (4 bytes, little-endian)."""
    bodies = [_encoder.encode(message) for message in messages]
    return b"".join(part for body in bodies for part in (_LENGTH.pack(len(body)), body))


class MessageReader:
    """Finds the messages in what is received, piece by piece; keeps the beginning of one that is not whole yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Adds received bytes; returns the messages that are whole now, maybe none.

        Raises ValueError for a message over MAX_BYTES and for bytes that are not MessagePack.
        """
        self._buffer += data
        messages = []
        at = 0
        while len(self._buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, at)
            if length > MAX_BYTES:
                raise ValueError("a message is too long")
            end = at + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(_decoder.decode(memoryview(self._buffer)[at + _LENGTH.size : end].tobytes()))
            at = end
        del self._buffer[:at]
        return messages


class BlockingConnection:
    """A connection to an engine process for one thread of the service, which sends calls and waits for their answers.

    The service's event loop has `client.NativeClient` instead.
    """

    def __init__(self, port: int, key: str, timeout_s: float) -> None:
        """Connects to a port of this machine and sends the key. No send or receive may take over `timeout_s`.

        Raises OSError.
        """
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(encode({"key": key}))
        self._reader = MessageReader()
        self._received: list[Message] = []

    def __enter__(self) -> "BlockingConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *messages: Message) -> None:
        """Sends messages. Raises OSError."""
        self._socket.sendall(encode(*messages))

    def receive(self) -> Message:
        """Waits for the next message.

        Raises OSError, also for a connection that is closed or silent for too long, and ValueError for bytes that are
        no message.
        """
        while not self._received:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the engine closed the connection")
            self._received += self._reader.feed(data)
        return self._received.pop(0)
