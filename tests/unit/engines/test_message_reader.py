"""Messages between a service and its engine process, however the connection cuts them."""

import random
import struct

import msgspec
import pytest

from luthier.engines.native.protocol import MAX_BYTES, Message, MessageReader, encode

MESSAGES: list[Message] = [
    {"key": "0123"},
    {"op": "generate", "call": 1, "model": None, "prompt": [1, 2, 70_000], "request": {"temperature": 0.5}},
    {},
    {"call": 1, "text": "Ünïcode 東京 🙂", "log_probs": [[5, b"\xff\x00", -0.25, []]]},
    {"call": 2, "text": "x" * 70_000},
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 4096, 1 << 20])
def test_messages_are_found_in_pieces_of_any_size(size: int) -> None:
    data = encode(*MESSAGES)
    reader = MessageReader()
    found = [message for at in range(0, len(data), size) for message in reader.feed(data[at : at + size])]
    assert found == decoded()


def test_messages_are_found_wherever_they_are_cut_in_two() -> None:
    data = encode(*MESSAGES[:4])
    for cut in range(len(data) + 1):
        reader = MessageReader()
        assert [*reader.feed(data[:cut]), *reader.feed(data[cut:])] == decoded()[:4]


def test_messages_are_found_when_cut_at_random() -> None:
    random_ = random.Random(7)
    data = encode(*MESSAGES * 3)
    for _ in range(50):
        cuts = sorted(random_.choices(range(len(data)), k=9))
        reader = MessageReader()
        pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert [message for piece in pieces for message in reader.feed(piece)] == decoded() * 3


def test_several_messages_in_one_piece_come_in_their_order_and_the_rest_is_kept() -> None:
    data = encode(*MESSAGES)
    reader = MessageReader()
    assert reader.feed(data + data[:3]) == decoded()
    assert reader.feed(data[3:]) == decoded()


def test_messages_encoded_together_are_those_encoded_one_by_one() -> None:
    assert encode(*MESSAGES) == b"".join(map(encode, MESSAGES))


def test_nothing_is_no_message() -> None:
    assert MessageReader().feed(b"") == []
    assert encode() == b""


def test_message_that_is_too_long_is_refused_before_it_has_come() -> None:
    with pytest.raises(ValueError, match="too long"):
        MessageReader().feed(struct.pack("<I", MAX_BYTES + 1))
    assert MessageReader().feed(struct.pack("<I", MAX_BYTES)) == []


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x81\xa1a", b"\xa1\xff"])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        MessageReader().feed(struct.pack("<I", len(body)) + body)


def decoded() -> list[Message]:
    """The messages as they arrive: of a list of bytes and a tuple the same is left."""
    return [msgspec.msgpack.decode(msgspec.msgpack.encode(message)) for message in MESSAGES]
