"""Logging without user data: our own messages, and of everything else the kind and the place in the code.

Exceptions contain what they failed on: SQL parameters, URLs with credentials, rows. So do the messages of libraries.
The log has neither: an exception is logged as its type and frames, a record of a library as its constant text, if it is
constant. Our own messages are logged complete; they contain ids and numbers.
"""

import errno
import inspect
import json
import logging
import sqlite3
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

from luthier.core.errors import LuthierError
from luthier.process import log_fields, printable

OURS = "luthier"
_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_REDACTED = "(text withheld: it may quote a request)"

logger = logging.getLogger(f"{OURS}.process")


def configure(level: int, *, as_json: bool = False) -> None:
    """Sends all log records of this process to stderr, as lines or as one JSON object each.

    These are the records of all loggers, warnings, and uncaught errors of any thread: Python's global handlers and
    hooks for them are replaced.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else Lines())
    handler.addFilter(is_logged)
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.raiseExceptions = False  # a record that cannot be written would be printed with its arguments
    warnings.showwarning = _on_warning
    sys.excepthook = lambda kind, error, trace: _on_uncaught("process", error)
    threading.excepthook = lambda hook: _on_uncaught("thread", hook.exc_value)
    sys.unraisablehook = lambda hook: _on_uncaught("finalizer", hook.exc_value)


def is_logged(record: logging.LogRecord) -> bool:
    """Our records at every level; those of libraries from warning up: below that they log each request."""
    return _is_ours(record) or record.levelno >= logging.WARNING


class Lines(logging.Formatter):
    """Formats a record as one line, an exception as its frames below it; no text of a user, a peer or a database."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """Our own message, or a library's constant text with its place in the code; the record is not changed."""
        shown = logging.makeLogRecord(
            record.__dict__ | {"msg": _message(record), "args": None, "exc_info": None, "exc_text": None}
        )
        shown.stack_info = None
        error = record.exc_info[1] if record.exc_info else None
        return super().format(shown) + ("" if error is None else f"\n{describe_error(error)}")


class JsonLines(logging.Formatter):
    """As `Lines`, a JSON object per line: time (RFC 3339, UTC), level, logger, message, and for our own records `event`
    and each `name=value` of the message as a field; for an exception its class and, in `error`, its lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON; text of users, peers and databases is left out as in `Lines`."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = dict(log_fields.of_record(record)) if _is_ours(record) else {}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            line |= {"exception": _class_name(error), "error": describe_error(error).splitlines()}
        # Last, so that no field takes their place; first in the line, where people look.
        head = {"time": time, "level": record.levelname, "logger": record.name, "message": _message(record)}
        return json.dumps(head | line | head)


def describe_error(error: BaseException) -> str:
    """An error and its causes in lines: types, frames, and details of a closed set. Never a message."""
    return "\n".join(line for link in _chain(error, set()) for line in _frames_and_type(link))


def _chain(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    """The error behind its causes, as Python prints them, followed by the members of a group.

    `seen` gets the id of each: an error is yielded once.
    """
    if id(error) in seen:
        return
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _chain(cause, seen)
    yield error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _chain(member, seen)


def _frames_and_type(error: BaseException) -> Iterator[str]:
    """One error without its causes: its frames, then its type and detail. Never its message."""
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} {frame.name}"
    detail = _detail(error)
    yield _class_name(error) + (f" [{detail}]" if detail else "")


def _class_name(error: BaseException) -> str:
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}"


def _detail(error: BaseException) -> str | None:
    """A detail of an error that cannot be a user's text, such as its code or errno; None if its type has none."""
    match error:
        case LuthierError():
            return error.code
        case sqlite3.Error():
            return getattr(error, "sqlite_errorname", None)  # missing if the driver itself raises
        case Exception() if type(error).__module__.startswith("psycopg"):  # an extra, so not imported here
            return getattr(error, "sqlstate", None)
        case OSError():
            return errno.errorcode.get(error.errno or 0)
        case ImportError():
            return error.name
        case _:
            return None


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == OURS or record.name.startswith(f"{OURS}.")


def _message(record: logging.LogRecord) -> str:
    """The text of a record that may be logged, on one line with control characters escaped."""
    words = (
        _own_message(record) if _is_ours(record) else f"{_constant_text(record)} at {record.pathname}:{record.lineno}"
    )
    return printable.escape_line(words)


def _own_message(record: logging.LogRecord) -> str:
    """The message with its arguments; if they do not fit it, the bare format string: logging must not raise."""
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return f"{record.msg} (its arguments do not fit)"


def _constant_text(record: logging.LogRecord) -> str:
    """A record's format string, if it is a constant of the code that logs it, so not user data; else `_REDACTED`.

    Finds that code among the callers on the stack, so it works only while the record is being logged.
    """
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if code.co_filename == record.pathname and code.co_name == record.funcName:
            return record.msg.strip() if isinstance(record.msg, str) and record.msg in code.co_consts else _REDACTED
        frame = frame.f_back
    return _REDACTED


def _on_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """In place of warnings.showwarning: logs a warning's class and place, not its text."""
    logger.warning("warning kind=%s at %s:%d", category.__name__, filename, lineno)


def _on_uncaught(where: str, error: BaseException | None) -> None:
    """Logs an error that nothing caught; a Ctrl-C and a requested exit are none."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return
    logger.critical("uncaught error in %s", where, exc_info=error)
