"""A part of a file: the Range and If-Range headers of RFC 9110, sections 13 and 14."""

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

_ONE_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    start: int
    length: int

    def content_range(self, total: int) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{total}"


class Unsatisfiable(Exception):
    """The range asked for holds no byte of the file."""


def asked(headers: Headers, total: int, etag: str) -> ByteRange | None:
    """The range to send, or None for the whole file. Raises Unsatisfiable.

    Several ranges at once, other units and what is no range are answered with the whole file, as a server may; so is
    an If-Range that names other bytes, or a date: these files have strong entity tags and no dates.
    """
    if headers.get("if-range", etag) != etag:
        return None
    found = _ONE_RANGE.fullmatch(headers.get("range", ""))
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
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
    """Digits as a number; of very many it is enough to know that they are more than any file has."""
    return int(digits[:30]) if len(digits) <= 30 else 10**30
