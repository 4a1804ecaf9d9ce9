"""Tokens of a file as the check counts them: the renderer's own numbers, whatever the template and the rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import parsed_rows
import small_models
import tiny
from families import FAMILIES
from luthier.core.states import Ability, Method
from luthier.data.checks import validate
from luthier.data.checks.token_counts import TokenCounter
from luthier.data.rendering.renderer import Renderer
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer
from luthier.trainer.dataset import chat_template
from luthier.trainer.dataset.tokenizer import FolderTokenizer

CONTEXT = 512
FORGETFUL = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' and not loop.last %}{{ message['content'][:3] }}"
    "{% else %}{{ message['content'] }}{% endif %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Drops most of earlier answers, as templates do with reasoning: each answer then needs a sequence of its own."""
TRIMMING = tiny.TEMPLATE.replace("message['content']", "(message['content'] | trim)")
TEMPLATES = {"chatml": tiny.TEMPLATE, "forgetful": FORGETFUL, "trimming": TRIMMING}
TEXT = st.text(st.sampled_from(" \nab1é'<|im_end|>."), max_size=10) | st.sampled_from(["Yes.", " No", "<|im_end|>"])
TURNS = st.lists(st.tuples(TEXT, TEXT, st.sampled_from([0, 1])), min_size=1, max_size=3)


@pytest.fixture(scope="module", params=TEMPLATES)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TorchFreeTokenizer:
    return TorchFreeTokenizer(tiny.tokenizer_folder(tmp_path_factory.mktemp("tokenizer"), TEMPLATES[request.param]))


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> TorchFreeTokenizer:
    return TorchFreeTokenizer(tiny.tokenizer_folder(tmp_path_factory.mktemp("chatml")))


def conversation(turns: list[tuple[str, str, int]]) -> bytes:
    messages: list[dict[str, Any]] = []
    for asked, told, weight in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": told, "weight": weight}]
    messages[-1]["weight"] = 1
    return json.dumps({"messages": messages}).encode()


def count(
    tokenizer: TorchFreeTokenizer, content: bytes, method: Method = Method.SUPERVISED
) -> tuple[Any, validate.Report]:
    counter = TokenCounter(tokenizer, CONTEXT)
    report = validate.check_file([content], frozenset(), 1, method, [counter])
    return counter.statistics(), report


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(TURNS, min_size=1, max_size=12))
def test_counts_are_the_renderers(tokenizer: TorchFreeTokenizer, rows: list[list[tuple[str, str, int]]]) -> None:
    content = b"\n".join(map(conversation, rows * 12))
    told, report = count(tokenizer, content)
    renderer = Renderer(tokenizer, CONTEXT)
    sequences = [one for _, example in parsed_rows.read_examples(content) for one in renderer.render(example)]
    assert report.n_errors == 0
    assert told.tokens.total == sum(len(sequence.token_ids) for sequence in sequences)
    assert told.supervised.total == sum(sum(map(bool, sequence.loss_weights)) for sequence in sequences)


def test_pairs_count_both_outputs_with_the_prompt(chatml: TorchFreeTokenizer) -> None:
    outputs = {"preferred_output": "Yes", "non_preferred_output": "No, never"}
    row: dict[str, Any] = {"input": {"messages": [{"role": "user", "content": "Tea?"}]}}
    row |= {key: [{"role": "assistant", "content": text}] for key, text in outputs.items()}
    told, _ = count(chatml, json.dumps(row).encode(), Method.DPO)
    prompt = len(chatml.token_ids("<|im_start|>user\nTea?<|im_end|>\n<|im_start|>assistant\n"))
    answers = [len(chatml.token_ids(text + "<|im_end|>")) for text in outputs.values()]
    assert (told.tokens.total, told.supervised.total) == (2 * prompt + sum(answers), sum(answers))


@pytest.mark.parametrize("words", [600, 60_000])
def test_row_over_the_context_is_an_error_that_says_how_much_is_lost(chatml: TorchFreeTokenizer, words: int) -> None:
    rows = [conversation([("Hi", "Yes", 1)]), conversation([("Hi", "a " * words, 1)])]
    told, report = count(chatml, b"\n".join(rows))
    (problem,) = report.problems
    assert (problem.line, problem.path, problem.code) == (2, "messages", "too_many_tokens")
    assert "reads at most 512" in problem.message
    assert ("at least" in problem.message) == (words > 600)
    assert (told.too_long, told.tokens.longest_line) == (1, 1)
    if words == 600:
        tokens = len(chatml.token_ids("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n" + "a " * 600)) + 1
        assert f"{tokens:,} tokens" in problem.message
        assert f"{tokens - 512:,} would be lost" in problem.message


def test_template_that_writes_no_end_counts_the_tokenizers_own(tmp_path: Path) -> None:
    endless = TorchFreeTokenizer(
        tiny.tokenizer_folder(tmp_path, "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    )
    told, report = count(endless, conversation([("Hi", "Yes", 1)]))
    assert not report.problems
    assert told.supervised.total == len(endless.token_ids("Yes")) + 1


def test_template_that_ends_a_turn_too_early_is_told_at_its_rows(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}<|im_end|> So.{% endfor %}"
    endless = TorchFreeTokenizer(tiny.tokenizer_folder(tmp_path, template))
    told, report = count(endless, conversation([("Hi", "Yes", 1)]))
    assert [problem.code for problem in report.problems] == ["template_without_end"]
    assert told.tokens.total == 0


def test_template_that_refuses_a_row_is_told(tmp_path: Path) -> None:
    refusing = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('x') }}{% endif %}" + tiny.TEMPLATE
    tokenizer = TorchFreeTokenizer(tiny.tokenizer_folder(tmp_path, refusing))
    _, report = count(tokenizer, conversation([("Hi", "Yes", 1)]))
    assert [(problem.line, problem.code) for problem in report.problems] == [(1, "template_refuses_messages")]


def test_row_of_most_tokens_is_told_where_it_outweighs_the_file(chatml: TorchFreeTokenizer) -> None:
    rows = [conversation([(f"Hi {n}", "Yes", 1)]) for n in range(20)]
    counter = TokenCounter(chatml, 4096)
    content = b"\n".join([*rows, conversation([("Hi", "1 " * 900, 1)])])
    report = validate.check_file([content], frozenset(), 1, observers=[counter])
    assert [(problem.line, problem.code) for problem in report.problems] == [(21, "uneven_lengths")]
    assert "tokens" in report.problems[0].message


def test_only_long_finds_every_row_over_the_context_and_counts_no_short_one(chatml: TorchFreeTokenizer) -> None:
    rows = [conversation([("Hi", "1 " * n, 1)]) for n in range(0, 600, 7)]
    content = b"\n".join(rows)
    whole, long = TokenCounter(chatml, CONTEXT), TokenCounter(chatml, CONTEXT, only_long=True)
    reports = [validate.check_file([content], frozenset(), 1, observers=[counter]) for counter in (whole, long)]
    found = [[one.line for one in report.problems if one.code == "too_many_tokens"] for report in reports]
    assert found[0] == found[1] != []
    assert long.statistics().tokens.total < whole.statistics().tokens.total


WORDS = "What sits on the head of the man, and why? A hat 12 {}. I think so!"


@pytest.mark.parametrize("name", FAMILIES)
def test_counts_are_the_trainers_in_every_family(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    small_models.make_tokenizer(tmp_path, family.kind, chat_template.pinned(family.template), family.special)
    call = {"id": "call00001", "type": "function", "function": {"name": "hats", "arguments": '{"colour": "red"}'}}
    rows = []
    for number in range(90):
        asked, told = WORDS.format(number), " \n"[number % 3 : number % 3 + 1] + WORDS.format(number)
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
        tools = [{"role": "user", "content": asked}, {"role": "assistant", "content": "", "tool_calls": [call]}]
        rows.append({"messages": [turns, turns * 2, tools][number % 3]})
        if number % 3 == 2:
            rows[-1]["tools"] = [{"type": "function", "function": {"name": "hats"}}]
    content = "\n".join(map(json.dumps, rows)).encode()
    counter = TokenCounter(TorchFreeTokenizer(tmp_path / "hf"), 100_000)
    report = validate.check_file([content], frozenset(Ability), 1, observers=[counter])
    assert report.n_errors == 0
    renderer = Renderer(FolderTokenizer(tmp_path / "hf"), 100_000)
    examples = [example for _, example in parsed_rows.read_examples(content, frozenset(Ability))]
    made = [one for example in examples for one in renderer.render(example)]
    told_numbers = counter.statistics()
    assert told_numbers.tokens.total == sum(len(one.token_ids) for one in made)
    assert told_numbers.supervised.total == sum(sum(map(bool, one.loss_weights)) for one in made)
