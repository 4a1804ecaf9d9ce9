"""Files in the formats of others, from `luthier check --fix` to a trained adapter."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import tiny
from format_samples import SAMPLES, Sample
from luthier.core.states import Method
from luthier.data.jsonl.line_reader import JsonRow
from luthier.data.rendering.renderer import Renderer, Unrenderable
from luthier.data.rows import preference, supervised
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer
from repository import MODELS

Command = Callable[..., Result]

CONVERTED = [sample for sample in SAMPLES if sample.converted is not None]


def method_of(sample: Sample) -> Method:
    assert sample.converted is not None
    return Method.DPO if "input" in sample.converted else Method.SUPERVISED


def write(path: Path, samples: list[Sample]) -> None:
    """A file of these rows, each about a unit of its own so that none repeats another."""
    lines = [json.dumps(sample.row).replace("unit 4", f"unit {n + 10}") for n, sample in enumerate(samples)]
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("method", list(Method))
def test_file_of_other_formats_is_fixed_and_trains(alone: Command, tmp_path: Path, method: Method) -> None:
    samples = [one for one in CONVERTED if method_of(one) is method and '"tools"' not in json.dumps(one.converted)]
    samples = [one for one in samples if "tool_calls" not in json.dumps(one.converted)]
    write(tmp_path / "rows.jsonl", samples)
    before = alone("check", "rows.jsonl", "--method", method)
    assert before.exit_code == 1
    done = alone("check", "rows.jsonl", "--method", method, "--model", tiny.NAME, "--fix", "fixed.jsonl")
    assert (done.exit_code, " 0 bad." in done.stdout) == (0, True), done.stdout
    assert len((tmp_path / "fixed.jsonl").read_text().splitlines()) >= len(samples) - 1
    more = ("--method", method, "--epochs", "1", "--batch-size", "8", "--out", "out", "--json")
    trained = alone("train", "--model", tiny.NAME, "--data", "fixed.jsonl", *more)
    assert trained.exit_code == 0, trained.output
    assert json.loads(trained.stdout)["steps"] > 0


def test_format_and_keys_that_go_are_shown_once(alone: Command, tmp_path: Path) -> None:
    rows = [{"id": n, "prompt": f"Bay of {n}?", "completion": "Seven.", "crm\x1b[2J": "web"} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    told = alone("check", "rows.jsonl").stdout
    assert told.count("prompt and completion (OpenAI") == 1
    assert "lines 1-12 (12 in all)" in told
    fixed = " ".join(alone("check", "rows.jsonl", "--fix", "fixed.jsonl").stdout.split())
    assert "Together) turned into messages: line 1-12" in fixed
    assert "id left out, for which messages have no place: line 1-12" in fixed
    assert "crm\\u001b[2J left out" in fixed


@pytest.mark.model
def test_every_converted_row_becomes_tokens_of_the_embedded_model() -> None:
    models = Path(os.environ.get("LUTHIER_MODELS_DIR") or MODELS)
    renderer = Renderer(TorchFreeTokenizer(models / "smollm2-135m-instruct" / "hf"), 8192)
    for sample in CONVERTED:
        assert sample.converted is not None
        row = JsonRow(1, sample.converted)
        if method_of(sample) is Method.DPO:
            pair = preference.parse_preference(row, None).example
            assert pair is not None
            examples = pair.examples()
        else:
            example = supervised.parse_supervised(row, None).example
            assert example is not None
            examples = (example, example)
        if sample.format == "completion_alone":  # its template puts a system prompt of its own before a first turn
            with pytest.raises(Unrenderable, match="changes what comes before"):
                renderer.render(examples[0])
            continue
        for one in examples:
            rendered = renderer.render(one)
            assert sum(sum(map(bool, part.loss_weights)) for part in rendered) > 1, sample
