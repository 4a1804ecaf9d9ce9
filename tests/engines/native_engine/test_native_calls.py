"""Calls to a process of our own engine: answers, many at once, callers who leave, keys, and what is refused."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import small_models
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import InvalidRequest, Unavailable, UpstreamFailed
from luthier.core.inference.generation import EngineDelta, FinishReason, Usage
from luthier.engines.native.client import NativeClient
from luthier.engines.native.native_engine import NativeEngine
from luthier.engines.native.protocol import BlockingConnection
from luthier.engines.parity import check_parity
from native_calls import ask, begin, generate, processes, with_client

PROMPT = list(range(5, 45))
PRINTABLE = {str(id): -100 for id in (2, 190, *range(268, 273))}
"""Bans the token that ends an answer, and those that are no text."""
CONTEXT_TOKENS = 1024
MOST_NATS = 0.05
"""Weights of such models are large: what float16 rounds off a key weighs more than in a trained one."""
SECRET = "zebramark"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calls")


@pytest.fixture(scope="module")
def base(folder: Path) -> ServedModel:
    return ServedModel("base", "base", small_models.make_base(folder / "base", "llama"), None)


@pytest.fixture(scope="module")
def tuned(base: ServedModel, folder: Path) -> list[ServedModel]:
    folders = [small_models.make_adapter(folder / str(number), base.base_folder, number, r=4) for number in range(3)]
    return [ServedModel(f"base.ft-{number}", "base", base.base_folder, each) for number, each in enumerate(folders)]


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[NativeEngine]:
    engine = NativeEngine(folder / "engines", context_tokens=CONTEXT_TOKENS, sequences=8, threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def address(engine: NativeEngine, base: ServedModel) -> Address:
    return engine.ensure(base)


@pytest.fixture(scope="module")
def addresses(engine: NativeEngine, base: ServedModel, tuned: list[ServedModel]) -> list[Address]:
    return [engine.ensure(model) for model in (base, *tuned)]


@pytest.mark.parametrize("number", [None, 1])
def test_greedy_answer_and_its_log_probabilities_are_those_of_transformers(
    number: int | None, engine: NativeEngine, base: ServedModel, tuned: list[ServedModel]
) -> None:
    model = base if number is None else tuned[number]
    address = engine.ensure(model)
    answer = ask(address, PROMPT, max_tokens=6, logprobs=1, logit_bias=PRINTABLE)
    tokens: list[int] = []
    for entry in answer.log_probs:
        row = small_models.logprobs(base.base_folder, model.adapter_folder, [*PROMPT, *tokens])[-1].numpy()
        allowed = row.copy()
        allowed[[int(id) for id in PRINTABLE]] = -1e9
        tokens.append(int(allowed.argmax()))
        assert entry.log_prob == pytest.approx(row[tokens[-1]], abs=MOST_NATS)
        assert entry.top[0].log_prob == pytest.approx(row.max(), abs=MOST_NATS)
    assert answer.text == with_client(lambda client: client.detokenize(address, tokens))
    assert (answer.finish_reason, len(tokens)) == (FinishReason.LENGTH, 6)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (40, 6)


def test_answers_side_by_side_are_those_of_each_alone(addresses: list[Address]) -> None:
    asked = [(address, [*PROMPT, number]) for number, address in enumerate(addresses * 2)]
    drawn = {"max_tokens": 40, "temperature": 1.0, "seed": 5}

    async def main(client: NativeClient) -> list[str]:
        calls = [generate(client, address, prompt, **drawn) for address, prompt in asked]
        return [answer.text for answer in await asyncio.gather(*calls)]

    together = with_client(main)
    assert together == [ask(address, prompt, **drawn).text for address, prompt in asked]
    assert len(set(together)) == len(together)


def test_prompt_that_was_read_before_is_cached_within_its_scope(address: Address) -> None:
    prompt = [*range(20, 200), 3, 4]
    for scope, n_cached in (("mine", 0), ("mine", 181), ("theirs", 0)):
        usage = ask(address, prompt, cache_scope=scope).usage
        assert usage is not None
        assert usage.cached_tokens == n_cached


def test_caller_who_leaves_frees_the_place(address: Address) -> None:
    """Both prompts and answers need nearly all of the context: the second begins when the first is gone."""
    before = steps(address)

    async def main(client: NativeClient) -> Usage | None:
        request = {"prompt": PROMPT, "max_tokens": 950, "temperature": 0, "logit_bias": PRINTABLE}
        async with aclosing(client.generate(address, request)) as received:
            assert isinstance(await anext(received), EngineDelta)
        return (await generate(client, address, [*range(3, 253)] * 3)).usage

    usage = with_client(main)
    assert usage is not None
    assert usage.prompt_tokens == 750
    assert steps(address) - before < 900  # an answer that goes on has 950; a busy machine is slow to leave one


def test_connection_that_is_lost_frees_the_places_of_all_its_calls(address: Address) -> None:
    request = {"max_tokens": 400, "temperature": 0, "logit_bias": PRINTABLE}
    message = {"op": "generate", "model": None, "prompt": PROMPT, "scope": "", "request": request}
    with BlockingConnection(port_of(address), address.headers["key"], 30) as connection:
        connection.send(*({**message, "call": call} for call in (1, 2)))
        assert connection.receive()["call"] in (1, 2)
        before = steps(address)
    assert ask(address, [*range(3, 253)] * 3).usage is not None
    assert steps(address) - before < 350


def test_cancelled_task_frees_the_place_and_the_other_calls_go_on(address: Address) -> None:
    async def main(client: NativeClient) -> str:
        kept, rest = await begin(client, address, PROMPT, max_tokens=100, logit_bias=PRINTABLE)
        _, left = await begin(client, address, PROMPT[1:], max_tokens=700, logit_bias=PRINTABLE)
        left.cancel()
        await rest
        return kept.text

    assert with_client(main) == ask(address, PROMPT, max_tokens=100, logit_bias=PRINTABLE).text


@pytest.mark.parametrize("key", ["", "0" * 32])
def test_wrong_key_is_refused(address: Address, key: str) -> None:
    with pytest.raises(Unavailable):
        ask(replace(address, headers={"key": key}), PROMPT)
    with BlockingConnection(port_of(address), key, 10) as connection:
        connection.send({"op": "ping", "call": 1})
        with pytest.raises(OSError, match=r".+"):
            connection.receive()
    assert ask(address, PROMPT).usage is not None


def test_key_stands_in_no_command_line_and_in_no_file_that_others_read(address: Address, folder: Path) -> None:
    key = address.headers["key"]
    (process,) = processes(folder)
    assert key not in " ".join(process.cmdline())
    (config,) = folder.glob("engines/*/config.json")
    assert json.loads(config.read_text())["key"] == key
    assert config.stat().st_mode & 0o077 == 0
    assert config.parent.stat().st_mode & 0o077 == 0


def test_model_that_is_not_loaded_is_unavailable_for_a_moment(address: Address) -> None:
    with pytest.raises(Unavailable) as refusal:
        ask(replace(address, fields={"adapter": "nobody"}), PROMPT)
    assert (refusal.value.code, refusal.value.retry_after_s) == ("model_not_loaded", 1.0)


def test_what_is_no_message_ends_the_connection_alone(address: Address) -> None:
    with BlockingConnection(port_of(address), address.headers["key"], 10) as connection:
        connection.send({"op": "no such thing", "call": 1})
        assert connection.receive()["error"] == "engine_failed"
        connection.send({"op": "ping", "call": 2})
        assert connection.receive()["call"] == 2
    assert ask(address, PROMPT).usage is not None


def test_no_file_of_the_engine_holds_what_users_say(address: Address, folder: Path) -> None:
    requests: list[dict[str, Any]] = [
        {"grammar": f'start: "{SECRET}'},
        {"grammar": f'%llguidance {{}}\nstart: "{SECRET}"', "max_tokens": 3},
        {"logit_bias": {SECRET: 1}},
        {"stop": [SECRET]},
    ]
    for request in requests:
        with contextlib.suppress(UpstreamFailed, InvalidRequest):
            ask(address, PROMPT, **request)
    with_client(lambda client: client.tokenize(address, SECRET * 5))
    files = [path for path in (folder / "engines").rglob("*") if path.is_file()]
    assert any(path.name == "engine.log" for path in files)
    assert not any(SECRET.encode() in path.read_bytes() for path in files)


def test_tokenizer_of_the_process_is_that_of_the_model(address: Address, base: ServedModel) -> None:
    text = "the cat's 12 hats <|im_end|> Ünïcode 東京"

    async def main(client: NativeClient) -> tuple[list[int], str]:
        ids = list(await client.tokenize(address, text))
        return ids, await client.detokenize(address, ids)

    ids, back = with_client(main)
    assert back == text
    assert 2 in ids


def test_scores_of_a_prompt_begin_with_its_first_token_and_end_with_what_may_follow(
    address: Address, base: ServedModel
) -> None:
    expected = small_models.logprobs(base.base_folder, None, PROMPT)
    scores = with_client(lambda client: client.prompt_log_probs(address, PROMPT, 2))
    assert len(scores) == len(PROMPT) + 1
    own = [score.log_prob for score in scores[1:-1]]
    assert own == pytest.approx([float(expected[at, id]) for at, id in enumerate(PROMPT[1:])], abs=MOST_NATS)
    assert scores[-1].top[0].log_prob == pytest.approx(float(expected[-1].max()), abs=MOST_NATS)


@pytest.mark.parametrize("kind", ["llama2", "llama3", "mistral", "qwen2", "qwen3"])
def test_each_architecture_computes_what_torch_computes_from_template_to_log_probability(
    kind: str, engine: NativeEngine, tmp_path: Path
) -> None:
    base = small_models.make_base(tmp_path / "base", kind)
    adapter = small_models.make_adapter(tmp_path / "adapter", base, use_rslora=kind == "qwen3")
    small_models.write_probes(base, base)
    small_models.write_probes(adapter, base, adapter)
    models = ServedModel(f"{kind}.ft", kind, base, adapter), ServedModel(kind, kind, base, None)
    of_adapter, of_base = map(engine.ensure, models)
    report = check_parity(of_base, base)
    assert report.agrees, report.reason
    report = check_parity(of_adapter, adapter)
    assert report.agrees, report.reason
    assert not check_parity(of_base, adapter).agrees
    for model in models:
        engine.release(model.id)


def steps(address: Address) -> int:
    with BlockingConnection(port_of(address), address.headers["key"], 10) as connection:
        connection.send({"op": "ping", "call": 1})
        return int(connection.receive()["steps"])


def port_of(address: Address) -> int:
    return int(address.url.rsplit(":", 1)[1])
