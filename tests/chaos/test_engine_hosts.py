"""API processes, a supervisor and two engine hosts: models are loaded on hosts alone, and outlive a killed host."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest
from openai import OpenAI

import split_processes
import tiny
from authority import Authority
from running import KEY
from split_processes import Process, Split
from waiting import until

pytestmark = [pytest.mark.story, pytest.mark.timeout(280)]
ROWS = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "It hums."}]}] * 10


@pytest.fixture
def split(tmp_path: Path) -> Iterator[Split]:
    made = split_processes.prepared(tmp_path, LUTHIER_ENGINES="hosts")
    yield made
    made.close()


def answer(client: OpenAI, model: str) -> str:
    messages: Any = [{"role": "user", "content": "Hi"}]
    made = client.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0, seed=1)
    return str(made.choices[0].message.content)


def refusal(client: OpenAI, model: str) -> tuple[int, str] | None:
    """Status and code of the error that a call gets; None for an answer."""
    try:
        answer(client, model)
    except openai.APIStatusError as error:
        return error.status_code, str(error.code)
    return None


def streamed(client: OpenAI, model: str) -> str:
    messages: Any = [{"role": "user", "content": "Hi"}]
    parts = client.chat.completions.create(
        model=model, messages=messages, max_tokens=8, temperature=0, seed=1, stream=True
    )
    return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)


def engines_of(process: Process) -> list[psutil.Process]:
    children = psutil.Process(process.popen.pid).children(recursive=True)
    return [child for child in children if "engines" in " ".join(child.cmdline())]


def test_models_answer_on_hosts_and_go_on_when_the_host_that_serves_them_is_killed(split: Split) -> None:
    first_api, supervisor = split.api(), split.supervisor()
    client = split.client(first_api)
    assert refusal(client, tiny.NAME) == (503, "no_engine_host")
    hosts = [split.engine_host(), split.engine_host()]
    other = split.client(split.api())
    expected = answer(client, tiny.NAME)
    assert answer(other, tiny.NAME) == streamed(other, tiny.NAME) == expected

    file = client.files.create(file=("rows.jsonl", "\n".join(map(json.dumps, ROWS)).encode()), purpose="fine-tune")
    job = split_processes.ended_job(client, split_processes.create_job(client, file.id, 2))
    tuned = str(job.fine_tuned_model)
    of_tuned = answer(client, tuned)
    serving = [host for host in hosts if engines_of(host)]
    assert serving
    assert not engines_of(first_api), "API processes load nothing"
    assert not engines_of(supervisor)

    serving[0].end(signal.SIGKILL)
    assert [answer(client, tuned), answer(other, tuned)] == [of_tuned] * 2
    assert answer(other, tiny.NAME) == expected
    left = next(host for host in hosts if host is not serving[0])
    assert engines_of(left)

    report = httpx2.post(
        f"{first_api.url}/luthier/parity", headers={"api-key": KEY}, json={"model": tuned}, timeout=100
    )
    assert report.json()["agrees"] is True, report.text
    engines = httpx2.get(f"{first_api.url}/readyz").json()
    assert engines["status"] == "ready"

    assert left.end(signal.SIGTERM) == 0
    until(lambda: refusal(client, tuned) == (503, "no_engine_host"), 20)
    only = split.engine_host()
    until(lambda: refusal(client, tuned) is None, 60)
    only.end(signal.SIGKILL)
    assert refusal(other, tuned) in {(503, "engine_gone"), (503, "no_engine_host")}
    assert "Traceback" not in split.log()


def test_host_refuses_another_key(split: Split) -> None:
    host = split.engine_host()
    url = host.said.split()[3]
    for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Bearer {KEY}"}):
        assert httpx2.post(f"{url}/luthier-engines/1/states", json={}, headers=headers).status_code == 401
        assert httpx2.get(f"{url}/metrics", headers=headers).status_code == 401
    assert httpx2.get(f"{url}/healthz").text == "alive"


def test_host_with_a_certificate_is_asked_by_those_who_trust_its_authority(split: Split, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.make()
    plain = dict(split.environment)
    split.environment |= {"LUTHIER_TLS_CERT": str(pair.cert), "LUTHIER_TLS_KEY": str(pair.key)}
    assert "https://127.0.0.1" in split.engine_host().said
    split.environment = plain
    assert refusal(split.client(split.api()), tiny.NAME) == (503, "engine_gone")
    assert "its certificate is not trusted" in split.log()
    split.environment = plain | {"SSL_CERT_FILE": str(authority.ca)}
    assert answer(split.client(split.api()), tiny.NAME)
