"""The contract of core.engine_ports.Engine, over every implementation."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

import engine_asks
import small_models
from luthier.core.engine_ports import Address, Engine, ServedModel
from luthier.core.errors import Unavailable
from luthier.engines.gguf import export
from luthier.engines.llamacpp.engine import LlamaCppEngine
from luthier.engines.native.native_engine import NativeEngine


@dataclass(frozen=True)
class Models:
    """A base and two adapters on it, whose answers differ."""

    base: ServedModel
    first: ServedModel
    second: ServedModel


def llamacpp(folder: Path) -> Engine:
    return LlamaCppEngine(folder, context_tokens=2048, slots=2, threads=1, retire_grace_s=0.1)


def native(folder: Path) -> Engine:
    return NativeEngine(folder, context_tokens=2048, sequences=2, threads=1, retire_grace_s=0.1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    base = small_models.make_base(folder / "base", "llama")
    export.export_base(base)
    first, second = (small_models.make_adapter(folder / f"adapter{seed}", base, seed) for seed in (1, 2))
    return Models(
        ServedModel("base", "base", base, None),
        ServedModel("base.ft-1", "base", base, first),
        ServedModel("base.ft-2", "base", base, second),
    )


@pytest.fixture(params=[llamacpp, native])
def make(request: pytest.FixtureRequest) -> Callable[[Path], Engine]:
    open_engine: Callable[[Path], Engine] = request.param
    return open_engine


@pytest.fixture
def engine(make: Callable[[Path], Engine], tmp_path: Path) -> Iterator[Engine]:
    engine = make(tmp_path)
    yield engine
    engine.close()


def test_ensure_gives_an_address_that_answers_chats(engine: Engine, models: Models) -> None:
    assert len(answer(engine.ensure(models.base))) == 8


def test_ensure_of_a_loaded_model_gives_the_same_address(engine: Engine, models: Models) -> None:
    assert engine.ensure(models.first) == engine.ensure(models.first)


def test_each_model_answers_as_itself_whatever_was_asked_before(engine: Engine, models: Models) -> None:
    """Interleaved requests over one prompt: neither adapters nor cached prompts may leak from one to another."""
    alone = {}
    for model in (models.base, models.first, models.second):
        engine.ensure(model)
    for model in (models.base, models.first, models.second):
        alone[model.id] = answer(engine.ensure(model), cache_prompt=False)
    assert len(set(map(tuple, alone.values()))) == 3
    order = [models.base, models.first, models.base, models.second, models.first, models.first, models.second] * 2
    for step, model in enumerate(order):
        address = engine.ensure(model)
        assert answer(address) == alone[model.id], step
        answer(address, prompt=f"Something else entirely, number {step}. " * 9)
        answer(engine.ensure(models.base), prompt="And a question to the base. " * (step + 1))


def test_a_model_answers_as_before_when_another_is_added(engine: Engine, models: Models) -> None:
    before = answer(engine.ensure(models.first))
    engine.ensure(models.second)
    assert answer(engine.ensure(models.first)) == before


def test_ensure_from_many_threads_serves_all(engine: Engine, models: Models) -> None:
    def ask(model: ServedModel) -> tuple[int, ...]:
        engine.ensure(model)
        return tuple(answer(engine.ensure(model)))

    asked = [models.base, models.first, models.second] * 3
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(ask, asked))
    assert answers == answers[:3] * 3
    assert len(set(answers)) == 3


def test_release_of_an_unknown_model_is_no_error(engine: Engine) -> None:
    engine.release("nobody")


def test_a_released_model_can_be_loaded_again_and_the_others_stay(engine: Engine, models: Models) -> None:
    first = answer(engine.ensure(models.first))
    engine.ensure(models.second)
    engine.release(models.first.id)
    engine.release(models.first.id)
    second = answer(engine.ensure(models.second))
    assert second != first
    assert answer(engine.ensure(models.first)) == first


def test_ensure_of_a_model_without_files_says_what_to_do(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="luthier models pull absent-model"):
        engine.ensure(ServedModel("absent", "absent-model", tmp_path / "absent", None))


def test_ensure_after_close_is_refused_and_close_twice_is_no_error(engine: Engine, models: Models) -> None:
    address = engine.ensure(models.base)
    engine.close()
    engine.close()
    with pytest.raises((httpx2.TransportError, OSError)):
        answer(address)
    with pytest.raises(Unavailable):
        engine.ensure(models.base)


def test_same_seed_samples_the_same_answer_and_another_seed_another(engine: Engine, models: Models) -> None:
    address = engine.ensure(models.first)
    first, again, other = (answer(address, temperature=1.0, seed=seed) for seed in (5, 5, 6))
    assert first == again != other


def test_sampling_is_from_the_whole_distribution(engine: Engine, models: Models) -> None:
    """Hot enough, an answer now and then leaves the forty likeliest tokens, where llama.cpp would cut by itself."""
    address = engine.ensure(models.base)
    asked = {"max_tokens": 200, "temperature": 2.0, "top_p": 1.0, "seed": 1, "top_logprobs": 40}
    entries = engine_asks.answer_entries(address, "Go on.", **asked)
    assert any(entry["id"] not in {top["id"] for top in entry["top_logprobs"]} for entry in entries)


def answer(address: Address, prompt: str = "Tell me about the sea.", **fields: object) -> list[int]:
    """The first token ids of the greedy answer; small random models say nothing that is text."""
    asked = {"temperature": 0, "max_tokens": 8, **fields}
    # Tokens within a character have no entry of their own in llama.cpp: ask for letters only.
    return [entry["id"] for entry in engine_asks.answer_entries(address, prompt, letters_only=True, **asked)]
