"""A server of others as an engine: Luthier itself, with the embedded model, called over its own completions route."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

import small_models
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import InvalidRequest, Unavailable, UpstreamFailed
from luthier.core.inference.generation import MIN_LOG_PROB, FinishReason
from luthier.core.states import LoadState
from luthier.data.rendering.renderer import Renderer
from luthier.engines.parity import check_parity
from luthier.engines.remote.remote_client import RemoteClient
from luthier.engines.remote.remote_engine import RemoteEngine
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer
from native_calls import Answer, generate
from running import KEY, Running

pytestmark = pytest.mark.model

NAME = "smollm2-135m-instruct"
QUESTION = [{"role": "user", "content": "Name three rivers of Europe."}]
CONTEXT_TOKENS = 2048
END = "2"
"""The token that ends an answer, as a key of logit_bias."""


@pytest.fixture(scope="module")
def server(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with one slot: nobody is answered beside somebody else."""
    made = Running(tmp_path_factory.mktemp("server") / "data", base_folder.parent)
    made.environment |= {"LUTHIER_SERVE_SLOTS": "1", "LUTHIER_SERVE_CONTEXT_TOKENS": str(CONTEXT_TOKENS)}
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def base(base_folder: Path) -> ServedModel:
    return ServedModel(NAME, NAME, base_folder, None)


@pytest.fixture(scope="module")
def engine(server: Running) -> Iterator[RemoteEngine]:
    made = engine_of(f"{server.url}/v1", KEY)
    yield made
    made.close()


@pytest.fixture
def address(engine: RemoteEngine, base: ServedModel) -> Address:
    return engine.ensure(base)


@pytest.fixture(scope="module")
def tokenizer(base_folder: Path) -> TorchFreeTokenizer:
    return TorchFreeTokenizer(base_folder / "hf")


@pytest.fixture(scope="module")
def prompt(tokenizer: TorchFreeTokenizer) -> list[int]:
    renderer = Renderer(tokenizer, 1)
    return renderer.token_ids(renderer.text_of_turns(QUESTION, (), True))


def engine_of(url: str, key: str) -> RemoteEngine:
    return RemoteEngine(url, key, CONTEXT_TOKENS, slots=1)


def ask(address: Address, prompt: list[int], **fields: object) -> Answer:
    async def main() -> Answer:
        client = RemoteClient()
        try:
            return await generate(client, address, prompt, **fields)
        finally:
            await client.close()

    return asyncio.run(main())


def test_base_is_found_by_its_name_among_all_that_the_server_lists(engine: RemoteEngine, base: ServedModel) -> None:
    address = engine.ensure(base)
    assert address.fields["served_name"] == NAME
    assert not address.fields["is_vllm"]
    assert (engine.loaded(base), engine.faults()) == (address, [])
    assert engine.state(base).state is LoadState.READY


def test_probes_agree_with_the_trainers_over_the_route(address: Address, base_folder: Path) -> None:
    report = check_parity(address, base_folder)
    assert report.agrees, report.reason
    assert report.positions > 20
    assert report.max_difference < 0.05, "what answers computes in float32"


def test_greedy_answer_is_that_of_the_servers_chats(address: Address, server: Running, prompt: list[int]) -> None:
    answer = ask(address, prompt, max_tokens=24)
    body = {"model": NAME, "messages": QUESTION, "temperature": 0, "max_tokens": 24}
    headers = {"Authorization": f"Bearer {KEY}"}
    chat = httpx2.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=60).json()
    assert answer.text == chat["choices"][0]["message"]["content"]
    assert answer.finish_reason == chat["choices"][0]["finish_reason"] == FinishReason.LENGTH
    assert answer.usage is not None
    usage = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert usage == (chat["usage"]["prompt_tokens"], chat["usage"]["completion_tokens"]) == (len(prompt), 24)
    assert len(answer.pieces) > 12, "it came in pieces"


def test_log_probs_are_torchs_token_by_token(
    address: Address, prompt: list[int], tokenizer: TorchFreeTokenizer, base_folder: Path
) -> None:
    answer = ask(address, prompt, max_tokens=8, logprobs=20)
    tokens = tokenizer.token_ids(answer.text)
    log_probs = small_models.logprobs(base_folder, None, [*prompt, *tokens])[len(prompt) - 1 : -1]
    assert b"".join(bytes(entry.bytes) for entry in answer.log_probs) == answer.text.encode()
    assert [entry.log_prob for entry in answer.log_probs] == pytest.approx(log_probs.amax(-1).tolist(), abs=0.05)
    for entry in answer.log_probs:
        assert len(entry.top) == 5, "what OpenAI's route gives at most, though more were asked for"
        assert bytes(entry.top[0].bytes) == bytes(entry.bytes)
        assert [one.log_prob for one in entry.top] == sorted((one.log_prob for one in entry.top), reverse=True)


def test_prompt_and_answer_agree_on_what_is_a_token(
    address: Address, prompt: list[int], tokenizer: TorchFreeTokenizer
) -> None:
    async def main() -> tuple[list[int], str]:
        client = RemoteClient()
        try:
            text = "<|im_start|>user\nÜnïcode 東京"
            token_ids = list(await client.tokenize(address, text))
            return token_ids, await client.detokenize(address, token_ids)
        finally:
            await client.close()

    token_ids, text = asyncio.run(main())
    assert token_ids[0] == 1, "control tokens are tokens"
    assert text == "<|im_start|>user\nÜnïcode 東京"


def test_stop_string_ends_an_answer_before_it_is_said(address: Address, prompt: list[int]) -> None:
    whole = ask(address, prompt, max_tokens=16).text
    stop = whole.split()[2]
    answer = ask(address, prompt, max_tokens=16, stop=[stop])
    assert answer.text == whole[: whole.index(stop)]
    assert answer.finish_reason is FinishReason.STOP


def test_same_seed_draws_the_same_answer_and_another_seed_another(address: Address, prompt: list[int]) -> None:
    first, again, other = (ask(address, prompt, temperature=1.5, seed=seed, max_tokens=12).text for seed in (5, 5, 6))
    assert first == again != other


def test_logit_bias_bans_a_token(address: Address, prompt: list[int], tokenizer: TorchFreeTokenizer) -> None:
    first = tokenizer.token_ids(ask(address, prompt, max_tokens=1).text)[0]
    banned = ask(address, prompt, max_tokens=1, logit_bias={str(first): -100}).text
    assert tokenizer.token_ids(banned)[0] != first


def test_caller_who_leaves_gives_the_only_slot_back(address: Address, prompt: list[int]) -> None:
    async def main() -> tuple[float, Answer]:
        client = RemoteClient()
        long = {"prompt": prompt, "max_tokens": 1900, "temperature": 0, "logit_bias": {END: -100}}
        try:
            async with aclosing(client.generate(address, long)) as received:
                await anext(received)
            left_at = time.monotonic()
            answer = await generate(client, address, prompt, max_tokens=4)
            return time.monotonic() - left_at, answer
        finally:
            await client.close()

    seconds, answer = asyncio.run(main())
    assert answer.finish_reason is FinishReason.LENGTH
    assert seconds < 10, "1900 tokens take longer"


def test_prompt_log_probs_are_torchs_where_the_token_is_among_the_likeliest(
    address: Address, base_folder: Path, tokenizer: TorchFreeTokenizer
) -> None:
    token_ids = tokenizer.token_ids("The capital of France is Paris.")

    async def main() -> list[Any]:
        client = RemoteClient()
        try:
            return await client.prompt_log_probs(address, token_ids, 3)
        finally:
            await client.close()

    entries = asyncio.run(main())
    assert len(entries) == len(token_ids) + 1
    assert b"".join(bytes(entry.bytes) for entry in entries) == b"The capital of France is Paris."
    assert entries[0].log_prob == MIN_LOG_PROB
    log_probs = small_models.logprobs(base_folder, None, token_ids)
    told = 0
    for place, (id, entry) in enumerate(zip(token_ids[1:], entries[1:-1], strict=True)):
        assert len(entry.top) == 3
        assert entry.top[0].log_prob == pytest.approx(float(log_probs[place].max()), abs=0.05)
        if entry.log_prob != MIN_LOG_PROB:
            assert entry.log_prob == pytest.approx(float(log_probs[place, id]), abs=0.05)
            told += 1
    assert told >= 4
    assert (entries[-1].token, entries[-1].top[0].log_prob) == ("", pytest.approx(float(log_probs[-1].max()), abs=0.05))


def test_prompt_log_probs_of_a_model_that_is_gone_raise_one_error(address: Address, prompt: list[int]) -> None:
    async def main(at: Address) -> None:
        client = RemoteClient()
        try:
            await client.prompt_log_probs(at, prompt, 1)
        finally:
            await client.close()

    with pytest.raises(UpstreamFailed, match="status 404"):
        asyncio.run(main(replace(address, fields={**address.fields, "served_name": "nobody"})))
    with pytest.raises(Unavailable, match="cannot be reached"):
        asyncio.run(main(replace(address, url=f"remote:http://127.0.0.1:{unused_port()}/v1")))


def test_answer_that_must_fit_a_grammar_is_refused_before_the_server_is_asked(
    address: Address, prompt: list[int]
) -> None:
    with pytest.raises(InvalidRequest, match="cannot hold an answer to a schema") as refusal:
        ask(address, prompt, grammar='start: "yes" | "no"')
    assert refusal.value.code == "engine_cannot_constrain"


def test_what_the_server_refuses_is_the_callers_fault_and_not_quoted(address: Address, prompt: list[int]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        ask(address, [*prompt, 999_999])
    assert refusal.value.code == "engine_refused"
    assert "999" not in refusal.value.message
    with pytest.raises(InvalidRequest) as refusal:
        ask(address, prompt * 200)
    assert refusal.value.code == "context_length_exceeded"


def test_wrong_key_is_told_to_the_operator(server: Running, base: ServedModel) -> None:
    engine = engine_of(f"{server.url}/v1", "sk-not-this-one")
    with pytest.raises(Unavailable, match="status 401") as refusal:
        engine.ensure(base)
    assert "sk-not-this-one" not in refusal.value.message
    assert engine.faults() == [refusal.value.message]
    assert engine.loaded(base) is None
    assert engine.state(base).state is LoadState.RESTING


def test_server_that_is_not_there_is_unavailable(base: ServedModel) -> None:
    engine = engine_of(f"http://127.0.0.1:{unused_port()}/v1", KEY)
    with pytest.raises(Unavailable, match=r"does not answer .ConnectError") as refusal:
        engine.ensure(base)
    assert refusal.value.code == "engine_gone"
    engine.close()


def test_base_that_the_server_does_not_list_is_refused_by_name(engine: RemoteEngine, base_folder: Path) -> None:
    with pytest.raises(Unavailable, match="lists no model another-model") as refusal:
        engine.ensure(ServedModel("another-model", "another-model", base_folder, None))
    assert refusal.value.code == "model_not_served"
    engine.ensure(ServedModel(NAME, NAME, base_folder, None))


def test_adapter_that_the_server_neither_lists_nor_loads_is_refused(
    server: Running, base_folder: Path, tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 8}))
    engine = engine_of(f"{server.url}/v1", KEY)
    with pytest.raises(Unavailable, match=r"does not load its adapter .status 404") as refusal:
        engine.ensure(ServedModel(f"{NAME}.ft-1", NAME, base_folder, adapter))
    assert refusal.value.code == "adapter_not_loaded"
    assert engine.ensure(ServedModel(NAME, NAME, base_folder, None)).fields["adapter"] is None


def unused_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
