"""What is particular to llama.cpp's processes: death, replacement under way, keys, logs, orphans."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from engines import small
from luthier.core.errors import Unavailable
from luthier.core.ports import Address, ServedModel
from luthier.engines import export
from luthier.engines.llamacpp import LlamaCppEngine

SECRET = "zebramark"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    folder = small.make_base(tmp_path_factory.mktemp("base"), "llama")
    export.export_base(folder)
    return ServedModel("base", "base", folder, None)


@pytest.fixture(scope="module")
def tuned(base: ServedModel, tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    adapter = small.make_adapter(tmp_path_factory.mktemp("adapter"), base.base_folder)
    return ServedModel("base.ft", "base", base.base_folder, adapter)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LlamaCppEngine]:
    engine = LlamaCppEngine(tmp_path, context_tokens=1024, slots=2, threads=1, retire_grace_s=0.05)
    yield engine
    engine.close()


def test_ensure_after_the_process_was_killed_starts_another(engine: LlamaCppEngine, base: ServedModel, tmp_path: Path):
    before = engine.ensure(base)
    (process,) = processes(tmp_path)
    process.kill()
    process.wait(10)
    after = engine.ensure(base)
    assert after != before
    assert chat(after).status_code == 200


def test_an_answer_under_way_outlives_the_arrival_of_an_adapter(
    engine: LlamaCppEngine, base: ServedModel, tuned: ServedModel, tmp_path: Path
):
    old = engine.ensure(base)
    (process,) = processes(tmp_path)
    body = {"stream": True, "max_tokens": 900, "ignore_eos": True}
    with httpx2.stream("POST", **request(old, **body), timeout=60) as reply:
        lines = reply.iter_lines()
        next(lines)
        new = engine.ensure(tuned)
        assert chat(new).status_code == 200
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
    process.wait(10)  # retired once idle


def test_an_address_of_a_retired_process_opens_no_other(engine: LlamaCppEngine, base: ServedModel, tuned: ServedModel):
    """Ports are given out again: without its own key, an old list of scales could pick another adapter."""
    old = engine.ensure(base)
    new = engine.ensure(tuned)
    assert chat(Address(new.url, old.fields, old.headers)).status_code == 401
    assert chat(Address(new.url, new.fields, {})).status_code == 401


def test_a_base_of_which_nothing_is_wanted_loses_its_process(
    engine: LlamaCppEngine, base: ServedModel, tuned: ServedModel, tmp_path: Path
):
    engine.ensure(tuned)
    engine.ensure(base)
    (process,) = processes(tmp_path)
    engine.release(tuned.id)
    assert process.is_running()
    engine.release(base.id)
    process.wait(10)


def test_a_broken_adapter_is_refused_and_the_others_go_on(
    engine: LlamaCppEngine, base: ServedModel, tuned: ServedModel, tmp_path: Path
):
    good = engine.ensure(tuned)
    dora = tmp_path / "dora"
    small.lora_config(use_dora=True).save_pretrained(dora)
    with pytest.raises(Unavailable, match="use_dora"):
        engine.ensure(ServedModel("broken", "base", base.base_folder, dora))
    assert engine.ensure(tuned) == good


def test_an_unreadable_base_is_refused_with_the_place_of_the_log(engine: LlamaCppEngine, tmp_path: Path):
    folder = tmp_path / "torn"
    folder.mkdir()
    (folder / "base-f16.gguf").write_bytes(b"GGUF, torn off")
    with pytest.raises(Unavailable) as refusal:
        engine.ensure(ServedModel("torn", "torn", folder, None))
    log = Path(refusal.value.message.rpartition(" ")[2])
    assert "load" in log.read_text()
    assert processes(tmp_path) == []


def test_no_file_of_the_engine_holds_what_users_say(engine: LlamaCppEngine, base: ServedModel, tmp_path: Path):
    address = engine.ensure(base)
    assert chat(address, prompt=f"{SECRET} " * 5).status_code == 200
    for body in (
        '{"messages":[{"role":"user","content":"' + SECRET,
        '{"messages":[{"role":"user","content":"a"}],"grammar":"' + SECRET + ' :::"}',
        '{"messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema",'
        '"json_schema":{"schema":{"type":"' + SECRET + '"}}}}',
    ):
        reply = httpx2.post(f"{address.url}/chat/completions", content=body, headers=dict(address.headers))
        assert reply.status_code == 400
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "engine.log" for path in files)
    assert not any(SECRET.encode() in path.read_bytes() for path in files)


def test_the_process_ends_when_its_service_is_killed(base: ServedModel, tmp_path: Path):
    program = f"""
import sys, threading
from pathlib import Path
from luthier.core.ports import ServedModel
from luthier.engines.llamacpp import LlamaCppEngine
engine = LlamaCppEngine(Path({str(tmp_path)!r}), context_tokens=1024, slots=1, threads=1)
threading.Thread(target=engine.ensure, args=[ServedModel("b", "b", Path({str(base.base_folder)!r}), None)]).start()
[thread.join() for thread in threading.enumerate() if thread is not threading.main_thread()]
print("ready", flush=True)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "ready\n"
        (process,) = processes(tmp_path)
        os.kill(service.pid, signal.SIGKILL)
        process.wait(10)


def test_folders_of_a_killed_service_are_removed_by_the_next(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    (tmp_path / f"{gone.pid}-abcd").mkdir()
    (tmp_path / f"{os.getpid()}-abcd").mkdir()
    LlamaCppEngine(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == [f"{os.getpid()}-abcd"]


def test_close_ends_processes_that_are_just_starting(base: ServedModel, tmp_path: Path):
    engine = LlamaCppEngine(tmp_path, context_tokens=1024, slots=1, threads=1)

    def ask() -> None:
        with contextlib.suppress(Unavailable):
            engine.ensure(base)

    starting = threading.Thread(target=ask)
    starting.start()
    while not processes(tmp_path):
        starting.join(0.01)
    engine.close()
    starting.join()
    assert processes(tmp_path) == []


def processes(folder: Path) -> list[psutil.Process]:
    """The engine processes whose configuration lies in the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(part.startswith(str(folder)) for part in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def request(address: Address, prompt: str = "Tell me about the sea.", **fields: object) -> dict[str, object]:
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 4, **fields, **address.fields}
    return {"url": f"{address.url}/chat/completions", "json": body, "headers": dict(address.headers)}


def chat(address: Address, **fields: object) -> httpx2.Response:
    return httpx2.post(**request(address, **fields), timeout=60)
