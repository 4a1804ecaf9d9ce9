"""A prompt that is too long in any vocabulary is refused before anything is tokenized."""

from dataclasses import replace
from pathlib import Path

import pytest

import small_models
from luthier.core.engine_ports import Address, Capacity
from luthier.core.errors import InvalidRequest
from luthier.service.inference import served_prompts
from luthier.service.inference.generation_requests import ChatRequest, Sampling


def test_text_longer_than_the_window_in_any_vocabulary_is_not_tokenized(tmp_path: Path) -> None:
    base = small_models.make_base(tmp_path / "base", "llama")
    address = Address("native://", {}, takes_tokens=True, capacity=Capacity("e", 1, 64, 64))
    short = ChatRequest(({"role": "user", "content": "x" * 8000},), Sampling({}))
    assert served_prompts.render_prompt(base, short, address).prompt_ids is not None

    # Of a prompt that was tokenized the message would say how many tokens it has.
    with pytest.raises(InvalidRequest, match="over 64 tokens") as caught:
        served_prompts.render_prompt(
            base, replace(short, messages=({"role": "user", "content": "x" * 20_000},)), address
        )
    assert caught.value.param == "messages"
