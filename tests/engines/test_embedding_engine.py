"""Embedding models in llama.cpp: vectors as transformers computes them, their check, death, rest, other sources."""

import array
import asyncio
import json
import math
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx2
import psutil
import pytest
import safetensors.numpy
from tokenizers import Tokenizer

import small_encoders
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import Unavailable, UpstreamFailed
from luthier.core.states import LoadState
from luthier.engines.embeddings.embedding_client import HttpEmbeddingClient
from luthier.engines.embeddings.embedding_engine import EmbeddingEngine
from luthier.engines.gguf import embedding_export, gguf_encoder
from luthier.engines.parity import check_parity
from luthier.engines.rest_policy import RestPolicy
from luthier.model_folder import EmbeddingFolder
from luthier.tokenization.embedding_tokenizer import EmbeddingTokenizer
from waiting import until
from wordpiece import HARD_TEXTS

NEAR = 0.01


@pytest.fixture(scope="module", params=["mean", "cls"])
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    done = small_encoders.prepare(small_encoders.make_source(folder / "source", request.param), folder / "base")
    assert done.returncode == 0, done.stderr
    embedding_export.export_encoder(folder / "base")
    return folder / "base"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    done = small_encoders.prepare(small_encoders.make_source(folder / "source"), folder / "base")
    assert done.returncode == 0, done.stderr
    embedding_export.export_encoder(folder / "base")
    return folder / "base"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddingEngine]:
    engine = EmbeddingEngine(tmp_path / "engines", threads=1, retire_grace_s=0.05)
    yield engine
    engine.close()


def served(folder: Path) -> ServedModel:
    return ServedModel("small", "small", folder, None, embeds=True)


def embed(address: Address, inputs: Sequence[Sequence[int]]) -> list[bytes]:
    async def ask() -> list[bytes]:
        client = HttpEmbeddingClient()
        try:
            return await client.embed(address, inputs)
        finally:
            await client.close()

    return asyncio.run(ask())


def test_vectors_and_tokens_are_those_of_transformers_and_the_models_own_tokenizer(
    engine: EmbeddingEngine, prepared: Path
) -> None:
    own = EmbeddingTokenizer(prepared).token_ids(HARD_TEXTS)
    reference = Tokenizer.from_file(str(prepared / "hf" / "tokenizer.json"))
    reference.no_truncation()
    reference.no_padding()
    assert own == [found.ids for found in reference.encode_batch(list(HARD_TEXTS))]
    found = embed(engine.ensure(served(prepared)), own)
    expected = small_encoders.vectors(prepared / "hf", own, EmbeddingFolder(prepared).read().pooling)
    assert [math.dist(array.array("f", one), two) < NEAR for one, two in zip(found, expected, strict=True)] == [
        True
    ] * len(own)


def test_many_texts_at_once_have_the_vectors_that_each_has_alone(engine: EmbeddingEngine, base: Path) -> None:
    address = engine.ensure(served(base))
    inputs = [[3, 6 + number % 40, *range(7, 7 + number), 4] for number in range(60)]
    together = [array.array("f", one) for one in embed(address, inputs)]
    alone = [array.array("f", embed(address, [ids])[0]) for ids in inputs]
    assert max(map(math.dist, together, alone)) < 1e-3


def test_stored_model_is_proven_and_a_changed_one_is_not(engine: EmbeddingEngine, base: Path, tmp_path: Path) -> None:
    report = check_parity(engine.ensure(served(base)), base)
    assert report.agrees, report.reason
    assert report.positions >= 10
    assert 0 < report.max_difference <= report.tolerance
    changed = shutil.copytree(base, tmp_path / "changed")
    weights = safetensors.numpy.load_file(changed / "hf" / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"] = weights["encoder.layer.1.output.dense.weight"] * 1.1
    safetensors.numpy.save_file(weights, changed / "hf" / "model.safetensors")
    (changed / "base-f16.gguf").unlink()  # the process exports it anew
    report = check_parity(engine.ensure(replace(served(changed), id="changed")), changed)
    assert not report.agrees
    assert report.max_difference > report.tolerance


def test_other_pooling_is_not_proven(engine: EmbeddingEngine, base: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(base, tmp_path / "changed")
    description = EmbeddingFolder(changed).read()
    EmbeddingFolder(changed).description.write_bytes(replace(description, pooling="cls").to_json())
    embedding_export.export_encoder(changed)
    assert not check_parity(engine.ensure(served(changed)), changed).agrees


def test_other_tokenizer_is_not_proven(engine: EmbeddingEngine, base: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(base, tmp_path / "changed")
    path = changed / "hf" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(content))
    report = check_parity(engine.ensure(served(changed)), changed)
    assert not report.agrees
    assert "other tokens" in report.reason


def test_model_without_probes_is_not_proven(engine: EmbeddingEngine, base: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(base, tmp_path / "bare")
    (bare / "probes.json").unlink()
    assert not check_parity(engine.ensure(served(bare)), bare).agrees


def test_next_call_after_kill_9_is_answered(engine: EmbeddingEngine, base: Path) -> None:
    model = served(base)
    address = engine.ensure(model)
    before = embed(address, [[3, 6, 4]])
    (process,) = processes()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    with pytest.raises(Unavailable):
        embed(address, [[3, 6, 4]])
    assert embed(engine.ensure(model), [[3, 6, 4]]) == before


def test_killed_process_is_started_anew_without_a_call(engine: EmbeddingEngine, base: Path) -> None:
    model = served(base)
    engine.ensure(model)
    (process,) = processes()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    until(lambda: engine.loaded(model) is not None, 60)


def test_process_rests_when_idle_and_the_next_call_starts_it(tmp_path: Path, base: Path) -> None:
    engine = EmbeddingEngine(tmp_path / "engines", threads=1, retire_grace_s=0.05, rest=RestPolicy(idle_s=0.2))
    try:
        model = served(base)
        engine.ensure(model)
        until(lambda: engine.state(model).state is LoadState.RESTING and not processes(), 30)
        assert len(embed(engine.ensure(model), [[3, 6, 4]])) == 1
    finally:
        engine.close()


def test_release_ends_the_process(engine: EmbeddingEngine, base: Path) -> None:
    engine.ensure(served(base))
    (process,) = processes()
    engine.release("small")
    process.wait(10)


def test_server_answers_only_who_bears_its_key(engine: EmbeddingEngine, base: Path) -> None:
    address = engine.ensure(served(base))
    with pytest.raises(Unavailable):
        embed(replace(address, headers={}), [[3, 6, 4]])
    with pytest.raises(UpstreamFailed):
        embed(address, [[10**6]])
    assert httpx2.get(f"{address.url.removesuffix('/v1')}/slots", timeout=10).status_code == 401


def test_folder_that_is_not_whole_is_refused_with_the_command(engine: EmbeddingEngine, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="luthier models pull small"):
        engine.ensure(served(tmp_path))


def test_gguf_file_as_a_source_gives_the_same_model(engine: EmbeddingEngine, base: Path, tmp_path: Path) -> None:
    gguf_encoder.write_folder(base / "base-f16.gguf", tmp_path / "source")
    done = small_encoders.prepare(tmp_path / "source", tmp_path / "again", "--max-tokens", "96")
    assert done.returncode == 0, done.stderr
    assert EmbeddingFolder(tmp_path / "again").read() == EmbeddingFolder(base).read()
    ids = EmbeddingTokenizer(base).token_ids(HARD_TEXTS)
    assert EmbeddingTokenizer(tmp_path / "again").token_ids(HARD_TEXTS) == ids
    first = embed(engine.ensure(served(base)), ids)
    embedding_export.export_encoder(tmp_path / "again")
    second = embed(engine.ensure(replace(served(tmp_path / "again"), id="again")), ids)
    assert max(map(math.dist, map(_floats, first), map(_floats, second))) < NEAR


def _floats(vector: bytes) -> "array.array[float]":
    return array.array("f", vector)


def processes() -> list[psutil.Process]:
    """The children of this process that serve embeddings."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and any("embedding_server" in part for part in child.cmdline())
    ]
