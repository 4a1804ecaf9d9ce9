"""Which of a server's models is ours: bases by name, adapters that it lists, loads, forgets, and lost."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import fake_completions
from fake_completions import FakeServer
from luthier.core.engine_ports import ServedModel
from luthier.core.errors import Unavailable
from luthier.core.states import LoadState
from luthier.engines.remote.remote_engine import LOOK_AGAIN_S, RemoteEngine
from waiting import until

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_completions.serving(lambda body: (500, {})) as made:
        yield made


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(server: FakeServer, clock: Clock) -> RemoteEngine:
    return RemoteEngine(server.url, "key", 2048, 4, clock)


@pytest.fixture
def base(tmp_path: Path) -> ServedModel:
    return ServedModel("base", "base", tmp_path / "base", None)


def tuned(folder: Path, id: str, weights: bytes) -> ServedModel:
    adapter = folder / id
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(weights)
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 8}))
    return ServedModel(id, "base", folder / "base", adapter)


def served_name(engine: RemoteEngine, model: ServedModel) -> str:
    return str(engine.ensure(model).fields["served_name"])


def test_only_base_of_a_server_is_ours_whatever_its_name(
    engine: RemoteEngine, server: FakeServer, base: ServedModel
) -> None:
    server.models = [{"id": "/models/base", "owned_by": "vllm"}, {"id": "ft", "parent": "/models/base"}]
    fields = engine.ensure(base).fields
    assert (fields["served_name"], fields["base_name"], fields["is_vllm"]) == ("/models/base", "/models/base", True)
    assert server.keys == {"Bearer key"}


def test_base_among_several_is_found_by_its_name_alone(
    engine: RemoteEngine, server: FakeServer, base: ServedModel
) -> None:
    server.models = [{"id": "other"}, {"id": "third"}]
    with pytest.raises(Unavailable, match="lists no model base"):
        engine.ensure(base)
    assert engine.faults() != []
    server.models.append({"id": "base", "owned_by": "somebody"})
    assert served_name(engine, base) == "base"
    assert engine.faults() == []


def test_adapter_that_the_server_lists_under_our_name_is_not_loaded(
    engine: RemoteEngine, server: FakeServer, tmp_path: Path
) -> None:
    model = tuned(tmp_path, "base.ft-1", b"a")
    server.models.append({"id": "base.ft-1", "parent": "base"})
    assert served_name(engine, model) == "base.ft-1"
    engine.release(model.id)
    assert server.bodies(LOAD) == server.bodies(UNLOAD) == []


def test_adapter_is_loaded_from_its_folder_and_unloaded_with_its_last_model(
    engine: RemoteEngine, server: FakeServer, tmp_path: Path
) -> None:
    first, copy, other = (tuned(tmp_path, id, weights) for id, weights in (("1", b"a"), ("2", b"a"), ("3", b"b")))
    name = served_name(engine, first)
    assert server.bodies(LOAD) == [{"lora_name": name, "lora_path": str(first.adapter_folder)}]
    server.loads = (400, {"message": f"The lora adapter '{name}' has already been loaded."})
    assert served_name(engine, copy) == name
    server.loads = (200, {})
    assert served_name(engine, other) != name
    engine.release(first.id)
    assert server.bodies(UNLOAD) == []
    engine.release(copy.id)
    engine.close()
    unloaded = [body["lora_name"] for body in server.bodies(UNLOAD)]
    assert (unloaded[0], len(unloaded)) == (name, 2)


def test_adapter_that_the_server_refuses_is_unavailable_without_its_words(
    engine: RemoteEngine, server: FakeServer, tmp_path: Path
) -> None:
    server.loads = (400, {"message": "LoRA rank 32 is greater than max_lora_rank 16 /secret"})
    with pytest.raises(Unavailable, match="must serve the adapter's rank") as refusal:
        engine.ensure(tuned(tmp_path, "1", b"a"))
    assert refusal.value.code == "adapter_not_loaded"
    assert "secret" not in refusal.value.message


def test_adapter_without_files_is_unavailable_and_names_no_folder(
    engine: RemoteEngine, base: ServedModel, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match="cannot be read") as refusal:
        engine.ensure(ServedModel("1", "base", base.base_folder, tmp_path / "absent"))
    assert str(tmp_path) not in refusal.value.message


def test_server_that_lost_its_adapters_gets_them_again_after_a_minute(
    engine: RemoteEngine, server: FakeServer, clock: Clock, tmp_path: Path
) -> None:
    model = tuned(tmp_path, "1", b"a")
    address = engine.ensure(model)
    clock.now += LOOK_AGAIN_S - 1
    assert engine.loaded(model) == engine.ensure(model) == address
    assert len(server.bodies(LOAD)) == 1
    clock.now += 1
    assert [engine.loaded(model) for _ in range(3)] == [address] * 3, "nobody waits for the look"
    until(lambda: len(server.bodies(LOAD)) == 2)
    assert engine.ensure(model) == engine.loaded(model) == address


def test_model_that_the_server_has_no_more_is_a_fault_after_a_minute(
    engine: RemoteEngine, server: FakeServer, clock: Clock, base: ServedModel
) -> None:
    engine.ensure(base)
    clock.now += LOOK_AGAIN_S
    server.models = []
    engine.loaded(base)
    until(lambda: engine.loaded(base) is None)
    assert engine.state(base).state is LoadState.RESTING
    (fault,) = engine.faults()
    with pytest.raises(Unavailable, match="lists no model base") as refusal:
        engine.ensure(base)
    assert refusal.value.message == fault
