"""Azure's copies of checkpoints: for a name, and nothing tells whether a resource has it."""

from collections import Counter
from dataclasses import replace
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

import peers
from fakes import KEY, EchoEngine
from luthier.api.arm import arm_names
from luthier.core.models import Resource, ResourceName
from luthier.core.ports import BlobStore
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.jobs import checkpoint_copies
from luthier.service.tenants import resources as resource_service
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from luthier.store.queries import checkpoints, resources
from sharing import OTHER, OTHER_KEY, add_other, ask, delete, put, train

PREVIEW = {"aoai-copy-ft-checkpoints": "preview"}
LATER = Resource("", "22222222-2222-2222-2222-222222222222", "lab", "later")


class CountingBlobs:
    """A blob store that counts what is asked of it."""

    def __init__(self, store: BlobStore) -> None:
        self.calls: Counter[str] = Counter()
        self._store = store

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._store, name)


@pytest.fixture
def tuned(url: str, context: Context, supervisor: Supervisor) -> tuple[str, str]:
    """A job and its model, in an installation of two resources."""
    add_other(context)
    return train(url, supervisor)


@pytest.fixture
def other(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=OTHER_KEY, max_retries=0)


def as_written(resource: Resource) -> ResourceName:
    """The resource's name as `copy` writes it: in capitals."""
    return ResourceName(resource.subscription, resource.resource_group.upper(), resource.account.upper())


def copy(url: str, job_id: str, checkpoint: str, **change: object) -> httpx2.Response:
    body = {"destinationResourceId": arm_names.id_of(OTHER).upper().replace("SUBSCRIPTIONS", "subscriptions")}
    address = f"{url}/openai/v1/fine_tuning/jobs/{job_id}/checkpoints/{checkpoint}/copy"
    return httpx2.post(address, headers={"api-key": KEY, **PREVIEW}, json=body | {"region": "cellar"} | change)


def test_copy_is_deployed_by_the_other_resource_and_outlives_its_source(
    url: str,
    azure_v1: OpenAI,
    other: OpenAI,
    supervisor: Supervisor,
    engine: EchoEngine,
    context: Context,
    tuned: tuple[str, str],
) -> None:
    job_id, model = tuned
    newest = next(iter(azure_v1.fine_tuning.jobs.checkpoints.list(job_id)))
    said = {
        "checkpointedModelName": model,
        "fineTuningJobId": job_id,
        "copiedAccountDetails": [
            {
                "destinationResourceId": arm_names.id_of(as_written(OTHER)),
                "region": "cellar",
                "status": "Completed",
            }
        ],
    }
    for name in (newest.id, newest.id, model):
        answer = copy(url, job_id, name)
        assert (answer.status_code, answer.json()) == (200, said)
    address = f"{url}/openai/v1/fine_tuning/jobs/{job_id}/checkpoints/{newest.id}/copy"
    assert httpx2.get(address, headers={"api-key": KEY, **PREVIEW}).json() == said
    assert put(url, OTHER, "wrong", model, source=OTHER).json()["error"]["code"] == "DeploymentModelNotSupported"
    for resource, source in ((DEFAULT_RESOURCE, None), (OTHER, DEFAULT_RESOURCE)):
        made = put(url, resource, "clippy", model, source)
        assert made.status_code == 201
    assert made.json()["properties"]["model"]["source"] == arm_names.id_of(DEFAULT_RESOURCE)
    supervisor.tick_deployments()
    assert engine.released == [], "to the engine both are one model"
    assert delete(url, DEFAULT_RESOURCE, "clippy") == 200
    gone = httpx2.delete(f"{url}/openai/v1/fine_tuning/jobs/{job_id}", headers={"api-key": KEY})
    assert gone.status_code == 204, "the other's copy does not hold the source"
    assert ask(url, OTHER, "clippy").json()["model"] == model
    served = engine.models[model].adapter_folder
    assert served is not None
    assert (served / "probes.json").read_text() == "probes.json of step 4"
    assert list(other.fine_tuning.jobs.list()) == []
    assert other.models.retrieve(model).to_dict()["fine_tune"] == job_id
    with pytest.raises(openai.ConflictError, match="deployment clippy uses it"):
        other.models.delete(model)
    assert delete(url, OTHER, "clippy") == 200
    assert other.models.delete(model).deleted
    assert not list((context.served_folder.parent / "blobs" / "checkpoints").rglob("*.safetensors"))
    assert list(context.served_folder.glob("[!.]*")) == []


@pytest.mark.parametrize(
    "destination",
    [
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/none",
        arm_names.id_of(replace(OTHER, account="-violas")),
        arm_names.id_of(DEFAULT_RESOURCE),
        arm_names.id_of(DEFAULT_RESOURCE).upper(),
        "violas",
        "",
    ],
)
def test_copy_to_no_other_resource_is_refused(url: str, tuned: tuple[str, str], destination: str) -> None:
    answer = copy(url, tuned[0], tuned[1], destinationResourceId=destination)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "destinationResourceId"


def test_copy_for_a_name_that_no_resource_has_is_answered_kept_and_listed_as_one_for_a_resource(
    url: str, context: Context, tuned: tuple[str, str], other: OpenAI
) -> None:
    job_id, model = tuned
    names = [arm_names.id_of(OTHER), arm_names.id_of(replace(OTHER, account="nobody"))]
    address = f"{url}/openai/v1/fine_tuning/jobs/{job_id}/checkpoints/{{}}/copy"
    for again in range(3):
        answers = []
        for name in names:
            checkpoint = f"{model}:ckpt-step-2" if name == names[0] else model
            answer = copy(url, job_id, checkpoint, destinationResourceId=name)
            listed = httpx2.get(address.format(checkpoint), headers={"api-key": KEY, **PREVIEW})
            assert listed.json() == answer.json()
            answers.append((answer.status_code, answer.text.replace(name, "").replace(checkpoint, "")))
        assert answers[0] == answers[1]
        assert '"Completed"' in answers[0][1]
        if again == 0:  # what the one who has it does with it is not told to the one who gave it
            assert other.models.delete(f"{model}:ckpt-step-2").deleted
    assert f"{model}:ckpt-step-2" in [one.id for one in other.models.list()], "copied again"


def test_copies_take_the_same_work_whether_there_is_such_a_resource_or_not(
    url: str, context: Context, tuned: tuple[str, str]
) -> None:
    """By what is read from the blob store and written to it, which is what takes time."""
    store = CountingBlobs(context.blobs)
    spied = replace(context, blobs=store)
    job_id, model = tuned
    counts = []
    for account in (OTHER.account, "nobody", OTHER.account, "nobody"):
        store.calls.clear()
        destination = arm_names.id_of(replace(OTHER, account=account))
        checkpoint_copies.create_copy(spied, DEFAULT_RESOURCE.id, job_id, model, destination, "cellar")
        counts.append(dict(store.calls))
    assert counts[0] == counts[1]
    assert counts[2] == counts[3]
    assert counts[0]["put"] == counts[2]["put"] > 0


def test_copy_for_a_name_is_there_for_the_resource_that_gets_it_later(
    url: str, context: Context, tuned: tuple[str, str]
) -> None:
    job_id, model = tuned
    assert copy(url, job_id, model, destinationResourceId=arm_names.id_of(LATER).upper()).status_code == 200
    _, keys_of_it = resource_service.create(context, LATER.account, LATER.resource_group, LATER.subscription)
    with OpenAI(base_url=f"{url}/v1", api_key=keys_of_it[0], max_retries=0) as client:
        assert model in [found.id for found in client.models.list()]
        assert client.models.retrieve(model).id == model
        with pytest.raises(openai.NotFoundError):
            client.fine_tuning.jobs.retrieve(job_id)


def test_copies_of_one_checkpoint_are_bounded_whoever_they_are_for(
    url: str, context: Context, tuned: tuple[str, str]
) -> None:
    names = [
        arm_names.id_of(replace(OTHER, account=f"nobody-{number}"))
        for number in range(checkpoint_copies.MAX_COPIES - 1)
    ]
    for name in [arm_names.id_of(OTHER), *names]:
        assert copy(url, *tuned, destinationResourceId=name).status_code == 200
    before = len(peers.stored(context.data_folder))
    refused = copy(url, *tuned, destinationResourceId=arm_names.id_of(replace(OTHER, account="one-more")))
    assert (refused.status_code, "for 20 resources at most" in refused.text) == (400, True)
    assert copy(url, *tuned, destinationResourceId=names[0].upper()).status_code == 200
    assert len(peers.stored(context.data_folder)) == before


def test_copy_that_nobody_has_goes_with_its_checkpoint(
    url: str, context: Context, supervisor: Supervisor, tuned: tuple[str, str], other: OpenAI
) -> None:
    job_id, model = tuned
    for account in ("nobody", OTHER.account):
        assert copy(
            url, job_id, model, destinationResourceId=arm_names.id_of(replace(OTHER, account=account))
        ).is_success
    supervisor.tick_deployments()
    weights = "checkpoints/**/*.safetensors"
    assert len(list((context.data_folder / "blobs").glob(weights))) == 4, "two checkpoints, two copies"
    gone = httpx2.delete(f"{url}/openai/v1/fine_tuning/jobs/{job_id}", headers={"api-key": KEY})
    assert gone.status_code == 204
    supervisor.tick_deployments()
    assert len(list((context.data_folder / "blobs").glob(weights))) == 1
    assert other.models.retrieve(model).id == model
    resource_service.create(context, "nobody", OTHER.resource_group, OTHER.subscription)
    with context.database.reading() as tx:
        newcomer = resources.find(tx, "nobody")
        assert newcomer is not None
        assert checkpoints.list_of_resource(tx, newcomer.id) == []


def test_copy_asks_for_its_preview_header_and_for_what_is_there(url: str, tuned: tuple[str, str]) -> None:
    address = f"{url}/openai/v1/fine_tuning/jobs/{tuned[0]}/checkpoints/{tuned[1]}/copy"
    bare = httpx2.get(address, headers={"api-key": KEY})
    assert (bare.status_code, "aoai-copy-ft-checkpoints: preview" in bare.text) == (400, True)
    assert copy(url, tuned[0], "ftchkpt-none").status_code == 404
    assert copy(url, "ftjob-none", tuned[1]).status_code == 404
    assert httpx2.get(address, headers={"api-key": OTHER_KEY, **PREVIEW}).status_code == 404
    assert httpx2.get(address.replace("/openai/v1", "/v1"), headers={"api-key": KEY, **PREVIEW}).status_code == 404
