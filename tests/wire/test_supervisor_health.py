"""`luthier supervise` at an address of its own: alive and ready in both roles, with metrics for whoever has a key."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from luthier import app
from luthier.core.errors import Conflict
from luthier.processes import supervise_process
from luthier.service.leasing.lease_keeper import SUPERVISOR
from luthier.settings import Settings
from luthier.store.queries.leasing import leases

KEY = "health-key-0123456789abcdef"
Ask = Callable[[str], Awaitable[httpx2.Response]]


def settings_of(folder: Path, listen: str = "127.0.0.1:0") -> Settings:
    values: dict[str, Any] = {"data_dir": folder / "data", "server_key": KEY, "supervise_listen": listen}
    return Settings(**values, supervisor=False, tick_s=0.05)


async def answer_with(ask: Ask, path: str, word: str) -> httpx2.Response:
    """The first answer at the path that has the word in it."""
    async with asyncio.timeout(30):
        while word not in (answer := await ask(path)).text:
            await asyncio.sleep(0.02)
    return answer


def series(text: str) -> dict[str, float]:
    """The values of the series about the supervisor, those of one name added up."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("luthier_supervisor_"):
                found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_supervisor_is_ready_while_it_waits_and_while_it_works_and_says_which(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    listener = app.supervisor_socket(settings)
    assert listener is not None
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    shared = app.build_supervisor(settings)
    with shared.database.writing() as tx:
        other = leases.take(tx, SUPERVISOR, "elsewhere/0/1@1/0", timedelta(hours=1))
    assert other is not None

    async def main() -> None:
        stopping = asyncio.Event()
        running = asyncio.create_task(supervise_process.supervise(shared, stopping, lambda text: None, listener))
        async with httpx2.AsyncClient(base_url=url) as client:
            assert (await answer_with(client.get, "/livez", "alive")).status_code == 200
            waiting = await client.get("/readyz")
            assert (waiting.status_code, waiting.json()) == (200, {"status": "ready", "role": "standing_by"})
            assert (await client.get("/metrics")).status_code == 401
            client.headers["api-key"] = KEY
            before = series((await client.get("/metrics")).text)
            assert (before["luthier_supervisor_lease_held"], before["luthier_supervisor_fencing_token"]) == (0, 0)
            with shared.database.writing() as tx:
                leases.release(tx, other)
            working = await answer_with(client.get, "/readyz", "supervising")
            assert working.json() == {"status": "ready", "role": "supervising", "fencing_token": other.token + 1}
            text = (await answer_with(client.get, "/metrics", "luthier_jobs")).text
            async with asyncio.timeout(30):
                while series(text).get("luthier_supervisor_passes_total", 0) < 5:
                    text = (await client.get("/metrics")).text
            assert series(text)["luthier_supervisor_lease_held"] == 1
            assert series(text)["luthier_supervisor_followed_runs"] == 0
        stopping.set()
        await running

    asyncio.run(main())


def test_supervisor_listens_nowhere_unless_it_is_told_to(tmp_path: Path) -> None:
    assert app.supervisor_socket(Settings(data_dir=tmp_path)) is None


def test_address_in_use_is_refused_by_the_settings_name(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = settings_of(tmp_path, f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Conflict, match="LUTHIER_SUPERVISE_LISTEN"):
            app.supervisor_socket(settings)


@pytest.mark.parametrize("value", ["9100", "127.0.0.1", "127.0.0.1:65536", "::1:9100", "a b:1"])
def test_what_is_no_address_is_no_setting(tmp_path: Path, value: str) -> None:
    with pytest.raises(ValidationError):
        settings_of(tmp_path, value)
