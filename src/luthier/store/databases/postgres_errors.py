"""What PostgreSQL refuses, in words for a caller: by its SQLSTATE (PostgreSQL manual, appendix A), never by its text,
which may quote values.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DBAPIError

from luthier.core.errors import InvalidRequest, LuthierError, NoSpace, Unavailable

_BUSY = frozenset({"55P03", "40001", "40P01", "57014", "53300"})
"""A lock that was not free in time, two transactions in each other's way, a statement or connection over a limit."""
_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25006"})
"""A server that stops, starts, ended an idle session, or takes no writes: a standby."""
RETRY_AFTER_S = 1.0


@contextmanager
def translated() -> Iterator[None]:
    """Raises what the database refuses in the block as a LuthierError, if it is one that a caller can understand; all
    else, such as a broken constraint, as it is.
    """
    try:
        yield
    except (psycopg.Error, DBAPIError) as error:
        words = _in_words(error)
        if words is None:
            raise
        raise words from error


def is_of_standby(error: psycopg.Error | DBAPIError) -> bool:
    """Whether the server takes no writes, as one that has ceased to be the primary."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.errors.ReadOnlySqlTransaction)


def busy() -> Unavailable:
    """The error of a transaction whose turn did not come in time: the caller may try again."""
    return Unavailable("database_busy", "The database has too many writes at this moment. Try again.")


def _in_words(error: psycopg.Error | DBAPIError) -> LuthierError | None:
    """The error for a caller; None for an internal fault."""
    cause = error if isinstance(error, psycopg.Error) else error.orig
    if not isinstance(cause, psycopg.Error):
        return None
    state = cause.sqlstate
    if state == "53100":
        return NoSpace("disk_full", "The disk of the database is full. Make room on it and try again.")
    if state in _BUSY:
        return busy()
    if isinstance(cause, psycopg.DataError):
        return _of_value(state)
    is_lost = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError) and (state or "08").startswith("08")
    if is_lost or state in _GONE:
        text = "The database cannot be reached at this moment. Try again."
        return Unavailable("database_unavailable", text, retry_after_s=RETRY_AFTER_S)
    return None


def _of_value(state: str | None) -> InvalidRequest | None:
    """The error for a value that no column takes, or that cannot be compared with one; None for an internal fault."""
    match state:
        case "22001":
            return InvalidRequest("text_too_long", "A text of this request is longer than what can be stored.")
        case "22003":
            return InvalidRequest("number_out_of_range", "A number of this request is greater than what can be stored.")
        case None | "22021" | "22P05":  # psycopg itself refuses U+0000
            text = "A text of this request has the character U+0000, which cannot be stored or looked up."
            return InvalidRequest("invalid_text", text)
        case _:
            return None
