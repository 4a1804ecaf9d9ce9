"""A model that changes what another model on its base answers is not deployed."""

from pathlib import Path
from typing import Any

from openai import OpenAI

import rows
from control_plane import PATH, call, put
from fakes import BASE, EchoEngine, agreeing_parity
from luthier.core.engine_ports import Address, ParityReport
from luthier.service.background.supervisor import Supervisor
from luthier.service.models.serving import Serving


class LeakyParity:
    """Agrees with all; a single probe, as it is asked of models beside a new one, fails once there is a leak."""

    def __init__(self) -> None:
        self.leaks = False
        self.single_probes = 0

    def __call__(self, address: Address, folder: Path, n_probes: int | None = None) -> ParityReport:
        if n_probes is None:
            return agreeing_parity(address, folder)
        self.single_probes += 1
        return ParityReport(8, 2.5, 0.5, 0.05, not self.leaks, "It differs by 2.5 nats.")


def deploy(url: str, name: str, model: str, supervisor: Supervisor) -> dict[str, Any]:
    assert put(url, name, model).status_code == 201
    supervisor.tick_deployments()
    properties: dict[str, Any] = call("GET", f"{url}{PATH}/{name}").json()["properties"]
    return properties


def tuned_model(client: OpenAI, supervisor: Supervisor, suffix: str) -> str:
    file = client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune").id
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file, suffix=suffix)
    for _ in range(4):
        supervisor.tick()
    model = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert model is not None
    return model


def test_model_beside_which_the_base_answers_otherwise_is_not_deployed(
    url: str, openai_client: OpenAI, supervisor: Supervisor, engine: EchoEngine
) -> None:
    parity = LeakyParity()
    supervisor.serving = Serving(supervisor.context, engine, parity)
    first, second = (tuned_model(openai_client, supervisor, suffix) for suffix in ("first", "second"))
    assert deploy(url, "base", BASE, supervisor)["provisioningState"] == "Succeeded"
    assert parity.single_probes == 0, "it was alone"
    assert deploy(url, "first", first, supervisor)["provisioningState"] == "Succeeded"
    assert parity.single_probes == 1, "the base was asked again"
    parity.leaks = True
    properties = deploy(url, "second", second, supervisor)
    assert properties["provisioningState"] == "Failed"
    assert "no longer answers as trained beside it" in str(properties["error"])
