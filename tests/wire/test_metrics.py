"""Metrics for Prometheus: what is counted, who may read it, and that page and dashboard name what there is."""

import json
import re
from dataclasses import replace

import httpx2
import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

import control_plane
from fakes import BASE, KEY, ScriptedExecutor, train_well
from luthier.core.roles import Role
from luthier.run_directory.run_directory import RunDirectory
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.leasing.supervisor_standing import SupervisorStanding
from luthier.service.models.serving import Serving
from luthier.service.service_metrics import ServiceMetrics
from luthier.service.tenants import keys, resources
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from repository import ROOT

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(url: str, key: str = KEY) -> Samples:
    answer = httpx2.get(f"{url}/metrics", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return samples_of(answer.text)


def samples_of(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}


def test_answers_are_counted_by_their_tokens_and_their_first_one(openai_client: OpenAI, url: str) -> None:
    before = scrape(url)
    assert ("luthier_tokens_total", (("kind", "answer"), ("priority", "live"))) not in before
    openai_client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "a"}])
    for _ in openai_client.responses.create(model=BASE, input="a", stream=True):
        pass
    after = scrape(url)
    assert after["luthier_tokens_total", (("kind", "answer"), ("priority", "live"))] == 4
    assert after["luthier_tokens_total", (("kind", "prompt"), ("priority", "live"))] == 6
    assert after["luthier_first_token_seconds_count", (("priority", "live"),)] == 2
    assert after["luthier_stored_responses", (("state", "completed"),)] == 1


def test_requests_are_counted_by_template_and_nothing_that_a_caller_writes(url: str) -> None:
    secret = "never-in-a-label"
    for path in (f"/v1/files/{secret}", f"/{secret}", f"/v1/models/{secret}"):
        httpx2.get(url + path, headers={"api-key": KEY})
    for path in ("/v1/files", "/pot"):
        httpx2.request("BREW", url + path, headers={"api-key": KEY})
    samples = scrape(url)
    routes = {dict(labels).get("route") for name, labels in samples if name == "luthier_request_seconds_count"}
    assert {"/v1/files/{file_id}", "-"} <= routes
    assert secret not in str(samples)
    assert "BREW" not in str(samples)


def test_key_of_another_resource_reads_no_metrics(url: str, context: Context) -> None:
    _, texts = resources.create(context, "other", None, None)
    answer = httpx2.get(f"{url}/metrics", headers={"api-key": texts[0]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "metrics_of_all")
    reader = keys.create(context, DEFAULT_RESOURCE.id, "prometheus", Role.USAGES_READER)
    assert "luthier_build_info" in names(scrape(url, reader))


@pytest.mark.parametrize("page", ["grafana-dashboard.json", "metrics.md"])
def test_page_names_metrics_that_there_are(openai_client: OpenAI, url: str, page: str) -> None:
    openai_client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "a"}])
    text = (ROOT / "docs" / page).read_text()
    if page.endswith(".json"):
        text = " ".join(target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"])
    supervisors = ServiceMetrics()
    SupervisorStanding(passes=lambda: {"runs": 1}).register(supervisors.registry)
    known = names(scrape(url)) | names(samples_of(supervisors.text().decode()))
    bare = {re.sub("_(bucket|count|sum|created)$", "", name) for name in known}
    named = set(re.findall(r"\b(?:luthier|process)_[a-z_]+[a-z]\b", text))
    assert named - known - bare == set()
    if page == "metrics.md":
        own = {name for name in bare if name.startswith("luthier_") and f"{name}_total" not in known}
        assert own - named == set(), "the page lists every one"


def test_steps_of_a_trainer_are_counted_once_by_their_own_time(
    context: Context, executor: ScriptedExecutor, serving: Serving, file: str, openai_client: OpenAI
) -> None:
    def train(run: RunDirectory) -> None:
        train_well(run)
        run.events.write_bytes(
            run.events.read_bytes().replace(b'"train_loss"', b'"seconds":0.3,"tokens":25,"train_loss"')
        )

    executor.trainer = train
    metrics = ServiceMetrics()
    supervisor = Supervisor(replace(context, observe_step=metrics.observe_step), executor, serving, tick_s=0.01)
    openai_client.fine_tuning.jobs.create(training_file=file, model=BASE)
    for _ in range(6):
        supervisor.tick()
    told = metrics.text().decode()
    assert "luthier_training_step_seconds_count 4.0" in told
    assert 'luthier_training_step_seconds_bucket{le="0.25"} 0.0' in told
    assert "luthier_training_tokens_total 100.0" in told


def test_models_of_deployments_are_counted_by_the_state_of_their_engine(url: str, supervisor: Supervisor) -> None:
    assert control_plane.put(url, "ready", BASE).status_code == 201
    supervisor.tick_deployments()
    samples = scrape(url)
    states = {dict(labels)["state"]: n for (name, labels), n in samples.items() if name == "luthier_served_deployments"}
    assert states == {"ready": 1, "loading": 0, "resting": 0, "restarting": 0, "unresponsive": 0}
