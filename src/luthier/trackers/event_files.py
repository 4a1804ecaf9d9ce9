"""The format of TensorBoard's event files: records with checksums, each an `Event` as protobuf has it.

Written by hand, since it is four messages: TensorFlow's `event.proto`, `summary.proto` and TFRecord. A record is its
length (u64), the masked CRC-32C of that (u32), the bytes, and their masked CRC-32C (u32), all little-endian.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from datetime import datetime

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DT_STRING = 7
_FILE_VERSION = b"brain.Event:2"


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE = _crc_table()


def version_record(at: datetime) -> bytes:
    """The first record of a file."""
    return _record(_event(at, _bytes_field(3, _FILE_VERSION)))


def scalars_record(at: datetime, step: int, figures: Mapping[str, float]) -> bytes:
    """The record of a step's figures, each under its name as tag; they are stored as float32."""
    values = [_bytes_field(1, tag.encode()) + _key(2, _FIXED32) + _float32(value) for tag, value in figures.items()]
    summary = b"".join(_bytes_field(1, value) for value in values)
    return _record(_event(at, _key(2, _VARINT) + _varint(step) + _bytes_field(5, summary)))


def text_record(at: datetime, tag: str, text: str) -> bytes:
    """The record of a text, Markdown, under a tag."""
    plugin = _bytes_field(9, _bytes_field(1, _bytes_field(1, b"text")))
    tensor = _key(1, _VARINT) + _varint(_DT_STRING) + _bytes_field(2, b"") + _bytes_field(8, text.encode())
    value = _bytes_field(1, tag.encode()) + plugin + _bytes_field(8, tensor)
    return _record(_event(at, _bytes_field(5, _bytes_field(1, value))))


def read_records(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The bytes of each complete record and where it ends, up to the first that is torn or damaged."""
    start = 0
    while start + 12 <= len(data):
        length, checksum = struct.unpack_from("<QI", data, start)
        end = start + 12 + length + 4
        if end > len(data) or checksum != masked_crc(data[start : start + 8]):
            return
        payload = data[start + 12 : end - 4]
        if struct.unpack_from("<I", data, end - 4)[0] != masked_crc(payload):
            return
        yield payload, end
        start = end


def step_and_tags(payload: bytes) -> tuple[int, set[str]]:
    """The step of a record, 0 without one, and the tags of its values."""
    step, tags = 0, set[str]()
    for number, value in _fields(payload):
        if number == 2 and isinstance(value, int):
            step = value
        elif number == 5 and isinstance(value, bytes):
            for _, inner in _fields(value):
                tags |= {_text(tag) for name, tag in _fields(inner) if name == 1} if isinstance(inner, bytes) else set()
    return step, tags


def masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _event(at: datetime, content: bytes) -> bytes:
    return _key(1, _FIXED64) + struct.pack("<d", at.timestamp()) + content


def _record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked_crc(length)) + payload + struct.pack("<I", masked_crc(payload))


def _float32(value: float) -> bytes:
    """A number beyond float32's range becomes infinite."""
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message by number; fixed-width ones as their bytes. The message is one that we wrote."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield key >> 3, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
        if kind == _BYTES:
            size, at = _read_varint(message, at)
        yield key >> 3, message[at : at + size]
        at += size


def _text(value: int | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""
