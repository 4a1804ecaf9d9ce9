"""Answers of many sequences over several adapters at once are token for token those of each alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small_models
import tiny_decoders
from luthier.engines.native.decoder import adapters
from luthier.engines.native.decoder.library import NO_ADAPTER, Decoder
from luthier.model_folder import CheckpointFolder
from scheduling import Call, Desk
from tiny_decoders import prompt

N_ADAPTERS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_decoders.save(folder / "hf", "qwen3", torch.bfloat16, head_dim=32)
    for number, rank in enumerate((4, 8, 24)):
        small_models.make_adapter(folder / str(number), folder, seed=number, spread=0.15, r=rank)
    return folder


class Model:
    """A desk over a decoder with all adapters."""

    def __init__(self, folder: Path, n_threads: int) -> None:
        self.decoder: Decoder = tiny_decoders.load(folder / "hf", n_pages=64, n_threads=n_threads)
        folders = [CheckpointFolder(folder / str(number)) for number in range(N_ADAPTERS)]
        self.adapters = [NO_ADAPTER, *(adapters.load_adapter(self.decoder, each) for each in folders)]
        self.desk = Desk(self.decoder)

    def close(self) -> None:
        self.desk.close()
        self.decoder.close()


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def model(request: pytest.FixtureRequest, folder: Path) -> Iterator[Model]:
    made = Model(folder, request.param)
    yield made
    made.close()


def requests(adapters: list[int]) -> list[tuple[list[int], int, dict[str, Any]]]:
    """Prompts of many lengths, some alike, drawn in all ways; two for each adapter and for the base."""
    return [
        (prompt(30), adapters[0], {"max_tokens": 20}),
        (prompt(30), adapters[1], {"max_tokens": 20, "temperature": 1.0, "seed": 3}),
        (prompt(300, 2), adapters[2], {"max_tokens": 10, "top_log_probs": 2}),
        (prompt(30), adapters[3], {"max_tokens": 20, "temperature": 0.7, "top_p": 0.8, "seed": 4}),
        (prompt(150, 3), adapters[3], {"max_tokens": 20, "frequency_penalty": 1.0}),
        (prompt(1, 4), adapters[1], {"max_tokens": 40}),
        (prompt(130, 5), adapters[2], {"max_tokens": 15, "temperature": 1.5, "seed": -5}),
        (prompt(130, 5), adapters[0], {"max_tokens": 15, "temperature": 1.5, "seed": -5}),
    ]


def contents(call: Call) -> tuple[str, list[Any]]:
    """An answer's text and its log-probabilities, to the bit."""
    return call.text, [entry for message in call.messages for entry in message.get("log_probs", ())]


def test_answers_side_by_side_are_those_of_each_alone(model: Model, folder: Path) -> None:
    calls = [model.desk.ask(text, adapter, **asked) for text, adapter, asked in requests(model.adapters)]
    model.desk.start()
    together = [contents(call.wait()) for call in calls]
    lone = Model(folder, 1)
    lone.desk.start()
    alone = [contents(lone.desk.run(text, adapter, **asked)) for text, adapter, asked in requests(lone.adapters)]
    lone.close()
    assert together == alone
    assert len({text for text, _ in together}) == len(together), "adapters that say the same prove nothing"


def test_an_adapter_loaded_or_removed_between_steps_changes_no_answer(model: Model, folder: Path) -> None:
    model.desk.start()
    asked = requests(model.adapters)[:2]
    before = [contents(model.desk.run(text, adapter, **fields)) for text, adapter, fields in asked]
    unused = model.adapters[3]

    def order() -> None:
        model.decoder.remove_adapter(unused)
        adapters.load_adapter(model.decoder, CheckpointFolder(folder / "1"))

    calls = [model.desk.ask(text, adapter, scope="other", **fields) for text, adapter, fields in asked]
    calls[0].heard.get(timeout=30)
    model.desk.scheduler.run_between_steps(order)
    assert [contents(call.wait()) for call in calls] == before


def test_adapters_share_no_pages_of_a_prompt(model: Model) -> None:
    calls = [model.desk.ask(prompt(100), adapter) for adapter in model.adapters]
    model.desk.start()
    assert [call.wait().usage[2] for call in calls] == [0] * len(calls)


def test_scores_of_a_prompt_are_the_log_probabilities_of_its_own_tokens(model: Model, folder: Path) -> None:
    tokens = prompt(150)
    answer = model.desk.ask(prompt(40, 1), max_tokens=60)
    call = model.desk.score(tokens, 3, model.adapters[1])
    model.desk.start()
    entries = [entry for message in call.wait().messages for entry in message["scores"]]
    answer.wait()
    expected = tiny_decoders.log_probs_of(tiny_decoders.reference(folder / "hf", folder / "0"), tokens)
    assert [entry[0] for entry in entries] == [*tokens[1:], None]
    own = [log_prob for _, _, log_prob, _ in entries[:-1]]
    assert np.abs(np.array(own) - expected[np.arange(149), tokens[1:]]).max() < 2e-3
    for (_, _, _, top), row in zip(entries, expected, strict=True):
        assert [value for _, _, value in top] == pytest.approx(np.sort(row)[::-1][:3], abs=2e-3)


def test_scores_are_computed_anew_and_the_same_where_an_answer_has_left_its_pages(model: Model) -> None:
    model.desk.start()
    first = model.desk.score(prompt(150), 2).wait()
    model.desk.run(prompt(150))
    again = model.desk.score(prompt(150), 2).wait()
    scores = [[entry for message in call.messages for entry in message["scores"]] for call in (first, again)]
    assert len(scores[0]) == 150
    assert scores[0] == scores[1]
    assert model.desk.run(prompt(150)).usage[2] == 149
