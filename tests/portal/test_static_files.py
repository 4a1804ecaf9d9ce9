"""Scripts and styles come compressed to whoever takes that, and are the same bytes."""

import re

import httpx2
import pytest


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("identity", False),
    ],
)
def test_static_file_is_compressed_for_who_takes_gzip(url: str, accepted: str, is_compressed: bool) -> None:
    address = _style(url)
    plain = httpx2.get(address, headers={"accept-encoding": "identity"})
    assert plain.headers["vary"] == "Accept-Encoding"
    with httpx2.stream("GET", address, headers={"accept-encoding": accepted}) as answer:
        raw = b"".join(answer.iter_raw())
        assert answer.headers.get("content-encoding") == ("gzip" if is_compressed else None)
        assert int(answer.headers["content-length"]) == len(raw)
    assert (len(raw) < len(plain.content) / 2) is is_compressed
    assert httpx2.get(address, headers={"accept-encoding": accepted}).content == plain.content


def _style(url: str) -> str:
    page = httpx2.get(f"{url}/portal/sign-in").text
    found = re.search(r'href="(/portal/static/\w+/portal\.css)"', page)
    assert found is not None
    return f"{url}{found[1]}"
