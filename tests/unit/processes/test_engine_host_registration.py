"""A host's row: written again if it is gone, left to another process that lives, removed at the end."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from luthier.core.inference.engine_hosts import EngineHost
from luthier.processes.engine_host_process import Registration
from luthier.processes.shared_parts import SharedParts
from luthier.service.context import Context
from luthier.store.queries.leasing import engine_hosts, leases

URL = "http://a:8100"


def registration(context: Context, process: str) -> Registration:
    """That of a process whose lease has been taken."""
    with context.database.writing() as tx:
        lease = leases.take(tx, process, f"holder {process}", timedelta(seconds=60))
    shared: Any = SimpleNamespace(
        database=context.database, own=SimpleNamespace(lease=lease), settings=SimpleNamespace(serve_slots=8)
    )
    return Registration(cast(SharedParts, shared))


def living(context: Context) -> list[EngineHost]:
    with context.database.reading() as tx:
        return engine_hosts.list_living(tx)


def test_row_that_is_gone_is_written_again_until_the_host_leaves(context: Context) -> None:
    host = registration(context, "process/a")
    host.keep()
    assert living(context) == [], "it has not begun"
    host.begin(URL)
    with context.database.writing() as tx:
        engine_hosts.remove(tx, "process/a")
    host.keep()
    assert living(context) == [EngineHost(URL, "process/a", 8)]
    host.leave()
    host.keep()
    assert living(context) == []


def test_host_whose_url_another_one_has_says_so_and_returns_when_that_leaves(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = registration(context, "process/a"), registration(context, "process/b")
    first.begin(URL)
    second.begin(URL)
    first.keep()
    assert [host.process for host in living(context)] == ["process/b"]
    assert "another engine host has the URL" in caplog.text
    second.leave()
    first.keep()
    assert [host.process for host in living(context)] == ["process/a"]
