"""What a caller sees of rate limits: headers on every answer, 429 in both vendors' words."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import openai
import pytest
from openai import AzureOpenAI, OpenAI

from control_plane import put
from fakes import BASE, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.tenants.rate_limits import RateLimits

QUESTION = [{"role": "user", "content": "Who painted the Mona Lisa?"}]


@dataclass
class Clock:
    time: datetime = field(default_factory=lambda: datetime(2026, 11, 22, tzinfo=UTC))

    def now(self) -> datetime:
        return self.time


@pytest.fixture
def clock(url: str, switch: tuple[Any, str], context: Context, serving: Serving, supervisor: Supervisor) -> Clock:
    """A deployment at Azure's own rate: 1,000 tokens and 6 requests a minute."""
    put(url, "clippy", BASE)
    supervisor.tick_deployments()
    clock = Clock()
    made, _ = switch
    limits = RateLimits(tokens_per_capacity=1000)
    made.app = server.build(
        Services(replace(context, now=clock.now), serving, lambda: None, limits, calls=engine_calls()), None
    )
    return clock


def test_headers_tell_the_rate_on_every_answer(clock: Clock, azure: AzureOpenAI) -> None:
    ask = azure.chat.completions.with_raw_response.create
    first = ask(model="clippy", messages=QUESTION, max_tokens=50).headers
    assert (first["x-ratelimit-limit-requests"], first["x-ratelimit-limit-tokens"]) == ("6", "1000")
    assert first["x-ratelimit-remaining-requests"] == "5"
    assert first["x-ratelimit-remaining-tokens"] == "995", "the fake engine used 5"
    assert first["x-ratelimit-reset-requests"].endswith("s")
    second = azure.completions.with_raw_response.create(model="clippy", prompt="x").headers
    assert second["x-ratelimit-remaining-requests"] == "4"
    assert second["x-ratelimit-remaining-tokens"] == "990"
    with azure.chat.completions.with_streaming_response.create(
        model="clippy", messages=QUESTION, max_tokens=50, stream=True
    ) as third:
        assert third.headers["x-ratelimit-remaining-tokens"] == "933", "50 and 7 of the prompt, not yet settled"
        list(third.iter_lines())
    fourth = ask(model="clippy", messages=QUESTION).headers
    assert fourth["x-ratelimit-remaining-tokens"] == "980"


def test_seventh_request_of_a_minute_is_a_429_in_each_dialects_words(
    clock: Clock, azure: AzureOpenAI, azure_v1: OpenAI, openai_client: OpenAI
) -> None:
    for _ in range(6):
        azure.chat.completions.create(model="clippy", messages=QUESTION, max_tokens=5)
    for client, code in ((azure, "429"), (azure_v1, "429"), (openai_client, "rate_limit_exceeded")):
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="clippy", messages=QUESTION, max_tokens=5)
        assert caught.value.code == code
        headers = caught.value.response.headers
        assert 0 < int(headers["retry-after"]) <= 60
        assert int(headers["retry-after-ms"]) <= 60_000
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert "x-should-retry" not in headers
    clock.time += timedelta(seconds=60)
    azure.chat.completions.create(model="clippy", messages=QUESTION, max_tokens=5)


def test_refused_request_costs_no_tokens(clock: Clock, azure: AzureOpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        azure.chat.completions.create(
            model="clippy", messages=[{"role": "user", "content": "too long"}], max_tokens=5000
        )
    answer = azure.chat.completions.with_raw_response.create(model="clippy", messages=QUESTION)
    assert answer.headers["x-ratelimit-remaining-tokens"] == "995"


def test_model_called_without_a_deployment_has_no_limit_and_no_headers(clock: Clock, openai_client: OpenAI) -> None:
    for _ in range(8):
        answer = openai_client.chat.completions.with_raw_response.create(model=BASE, messages=QUESTION)
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
