"""Our own engine with the embedded model: it says what torch says, and its sequences do not disturb one another."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import small_models
from cores import own_cores
from luthier.core.engine_ports import ServedModel
from luthier.data.rendering.renderer import Renderer
from luthier.engines.native.client import NativeClient
from luthier.engines.native.native_engine import NativeEngine
from luthier.engines.parity import check_parity
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer
from native_calls import Answer, ask, generate, with_client

pytestmark = pytest.mark.model

QUESTION = [{"role": "user", "content": "Name three rivers of Europe, with an emoji for each. Ünïcode: 東京"}]

QUESTIONS = (
    "Name three rivers of Europe, with an emoji for each.",
    "What is the capital of Japan?",
    "Write a haiku about rain.",
    "How much is 17 times 23?",
    "Translate to French: the cat sleeps on the roof.",
    "Write a Python function that reverses a list.",
    "Who wrote Don Quixote?",
    "Explain photosynthesis to a child.",
    "Give me a name for a bakery.",
    "Summarise: Ünïcode 東京 is the capital city; it has many trains.",
)


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


@pytest.mark.parametrize("is_tuned", [False, True], ids=["base", "tuned"])
def test_greedy_answers_are_those_of_transformers_in_float32(
    engine: NativeEngine, base: ServedModel, is_tuned: bool, tmp_path: Path
) -> None:
    tokenizer = TorchFreeTokenizer(base.base_folder / "hf")
    renderer = Renderer(tokenizer, 1)
    adapter = small_models.make_adapter(tmp_path / "adapter", base.base_folder, spread=0.03) if is_tuned else None
    model = ServedModel(f"base.ft-{tmp_path.name}", base.base_model, base.base_folder, adapter) if is_tuned else base
    address = engine.ensure(model)
    for question in QUESTIONS:
        text = renderer.text_of_turns([{"role": "user", "content": question}], (), True)
        prompt = renderer.token_ids(text)
        answer = ask(address, prompt, max_tokens=16, logprobs=1)
        tokens = tokenizer.token_ids(answer.text)
        log_probs = small_models.logprobs(base.base_folder, adapter, [*prompt, *tokens])[len(prompt) - 1 : -1]
        assert log_probs.argmax(-1).tolist() == tokens, question
        own = [entry.log_prob for entry in answer.log_probs][: len(tokens)]  # behind them may be the end's
        assert own == pytest.approx(log_probs.amax(-1).tolist(), abs=0.05)


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
