"""A part of a file: the Range and If-Range headers of RFC 9110, sections 13 and 14."""

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

_ONE_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a file in bytes: at least one, and within the file."""

    start: int
    length: int

    def content_range(self, total: int) -> str:
        """The Content-Range header for a file of `total` bytes."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{total}"


class Unsatisfiable(Exception):
    """The requested range holds no byte of the file."""


def requested(headers: Headers, total: int, etag: str) -> ByteRange | None:
    """The range to send of `total` bytes, or None for the whole file. Raises Unsatisfiable: the caller's 416.

    Several ranges, other units and malformed ranges are answered with the whole file, as a server may do. So is an
    If-Range with another entity tag, or with a date: these files have strong entity tags and no dates.
    """
    if headers.get("if-range", etag) != etag:
        return None
    match = _ONE_RANGE.fullmatch(headers.get("range", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:  # the last so many bytes
        length = min(_number(last), total)
        if length == 0:
            raise Unsatisfiable
        return ByteRange(total - length, length)
    start = _number(first)
    if last and _number(last) < start:
        return None
    if start >= total:
        raise Unsatisfiable
    end = min(_number(last), total - 1) if last else total - 1
    return ByteRange(start, end - start + 1)


def _number(digits: str) -> int:
    """Digits as a number; very many are any number larger than every file."""
    return int(digits[:30]) if len(digits) <= 30 else 10**30
