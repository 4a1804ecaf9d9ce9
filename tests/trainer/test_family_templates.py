"""Chats in each family's template: what is learned, behind which prompt, and what is refused."""

import functools
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest

import small_models
from families import ENDLESS, FAMILIES
from luthier.core.errors import InvalidRequest
from luthier.core.states import Ability
from luthier.data.jsonl.line_reader import JsonRow
from luthier.data.rendering import template_diagnostics, template_messages, tool_samples
from luthier.data.rendering.renderer import Rendered, Renderer, Unrenderable
from luthier.data.rows import supervised
from luthier.data.rows.supervised import Example
from luthier.trainer.dataset import chat_template
from luthier.trainer.dataset.tokenizer import FolderTokenizer

SYSTEM = {"role": "system", "content": "Be kind."}
ENDS = {name: family.special[2] for name, family in FAMILIES.items()}
TURNS = [
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "A hat."},
    {"role": "user", "content": "And then?"},
    {"role": "assistant", "content": "I sit on\n\na head."},
]
TOOL = {"type": "function", "function": {"name": "count_hats", "parameters": {"type": "object"}}}
CALLED = [
    {"role": "user", "content": "How many?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "count_hats", "arguments": '{"colour": "red"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "7"},
    {"role": "assistant", "content": "Seven."},
]


class Reader(FolderTokenizer):
    """A tokenizer whose tokens can be read back."""

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))


@functools.cache
def tokenizer_of(folder: Path, name: str) -> Reader:
    family = FAMILIES[name]
    small_models.make_tokenizer(folder / name, family.kind, chat_template.pinned(family.template), family.special)
    return Reader(folder / name / "hf")


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tokenizer(name: str, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return tokenizer_of(tmp_path_factory.getbasetemp(), name)


def example(turns: Sequence[object], **row: object) -> Example:
    parsed = supervised.parse_supervised(JsonRow(1, {"messages": list(turns), **row}), frozenset(Ability))
    assert parsed.example is not None, parsed.problems
    return parsed.example


def learned(tokenizer: Reader, sequences: Sequence[Rendered]) -> list[str]:
    """The stretches that are learned, as text."""
    found = []
    for sequence in sequences:
        pairs = zip(sequence.token_ids, sequence.loss_weights, strict=True)
        for weight, group in groupby(pairs, key=lambda pair: pair[1]):
            if weight:
                found.append(tokenizer.decode([id for id, _ in group]))
    return found


@pytest.mark.parametrize("system", [False, True], ids=["alone", "with system"])
def test_every_answer_is_learned_with_its_end_behind_the_prompt_of_serving(
    name: str, tokenizer: Reader, system: bool
) -> None:
    renderer = Renderer(tokenizer, 512)
    turns = [SYSTEM, *TURNS] if system else TURNS
    chat = example(turns)
    sequences = renderer.render(chat)
    space = " " if name.startswith("mistral") else ""
    assert learned(tokenizer, sequences) == [
        f"{space}{turn['content']}{ENDS[name]}" for turn in turns if turn["role"] == "assistant"
    ]
    prompts = [
        tuple(renderer.chat_prompt(chat.messages[:place]))
        for place, turn in enumerate(turns)
        if turn["role"] == "assistant"
    ]
    for prompt in prompts:
        assert any(sequence.token_ids[: len(prompt)] == prompt for sequence in sequences)
    # What is learned is what the template's whole text is cut into: no space comes from cutting it in two.
    whole = tokenizer.text([template_messages.template_message(message) for message in chat.messages], (), False)
    assert tuple(tokenizer.token_ids(whole)[: len(sequences[-1].token_ids)]) == sequences[-1].token_ids


def test_weight_0_leaves_an_answer_unlearned(name: str, tokenizer: Reader) -> None:
    turns = [TURNS[0], {**TURNS[1], "weight": 0}, *TURNS[2:]]
    (text,) = learned(tokenizer, Renderer(tokenizer, 512).render(example(turns)))
    assert text.strip() == f"I sit on\n\na head.{ENDS[name]}"


def test_mistral_moves_the_systems_words_so_answers_stand_apart(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, "mistral")
    sequences = Renderer(tokenizer, 512).render(example([SYSTEM, *TURNS]))
    texts = [tokenizer.decode(sequence.token_ids) for sequence in sequences]
    assert texts == [
        "<s>[INST] Be kind.\n\nWho are you? [/INST] A hat.</s>",
        "<s>[INST] Who are you? [/INST] A hat.</s>[INST] Be kind.\n\nAnd then? [/INST] I sit on\n\na head.</s>",
    ]
    assert len(Renderer(tokenizer, 512).render(example(TURNS))) == 1


def test_qwen3_forgets_reasoning_so_answers_stand_apart(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, "qwen3")
    turns = [TURNS[0], {"role": "assistant", "content": "<think>Hm.</think>A hat."}, *TURNS[2:]]
    sequences = Renderer(tokenizer, 512).render(example(turns))
    assert learned(tokenizer, sequences) == ["<think>Hm.</think>A hat.<|im_end|>", "I sit on\n\na head.<|im_end|>"]
    assert "Hm." not in tokenizer.decode(sequences[1].token_ids)


def test_gemma_refuses_turns_in_another_order_in_words_of_ours(tmp_path: Path) -> None:
    turns = [TURNS[0], TURNS[0], TURNS[1]]
    with pytest.raises(Unrenderable, match="order of roles: user, user") as caught:
        Renderer(tokenizer_of(tmp_path, "gemma"), 512).render(example(turns))
    assert caught.value.code == "template_refuses_messages"


def test_tools_go_through_the_models_own_template_or_are_written_out(name: str, tokenizer: Reader) -> None:
    chat = example(CALLED, tools=[TOOL])
    sequences = Renderer(tokenizer, 2048).render(chat)
    assert "count_hats" in tokenizer.decode(sequences[0].token_ids).partition("How many?")[0]
    text = tokenizer.decode(sequences[-1].token_ids)
    called, said = (stretch.strip() for stretch in learned(tokenizer, sequences))
    assert said == f"Seven.{ENDS[name]}"
    if name == "qwen3":
        assert tool_samples.renders_tools(tokenizer)
        assert called == '<tool_call>count_hats {"colour": "red"}</tool_call><|im_end|>'
    else:
        assert not tool_samples.renders_tools(tokenizer)
        assert "<tool_response>\n7\n</tool_response>" in text
        assert called == (
            '<tool_call>\n{"name": "count_hats", "arguments": {"colour": "red"}}\n</tool_call>' + ENDS[name]
        )


def test_date_of_a_template_is_pinned_and_another_clock_refused() -> None:
    assert chat_template.pinned("Today: {{ strftime_now('%d %b %Y') }}") == 'Today: {{ "26 Jul 2024" }}'
    assert "strftime_now(" not in chat_template.pinned(FAMILIES["llama"].template)
    with pytest.raises(Exception, match="reads the clock"):
        chat_template.pinned("{% set form = '%d' %}{{ strftime_now(form) }}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen2", []),
        ("phi", []),
        ("qwen3", ["drops the reasoning"]),
        ("mistral", ["moves the system message"]),
        ("llama", ["strips the spaces"]),
        ("gemma", ["strips the spaces"]),
    ],
)
def test_what_a_template_does_to_chats_is_said(name: str, words: list[str], tmp_path: Path) -> None:
    found = template_diagnostics.diagnose(Renderer(tokenizer_of(tmp_path, name), 512))
    assert len(found) == len(words)
    assert all(some in sentence for some, sentence in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        # No system turns: a refusal. History without earlier answers: every answer apart.
        (
            "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('none') }}{% endif %}"
            "{% if m['role'] == 'user' or loop.last %}{{ m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}",
            ["renders earlier turns differently", "accepts no system message"],
        ),
    ],
)
def test_template_that_breaks_the_prefix_is_told_and_rendered_apart(
    template: str, words: list[str], tmp_path: Path
) -> None:
    small_models.make_tokenizer(tmp_path, "qwen2", template)
    tokenizer = Reader(tmp_path / "hf")
    found = template_diagnostics.diagnose(Renderer(tokenizer, 512))
    assert all(some in sentence for some, sentence in zip(words, found, strict=True))
    sequences = Renderer(tokenizer, 512).render(example(TURNS))
    assert learned(tokenizer, sequences) == ["A hat.<|im_end|>", "I sit on\n\na head.<|im_end|>"]
    assert tokenizer.decode(sequences[1].token_ids).startswith("Who are you?<|im_end|>And then?<|im_end|>")


def test_template_without_an_end_is_told_and_the_tokenizers_own_end_is_learned(tmp_path: Path) -> None:
    small_models.make_tokenizer(tmp_path, "qwen2", ENDLESS)
    tokenizer = Reader(tmp_path / "hf")
    assert tokenizer.eos_id is not None
    end = tokenizer.decode([tokenizer.eos_id])
    renderer = Renderer(tokenizer, 512)
    (sentence,) = (words for words in template_diagnostics.diagnose(renderer) if "end-of-turn" in words)
    assert "the tokenizer's own end token is learned there" in sentence
    assert learned(tokenizer, renderer.render(example(TURNS))) == [
        f"A hat.{end}",
        f"I sit on\n\na head.{end}",
    ]


@pytest.mark.parametrize("answer", ["A hat.", ""])
def test_template_that_writes_words_behind_an_answer_and_no_end_is_refused(answer: str, tmp_path: Path) -> None:
    small_models.make_tokenizer(tmp_path, "qwen2", ENDLESS.replace("'\n' }}", "' So it ends.' }}"))
    turns = (
        supervised.Message(supervised.Role.USER, "Who?", 0.0),
        supervised.Message(supervised.Role.ASSISTANT, answer, 1.0),
    )
    with pytest.raises(Unrenderable) as caught:
        Renderer(Reader(tmp_path / "hf"), 512).render(Example(turns))
    assert caught.value.code == "template_without_end"


def test_template_that_rewrites_the_prompt_or_ends_a_turn_too_early_is_refused_with_advice(tmp_path: Path) -> None:
    rewriting = "{{ messages | length }}{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}"
    early = "{% for m in messages %}{{ m['content'] + '<|im_end|> So it ends.' }}{% endfor %}"
    for place, (template, code) in enumerate(((rewriting, "template_breaks_prefix"), (early, "template_without_end"))):
        small_models.make_tokenizer(tmp_path / str(place), "qwen2", template)
        with pytest.raises(InvalidRequest, match="chatml") as caught:
            chat_template.template_warnings(Renderer(Reader(tmp_path / str(place) / "hf"), 512))
        assert caught.value.code == code
