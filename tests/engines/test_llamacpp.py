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

import small_models
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import Unavailable
from luthier.engines.gguf import export
from luthier.engines.llamacpp.engine import LlamaCppEngine
from luthier.process import owner_mark
from waiting import until

SECRET = "zebramark"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    folder = small_models.make_base(tmp_path_factory.mktemp("base"), "llama")
    export.export_base(folder)
    return ServedModel("base", "base", folder, None)


@pytest.fixture(scope="module")
def tuned(base: ServedModel, tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    adapter = small_models.make_adapter(tmp_path_factory.mktemp("adapter"), base.base_folder)
    return ServedModel("base.ft", "base", base.base_folder, adapter)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LlamaCppEngine]:
    engine = LlamaCppEngine(tmp_path, context_tokens=1024, slots=2, threads=1, retire_grace_s=0.05)
    yield engine
    engine.close()


def test_ensure_after_the_process_was_killed_starts_another(
    engine: LlamaCppEngine, base: ServedModel, tmp_path: Path
) -> None:
    before = engine.ensure(base)
    (process,) = processes(tmp_path)
    process.kill()
    process.wait(10)
    after = engine.ensure(base)
    assert after != before
    assert chat(after).status_code == 200


def test_an_answer_under_way_outlives_the_arrival_of_an_adapter(
    engine: LlamaCppEngine, base: ServedModel, tuned: ServedModel, tmp_path: Path
) -> None:
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


def test_an_address_of_a_retired_process_opens_no_other(
    engine: LlamaCppEngine, base: ServedModel, tuned: ServedModel
) -> None:
    """Ports are given out again: without its own key, an old list of scales could pick another adapter."""
    old = engine.ensure(base)
    new = engine.ensure(tuned)
    assert chat(Address(new.url, old.fields, old.headers)).status_code == 401
    assert chat(Address(new.url, new.fields, {})).status_code == 401


def test_a_base_of_which_nothing_is_wanted_loses_its_process(
    engine: LlamaCppEngine, base: ServedModel, tuned: ServedModel, tmp_path: Path
) -> None:
    engine.ensure(tuned)
    engine.ensure(base)
    (process,) = processes(tmp_path)
    engine.release(tuned.id)
    assert process.is_running()
    engine.release(base.id)
    process.wait(10)


def test_a_broken_adapter_is_refused_and_the_others_go_on(
    engine: LlamaCppEngine, base: ServedModel, tuned: ServedModel, tmp_path: Path
) -> None:
    good = engine.ensure(tuned)
    dora = tmp_path / "dora"
    small_models.lora_config(use_dora=True).save_pretrained(dora)
    with pytest.raises(Unavailable, match="use_dora"):
        engine.ensure(ServedModel("broken", "base", base.base_folder, dora))
    assert engine.ensure(tuned) == good


def test_an_unreadable_base_is_refused_and_the_operator_told_where_its_log_is(
    engine: LlamaCppEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "torn"
    folder.mkdir()
    (folder / "base-f16.gguf").write_bytes(b"GGUF, torn off")
    with pytest.raises(Unavailable) as refusal:
        engine.ensure(ServedModel("torn", "torn", folder, None))
    assert str(tmp_path) not in refusal.value.message
    log = Path(caplog.text.rpartition("log=")[2].split()[0])
    assert "load" in log.read_text()
    assert processes(tmp_path) == []


def test_no_file_of_the_engine_holds_what_users_say(engine: LlamaCppEngine, base: ServedModel, tmp_path: Path) -> None:
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


def test_the_process_ends_when_its_service_is_killed(base: ServedModel, tmp_path: Path) -> None:
    program = f"""
import sys, threading
from pathlib import Path
from luthier.core.engine_ports import ServedModel
from luthier.engines.llamacpp.engine import LlamaCppEngine
engine = LlamaCppEngine(Path({str(tmp_path)!r}), context_tokens=1024, slots=1, threads=1)
thread = threading.Thread(target=engine.ensure, args=[ServedModel("b", "b", Path({str(base.base_folder)!r}), None)])
thread.start()
thread.join()
print("ready", flush=True)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "ready\n"
        (process,) = processes(tmp_path)
        os.kill(service.pid, signal.SIGKILL)
        process.wait(10)


def test_folders_of_a_killed_service_are_removed_by_the_next(tmp_path: Path) -> None:
    gone = "0123abcd"  # no process holds that mark
    kept = {f"{owner_mark.own(tmp_path)}-00abcdef", f"{gone}-models I copied"}  # of a living one, and somebody's own
    for name in (f"{gone}-00abcdef", *kept):
        (tmp_path / name).mkdir()
    LlamaCppEngine(tmp_path).close()
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == kept


def test_close_ends_processes_that_are_just_starting(base: ServedModel, tmp_path: Path) -> None:
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


def test_process_that_is_stopped_is_ended_and_started_anew_by_itself(
    engine: LlamaCppEngine, base: ServedModel, tmp_path: Path
) -> None:
    before = engine.ensure(base)
    assert engine.faults() == []
    (process,) = processes(tmp_path)
    process.suspend()
    until(lambda: engine.faults() != [])
    process.wait(15)
    until(lambda: engine.loaded(base) not in (None, before))
    assert engine.faults() == []
    assert chat(engine.ensure(base)).status_code == 200


def test_loaded_tells_an_address_only_of_what_is_loaded(
    engine: LlamaCppEngine, base: ServedModel, tuned: ServedModel
) -> None:
    assert engine.loaded(base) is None
    assert engine.ensure(base) == engine.loaded(base)
    assert engine.loaded(tuned) is None


def test_capacity_is_what_the_process_has(engine: LlamaCppEngine, base: ServedModel) -> None:
    capacity = engine.ensure(base).capacity
    assert capacity is not None
    assert (capacity.slots, capacity.context_tokens, capacity.window_tokens) == (2, 992, 992)


def test_prompts_that_idle_slots_hold_give_way_to_one_that_needs_the_room(
    engine: LlamaCppEngine, base: ServedModel
) -> None:
    address = engine.ensure(base)
    for slot in (0, 1, 0):
        answer = chat(address, prompt=f"{slot} and the sea " * 70, id_slot=slot, cache_prompt=False, max_tokens=8)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["prompt_tokens"] > 600, "two of them are more than the context holds"


def test_each_batch_of_a_prompt_is_told_of_to_the_caller(engine: LlamaCppEngine, base: ServedModel) -> None:
    """By that the server notices a caller who has gone, and the caller a server that is stuck."""
    asked = request(engine.ensure(base), prompt="and the sea " * 60, stream=True, max_tokens=1)
    with httpx2.stream("POST", **asked, timeout=60) as reply:
        told = [line for line in reply.iter_lines() if "prompt_progress" in line]
    assert len(told) >= 4


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
