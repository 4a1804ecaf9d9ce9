"""Our own engine with the embedded model: it says what torch says, and its sequences do not disturb one another."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import small_models
from cores import own_cores
from luthier.core.ports import ServedModel
from luthier.data.rendering.renderer import Renderer
from luthier.engines.native.client import NativeClient
from luthier.engines.native.native_engine import NativeEngine
from luthier.engines.parity import check_parity
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer
from native_calls import Answer, ask, generate, with_client

pytestmark = pytest.mark.model

QUESTION = [{"role": "user", "content": "Name three rivers of Europe, with an emoji for each. Ünïcode: 東京"}]


@pytest.fixture(scope="module")
def base(base_folder: Path) -> ServedModel:
    return ServedModel("base", "smollm2-135m-instruct", base_folder, None)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeEngine]:
    made = NativeEngine(tmp_path_factory.mktemp("engines"), context_tokens=4096, sequences=8, threads=own_cores())
    yield made
    made.close()


@pytest.fixture(scope="module")
def prompt(base_folder: Path) -> list[int]:
    renderer = Renderer(TorchFreeTokenizer(base_folder / "hf"), 1)
    return renderer.token_ids(renderer.text_of_turns(QUESTION, (), True))


def test_probes_of_the_trainer_are_answered_as_torch_does(engine: NativeEngine, base: ServedModel) -> None:
    report = check_parity(engine.ensure(base), base.base_folder)
    assert report.agrees, report.reason
    assert report.max_difference < 0.05, "in float32 all that differs is the cache, in float16"


def test_greedy_answer_is_that_of_transformers(engine: NativeEngine, base: ServedModel, prompt: list[int]) -> None:
    answer = ask(engine.ensure(base), prompt, max_tokens=16, logprobs=1)
    tokenizer = TorchFreeTokenizer(base.base_folder / "hf")
    tokens = tokenizer.token_ids(answer.text)
    log_probs = small_models.logprobs(base.base_folder, None, [*prompt, *tokens])[len(prompt) - 1 : -1]
    assert log_probs.argmax(-1).tolist() == tokens
    assert [entry.log_prob for entry in answer.log_probs] == pytest.approx(log_probs.amax(-1).tolist(), abs=0.02)


def test_answers_side_by_side_are_those_of_each_alone(
    engine: NativeEngine, base: ServedModel, prompt: list[int]
) -> None:
    address = engine.ensure(base)
    asked = [([*prompt[: 10 + 5 * number], *prompt], {"temperature": 1.0, "seed": number}) for number in range(4)]

    async def main(client: NativeClient) -> list[Answer]:
        calls = [generate(client, address, tokens, max_tokens=12, **drawn) for tokens, drawn in asked]
        return list(await asyncio.gather(*calls))

    together = [answer.text for answer in with_client(main)]
    assert together == [ask(address, tokens, max_tokens=12, **drawn).text for tokens, drawn in asked]


def test_answer_fits_its_grammar(engine: NativeEngine, base: ServedModel, prompt: list[int]) -> None:
    grammar = 'start: "yes" | "no"'
    answers = [ask(engine.ensure(base), prompt, grammar=grammar, temperature=2.0, seed=seed) for seed in range(6)]
    assert {answer.text for answer in answers} <= {"yes", "no"}
    assert {answer.finish_reason for answer in answers} == {"stop"}
