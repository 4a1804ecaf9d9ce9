"""A form gives the same parts however the network cuts it."""

import random
from collections.abc import AsyncIterator

import httpx2
import pytest

from fakes import KEY
from luthier.api.intake import multipart

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

    async def coming() -> AsyncIterator[bytes]:
        for chunk in chunks:
            if chunk:
                yield chunk

    async def read() -> list[tuple[str, bytes]]:
        found = []
        async for part in multipart.read_form(KIND, coming()):
            whole = isinstance(part, multipart.Field)
            found.append((part.name, part.value.encode() if whole else b"".join([one async for one in part.chunks])))
        return found

    try:
        read().send(None)
    except StopIteration as ended:  # with chunks at hand, and as short as these, there is nothing to wait for
        found: list[tuple[str, bytes]] = ended.value
        return found
    raise AssertionError("it waited")


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


def fields_of(*fields: tuple[str, bytes]) -> bytes:
    """A form whose parts have no filename."""
    body = b"".join(
        b'--bb-17\r\ncontent-disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + content + b"\r\n"
        for name, content in fields
    )
    return body + b"--bb-17--\r\n"


@pytest.mark.parametrize("content", [b'{"a": 1}\n' * 400, b'{"a": 1}', b'wor"}', b"a\nb", b'"x"'])
def test_file_without_a_filename_is_a_file(url: str, content: bytes) -> None:
    body = fields_of(("purpose", b"user_data"), ("file", content))
    answer = httpx2.post(f"{url}/v1/files", headers={"api-key": KEY, "content-type": KIND}, content=body)
    assert (answer.status_code, answer.json()["filename"], answer.json()["bytes"]) == (200, "upload", len(content))
    read = httpx2.get(f"{url}/v1/files/{answer.json()['id']}/content", headers={"api-key": KEY})
    assert read.content == content


@pytest.mark.parametrize("text", ["rows.jsonl", "@rows.jsonl", "/home/me/my rows.jsonl", "C:\\rows.jsonl"])
def test_name_of_a_file_in_its_place_is_told_how_to_send_the_file(url: str, text: str) -> None:
    body = fields_of(("purpose", b"fine-tune"), ("file", text.encode()))
    answer = httpx2.post(f"{url}/v1/files", headers={"api-key": KEY, "content-type": KIND}, content=body)
    assert answer.status_code == 400
    assert f"holds the text {text!r}, and no file" in answer.json()["error"]["message"]
    assert "-F file=@" in answer.json()["error"]["message"]


def test_part_of_an_upload_without_a_filename_is_taken(url: str) -> None:
    asked = {"purpose": "user_data", "filename": "a", "bytes": 4, "mime_type": "text/plain"}
    upload = httpx2.post(f"{url}/v1/uploads", headers={"api-key": KEY}, json=asked).json()["id"]
    headers = {"api-key": KEY, "content-type": KIND}
    answer = httpx2.post(f"{url}/v1/uploads/{upload}/parts", headers=headers, content=fields_of(("data", b"a,\nb")))
    assert answer.status_code == 200
    done = httpx2.post(
        f"{url}/v1/uploads/{upload}/complete", headers={"api-key": KEY}, json={"part_ids": [answer.json()["id"]]}
    )
    assert (done.status_code, done.json()["file"]["bytes"]) == (200, 4)


def test_file_in_a_field_of_another_name_is_told_the_name(url: str) -> None:
    files = {"training_file": ("a.jsonl", b"{}\n"), "purpose": (None, "fine-tune")}
    message = httpx2.post(f"{url}/v1/files", headers={"api-key": KEY}, files=files).json()["error"]["message"]
    assert "A file came in the field 'training_file'; its name must be 'file'." in message
