"""Parity over a completions route: what agrees, what does not, and an adapter that the server only says it has."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import fake_completions
import small_models
from fake_completions import Json, Reply, next_token
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.errors import Unavailable
from luthier.data.rendering.renderer import Renderer
from luthier.engines.parity import check_parity
from luthier.engines.remote import completions
from luthier.engines.remote.completions_server import CompletionsServer
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

MESSAGES = [{"role": "user", "content": "the sea"}]
TRAINED: list[dict[int, float]] = [{40: -0.2, 41: -1.8, 42: -3.0}, {50: -0.1, 51: -2.5}, {2: -0.3, 52: -1.5}]
"""What a tuned model says at each position of the only probe, by token id; its likeliest tokens are the answer."""
BASE: list[dict[int, float]] = [{40: -1.5, 41: -0.9, 42: -2.0}, {50: -2.0, 51: -0.4}, {2: -2.5, 52: -0.2}]
Spell = Callable[[int], str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base folder with a tokenizer alone, and a checkpoint's probes beside it."""
    made = tmp_path_factory.mktemp("base")
    small_models.make_tokenizer(made, "llama", small_models.TEMPLATE)
    n_prompt = len(rendered(made))
    positions = [{"token_id": next(iter(top)), "top": [[*each] for each in top.items()]} for top in TRAINED]
    probe = {"messages": MESSAGES, "prompt_tokens": n_prompt, "positions": positions}
    (made / "probes.json").write_text(json.dumps({"version": 1, "dtype": "float32", "probes": [probe]}))
    return made


def rendered(folder: Path) -> list[int]:
    renderer = Renderer(TorchFreeTokenizer(folder / "hf"), 1)
    return renderer.token_ids(renderer.text_of_turns(MESSAGES, (), True))


def by_id(id: int) -> str:
    return f"token_id:{id}"


def by_text(folder: Path) -> Spell:
    known = completions.vocabulary(folder / "hf")
    return lambda id: known.piece(id).decode()


def says(folder: Path, spell: Spell, **models: list[dict[int, float]]) -> Callable[[Json], Reply]:
    """Answers a probe's positions as the model named does, whatever it is called."""
    prompt, answer = rendered(folder), [next(iter(top)) for top in TRAINED]

    def complete(body: Json) -> Reply:
        position = len(body["prompt"]) - len(prompt)
        assert body["prompt"] == [*prompt, *answer[:position]], "a prompt goes on with the trainer's own tokens"
        return next_token({spell(id): value for id, value in models[body["model"]][position].items()})

    return complete


def address(url: str, folder: Path, is_vllm: bool, dtype: str = "float32") -> Address:
    model = ServedModel("base.ft-1", "base", folder, folder)
    return CompletionsServer(url, "key").address(model, "tuned", "base", is_vllm, dtype)


def moved(tops: list[dict[int, float]], by: float) -> list[dict[int, float]]:
    return [{id: value - by for id, value in top.items()} for top in tops]


@pytest.mark.parametrize("is_vllm", [True, False])
def test_model_that_answers_as_trained_agrees(is_vllm: bool, folder: Path) -> None:
    spell = by_id if is_vllm else by_text(folder)
    with fake_completions.serving(says(folder, spell, tuned=TRAINED, base=BASE)) as server:
        report = check_parity(address(server.url, folder, is_vllm), folder)
    assert (report.agrees, report.positions, report.max_difference) == (True, 3, 0.0), report.reason
    assert server.keys == {"Bearer key"}
    asked = server.bodies("/v1/completions")
    assert [body["model"] for body in asked].count("base") == 3, "the base is asked too"
    assert {body["logprobs"] for body in asked} == {20 if is_vllm else 5}
    salts = {body.get("cache_salt") for body in asked}
    assert len(salts) == 2 if is_vllm else salts == {None}, "each model's probes have a cache of their own"


def test_adapter_that_answers_as_its_base_does_not_agree_in_any_dtype(folder: Path) -> None:
    near = moved(TRAINED, 0.12)  # within what bf16 may differ, but what the base says
    with fake_completions.serving(says(folder, by_id, tuned=near, base=near)) as server:
        report = check_parity(address(server.url, folder, True, "bfloat16"), folder)
    assert not report.agrees
    assert "as if the adapter had no effect" in report.reason
    assert report.tolerance == 1.5


def test_adapter_nearer_to_its_trainer_than_its_base_agrees_within_bf16(folder: Path) -> None:
    with fake_completions.serving(says(folder, by_id, tuned=moved(TRAINED, 0.12), base=BASE)) as server:
        report = check_parity(address(server.url, folder, True, "bfloat16"), folder)
        exact = check_parity(address(server.url, folder, True), folder)
    assert report.agrees, report.reason
    assert report.mean_difference == pytest.approx(0.12)
    assert not exact.agrees, "what computes in float32 is held to more"


def test_adapter_that_hardly_changes_its_base_agrees(folder: Path) -> None:
    with fake_completions.serving(says(folder, by_id, tuned=TRAINED, base=moved(TRAINED, 0.01))) as server:
        assert check_parity(address(server.url, folder, True), folder).agrees


def test_other_prompt_than_the_trainers_is_no_parity(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "probes.json").read_bytes())
    content["probes"][0]["prompt_tokens"] += 1
    (tmp_path / "probes.json").write_text(json.dumps(content))
    with fake_completions.serving(says(folder, by_id, tuned=TRAINED, base=BASE)) as server:
        report = check_parity(address(server.url, folder, True), tmp_path)
    assert not report.agrees
    assert "the chat template or the tokenizer differs" in report.reason


@pytest.mark.parametrize(
    "logprobs", [None, {}, {"top_logprobs": None}, {"top_logprobs": []}, {"top_logprobs": [{"\ufffd": -1.0}]}]
)
def test_server_that_tells_no_log_probability_of_a_compared_token_is_refused(
    logprobs: Mapping[str, Any] | None, folder: Path
) -> None:
    def complete(body: Json) -> Reply:
        return 200, {"choices": [{"text": "x", "logprobs": logprobs}]}

    with fake_completions.serving(complete) as server, pytest.raises(Unavailable) as refusal:
        check_parity(address(server.url, folder, False), folder)
    assert refusal.value.code == "no_log_probabilities"


@pytest.mark.parametrize("status", [400, 401, 500])
def test_server_that_refuses_the_probes_is_unavailable(status: int, folder: Path) -> None:
    refuses = fake_completions.serving(lambda body: (status, {"error": "the sea"}))
    with refuses as server, pytest.raises(Unavailable, match=f"probes .HTTP {status}") as refusal:
        check_parity(address(server.url, folder, False), folder)
    assert "sea" not in refusal.value.message
