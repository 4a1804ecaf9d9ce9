"""The process of our own engine: adapters that come and go while it answers, its death and its end."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import small_models
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import Unavailable
from luthier.engines.native.client import NativeClient
from luthier.engines.native.native_engine import NativeEngine
from native_calls import Answer, ask, begin, generate, processes, with_client
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
    engine = NativeEngine(folder, context_tokens=4096, sequences=4, threads=1, retire_grace_s=0.05)
    yield engine
    engine.close()


def test_adapter_is_loaded_into_the_process_while_it_answers(
    engine: NativeEngine, base: ServedModel, tuned: list[ServedModel], folder: Path
) -> None:
    async def main(client: NativeClient) -> tuple[Answer, Answer]:
        long, rest = await begin(client, engine.ensure(base), PROMPT, max_tokens=900, logit_bias=PRINTABLE)
        loaded = await asyncio.to_thread(engine.ensure, tuned[0])
        other = await generate(client, loaded, PROMPT, logit_bias=PRINTABLE)
        await rest
        return long, other

    long, other = with_client(main)
    assert len(processes(folder)) == 1
    assert long.usage is not None
    assert long.usage.completion_tokens == 900
    assert long.text == ask(engine.ensure(base), PROMPT, max_tokens=900, logit_bias=PRINTABLE).text
    assert not long.text.startswith(other.text)


def test_process_that_is_killed_ends_calls_with_unavailable_and_comes_again_with_all_adapters(
    engine: NativeEngine, base: ServedModel, tuned: list[ServedModel], folder: Path
) -> None:
    models = [base, *tuned[:2]]
    before = {model.id: ask(engine.ensure(model), PROMPT).text for model in models}
    (process,) = processes(folder)

    async def main(client: NativeClient) -> list[str]:
        fields = {"max_tokens": 980, "logit_bias": PRINTABLE}
        calls = [await begin(client, engine.ensure(model), PROMPT, **fields) for model in models]
        process.kill()
        refusals = await asyncio.gather(*(rest for _, rest in calls), return_exceptions=True)
        return [refusal.code for refusal in refusals if isinstance(refusal, Unavailable)]

    assert with_client(main) == ["engine_gone"] * 3
    process.wait(10)
    until(lambda: all(engine.loaded(model) is not None for model in models), within_s=30)
    assert len(processes(folder)) == 1
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
    address = engine.ensure(tuned[0])

    async def main(client: NativeClient) -> Answer:
        answer, rest = await begin(client, address, PROMPT, max_tokens=980, logit_bias=PRINTABLE)
        engine.release(tuned[0].id)
        await rest
        return answer

    answer = with_client(main)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 980
    until(lambda: refused(address) == "model_not_loaded")
    assert engine.loaded(tuned[0]) is None
    assert ask(engine.ensure(base), PROMPT).usage is not None
    again = ask(engine.ensure(tuned[0]), PROMPT, max_tokens=40, logit_bias=PRINTABLE)
    assert answer.text.startswith(again.text)


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
    until(lambda: list(folder.glob("[!.]*")) == [])


def test_adapter_that_cannot_be_applied_is_refused_and_the_others_go_on(
    engine: NativeEngine, tuned: list[ServedModel], tmp_path: Path
) -> None:
    good = engine.ensure(tuned[0])
    small_models.lora_config(use_dora=True).save_pretrained(tmp_path / "dora")
    with pytest.raises(Unavailable, match="parts beyond LoRA matrices") as refusal:
        engine.ensure(ServedModel("broken", "base", tuned[0].base_folder, tmp_path / "dora"))
    assert refusal.value.code == "adapter_not_supported"
    with pytest.raises(Unavailable) as refusal:
        engine.ensure(ServedModel("absent", "base", tuned[0].base_folder, tmp_path / "absent"))
    assert str(tmp_path) not in refusal.value.message
    assert engine.ensure(tuned[0]) == good
    assert refused(good) == ""


def test_weights_that_are_torn_are_refused_and_the_log_says_why(
    engine: NativeEngine, base: ServedModel, folder: Path, tmp_path: Path
) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(base.base_folder, torn)
    weights = torn / "hf" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(Unavailable) as refusal:
        engine.ensure(ServedModel("torn", "torn", torn, None))
    assert refusal.value.code == "engine_failed"
    assert str(tmp_path) not in refusal.value.message
    assert processes(folder) == []
    (log,) = folder.glob("*/engine.log")
    assert "model not loaded" in log.read_text()


def test_close_ends_the_process_and_removes_its_folder(engine: NativeEngine, base: ServedModel, folder: Path) -> None:
    address = engine.ensure(base)
    engine.close()
    assert processes(folder) == []
    assert list(folder.glob("[!.]*")) == []
    with pytest.raises(Unavailable):
        engine.ensure(base)
    with pytest.raises(Unavailable):
        ask(address, PROMPT)


def test_process_ends_when_its_service_is_killed(base: ServedModel, folder: Path) -> None:
    program = f"""
import threading
from pathlib import Path
from luthier.core.engine_ports import ServedModel
from luthier.engines.native.native_engine import NativeEngine
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


def refused(address: Address) -> str:
    """The code of the refusal of a call, empty if it is answered."""
    try:
        ask(address, PROMPT)
    except Unavailable as error:
        return error.code
    return ""
