"""A form gives the same parts however the network cuts it."""

import random

import pytest

from luthier.api import multipart

BOUNDARY = b"bb-17"
KIND = f"multipart/form-data; boundary={BOUNDARY.decode()}"
CONTENTS = {
    "plain": b'{"a": 1}\n' * 9,
    "crlf": b'{"a": 1}\r\n' * 9,
    "almost": b"\r\n--bb-1\r\n--bb-\r\n--\r\n-\r\r\n--bb\r\n-bb-17\r\n--bb-18 bb-17--\r",
    "ends as it goes on": b"x\r\n--bb-1",
    "empty": b"",
    "only returns": b"\r" * 40,
}


def form(content: bytes) -> bytes:
    return (
        b'--bb-17\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n' + content + b"\r\n"
        b'--bb-17\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--bb-17--\r\n'
    )


def parts(body: bytes, cuts: list[int]) -> list[tuple[str, bytes]]:
    chunks = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return [
        (part.name, part.value.encode() if isinstance(part, multipart.Field) else b"".join(part.chunks))
        for part in multipart.read(KIND, (chunk for chunk in chunks if chunk))
    ]


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_parts_are_the_same_wherever_the_body_is_cut(content: bytes) -> None:
    body, expected = form(content), [("file", content), ("purpose", b"fine-tune")]
    for size in range(1, len(body) + 1):
        assert parts(body, list(range(size, len(body), size))) == expected, size
    for first in range(1, len(body) - 1):
        assert parts(body, [first, first + 1]) == expected, first


def test_random_bytes_cut_at_random_are_the_same() -> None:
    chance = random.Random(7)
    for _ in range(300):
        content = bytes(chance.choices(b"\r\n-b17x", k=chance.randrange(120)))
        if b"\r\n--" + BOUNDARY in content:
            continue
        body = form(content)
        cuts = sorted(chance.sample(range(1, len(body)), chance.randrange(12)))
        assert parts(body, cuts) == [("file", content), ("purpose", b"fine-tune")]
