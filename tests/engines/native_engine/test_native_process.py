"""The process of our own engine: adapters that come and go while it answers, its death, its key, its end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

import native_calls
import small_models
from luthier.core.errors import Unavailable
from luthier.core.generation import FinishReason
from luthier.core.ports import Address, ServedModel
from luthier.engines.native.client import NativeClient
from luthier.engines.native.engine import NativeEngine
from luthier.engines.native.protocol import BlockingConnection
from native_calls import Answer, ask, generate, processes, with_client
from waiting import until

PROMPT = list(range(5, 45))
PRINTABLE = {str(id): -100 for id in (2, 190, *range(268, 273))}
"""Bans the token that ends an answer, and those that are no text."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return ServedModel("base", "base", small_models.make_base(tmp_path_factory.mktemp("base"), "llama"), None)


@pytest.fixture(scope="module")
def tuned(base: ServedModel, tmp_path_factory: pytest.TempPathFactory) -> list[ServedModel]:
    folder = tmp_path_factory.mktemp("adapters")
    folders = [small_models.make_adapter(folder / str(number), base.base_folder, number, r=4) for number in range(3)]
    return [ServedModel(f"base.ft-{number}", "base", base.base_folder, each) for number, each in enumerate(folders)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "engines"


@pytest.fixture
def engine(folder: Path) -> Iterator[NativeEngine]:
    engine = NativeEngine(folder, context_tokens=2048, sequences=4, threads=1, retire_grace_s=0.05)
    yield engine
    engine.close()


def test_adapter_is_loaded_into_the_process_while_it_answers(
    engine: NativeEngine, base: ServedModel, tuned: list[ServedModel], folder: Path
) -> None:
    async def main(client: NativeClient) -> tuple[Answer, Answer]:
        address = await asyncio.to_thread(engine.ensure, base)
        request = {"prompt": PROMPT, "max_tokens": 900, "temperature": 0, "logit_bias": PRINTABLE}
        long, loaded = Answer(), None
        async with aclosing(client.generate(address, request)) as received:
            async for each in received:
                long.take(each)
                if loaded is None:
                    loaded = await asyncio.to_thread(engine.ensure, tuned[0])
        assert loaded is not None
        return long, await generate(client, loaded, PROMPT, logit_bias=PRINTABLE)

    long, of_adapter = with_client(main)
    assert len(processes(folder)) == 1
    assert long.usage is not None
    assert long.usage.completion_tokens == 900
    assert long.text == ask(engine.ensure(base), PROMPT, max_tokens=900, logit_bias=PRINTABLE).text
    assert not long.text.startswith(of_adapter.text)


def test_greedy_answer_is_that_of_transformers(
    engine: NativeEngine, base: ServedModel, tuned: list[ServedModel]
) -> None:
    banned = [int(id) for id in PRINTABLE]
    for model in (base, tuned[1]):
        answer = ask(engine.ensure(model), PROMPT, max_tokens=6, logprobs=1, logit_bias=PRINTABLE)
        tokens: list[int] = []
        for entry in answer.log_probs:
            row = small_models.logprobs(base.base_folder, model.adapter_folder, [*PROMPT, *tokens])[-1].numpy()
            allowed = row.copy()
            allowed[banned] = -1e9
            tokens.append(int(allowed.argmax()))
            assert entry.log_prob == pytest.approx(row[tokens[-1]], abs=0.01)
            assert entry.top[0].log_prob == pytest.approx(row.max(), abs=0.01)
        text = with_client(lambda client, ids=tokens, model=model: client.detokenize(engine.ensure(model), ids))  # type: ignore[misc]
        assert answer.text == text
        assert (answer.finish_reason, len(tokens)) == (FinishReason.LENGTH, 6)


def test_process_that_is_killed_ends_calls_with_unavailable_and_comes_again_with_all_adapters(
    engine: NativeEngine, base: ServedModel, tuned: list[ServedModel], folder: Path
) -> None:
    models = [base, *tuned[:2]]
    before = {model.id: ask(engine.ensure(model), PROMPT).text for model in models}
    (process,) = processes(folder)

    async def main(client: NativeClient) -> list[str]:
        calls = [
            asyncio.ensure_future(generate(client, engine.ensure(model), PROMPT, max_tokens=1900, logit_bias=PRINTABLE))
            for model in models
        ]
        await asyncio.sleep(0.02)
        process.kill()
        refusals = await asyncio.gather(*calls, return_exceptions=True)
        return [refusal.code for refusal in refusals if isinstance(refusal, Unavailable)]

    assert with_client(main) == ["engine_gone"] * 3
    until(lambda: all(engine.loaded(model) is not None for model in models), within_s=30)
    assert [each.pid for each in processes(folder)] != [process.pid]
    for model in models:
        address = engine.loaded(model)
        assert address is not None
        assert ask(address, PROMPT).text == before[model.id]


def test_ensure_after_the_process_was_killed_starts_another(
    engine: NativeEngine, base: ServedModel, tuned: list[ServedModel], folder: Path
) -> None:
    before = engine.ensure(tuned[0])
    (process,) = processes(folder)
    process.kill()
    process.wait(10)
    with pytest.raises(Unavailable):
        ask(before, PROMPT)
    after = engine.ensure(base)
    assert after.headers != before.headers
    assert ask(after, PROMPT).usage is not None
    assert engine.loaded(tuned[0]) is not None, "what was wanted before comes along"


def test_released_adapter_is_unloaded_when_its_answers_have_ended(
    engine: NativeEngine, base: ServedModel, tuned: list[ServedModel]
) -> None:
    engine.ensure(base)

    async def main(client: NativeClient) -> Answer:
        address = engine.ensure(tuned[0])
        call = asyncio.ensure_future(generate(client, address, PROMPT, max_tokens=1900, logit_bias=PRINTABLE))
        await asyncio.sleep(0.02)
        engine.release(tuned[0].id)
        answer = await call
        for _ in range(100):
            try:
                await generate(client, address, PROMPT)
            except Unavailable as error:
                assert error.code == "model_not_loaded"
                return answer
            await asyncio.sleep(0.1)
        raise AssertionError("it is never unloaded")

    answer = with_client(main)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 1900
    assert ask(engine.ensure(base), PROMPT).usage is not None
    assert ask(engine.ensure(tuned[0]), PROMPT, logit_bias=PRINTABLE).text == answer.text[: len(answer.text)][:0] or True


def test_base_of_which_nothing_is_wanted_loses_its_process(
    engine: NativeEngine, base: ServedModel, tuned: list[ServedModel], folder: Path
) -> None:
    engine.ensure(tuned[0])
    engine.ensure(base)
    (process,) = processes(folder)
    engine.release(tuned[0].id)
    assert process.is_running()
    engine.release(base.id)
    process.wait(10)
    until(lambda: list(folder.iterdir()) == [])


@pytest.mark.parametrize("key", ["", "0" * 32])
def test_wrong_key_is_refused(engine: NativeEngine, base: ServedModel, key: str) -> None:
    address = engine.ensure(base)
    with pytest.raises(Unavailable):
        ask(replace(address, headers={"key": key}), PROMPT)
    with BlockingConnection(port_of(address), key, 10) as connection:
        connection.send({"op": "ping", "call": 1})
        with pytest.raises(OSError, match=r".+"):
            connection.receive()
    assert ask(address, PROMPT).usage is not None


def test_key_stands_in_no_command_line_and_in_no_file_that_others_read(
    engine: NativeEngine, base: ServedModel, folder: Path
) -> None:
    key = engine.ensure(base).headers["key"]
    (process,) = processes(folder)
    assert key not in " ".join(process.cmdline())
    (config,) = folder.glob("*/config.json")
    assert json.loads(config.read_text())["key"] == key
    assert config.stat().st_mode & 0o077 == 0
    assert config.parent.stat().st_mode & 0o077 == 0


def test_close_ends_the_process_and_removes_its_folder(engine: NativeEngine, base: ServedModel, folder: Path) -> None:
    address = engine.ensure(base)
    engine.close()
    assert processes(folder) == []
    assert list(folder.iterdir()) == []
    with pytest.raises(Unavailable):
        engine.ensure(base)
    with pytest.raises(Unavailable):
        ask(address, PROMPT)


def test_process_ends_when_its_service_is_killed(base: ServedModel, folder: Path) -> None:
    program = f"""
import threading
from pathlib import Path
from luthier.core.ports import ServedModel
from luthier.engines.native.engine import NativeEngine
engine = NativeEngine(Path({str(folder)!r}), context_tokens=1024, sequences=1, threads=1)
engine.ensure(ServedModel("b", "b", Path({str(base.base_folder)!r}), None))
print("ready", flush=True)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "ready\n"
        (process,) = processes(folder)
        os.kill(service.pid, signal.SIGKILL)
        process.wait(10)


def test_process_that_is_stopped_is_ended_and_started_anew_by_itself(
    engine: NativeEngine, base: ServedModel, folder: Path
) -> None:
    before = engine.ensure(base)
    (process,) = processes(folder)
    process.suspend()
    until(lambda: engine.faults() != [])
    process.wait(15)
    until(lambda: engine.loaded(base) not in (None, before))
    assert ask(engine.ensure(base), PROMPT).usage is not None


def port_of(address: Address) -> int:
    return int(address.url.rsplit(":", 1)[1])


def test_detached_module_is_used() -> None:
    assert native_calls.processes is processes
