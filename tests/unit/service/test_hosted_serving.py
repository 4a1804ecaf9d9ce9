"""What is asked of hosts beside answers: addresses, proofs, states and faults, also of hosts that are gone."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

import pytest

from fakes import BASE
from luthier.core.engine_ports import ParityReport
from luthier.core.errors import UpstreamFailed
from luthier.core.inference import host_values
from luthier.core.inference.engine_hosts import EngineHost, HostGone, Operation
from luthier.core.states import DeploymentState, EngineName, LoadState
from luthier.service.context import Context
from luthier.service.models import deployments, models
from luthier.service.models.deployments import DeploymentRequest
from luthier.service.models.hosting.host_directory import HostDirectory
from luthier.service.models.hosting.hosted_serving import HostedServing
from waiting import until

ADDRESS = {"renders_tools": True, "takes_tokens": False, "embeds": False, "capacity": None}
REPORT = host_values.report(ParityReport(3, 0.1, 0.05, 0.5, True, "Agrees."))
DEFAULT_RESOURCE = "default"
A, B = (EngineHost(f"http://{name}", f"process/{name}", 8) for name in "ab")


@dataclass
class Hosts:
    """Implements the port: what each host answers, by URL; an error is raised."""

    answers: dict[str, dict[Operation, object]]
    asked: list[tuple[str, Operation, Mapping[str, object]]] = field(default_factory=list)

    def ask_now(
        self, url: str, operation: Operation, body: Mapping[str, object], timeout_s: float | None = None
    ) -> object:
        self.asked.append((url, operation, body))
        answer = self.answers[url].get(operation, HostGone())
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask(self, url: str, operation: Operation, body: Mapping[str, object]) -> object:
        return self.ask_now(url, operation, body)

    def stream(self, url: str, operation: Operation, body: Mapping[str, object]) -> AsyncGenerator[object]:
        raise NotImplementedError

    async def close(self) -> None:
        return

    def urls(self, operation: Operation) -> list[str]:
        return [url for url, asked, _ in self.asked if asked is operation]


def served_by(context: Context, hosts: Hosts, *living: EngineHost) -> HostedServing:
    return HostedServing(HostDirectory(context.database, lambda: 0.0, living, 0.0), hosts, EngineName.AUTO)


def owner(context: Context, *hosts: EngineHost) -> tuple[EngineHost, EngineHost]:
    """The host that has the base model, and the other one."""
    first = HostDirectory(context.database, lambda: 0.0, hosts, 0.0).host_of(BASE)
    return first, next(host for host in hosts if host is not first)


def test_address_is_asked_for_once_and_names_the_model_to_its_host(context: Context) -> None:
    hosts = Hosts({A.url: {Operation.LOAD: ADDRESS}})
    serving, model = served_by(context, hosts, A), models.get(context, DEFAULT_RESOURCE, BASE)
    for _ in range(3):
        address = asyncio.run(serving.address_when_loaded(model, proven=True))
    assert (address.url, address.fields, address.renders_tools) == (A.url, {"owner": "", "model": BASE}, True)
    assert hosts.urls(Operation.LOAD) == [A.url]
    serving.release(BASE)
    asyncio.run(serving.address_when_loaded(model))
    assert hosts.urls(Operation.LOAD) == [A.url] * 2


def test_host_that_is_gone_is_passed_over_for_an_address_and_a_proof(context: Context) -> None:
    first, second = owner(context, A, B)
    proof_of_second = {"report": REPORT, "beside": [REPORT]}
    hosts = Hosts({first.url: {}, second.url: {Operation.LOAD: ADDRESS, Operation.PROVE: proof_of_second}})
    model = models.get(context, DEFAULT_RESOURCE, BASE)
    assert asyncio.run(served_by(context, hosts, A, B).address_when_loaded(model)).url == second.url
    proof = served_by(context, hosts, A, B).prove(model)
    assert proof.report.agrees
    assert len(proof.beside) == 1


def test_what_a_host_refuses_is_raised_and_no_other_host_is_asked(context: Context) -> None:
    first, second = owner(context, A, B)
    refused: dict[Operation, object] = {Operation.LOAD: UpstreamFailed("parity_failed", "No parity.")}
    hosts = Hosts({first.url: refused, second.url: {}})
    with pytest.raises(UpstreamFailed, match="No parity"):
        asyncio.run(served_by(context, hosts, A, B).address_when_loaded(models.get(context, DEFAULT_RESOURCE, BASE)))
    assert hosts.urls(Operation.LOAD) == [first.url]


def test_state_of_a_host_that_does_not_answer_is_said_and_asked_for_once(context: Context) -> None:
    hosts = Hosts({A.url: {}})
    serving, model = served_by(context, hosts, A), models.get(context, DEFAULT_RESOURCE, BASE)
    states = [serving.state(model) for _ in range(5)]
    assert {state.state for state in states} == {LoadState.RESTING}
    assert "cannot be reached" in states[0].reason
    assert hosts.urls(Operation.STATES) == [A.url]


def test_states_and_faults_are_the_hosts(context: Context) -> None:
    ready = {"engine": "native", "state": "ready", "reason": "It is loaded."}
    hosts = Hosts({A.url: {Operation.STATES: {"models": {BASE: ready}, "faults": ["It fails."]}}})
    serving = served_by(context, hosts, A)
    state = serving.state(models.get(context, DEFAULT_RESOURCE, BASE))
    assert (state.engine, state.state) == (EngineName.NATIVE, LoadState.READY)
    assert serving.faults() == ["It fails."]


def test_faults_are_asked_for_behind_the_back_of_whoever_wants_them(context: Context) -> None:
    hosts = Hosts({A.url: {Operation.STATES: {"models": {}, "faults": ["It fails."]}}})
    serving = served_by(context, hosts, A)
    serving.faults()
    until(lambda: serving.faults() == ["It fails."], 10)
    without = HostedServing(HostDirectory(context.database, lambda: 0.0), Hosts({}), EngineName.AUTO)
    until(lambda: list(without.faults()) != [], 10)
    assert "luthier engine-host" in without.faults()[0]


def test_host_that_refuses_the_key_is_passed_over_and_named(context: Context) -> None:
    first, second = owner(context, A, B)
    refused = HostGone("engine_host_key", "It refused the key.")
    hosts = Hosts(
        {first.url: {Operation.LOAD: refused, Operation.STATES: refused}, second.url: {Operation.LOAD: ADDRESS}}
    )
    serving, model = served_by(context, hosts, A, B), models.get(context, DEFAULT_RESOURCE, BASE)
    until(lambda: list(serving.faults()) == [f"{first.url}: It refused the key."], 10)
    assert asyncio.run(serving.address_when_loaded(model)).url == second.url


def test_hosts_of_which_none_answers_are_a_fault(context: Context) -> None:
    serving = served_by(context, Hosts({A.url: {}}), A)
    assert serving.faults() == []
    serving.directory.note_gone(A.url)
    assert "No engine host answers" in serving.faults()[0]


def test_deployment_waits_while_its_host_is_gone(context: Context) -> None:
    deployments.put(context, DEFAULT_RESOURCE, DeploymentRequest("mine", BASE, None, "Standard", 1))
    deployments.create_waiting(context, served_by(context, Hosts({A.url: {}}), A))
    assert deployments.get(context, DEFAULT_RESOURCE, "mine").state is DeploymentState.CREATING


def test_deployment_waits_for_a_host_and_is_made_once_one_lives(context: Context) -> None:
    deployments.put(context, DEFAULT_RESOURCE, DeploymentRequest("mine", BASE, None, "Standard", 1))
    without = HostedServing(HostDirectory(context.database, lambda: 0.0), Hosts({}), EngineName.AUTO)
    deployments.create_waiting(context, without)
    assert deployments.get(context, DEFAULT_RESOURCE, "mine").state is DeploymentState.CREATING
    hosts = Hosts({A.url: {Operation.PROVE: {"report": REPORT, "beside": []}}})
    deployments.create_waiting(context, served_by(context, hosts, A))
    assert deployments.get(context, DEFAULT_RESOURCE, "mine").state is DeploymentState.SUCCEEDED
