"""luthier status: the service in a dozen lines; what this machine knows where it does not answer."""

import functools
import http.server
import json
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI
from typer.testing import CliRunner, Result

import rows
from fakes import BASE, KEY
from luthier.cli.main import app
from luthier.core.roles import Role
from luthier.service.context import Context
from luthier.service.tenants import keys, resources
from luthier.service.tenants.keys import DEFAULT_RESOURCE

Command = Callable[..., Result]


@pytest.fixture
def luthier(url: str, context: Context, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("LUTHIER_URL", url)
    monkeypatch.setenv("LUTHIER_API_KEY", KEY)
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(context.data_folder))
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_status_tells_device_memory_queue_disk_and_versions(luthier: Command, openai_client: OpenAI) -> None:
    file = openai_client.files.create(file=rows.good(), purpose="fine-tune")
    openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    done = luthier("status")
    assert done.exit_code == 0, done.output
    shown = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "answers at http://127.0.0.1:" in shown["service"]
    assert "key1 of the resource luthier" in shown["key"]
    assert "1 validating_files" in shown["queue"]
    assert BASE in shown["base"]
    assert "cores" in shown["device"]
    assert "GB free" in shown["memory"]
    assert "GB free" in shown["disk"]
    assert "python 3." in shown["versions"]


def test_status_without_a_service_tells_what_this_machine_knows(
    luthier: Command, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUTHIER_URL", "http://127.0.0.1:9")
    done = luthier("status")
    assert done.exit_code == 1
    assert "No answer from http://127.0.0.1:9. Is `luthier serve` running there?" in done.stdout
    assert BASE in done.stdout
    assert "GB free" in done.stdout
    told = json.loads(luthier("status", "--json").stdout)
    assert (told["answers"], told["base_models"]) == (False, [BASE])
    monkeypatch.delenv("LUTHIER_API_KEY")
    context.key_file.unlink()
    assert "LUTHIER_API_KEY is unset" in luthier("status").stdout


def test_service_of_the_data_folder_is_named_where_another_address_does_not_answer(
    luthier: Command, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    (context.data_folder / "luthier.lock").write_text('{"pid": 1, "address": "http://127.0.0.1:8123"}')
    monkeypatch.setenv("LUTHIER_URL", "http://127.0.0.1:9")
    refused = luthier("models", "list")
    assert "data folder was last at http://127.0.0.1:8123." in refused.stderr


def test_status_says_which_resource_a_key_opens_and_nothing_of_another_ones_work(url: str, context: Context) -> None:
    _, (team_key, _) = resources.create(context, "team-a", "research", None)
    user = keys.create(context, DEFAULT_RESOURCE.id, "reader", Role.OPENAI_USER)
    told = httpx2.get(f"{url}/luthier/status", headers={"api-key": team_key}).json()
    assert told["resource"]["name"] == "team-a"
    assert "/resourceGroups/research/" in told["resource"]["deployments"]
    assert told["deployments"] == {}
    assert httpx2.get(f"{url}/luthier/status", headers={"api-key": user}).json()["key"]["name"] == "reader"
    assert httpx2.get(f"{url}/luthier/status").status_code == 401
    assert str(context.data_folder) not in json.dumps(told)


def test_deployments_follow_the_resource_of_the_key(
    luthier: Command, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (team_key, _) = resources.create(context, "team-a", "research", None)
    monkeypatch.setenv("LUTHIER_API_KEY", team_key)
    done = luthier("deployments", "list", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])
    refused = luthier("deployments", "show", "nobody")
    assert "does not exist" in refused.stderr
    assert "was not found" not in refused.stderr


@pytest.mark.usefixtures("context")
def test_page_of_another_server_is_told_to_be_none_of_ours(
    luthier: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index.html").write_text("<html></html>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("LUTHIER_URL", f"http://127.0.0.1:{server.server_port}")
        refused = luthier("models", "list")
        server.shutdown()
    assert "is not Luthier: it sends a web page" in refused.stderr
