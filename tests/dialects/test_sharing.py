"""Checkpoints for another resource: OpenAI's permissions and Azure's copies."""

import httpx2
import openai
import pytest
from openai import OpenAI
from sharing import OTHER, OTHER_KEY, add_other, ask, delete, put, train

from fakes import BASE, KEY, EchoEngine
from luthier.api import arm
from luthier.core.models import Resource
from luthier.service.context import Context
from luthier.service.keys import DEFAULT_RESOURCE
from luthier.service.supervisor import Supervisor
from luthier.store import resources

PREVIEW = {"aoai-copy-ft-checkpoints": "preview"}


@pytest.fixture
def tuned(url: str, context: Context, supervisor: Supervisor) -> tuple[str, str]:
    """A job and its model, in an installation of two resources."""
    add_other(context)
    return train(url, supervisor)


@pytest.fixture
def other(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=OTHER_KEY, max_retries=0)


def test_permission_lets_the_other_resource_deploy_and_call(
    url: str, openai_client: OpenAI, other: OpenAI, supervisor: Supervisor, tuned: tuple[str, str]
) -> None:
    checkpoint = f"{tuned[1]}:ckpt-step-2"
    assert put(url, OTHER, "clippy", checkpoint).status_code == 400
    [made] = openai_client.fine_tuning.checkpoints.permissions.create(checkpoint, project_ids=[OTHER.account])
    assert made.id.startswith("cp_")
    assert (made.object, made.project_id) == ("checkpoint.permission", OTHER.account)
    assert put(url, OTHER, "clippy", checkpoint).status_code == 201
    supervisor.tick_deployments()
    assert ask(url, OTHER, "clippy").json()["model"] == checkpoint
    assert checkpoint in {model.id for model in other.models.list()}
    answer = other.chat.completions.create(model=checkpoint, messages=[{"role": "user", "content": "hi"}])
    assert answer.model == checkpoint
    with pytest.raises(openai.NotFoundError):
        other.models.retrieve(tuned[1])
    with pytest.raises(openai.PermissionDeniedError, match="shared with this resource"):
        other.models.delete(checkpoint)
    with pytest.raises(openai.PermissionDeniedError, match="not to be tuned further"):
        other.fine_tuning.jobs.create(model=checkpoint, training_file="file-x")
    with pytest.raises(openai.NotFoundError):
        other.fine_tuning.jobs.retrieve(tuned[0])
    with pytest.raises(openai.NotFoundError):
        list(other.fine_tuning.checkpoints.permissions.list(checkpoint))
    with pytest.raises(openai.ConflictError, match="of a resource that it is shared with"):
        openai_client.models.delete(checkpoint)
    gone = openai_client.fine_tuning.checkpoints.permissions.delete(made.id, fine_tuned_model_checkpoint=checkpoint)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "checkpoint.permission")
    assert ask(url, OTHER, "clippy").status_code == 404
    with pytest.raises(openai.NotFoundError):
        openai_client.fine_tuning.checkpoints.permissions.delete(made.id, fine_tuned_model_checkpoint=checkpoint)


def test_permissions_are_paged_in_both_orders_and_by_project(
    openai_client: OpenAI, context: Context, tuned: tuple[str, str]
) -> None:
    permissions = openai_client.fine_tuning.checkpoints.permissions
    accounts = ["violas", "cellos", "basses"]
    with context.database.writing() as tx:
        for account in accounts[1:]:
            resources.insert_resource(tx, Resource(account, "s", "g", account), context.now())
    made = list(permissions.create(tuned[1], project_ids=[*accounts, "violas"]))
    assert [permission.project_id for permission in made] == accounts
    assert [permission.project_id for permission in permissions.list(tuned[1], limit=2)] == accounts[::-1]
    assert [permission.project_id for permission in permissions.list(tuned[1], limit=1, order="ascending")] == accounts
    assert [permission.id for permission in permissions.list(tuned[1], project_id="cellos")] == [made[1].id]
    assert [permission.id for permission in permissions.create(tuned[1], project_ids=["cellos"])] == [made[1].id]
    page = permissions.list(tuned[1], limit=2)
    assert (page.has_more, page.last_id) == (True, made[1].id)
    for projects in ([], ["nobody"], ["luthier"], ["violas", "nobody"]):
        with pytest.raises(openai.BadRequestError, match=r"project_ids|no other resource"):
            permissions.create(f"{tuned[1]}:ckpt-step-2", project_ids=projects)
    assert list(permissions.list(f"{tuned[1]}:ckpt-step-2")) == []
    with pytest.raises(openai.NotFoundError):
        permissions.create(BASE, project_ids=["violas"])
    assert openai_client.models.delete(tuned[1]).deleted, "permissions alone hold no model"


def copy(url: str, job_id: str, checkpoint: str, **change: object) -> httpx2.Response:
    body = {"destinationResourceId": arm.id_of(OTHER).upper().replace("SUBSCRIPTIONS", "subscriptions")}
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
            {"destinationResourceId": arm.id_of(OTHER), "region": "cellar", "status": "Completed"}
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
    assert made.json()["properties"]["model"]["source"] == arm.id_of(DEFAULT_RESOURCE)
    supervisor.tick_deployments()
    assert engine.released == [], "to the engine both are one model"
    assert delete(url, DEFAULT_RESOURCE, "clippy") == 200
    gone = httpx2.delete(f"{url}/openai/v1/fine_tuning/jobs/{job_id}", headers={"api-key": KEY})
    assert gone.status_code == 204, "the other's copy does not hold the source"
    assert ask(url, OTHER, "clippy").json()["model"] == model
    served = engine.loaded[model].adapter_folder
    assert served is not None
    assert (served / "probes.json").read_text() == "probes.json of step 4"
    assert list(other.fine_tuning.jobs.list()) == []
    assert other.models.retrieve(model).fine_tune == job_id
    with pytest.raises(openai.ConflictError, match="deployment clippy uses it"):
        other.models.delete(model)
    assert delete(url, OTHER, "clippy") == 200
    assert other.models.delete(model).deleted
    assert not list((context.served_folder.parent / "blobs" / "checkpoints").rglob("*.safetensors"))
    assert list(context.served_folder.iterdir()) == []


@pytest.mark.parametrize(
    "destination",
    [
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/none",
        arm.id_of(DEFAULT_RESOURCE),
        "violas",
        "",
    ],
)
def test_copy_to_no_other_resource_is_refused(url: str, tuned: tuple[str, str], destination: str) -> None:
    answer = copy(url, tuned[0], tuned[1], destinationResourceId=destination)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "destinationResourceId"


def test_copy_asks_for_its_preview_header_and_for_what_is_there(url: str, tuned: tuple[str, str]) -> None:
    address = f"{url}/openai/v1/fine_tuning/jobs/{tuned[0]}/checkpoints/{tuned[1]}/copy"
    bare = httpx2.get(address, headers={"api-key": KEY})
    assert (bare.status_code, "aoai-copy-ft-checkpoints: preview" in bare.text) == (400, True)
    assert copy(url, tuned[0], "ftchkpt-none").status_code == 404
    assert copy(url, "ftjob-none", tuned[1]).status_code == 404
    assert httpx2.get(address, headers={"api-key": OTHER_KEY, **PREVIEW}).status_code == 404
    assert httpx2.get(address.replace("/openai/v1", "/v1"), headers={"api-key": KEY, **PREVIEW}).status_code == 404
