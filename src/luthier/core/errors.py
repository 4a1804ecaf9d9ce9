"""One tree of errors: what went wrong, where, and what to do.

HTTP status and wire shape exist only in `api` (api/server.py has the status of each); commands print the message and
exit with 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One further finding under an error, e.g. one line of a data file; `param` None names no field of its own."""

    code: str
    message: str
    param: str | None = None


class LuthierError(Exception):
    """Base of every error that a caller is meant to read; in the API any other exception is an internal fault.

    `code` is a snake_case word that programs may test, `message` says what is wrong and what to do, `param` names the
    field of the request that is at fault, None for the whole.
    """

    def __init__(self, code: str, message: str, param: str | None = None, details: Sequence[ErrorDetail] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.details = tuple(details)


class InvalidRequest(LuthierError):
    """The request can never succeed as it is."""


class Unauthenticated(LuthierError):
    """No key or token, or one that opens nothing."""


class Forbidden(LuthierError):
    """The caller is known, and its role does not allow this."""


class NotFound(LuthierError):
    """The named object does not exist, or not for this caller."""


class Conflict(LuthierError):
    """The object is in a state that does not allow this now."""


class TooLarge(LuthierError):
    """More bytes than the limit."""


class HeadersTooLarge(LuthierError):
    """More headers, or longer ones, than the limit."""


class UnsupportedMediaType(LuthierError):
    """The body is of a kind that is not read here."""


class RateLimited(LuthierError):
    """Too much in too short a time; the same request may succeed after `retry_after_s` seconds."""

    def __init__(self, code: str, message: str, retry_after_s: float, param: str | None = None) -> None:
        super().__init__(code, message, param)
        self.retry_after_s = retry_after_s


class TooSlow(LuthierError):
    """The request's bytes come slower than the limit, or not at all."""


class QuotaExceeded(LuthierError):
    """The resource holds as much of something as it may; something must go, or the quota rise."""


class Unsupported(LuthierError):
    """A valid request that this installation cannot serve."""


class Unavailable(LuthierError):
    """Cannot be done right now; the same request may succeed later.

    After `retry_after_s` seconds; None if that is not known.
    """

    def __init__(self, code: str, message: str, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(code, message, param)
        self.retry_after_s = retry_after_s


class LeaseLost(Unavailable):
    """Another process has taken over what only one may do; this one must do nothing more of it."""


class NoSpace(LuthierError):
    """A disk is full; the same request may succeed once there is room on it."""


class UpstreamFailed(LuthierError):
    """An engine, or the source of an import, gave no usable answer."""
