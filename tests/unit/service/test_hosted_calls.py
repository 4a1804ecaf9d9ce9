"""A host that goes before the first output is replaced by the next; after it the caller is told."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

import pytest

from luthier.core.engine_ports import Address
from luthier.core.errors import RateLimited
from luthier.core.inference.engine_hosts import HostGone, Operation
from luthier.core.inference.generation import EngineDelta
from luthier.service.scheduling.admission import QueueKey
from luthier.service.scheduling.engine_calls import EngineCall
from luthier.service.scheduling.hosted_calls import HOSTS_ASKED, HostedCalls

Script = dict[str, list[object]]


class ScriptedHosts:
    """By URL what each host sends: values, or an error that it raises."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, Mapping[str, object]]] = []

    async def stream(self, url: str, operation: Operation, body: Mapping[str, object]) -> AsyncGenerator[object]:
        self.asked.append((url, body))
        for value in self.script[url]:
            if isinstance(value, Exception):
                raise value
            yield value

    async def ask(self, url: str, operation: Operation, body: Mapping[str, object]) -> object:
        raise NotImplementedError

    def ask_now(
        self, url: str, operation: Operation, body: Mapping[str, object], timeout_s: float | None = None
    ) -> object:
        raise NotImplementedError

    async def close(self) -> None:
        return


def outputs(script: Script, urls: list[str]) -> tuple[list[str], list[str], ScriptedHosts]:
    """The texts that come, the hosts that were noted as gone, and the hosts."""
    hosts, gone = ScriptedHosts(script), list[str]()
    calls = HostedCalls(hosts, gone.append)
    addresses = iter([Address(url, {"model": "m", "owner": "o"}) for url in urls])

    async def current_address() -> Address:
        return next(addresses)

    async def run() -> list[str]:
        call = EngineCall(await current_address(), current_address, QueueKey("r", "mine", True), "m", "messages")
        found = []
        async for _, output in calls.generate(call, [{"messages": []}]):
            assert isinstance(output, EngineDelta)
            found.append(output.text)
        return found

    return asyncio.run(run()), gone, hosts


def test_next_host_answers_for_one_that_is_gone_before_its_first_output() -> None:
    script: Script = {"a": [HostGone()], "b": [[0, {"text": "Hi"}], [0, {"text": "!"}]]}
    texts, gone, hosts = outputs(script, ["a", "b"])
    assert (texts, gone) == (["Hi", "!"], ["a"])
    body = hosts.asked[1][1]
    assert body["caller"] == {"resource": "r", "target": "mine", "is_background": True}
    assert (body["model"], body["owner"], body["requests"]) == ("m", "o", [{"messages": []}])


def test_host_that_goes_in_the_middle_of_an_answer_ends_it() -> None:
    with pytest.raises(HostGone):
        outputs({"a": [[0, {"text": "Hi"}], HostGone()], "b": [[0, {"text": "Hi"}]]}, ["a", "b"])


def test_so_many_hosts_are_asked_and_no_more() -> None:
    with pytest.raises(HostGone):
        outputs({"a": [HostGone()]}, ["a"] * HOSTS_ASKED)


def test_what_a_host_refuses_no_other_one_is_asked() -> None:
    with pytest.raises(RateLimited):
        outputs({"a": [RateLimited("queue_full", "Wait.", 1.0)]}, ["a"])
