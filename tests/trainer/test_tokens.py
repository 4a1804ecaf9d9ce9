"""Training tokens and chat prompts come from one renderer: what is trained is what serving will ask."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from luthier.core.states import Method
from luthier.data.rendering.renderer import Renderer, Unrenderable
from luthier.data.rows.supervised import Example, Message, Role
from luthier.trainer.dataset import training_examples
from luthier.trainer.dataset.tokenizer import FolderTokenizer
from luthier.trainer.dataset.training_examples import Source
from repository import CLIPPY

TEXT = st.text(st.sampled_from(" \n\tab1é'<|>."), max_size=12) | st.text(max_size=8)
TURNS = st.lists(st.tuples(TEXT, TEXT, st.sampled_from([0.0, 1.0])), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> FolderTokenizer:
    return FolderTokenizer(base / "hf")


def user(text: str) -> Message:
    return Message(Role.USER, text, 0.0)


def assistant(text: str, weight: float = 1.0) -> Message:
    return Message(Role.ASSISTANT, text, weight)


@settings(deadline=None)
@given(TURNS)
def test_render_every_learned_answer_follows_exactly_its_chat_prompt(
    tokenizer: FolderTokenizer, turns: list[tuple[str, str, float]]
) -> None:
    messages = [message for asked, told, weight in turns for message in (user(asked), assistant(told, weight))]
    messages[-1] = assistant(turns[-1][1])
    renderer = Renderer(tokenizer, 4096)
    sequences = renderer.render(Example(tuple(messages)))
    for place, message in enumerate(messages):
        if not message.weight:
            continue
        prompt = tuple(renderer.chat_prompt(messages[:place]))
        answer = tuple(tokenizer.token_ids(message.content + tiny.SPECIAL[2]))
        holders = [
            sequence
            for sequence in sequences
            if sequence.token_ids[: len(prompt) + len(answer)] == prompt + answer
            and all(sequence.loss_weights[len(prompt) : len(prompt) + len(answer)])
        ]
        assert len(holders) == 1
    learned = sum(sum(map(bool, sequence.loss_weights)) for sequence in sequences)
    answers = [tokenizer.token_ids(turn.content + tiny.SPECIAL[2]) for turn in messages if turn.weight]
    assert learned == sum(map(len, answers))


def test_render_one_turn_learns_the_answer_and_its_end_and_no_more(tokenizer: FolderTokenizer) -> None:
    (sequence,) = Renderer(tokenizer, 512).render(Example((user("Hi"), assistant("Hello 12"))))
    learned = [id for id, weight in zip(sequence.token_ids, sequence.loss_weights, strict=True) if weight]
    assert learned == tokenizer.token_ids("Hello 12<|im_end|>")
    assert sequence.token_ids[-1] == 2  # the newline that ChatML writes behind is not there
    assert sequence.prompt_tokens == len(sequence.token_ids) - len(learned)


def test_render_weight_0_is_read_and_not_learned(tokenizer: FolderTokenizer) -> None:
    turns = (user("Who?"), assistant("Ann", 0.0), user("Really?"), assistant("Yes"))
    (sequence,) = Renderer(tokenizer, 512).render(Example(turns))
    learned = [id for id, weight in zip(sequence.token_ids, sequence.loss_weights, strict=True) if weight]
    assert learned == tokenizer.token_ids("Yes<|im_end|>")


def test_render_developer_reads_as_system(tokenizer: FolderTokenizer) -> None:
    renderer = Renderer(tokenizer, 512)
    developer, system = (Message(role, "Be kind.", 0.0) for role in (Role.DEVELOPER, Role.SYSTEM))
    assert renderer.chat_prompt([developer, user("Hi")]) == renderer.chat_prompt([system, user("Hi")])


def test_render_too_long_is_refused_never_cut(tokenizer: FolderTokenizer) -> None:
    example = Example((user("Hi"), assistant("Hello " * 100)))
    n_tokens = len(Renderer(tokenizer, 4096).render(example)[0].token_ids)
    assert Renderer(tokenizer, n_tokens).render(example)
    with pytest.raises(Unrenderable, match=f"{n_tokens} tokens") as caught:
        Renderer(tokenizer, n_tokens - 1).render(example)
    assert caught.value.code == "too_many_tokens"


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ("{{ messages|length }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}", "template_breaks_prefix"),
        ("{% for m in messages %}{{ m.content }} So.\n{% endfor %}", "template_without_end"),
        (
            "{% if messages[-1].role == 'assistant' %}{{ raise_exception('no') }}{% endif %}",
            "template_refuses_messages",
        ),
    ],
)
def test_render_template_that_cannot_be_learned_says_so(tmp_path: Path, template: str, code: str) -> None:
    tokenizer = FolderTokenizer(tiny.base_folder(tmp_path / "other", template=template) / "hf")
    with pytest.raises(Unrenderable) as caught:
        Renderer(tokenizer, 512).render(Example((user("secret"), assistant("Hello"))))
    assert caught.value.code == code
    assert "secret" not in caught.value.message


def test_render_template_that_drops_earlier_reasoning_trains_each_answer_apart(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and loop.last %}[]{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = FolderTokenizer(tiny.base_folder(tmp_path / "other", template=template) / "hf")
    turns = (user("a"), assistant("b"), user("c"), assistant("d"))
    renderer = Renderer(tokenizer, 512)
    first, second = renderer.render(Example(turns))
    assert first.token_ids[: first.prompt_tokens] == tuple(renderer.chat_prompt(turns[:1]))
    assert second.token_ids[: second.prompt_tokens] == tuple(renderer.chat_prompt(turns[:3]))
    assert sum(map(bool, second.loss_weights)) == len(tokenizer.token_ids("[]d<|im_end|>"))


def test_dataset_takes_tokens_that_an_earlier_start_kept_and_only_those_of_its_key(base: Path, tmp_path: Path) -> None:
    renderer = Renderer(FolderTokenizer(base / "hf"), 512)
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(CLIPPY.read_bytes())
    cache = tmp_path / "tokens" / "kept.safetensors"
    source = Source(rows, "training_file", 1, frozenset(), Method.SUPERVISED, cache, lambda _: "key")
    first, _ = training_examples.load(source, renderer)
    rows.write_bytes(b"".join(CLIPPY.read_bytes().splitlines(keepends=True)[:3]))
    assert training_examples.load(source, renderer)[0] == first
    assert len(training_examples.load(replace(source, cache_key=lambda _: "another"), renderer)[0].examples) == 3
    source.cache.write_bytes(b"half a fi")
    assert len(training_examples.load(source, renderer)[0].examples) == 3
