"""The log of a process: types, frames, ids and constants; no text of users."""

import json
import logging
import sqlite3
import subprocess
import sys
from datetime import datetime
from io import StringIO
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from luthier import blobs
from luthier.core.errors import Conflict
from luthier.process import logs
from luthier.settings import Settings
from luthier.store import db

MARK = "marked-text-of-a-user"


def heard(name: str) -> tuple[logging.Logger, StringIO]:
    """A logger of this name, and where its lines go."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Lines())
    logger = logging.Logger(name)
    logger.addHandler(handler)
    return logger, stream


def raised(act: object) -> BaseException:
    assert callable(act)
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - any error is what this is about
        act()
    return caught.value


def test_error_of_the_database_has_no_value_in_its_text_and_none_in_the_log(tmp_path: Path) -> None:
    database = db.open_database(tmp_path / "luthier.db")

    def fail() -> None:
        with database.writing() as tx:
            tx.execute(text("INSERT INTO nowhere VALUES (:value)"), {"value": MARK})

    error = raised(fail)
    database.close()
    assert isinstance(error, OperationalError)
    assert MARK not in str(error)
    logger, lines = heard("luthier.service")
    logger.error("tick failed job=%s", "ftjob-1", exc_info=error)
    line = lines.getvalue()
    assert MARK not in line
    assert "INSERT" not in line
    for word in ("tick failed job=ftjob-1", "sqlalchemy.exc.OperationalError", "SQLITE_ERROR", "test_process_log.py"):
        assert word in line


def test_error_is_logged_by_the_types_of_its_chain_and_never_by_messages() -> None:
    def fail() -> None:
        try:
            try:
                (Path("/") / MARK).read_bytes()
            except OSError as error:
                raise Conflict("two_at_once", MARK) from error
        except Conflict as error:
            raise ExceptionGroup(MARK, [ValueError(MARK), error]) from None

    told = logs.describe_error(raised(fail))
    assert MARK not in told
    for word in ("FileNotFoundError [ENOENT]", "Conflict [two_at_once]", "ExceptionGroup", "builtins.ValueError"):
        assert word in told


def test_record_of_a_library_is_logged_as_its_constant_and_its_location() -> None:
    logger, lines = heard("uvicorn.error")
    logger.info(f"GET https://host/?sig={MARK}")
    logger.info("[parameters: %s]", MARK)
    logger.warning("Invalid HTTP request received.")
    assert MARK not in lines.getvalue()
    first, second, third = lines.getvalue().splitlines()
    assert "text withheld" in first
    assert "[parameters: %s] at " in second
    assert "WARNING uvicorn.error Invalid HTTP request received. at " in third
    assert "test_process_log.py:" in third


def test_our_record_is_logged_complete_on_one_line() -> None:
    logger, lines = heard("luthier.x")
    logger.info("file=%s", "a\nb\x1b[2J")
    logger.info("bytes=%d", "no number")
    first, second = lines.getvalue().splitlines()
    assert first.endswith("luthier.x file=a\\u000ab\\u001b[2J")
    assert "bytes=%d" in second


def test_libraries_are_logged_from_warning_up() -> None:
    def record(name: str, level: int) -> logging.LogRecord:
        return logging.LogRecord(name, level, __file__, 1, "text", None, None)

    wanted = [("luthier.api", logging.DEBUG), ("asyncio", logging.ERROR)]
    assert all(logs.is_logged(record(*each)) for each in wanted)
    assert not logs.is_logged(record("httpx2", logging.INFO))
    assert not logs.is_logged(record("luthierlike", logging.INFO))


ALL_WAYS = f"""
import asyncio, gc, logging, sys, threading, warnings
from luthier.process import logs

logs.configure(logging.DEBUG)

async def fails():
    raise ValueError("{MARK}")

async def forgets():
    task = asyncio.create_task(fails())
    await asyncio.sleep(0.01)
    del task
    gc.collect()

class Ends:
    def __del__(self):
        raise ValueError("{MARK}")

asyncio.run(forgets())
warnings.warn("{MARK}")
logging.getLogger("other").debug("%s", "{MARK}")
logging.getLogger("other").error("%d", "{MARK}")
thread = threading.Thread(target=lambda: [].index("{MARK}"))
thread.start()
thread.join()
Ends()
gc.collect()
raise KeyError("{MARK}")
"""


def test_all_output_of_a_process_goes_through_the_log() -> None:
    done = subprocess.run([sys.executable, "-c", ALL_WAYS], capture_output=True, text=True)
    assert done.returncode == 1
    assert MARK not in done.stdout + done.stderr
    for word in ("asyncio", "kind=UserWarning", "uncaught error in thread", "in finalizer", "builtins.KeyError"):
        assert word in done.stderr, word


def test_invalid_settings_are_reported_without_their_values(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUTHIER_PORT", MARK)
    (tmp_path / "luthier.toml").write_text(f'sever_key = "{MARK}"\n')
    told = str(raised(Settings))
    assert "port" in told
    assert "sever_key" in told
    assert MARK not in told


@pytest.mark.parametrize("url", [f"ftp://user:{MARK}@host/x", f"{MARK}", f"s3://{MARK}@"])
def test_invalid_url_of_the_blobs_is_reported_without_its_text(url: str) -> None:
    error = raised(lambda: blobs.by_url(url))
    assert MARK not in str(error)
    assert "LUTHIER_BLOBS_URL" in str(error)


def test_json_lines_hold_what_plain_ones_do_and_no_more() -> None:
    logger, stream = heard("luthier.service")
    logger.handlers[0].setFormatter(logs.JsonLines())
    logger.error("tick failed job=%s", "ftjob-1\n2", exc_info=raised(lambda: {}[MARK]))
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"]) == ("ERROR", "luthier.service")
    assert line["message"] == "tick failed job=ftjob-1\\u000a2"
    assert (line["event"], line["job"]) == ("tick failed", "ftjob-1\\u000a2")
    assert (line["exception"], line["error"][-1]) == ("builtins.KeyError", "builtins.KeyError")
    foreign, stream = heard("httpx2")
    foreign.handlers[0].setFormatter(logs.JsonLines())
    foreign.error(f"asked {MARK}")
    assert MARK not in stream.getvalue()


@pytest.mark.parametrize(
    ("message", "arguments", "fields"),
    [
        ("service stopped", (), {"event": "service stopped"}),
        (
            "job ended id=%s status=failed code=%s",
            ("a", "b"),
            {"event": "job ended", "status": "failed", "id": "a", "code": "b"},
        ),
        ("n=%d s=%.1f x=%s on=%s", (3, 1.23456, None, True), {"n": 3, "s": 1.235, "x": None, "on": True}),
        ("%s of %d left=%d", ("a", 1, 2), {"left": 2}),
        ("too few id=%s %s", ("a",), {"event": "too few", "id": "a"}),
        ("time=%s level=%s", ("never", "mine"), {}),
        ("half at 50%% id=%s", ("a",), {"event": "half at 50", "id": "a"}),
    ],
)
def test_pairs_of_a_message_are_fields_of_its_json_line(
    message: str, arguments: tuple[object, ...], fields: dict[str, object]
) -> None:
    logger, stream = heard("luthier.service")
    logger.handlers[0].setFormatter(logs.JsonLines())
    logger.warning(message, *arguments)
    line = json.loads(stream.getvalue())
    assert line.pop("level") == "WARNING"
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert {name: value for name, value in line.items() if name not in {"logger", "message"}} == fields


def test_driver_reports_the_name_of_its_error() -> None:
    connection = sqlite3.connect(":memory:")
    error = raised(lambda: connection.execute("SELECT * FROM nowhere"))
    connection.close()
    assert logs.describe_error(error).endswith("sqlite3.OperationalError [SQLITE_ERROR]")
