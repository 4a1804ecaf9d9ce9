"""luthier show: a row as the model will see it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import rows
import tiny
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

Command = Callable[..., Result]

ROW = {
    "messages": [
        {"role": "user", "content": "Größe 👍🏽?"},
        {"role": "assistant", "content": "Nein [bold]", "weight": 0},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "Weil é 12."},
    ]
}


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> None:
    content = rows.good(2) + b"\n" + json.dumps(ROW).encode() + b'\n{"messages": []}\n'
    (tmp_path / "rows.jsonl").write_bytes(content)


def told(alone: Command, *arguments: str) -> Any:
    done = alone("show", "rows.jsonl", *arguments, "--model", tiny.NAME, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_json_has_each_token_with_its_text_and_weight(alone: Command, tiny_models: Path) -> None:
    answer = told(alone, "4")
    (sequence,) = answer["sequences"]
    text = "".join(token["text"] for token in sequence["tokens"])
    assert text == (
        "<|im_start|>user\nGröße 👍🏽?<|im_end|>\n<|im_start|>assistant\nNein [bold]<|im_end|>\n"
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nWeil é 12.<|im_end|>"
    )
    learned = [token["text"] for token in sequence["tokens"] if token["weight"]]
    assert "".join(learned) == "Weil é 12.<|im_end|>"
    tokenizer = TorchFreeTokenizer(tiny_models / tiny.NAME / "hf")
    assert [token["id"] for token in sequence["tokens"]][: sequence["prompt_tokens"]] == tokenizer.token_ids(
        text.removesuffix("Weil é 12.<|im_end|>")
    )


def test_text_is_printed_as_it_is(alone: Command) -> None:
    done = alone("show", "rows.jsonl", "4", "--model", tiny.NAME)
    assert done.exit_code == 0
    head, *lines = done.stdout.splitlines()
    assert "learned" in head
    assert lines[:3] == ["<|im_start|>user", "Größe 👍🏽?<|im_end|>", "<|im_start|>assistant"]
    assert "Nein [bold]<|im_end|>" in lines


def test_tokens_option_lists_every_token_with_its_weight(alone: Command) -> None:
    done = alone("show", "rows.jsonl", "1", "--model", tiny.NAME, "--tokens")
    _, *lines = done.stdout.splitlines()
    tokens = told(alone, "1")["sequences"][0]["tokens"]
    assert [line.split()[:2] for line in lines] == [[str(one["id"]), f"{one['weight']:g}"] for one in tokens]


def test_row_with_errors_is_told_instead(alone: Command) -> None:
    done = alone("show", "rows.jsonl", "5", "--model", tiny.NAME)
    assert done.exit_code == 1
    assert "Line 5, messages:" in done.stderr


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("[\n" + ",\n".join([json.dumps(ROW)] * 12) + "\n]\n", "one JSON array"),
        ("prompt,completion\n" + "Why?,Because.\n" * 12, "a table (CSV)"),
    ],
)
def test_file_of_another_kind_is_told_as_check_tells_it(
    alone: Command, tmp_path: Path, content: str, kind: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    done = alone("show", "rows.jsonl", "1", "--model", tiny.NAME)
    assert done.exit_code == 1
    assert f"it looks like {kind}. luthier check OLD --fix NEW" in done.stderr


@pytest.mark.parametrize("line", ["0", "3", "6"])
def test_line_without_a_row_is_wrong_use(alone: Command, line: str) -> None:
    assert alone("show", "rows.jsonl", line, "--model", tiny.NAME).exit_code == 2


def test_pair_shows_both_outputs(alone: Command, tmp_path: Path) -> None:
    said = {"preferred_output": "Yes", "non_preferred_output": "No"}
    pair: dict[str, Any] = {"input": {"messages": [{"role": "user", "content": "Tea?"}]}}
    pair |= {key: [{"role": "assistant", "content": text}] for key, text in said.items()}
    (tmp_path / "rows.jsonl").write_text(json.dumps(pair))
    answer = told(alone, "1", "--method", "dpo")
    learned = {
        one["output"]: "".join(token["text"] for token in one["tokens"] if token["weight"])
        for one in answer["sequences"]
    }
    assert learned == {"preferred": "Yes<|im_end|>", "non_preferred": "No<|im_end|>"}
