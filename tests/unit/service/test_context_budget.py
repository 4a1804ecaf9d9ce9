"""What an answer may need of the context, and what can never fit."""

import asyncio
from collections.abc import Sequence

import pytest

from luthier.core.engine_ports import Address, Capacity
from luthier.core.errors import InvalidRequest
from luthier.engines.engine_client import HttpEngineClient
from luthier.service.scheduling.admission import QueueKey
from luthier.service.scheduling.context_budget import DEFAULT_MAX_TOKENS, answer_tokens
from luthier.service.scheduling.engine_calls import EngineCall, EngineCalls

SMALL = Capacity("engine", slots=8, context_tokens=16_000, window_tokens=8_000)
LARGE = Capacity("engine", slots=2, context_tokens=64_000, window_tokens=32_000)


@pytest.mark.parametrize(
    ("capacity", "prompt", "answers", "tokens"),
    [
        (SMALL, 100, 1, 1_900),  # the rest of a slot's share
        (SMALL, 1_900, 1, 1_000),  # and half of it behind a long prompt
        (SMALL, 7_500, 1, 500),  # but no more than fits
        (SMALL, 100, 128, 125),  # all answers of a request together
        (LARGE, 100, 1, DEFAULT_MAX_TOKENS),
    ],
)
def test_answer_without_max_tokens_gets_a_share(capacity: Capacity, prompt: int, answers: int, tokens: int) -> None:
    assert answer_tokens(capacity, prompt, None, answers) == tokens


def test_max_tokens_that_fit_are_as_asked() -> None:
    assert answer_tokens(SMALL, 100, 7_900, 2) == 7_900


@pytest.mark.parametrize(
    ("prompt", "asked", "answers", "code", "param", "words"),
    [
        (8_000, None, 1, "context_length_exceeded", "messages", "maximum context length is 8000 tokens"),
        (7_000, 1_001, 1, "context_length_exceeded", "messages", r"8001 tokens \(7000 in the messages, 1001 in"),
        (100, 126, 128, "invalid_value", "max_tokens", "at most 16000 completion tokens"),
    ],
)
def test_what_can_never_fit_is_refused_in_the_vendors_words(
    prompt: int, asked: int | None, answers: int, code: str, param: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refusal:
        answer_tokens(SMALL, prompt, asked, answers)
    assert (refusal.value.code, refusal.value.param) == (code, param)


def test_text_of_too_many_tokens_is_refused_at_the_field_of_the_caller() -> None:
    class LongTexts(HttpEngineClient):
        async def tokenize(self, address: Address, text: str) -> Sequence[int]:
            return [0] * (SMALL.window_tokens + 1)

    address = Address("http://127.0.0.1:1/v1", {}, capacity=SMALL)

    async def current() -> Address:
        return address

    call = EngineCall(address, current, QueueKey("r", "d"), "m", "input")
    with pytest.raises(InvalidRequest, match="your input resulted in 8001 tokens") as caught:
        asyncio.run(EngineCalls(LongTexts()).tokenize(call, "word"))
    assert caught.value.param == "input"
