"""Engines that rest: without calls for a while, or the least recently used while memory is short."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import engine_asks
import small_models
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.states import LoadState
from luthier.engines.native.native_engine import NativeEngine
from luthier.engines.rest_policy import RestPolicy
from native_calls import processes
from waiting import until


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[ServedModel]:
    folder = tmp_path_factory.mktemp("models")
    bases = [small_models.make_base(folder / name, "llama") for name in ("one", "two")]
    tuned = small_models.make_adapter(folder / "tuned", bases[0], 1)
    return [ServedModel(base.name, base.name, base, None) for base in bases] + [
        ServedModel("one.ft-1", "one", bases[0], tuned)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "engines"


def opened(folder: Path, rest: RestPolicy) -> NativeEngine:
    return NativeEngine(folder, context_tokens=512, sequences=2, threads=1, retire_grace_s=0.1, rest=rest)


@pytest.fixture
def idle_engine(folder: Path) -> Iterator[NativeEngine]:
    engine = opened(folder, RestPolicy(idle_s=1.0))
    yield engine
    engine.close()


@pytest.fixture
def small_engine(folder: Path) -> Iterator[NativeEngine]:
    """One whose limit any two processes are above."""
    engine = opened(folder, RestPolicy(memory_bytes=1))
    yield engine
    engine.close()


def said(address: Address) -> list[int]:
    return [entry["id"] for entry in engine_asks.answer_entries(address, "Hello", max_tokens=4, temperature=0)]


def test_engine_without_calls_rests_and_the_next_call_brings_all_its_models_back(
    idle_engine: NativeEngine, models: list[ServedModel], folder: Path
) -> None:
    base, _, tuned = models
    assert idle_engine.state(base).state is LoadState.RESTING
    before = [said(idle_engine.ensure(model)) for model in (base, tuned)]
    assert [idle_engine.state(model).state for model in (base, tuned)] == [LoadState.READY] * 2
    until(lambda: not processes(folder), 30)
    assert "it was idle" in idle_engine.state(tuned).reason
    assert idle_engine.loaded(tuned) is None
    assert idle_engine.faults() == [], "to rest is no fault"
    idle_engine.ensure(base)
    address = idle_engine.loaded(tuned)
    assert address is not None, "what was wanted is there again"
    assert [said(idle_engine.ensure(base)), said(address)] == before


def test_least_recently_used_engine_rests_first_and_one_always_stays(
    small_engine: NativeEngine, models: list[ServedModel], folder: Path
) -> None:
    one, two, _ = models
    small_engine.ensure(one)
    small_engine.ensure(two)
    until(lambda: len(processes(folder)) == 1, 30)
    assert small_engine.loaded(one) is None
    assert small_engine.loaded(two) is not None
    small_engine.rest_unused()
    assert len(processes(folder)) == 1
