"""vLLM itself: it says what was trained, takes adapters while it answers, and leaves nothing behind.

The tests share one engine and run in their order: the last ones kill it, bring it back, and close it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import psutil
import pytest

import small_models
from luthier.core.engine_ports import Address, ParityReport
from luthier.core.errors import LuthierError, Unavailable
from luthier.core.inference.generation import MIN_LOG_PROB, FinishReason
from luthier.data.rendering.renderer import Renderer
from luthier.engines.parity import check_parity
from luthier.engines.remote.completions_server import CompletionsServer
from luthier.engines.remote.remote_client import RemoteClient
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer
from native_calls import Answer, begin, generate
from vllm_running import Models, VllmRunning, until_ended
from waiting import until

pytestmark = [pytest.mark.vllm, pytest.mark.model]

T = TypeVar("T")
QUESTION = [{"role": "user", "content": "Name three rivers of Europe, with an emoji for each. 東京"}]
NO_END = {"2": -100}
"""A logit_bias without the token that ends an answer."""
EXACT = 0.01
"""Nats: what may differ where both compute in float32."""
N_PROBES = 2
"""Of a tuned model: with an adapter a probe takes vLLM on a CPU ten seconds."""


def with_client(call: Callable[[RemoteClient], Awaitable[T]]) -> T:
    async def main() -> T:
        client = RemoteClient()
        try:
            return await call(client)
        finally:
            await client.close()

    return asyncio.run(main())


def ask(address: Address, prompt: list[int], **fields: object) -> Answer:
    return with_client(lambda client: generate(client, address, prompt, **fields))


@pytest.fixture(scope="module")
def tokenizer(models: Models) -> TorchFreeTokenizer:
    return TorchFreeTokenizer(models.base.base_folder / "hf")


@pytest.fixture(scope="module")
def prompt(tokenizer: TorchFreeTokenizer) -> list[int]:
    renderer = Renderer(tokenizer, 1)
    return renderer.token_ids(renderer.text_of_turns(QUESTION, (), True))


@pytest.fixture
def base(running: VllmRunning, models: Models) -> Address:
    return running.engine.ensure(models.base)


def test_base_says_what_torch_says(running: VllmRunning, models: Models, base: Address) -> None:
    print(f"vLLM answered {running.start_s:.1f} s after its start")
    report = check_parity(base, models.base.base_folder)
    print(figures("base", report))
    assert report.agrees, report.reason
    assert report.max_difference < EXACT
    assert running.engine.ensure(models.base) == base
    assert running.engine.faults() == []


def test_adapter_is_loaded_while_vllm_answers(
    running: VllmRunning, models: Models, base: Address, prompt: list[int]
) -> None:
    async def main(client: RemoteClient) -> tuple[Answer, Answer]:
        long, rest = await begin(client, base, prompt, max_tokens=300, logit_bias=NO_END)
        address = await asyncio.to_thread(running.engine.ensure, models.trained)
        tuned = await generate(client, address, prompt, max_tokens=4)
        assert not rest.done()
        await rest
        return long, tuned

    before = running.process()
    long, tuned = with_client(main)
    assert long.usage is not None
    assert (long.usage.completion_tokens, long.finish_reason) == (300, FinishReason.LENGTH)
    assert tuned.text
    assert running.process() == before


@pytest.mark.parametrize("kind", ["trained", "random"])
def test_tuned_model_says_what_torch_says_and_nobody_else_does(kind: str, running: VllmRunning, models: Models) -> None:
    model = {"trained": models.trained, "random": models.random}[kind]
    folder = model.adapter_folder
    assert folder is not None
    address = running.engine.ensure(model)
    report = check_parity(address, folder, N_PROBES)
    print(figures(kind, report))
    assert report.agrees, report.reason
    assert report.max_difference < EXACT
    as_base = replace(address, fields={**address.fields, "served_name": address.fields["base_name"]})
    ignored = check_parity(replace(as_base, fields={**as_base.fields, "dtype": "bfloat16"}), folder, 1)
    assert not ignored.agrees
    assert "as if the adapter had no effect" in ignored.reason


def test_answers_of_each_model_stay_its_own_side_by_side(
    running: VllmRunning, models: Models, prompt: list[int]
) -> None:
    addresses = [running.engine.ensure(model) for model in models.all]
    alone = [ask(address, prompt, max_tokens=12).text for address in addresses]
    assert len(set(alone)) == 3

    async def main(client: RemoteClient) -> list[str]:
        answers = [generate(client, address, prompt, max_tokens=12) for address in addresses * 3]
        return [answer.text for answer in await asyncio.gather(*answers)]

    assert with_client(main) == alone * 3


def test_adapter_of_two_models_is_loaded_once_and_unloaded_with_the_last(
    running: VllmRunning, models: Models, prompt: list[int]
) -> None:
    first = running.engine.ensure(models.random)
    copy = replace(models.random, id="copy-of-it")
    second = running.engine.ensure(copy)
    assert second.fields["served_name"] == first.fields["served_name"]
    assert second.fields["adapter"] != first.fields["adapter"]
    answer = ask(first, prompt).text
    running.engine.release(models.random.id)
    assert ask(second, prompt).text == answer
    running.engine.release(copy.id)
    until(lambda: is_refused(second, prompt))
    assert ask(running.engine.ensure(models.random), prompt).text == answer, "it can come again"


def test_answer_comes_in_pieces_with_its_usage(base: Address, prompt: list[int]) -> None:
    answer = ask(base, prompt, max_tokens=16)
    assert len(answer.pieces) > 8
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(prompt), 16)
    assert answer.finish_reason is FinishReason.LENGTH


def test_prompt_is_cached_for_those_of_one_scope_alone(base: Address, prompt: list[int]) -> None:
    long = [*prompt] * 8
    cached = [ask(base, long, max_tokens=1, cache_scope=scope).usage for scope in ("one", "one", "other")]
    assert [usage is not None and usage.cached_tokens > 0 for usage in cached] == [False, True, False]


def test_same_seed_draws_the_same_answer_and_another_seed_another(base: Address, prompt: list[int]) -> None:
    first, again, other = (ask(base, prompt, temperature=1.5, seed=seed, max_tokens=12).text for seed in (5, 5, 6))
    assert first == again != other


def test_stop_string_ends_an_answer_before_it_is_said(base: Address, prompt: list[int]) -> None:
    whole = ask(base, prompt, max_tokens=16).text
    stop = whole.split()[2]
    answer = ask(base, prompt, max_tokens=16, stop=[stop])
    assert answer.text == whole[: whole.index(stop)]
    assert answer.finish_reason is FinishReason.STOP


def test_log_probs_are_torchs(base: Address, prompt: list[int], models: Models, tokenizer: TorchFreeTokenizer) -> None:
    answer = ask(base, prompt, max_tokens=8, logprobs=20)
    tokens = tokenizer.token_ids(answer.text)
    log_probs = small_models.logprobs(models.base.base_folder, None, [*prompt, *tokens])[len(prompt) - 1 : -1]
    assert [entry.log_prob for entry in answer.log_probs] == pytest.approx(log_probs.amax(-1).tolist(), abs=EXACT)
    assert b"".join(bytes(entry.bytes) for entry in answer.log_probs) == answer.text.encode()
    for entry, place in zip(answer.log_probs, log_probs, strict=True):
        assert [one.log_prob for one in entry.top] == pytest.approx(place.topk(20).values.tolist(), abs=EXACT)


def test_prompt_log_probs_are_torchs(base: Address, models: Models, tokenizer: TorchFreeTokenizer) -> None:
    token_ids = tokenizer.token_ids("The capital of France is Paris. 東")
    entries = with_client(lambda client: client.prompt_log_probs(base, token_ids, 3))
    log_probs = small_models.logprobs(models.base.base_folder, None, token_ids)
    assert len(entries) == len(token_ids) + 1
    for place, (id, entry) in enumerate(zip(token_ids[1:], entries[1:-1], strict=True)):
        assert [one.log_prob for one in entry.top] == pytest.approx(log_probs[place].topk(3).values.tolist(), abs=EXACT)
        assert entry.log_prob in (MIN_LOG_PROB, pytest.approx(float(log_probs[place, id]), abs=EXACT))
    assert sum(entry.log_prob != MIN_LOG_PROB for entry in entries) >= 5


def test_answer_fits_its_json_schema(base: Address, prompt: list[int]) -> None:
    colour = {"type": "string", "enum": ["red", "green"]}
    schema = {"type": "object", "properties": {"colour": colour}, "required": ["colour"], "additionalProperties": False}
    for seed in range(3):
        asked = {"temperature": 1.5, "seed": seed, "max_tokens": 40}
        answer = ask(base, prompt, grammar=f"start: %json {json.dumps(schema)}", **asked)
        assert json.loads(answer.text)["colour"] in ("red", "green")
        assert answer.finish_reason is FinishReason.STOP


def test_caller_who_leaves_is_out_of_vllm_at_once(base: Address, prompt: list[int]) -> None:
    server = CompletionsServer(base.url.removeprefix("remote:"), base.headers["Authorization"].removeprefix("Bearer "))

    async def main(client: RemoteClient) -> None:
        _, rest = await begin(client, base, prompt, max_tokens=1800, logit_bias=NO_END)
        assert server.n_requests() == 1
        rest.cancel()
        await asyncio.gather(rest, return_exceptions=True)

    with_client(main)
    until(lambda: server.n_requests() == 0, within_s=5)


@pytest.mark.parametrize("killed", ["our child", "vLLM alone"])
def test_process_that_is_killed_takes_all_with_it_and_comes_again_with_its_adapters(
    killed: str, running: VllmRunning, models: Models, prompt: list[int]
) -> None:
    wanted = [models.base, models.trained]
    before = [ask(running.engine.ensure(model), prompt).text for model in wanted]
    child = running.process()
    family = [child, *child.children(recursive=True)]
    victim = child if killed == "our child" else vllm_of(child)

    async def main(client: RemoteClient) -> BaseException | None:
        asked = {"max_tokens": 1500, "logit_bias": NO_END}
        _, rest = await begin(client, running.engine.ensure(models.base), prompt, **asked)
        victim.kill()
        (error,) = await asyncio.gather(rest, return_exceptions=True)
        return error

    error = with_client(main)
    assert isinstance(error, Unavailable)
    assert error.code == "engine_gone"
    until_ended(family)
    until(lambda: all(running.engine.loaded(model) is not None for model in wanted), within_s=180)
    assert [ask(running.engine.ensure(model), prompt).text for model in wanted] == before


def test_close_leaves_no_process_and_no_file(running: VllmRunning, models: Models) -> None:
    child = running.process()
    family = [child, *child.children(recursive=True)]
    assert len(family) > 3
    running.engine.close()
    until_ended(family)
    left = [path.name for folder in running.folder.iterdir() for path in folder.iterdir()]
    assert set(left) <= {"engine.log", "config.json"}, "those that were killed leave their logs"
    with pytest.raises(Unavailable):
        running.engine.ensure(models.base)


def figures(name: str, report: ParityReport) -> str:
    """A line for whoever runs the tests with -rP."""
    largest, mean = report.max_difference, report.mean_difference
    return f"{name}: at most {largest:.1e} nats over {report.positions} positions, mean {mean:.1e}"


def vllm_of(child: psutil.Process) -> psutil.Process:
    """vLLM's first process, the one that answers."""
    (process,) = [each for each in child.children() if "serve" in each.cmdline()]
    return process


def is_refused(address: Address, prompt: list[int]) -> bool:
    try:
        ask(address, prompt, max_tokens=1)
    except LuthierError:
        return True
    return False
