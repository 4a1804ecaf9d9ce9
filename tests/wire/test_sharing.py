"""OpenAI's permissions: a checkpoint that another resource may use."""

import openai
import pytest
from openai import OpenAI

from fakes import BASE
from luthier.core.models import Resource
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.tenants import resources as resource_service
from luthier.store.queries import resources
from sharing import OTHER, OTHER_KEY, add_other, ask, put, train


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
    for projects in ([], ["no name"], ["luthier"], ["violas", "Luthier"], ["x" * 65]):
        with pytest.raises(openai.BadRequestError, match=r"project_ids|cannot be given"):
            permissions.create(f"{tuned[1]}:ckpt-step-2", project_ids=projects)
    assert list(permissions.list(f"{tuned[1]}:ckpt-step-2")) == []
    with pytest.raises(openai.NotFoundError):
        permissions.create(BASE, project_ids=["violas"])
    assert openai_client.models.delete(tuned[1]).deleted, "permissions alone hold no model"


def test_permission_for_a_name_that_no_resource_has_is_answered_as_one_for_a_resource(
    openai_client: OpenAI, context: Context, tuned: tuple[str, str]
) -> None:
    permissions = openai_client.fine_tuning.checkpoints.permissions
    there, absent = permissions.create(tuned[1], project_ids=["violas", "nobody"])
    shapes = [{**one.to_dict(), "id": "", "created_at": 0, "project_id": ""} for one in (there, absent)]
    assert shapes[0] == shapes[1]
    assert [one.id for one in permissions.create(tuned[1], project_ids=["NOBODY", "nobody"])] == [absent.id]
    assert [one.id for one in permissions.list(tuned[1], project_id="Nobody")] == [absent.id]
    for one in (there, absent):
        assert permissions.delete(one.id, fine_tuned_model_checkpoint=tuned[1]).deleted


def test_permission_for_a_name_holds_for_the_resource_that_gets_it_later(
    url: str, openai_client: OpenAI, context: Context, tuned: tuple[str, str]
) -> None:
    openai_client.fine_tuning.checkpoints.permissions.create(tuned[1], project_ids=["Later"])
    later, keys_of_it = resource_service.create(context, "later", None, None)
    with OpenAI(base_url=f"{url}/v1", api_key=keys_of_it[0], max_retries=0) as client:
        assert tuned[1] in [model.id for model in client.models.list()]
    assert later.account == "later"
