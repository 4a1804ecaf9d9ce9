"""The tally of deployments: what is counted, for which of them, and how much of it is kept."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from luthier.core.errors import Unavailable
from luthier.core.inference.generation import Usage
from luthier.core.models import Deployment
from luthier.core.states import DeploymentState
from luthier.service.models import deployment_expiry, deployment_traffic
from luthier.service.models.deployment_expiry import Lifetimes
from luthier.service.models.deployment_traffic import DeploymentTraffic, Traffic

NOW = datetime(2026, 11, 22, tzinfo=UTC)
MINE = Deployment(
    "mine", "default", "m", None, "Standard", 1, DeploymentState.SUCCEEDED, None, None, NOW, NOW, {}, None, NOW, NOW, {}
)


async def _parts(*parts: object) -> AsyncGenerator[object]:
    for part in parts:
        if isinstance(part, Exception):
            raise part
        yield part


def _call(traffic: DeploymentTraffic, deployment: Deployment | None, *parts: object) -> list[object]:
    async def collect() -> list[object]:
        return [part async for part in traffic.metered(deployment, NOW, _parts(*parts))]

    return asyncio.run(collect())


def test_parts_pass_unchanged_and_are_counted_for_their_deployment_only() -> None:
    traffic = DeploymentTraffic()
    assert _call(traffic, MINE, "a", Usage(3, 2)) == ["a", Usage(3, 2)]
    assert _call(traffic, None, "a", Usage(3, 2)) == ["a", Usage(3, 2)]
    with pytest.raises(Unavailable):
        _call(traffic, MINE, Unavailable("engine_gone", "It is gone."))
    traffic.count_refusal(MINE)
    traffic.count_refusal(None)
    found = traffic.of(MINE)
    assert (found.calls, found.errors, found.refused, found.input_tokens, found.output_tokens) == (2, 1, 1, 3, 2)
    assert found.first_token_s is not None
    assert found.last_call_at == NOW
    assert traffic.of(replace(MINE, name="other")) == Traffic()
    assert traffic.of(replace(MINE, created_at=NOW + timedelta(seconds=1))) == Traffic()


def test_tally_of_the_deployment_called_longest_ago_is_forgotten_first() -> None:
    traffic = DeploymentTraffic()
    for number in range(deployment_traffic.MOST_DEPLOYMENTS + 1):
        traffic.count_refusal(replace(MINE, name=f"d{number}"))
    assert traffic.of(replace(MINE, name="d0")) == Traffic()
    assert traffic.of(replace(MINE, name="d1")).refused == 1


def test_deployment_expires_by_the_first_rule_that_holds_for_it() -> None:
    lifetimes = Lifetimes(timedelta(hours=24), timedelta(days=15))
    developer = replace(MINE, sku_name="Developer")
    assert deployment_expiry.expires_at(MINE, False, lifetimes) is None
    assert deployment_expiry.expires_at(MINE, True, lifetimes) == NOW + timedelta(days=15)
    assert deployment_expiry.expires_at(developer, True, lifetimes) == NOW + timedelta(hours=24)
    assert deployment_expiry.expires_at(developer, True, Lifetimes(timedelta(), timedelta())) is None
