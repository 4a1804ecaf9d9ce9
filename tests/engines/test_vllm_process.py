"""The processes behind the engine "vllm", with a program of a few lines in vLLM's place: start, adapters, every end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import fake_vllm
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import Unavailable
from luthier.core.states import LoadState
from luthier.engines import rest_policy
from luthier.engines.remote.completions_server import CompletionsServer
from luthier.engines.vllm.vllm_engine import VllmEngine
from native_calls import processes
from vllm_running import until_ended
from waiting import until

Make = Callable[..., VllmEngine]


@pytest.fixture
def base(tmp_path: Path) -> ServedModel:
    (tmp_path / "base" / "hf").mkdir(parents=True)
    (tmp_path / "base" / "hf" / "model.safetensors").write_bytes(b"weights")
    return ServedModel("small", "small", tmp_path / "base", None)


@pytest.fixture
def tuned(base: ServedModel, tmp_path: Path) -> list[ServedModel]:
    """Two models of the same weights, and one of others."""
    models = []
    for name, weights in (("one", b"a"), ("copy", b"a"), ("other", b"b")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(weights)
        (folder / "adapter_config.json").write_text(json.dumps({"r": 8}))
        models.append(ServedModel(name, "small", base.base_folder, folder))
    return models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "engines"


@pytest.fixture
def make(folder: Path, tmp_path: Path) -> Iterator[Make]:
    made: list[VllmEngine] = []

    def open_engine(own: str = "", **settings: Any) -> VllmEngine:
        program = write_program(tmp_path, own)
        made.append(VllmEngine(folder, program=program, retire_grace_s=0.05, **settings))
        return made[-1]

    yield open_engine
    for engine in made:
        engine.close()


def write_program(folder: Path, own: str = "") -> str:
    """The fake with options of its own before those that vLLM is given."""
    program = folder / "vllm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {fake_vllm.__file__} {own} "$@"\n')
    program.chmod(0o755)
    return str(program)


def family(folder: Path) -> list[psutil.Process]:
    """Our child, what it started, and what that started: vLLM, its worker, and the guard."""
    (child,) = [process for process in processes(folder) if process.ppid() == os.getpid()]
    until(lambda: len(child.children(recursive=True)) == 3)
    return [child, *child.children(recursive=True)]


def adapters(address: Address) -> set[object]:
    """What vLLM has beside its base."""
    return {model["id"] for model in CompletionsServer(address.url.removeprefix("remote:"), "").models()}


def told(base: ServedModel) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((base.base_folder / "told.json").read_text())
    return content


def test_vllm_is_given_its_model_a_key_and_no_secret_of_ours(
    make: Make, base: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("VLLM_API_KEY", "not-this-one")
    address = make(options="--dtype float32 --max-loras '2'", context_tokens=2048, slots=3).ensure(base)
    arguments, environment = told(base)["arguments"], told(base)["environment"]
    assert arguments[:2] == ["serve", str(base.base_folder / "hf")]
    assert arguments[arguments.index("--served-model-name") + 1] == "small"
    assert arguments[arguments.index("--max-model-len") + 1] == "2048"
    last = len(arguments) - arguments[::-1].index("--max-loras")
    assert arguments[last] == "2", "the operator's options come after ours"
    assert "sk-secret" not in environment.values()
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert address.headers["Authorization"] == f"Bearer {environment['VLLM_API_KEY']}" != "Bearer not-this-one"
    assert environment["VLLM_API_KEY"] not in arguments, "everybody on the machine can read a command line"
    assert address.fields["dtype"] == "float32"
    assert address.capacity is not None
    assert (address.capacity.slots, address.capacity.window_tokens) == (3, 2048)


def test_adapters_are_loaded_under_the_name_of_their_weights(
    make: Make, base: ServedModel, tuned: list[ServedModel], folder: Path
) -> None:
    engine = make()
    addresses = [engine.ensure(model) for model in (base, *tuned)]
    names = [str(address.fields["served_name"]) for address in addresses]
    assert names[0] == "small"
    assert names[1] == names[2] != names[3]
    assert all(name.startswith("adapter-") for name in names[1:])
    assert len({address.url for address in addresses}) == 1
    assert len(family(folder)) == 4
    assert adapters(addresses[0]) == {names[1], names[3]}
    engine.release(tuned[0].id)
    engine.release(tuned[2].id)
    until(lambda: adapters(addresses[0]) == {names[1]})
    assert engine.loaded(tuned[1]) == addresses[2], "a model of the same weights keeps them"
    engine.release(tuned[1].id)
    until(lambda: adapters(addresses[0]) == set())


@pytest.mark.parametrize("place", [0, 1], ids=["our child", "vLLM alone"])
def test_whichever_process_is_killed_all_go_and_others_come(
    place: int, make: Make, base: ServedModel, tuned: list[ServedModel], folder: Path
) -> None:
    engine = make()
    engine.ensure(base)
    before = engine.ensure(tuned[0])
    members = family(folder)
    victim = members[0] if place == 0 else next(each for each in members if "serve" in each.cmdline())
    victim.kill()
    until_ended(members)
    until(lambda: engine.loaded(tuned[0]) not in (None, before))
    assert engine.loaded(base) is not None
    assert not {each.pid for each in family(folder)} & {each.pid for each in members}


def test_processes_end_when_their_service_is_killed(base: ServedModel, folder: Path, tmp_path: Path) -> None:
    program = f"""
import threading
from pathlib import Path
from luthier.core.engine_ports import ServedModel
from luthier.engines.vllm.vllm_engine import VllmEngine
engine = VllmEngine(Path({str(folder)!r}), program={write_program(tmp_path)!r})
engine.ensure(ServedModel("small", "small", Path({str(base.base_folder)!r}), None))
print("ready", flush=True)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "ready\n"
        members = psutil.Process(service.pid).children(recursive=True)
        assert len(members) == 4
        os.kill(service.pid, signal.SIGKILL)
        until_ended(members)


@pytest.mark.parametrize(("own", "within_s"), [("", 3.0), ("--slow-to-end", 15.0)])
def test_close_ends_all_of_them(own: str, within_s: float, make: Make, base: ServedModel, folder: Path) -> None:
    engine = make(own)
    engine.ensure(base)
    members = family(folder)
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < within_s
    until_ended(members)
    assert list(folder.glob("[!.]*")) == []
    with pytest.raises(Unavailable):
        engine.ensure(base)


def test_vllm_that_is_not_there_is_said_to_the_operator(folder: Path, base: ServedModel, tmp_path: Path) -> None:
    engine = VllmEngine(folder, program=str(tmp_path / "absent"))
    with pytest.raises(Unavailable, match="Is LUTHIER_VLLM right") as refusal:
        engine.ensure(base)
    assert str(tmp_path) not in refusal.value.message
    engine.close()


def test_vllm_that_ends_while_it_loads_is_a_failed_start_with_a_log(
    make: Make, base: ServedModel, folder: Path
) -> None:
    engine = make("--fails")
    with pytest.raises(Unavailable, match=r"ended while loading .status 3") as refusal:
        engine.ensure(base)
    assert refusal.value.code == "engine_failed"
    assert processes(folder) == []
    assert len(list(folder.glob("*/engine.log"))) == 1
    assert engine.state(base).state is LoadState.RESTING


def test_model_without_weights_is_to_be_pulled(make: Make, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="luthier models pull absent-model"):
        make().ensure(ServedModel("absent", "absent-model", tmp_path / "absent", None))


def test_memory_is_that_of_all_processes_behind_ours(make: Make, base: ServedModel, folder: Path) -> None:
    make().ensure(base)
    members = family(folder)
    alone = members[0].memory_info().rss
    assert rest_policy.memory_bytes(members[0].pid) > alone + sum(each.memory_info().rss for each in members[1:]) / 2
