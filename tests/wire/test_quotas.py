"""Quotas: refused in each dialect's words with what to remove, counted where the row is inserted, shown by ARM."""

import threading
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from azure.core.credentials import AccessToken
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
from openai import AzureOpenAI, OpenAI

import rows
import sharing
from fakes import BASE, KEY, ScriptedExecutor
from luthier.api.arm import arm_names
from luthier.core.models import Principal
from luthier.core.quotas import DEFAULTS, Quota
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.tenants import quotas, resources
from luthier.service.tenants.keys import DEFAULT_RESOURCE

Limit = Callable[[Quota, int | None], None]


@pytest.fixture
def limit(context: Context, caller: Principal) -> Limit:
    return lambda quota, value: quotas.set_limits(context, caller.resource.id, {quota: value})


def test_defaults_are_azures() -> None:
    assert DEFAULTS == {
        Quota.FILES: 100,
        Quota.FILE_BYTES: 1_073_741_824,
        Quota.JOBS: 100,
        Quota.QUEUED_JOBS: 20,
        Quota.RUNNING_JOBS: 3,
        Quota.DEPLOYMENTS: 32,
        Quota.FINE_TUNED_DEPLOYMENTS: 10,
        Quota.JOB_TOKENS: 2_000_000_000,
    }


def test_ones_own_resource_has_room_for_files_of_many_jobs_and_a_made_one_has_azures(context: Context) -> None:
    made, _ = resources.create(context, "team", None, None)
    own, of_made = (
        {usage.quota: usage.limit for usage in quotas.usages(context, id)} for id in (DEFAULT_RESOURCE.id, made.id)
    )
    assert (own[Quota.FILES], own[Quota.JOBS], own[Quota.FILE_BYTES]) == (1_000_000, 1_000_000, 2**40)
    assert of_made == DEFAULTS
    assert {quota for quota in Quota if own[quota] != of_made[quota]} == {
        Quota.FILES,
        Quota.JOBS,
        Quota.FILE_BYTES,
        Quota.RUNNING_JOBS,
    }


def test_file_over_the_quota_is_a_429_in_every_dialects_words(
    openai_client: OpenAI, azure: AzureOpenAI, azure_v1: OpenAI, limit: Limit, context: Context
) -> None:
    limit(Quota.FILES, 1)
    openai_client.files.create(file=rows.good(), purpose="fine-tune")
    for client, code in (
        (openai_client, "files_quota_exceeded"),
        (azure, "quotaExceeded"),
        (azure_v1, "quotaExceeded"),
    ):
        with pytest.raises(
            openai.RateLimitError, match=r"Files \(files\): 1 are used, the limit .* is 1\. Delete"
        ) as caught:
            client.files.create(file=rows.good(), purpose="fine-tune")
        assert caught.value.code == code
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert "retry-after" not in caught.value.response.headers
    assert openai_client.files.list().data[0].bytes
    assert len(list((context.data_folder / "blobs").rglob("file-*"))) == 1, "nothing of a refused file is kept"
    limit(Quota.FILES, None)
    openai_client.files.create(file=rows.good(), purpose="fine-tune")


def test_bytes_of_all_files_together_have_a_limit(openai_client: OpenAI, limit: Limit) -> None:
    length = len(rows.good())
    limit(Quota.FILE_BYTES, 2 * length - 1)
    first = openai_client.files.create(file=rows.good(), purpose="fine-tune")
    with pytest.raises(openai.RateLimitError, match="file_bytes"):
        openai_client.files.create(file=rows.good(), purpose="fine-tune")
    openai_client.files.delete(first.id)
    openai_client.files.create(file=rows.good(), purpose="fine-tune")


@pytest.mark.parametrize("purpose", ["user_data", "fine-tune"])
def test_upload_that_the_quota_cannot_take_is_refused_before_a_part_is_sent(
    openai_client: OpenAI, limit: Limit, context: Context, caller: Principal, purpose: Any
) -> None:
    fields = {"filename": "a", "mime_type": "text/jsonl", "purpose": purpose}
    limit(Quota.FILE_BYTES, 400 * 2**20 if purpose == "fine-tune" else 2**30)
    n_bytes, limited = (2**31, 2**30) if purpose == "user_data" else (500 * 2**20, 400 * 2**20)
    said = rf"this file has {n_bytes:,}, the limit of this resource is {limited:,}\. Split it .*file_bytes=LIMIT"
    with pytest.raises(openai.RateLimitError, match=said) as caught:
        openai_client.uploads.create(bytes=n_bytes, **fields)
    assert caught.value.code == "file_bytes_quota_exceeded"
    assert caught.value.response.headers["x-should-retry"] == "false"
    limit(Quota.FILE_BYTES, n_bytes)
    upload = openai_client.uploads.create(bytes=n_bytes, **fields)
    openai_client.files.create(file=rows.good(), purpose="fine-tune")
    with pytest.raises(openai.RateLimitError, match=rf"{len(rows.good()):,} are used and {n_bytes:,} more .* Delete"):
        openai_client.uploads.create(bytes=n_bytes, **fields)
    assert openai_client.uploads.cancel(upload.id).status == "cancelled"
    assert quotas.usages(context, caller.resource.id)[1].current == len(rows.good()), "an upload takes no room"


def test_parts_of_pending_uploads_count_in_the_quota_until_the_upload_has_ended(
    openai_client: OpenAI, limit: Limit, context: Context, caller: Principal
) -> None:
    limit(Quota.FILE_BYTES, 100)

    def used() -> int | None:
        return next(one.current for one in quotas.usages(context, caller.resource.id) if one.quota is Quota.FILE_BYTES)

    def begin(length: int) -> str:
        return openai_client.uploads.create(bytes=length, filename="a", mime_type="text/jsonl", purpose="fine-tune").id

    first, second = begin(60), begin(60)
    part = openai_client.uploads.parts.create(first, data=b"a" * 60)
    assert used() == 60
    with pytest.raises(openai.RateLimitError, match="60 are used"):
        openai_client.uploads.parts.create(second, data=b"b" * 60)
    with pytest.raises(openai.RateLimitError):
        openai_client.uploads.parts.create(first, data=b"a" * 60)  # the same once more, as after a lost answer
    with pytest.raises(openai.RateLimitError):
        openai_client.files.create(file=b"c" * 60, purpose="fine-tune")
    kept = list(context.blobs.stored("uploads"))
    assert len(kept) == 1, "what was refused is not kept"
    openai_client.uploads.complete(first, part_ids=[part.id])
    assert used() == 60, "the parts make way for the file"
    openai_client.uploads.parts.create(second, data=b"b" * 40)
    assert used() == 100
    openai_client.uploads.cancel(second)
    assert used() == 60


def test_import_ends_with_the_reason_where_no_byte_is_left(
    url: str, limit: Limit, openai_client: OpenAI, supervisor: Supervisor
) -> None:
    openai_client.files.create(file=rows.good(), purpose="fine-tune")
    body = {"purpose": "fine-tune", "filename": "a", "content_url": "https://nowhere.invalid/a"}
    made = httpx2.post(f"{url}/v1/files/import", headers={"api-key": KEY}, json=body).json()
    limit(Quota.FILE_BYTES, 1)
    supervisor.tick()
    supervisor.tick_storage()
    assert openai_client.files.retrieve(made["id"]).status == "error"


def test_jobs_in_all_and_jobs_that_wait_have_limits(
    openai_client: OpenAI, limit: Limit, supervisor: Supervisor
) -> None:
    file = openai_client.files.create(file=rows.good(), purpose="fine-tune")

    def create() -> str:
        return openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id).id

    limit(Quota.QUEUED_JOBS, 1)
    first = create()
    with pytest.raises(openai.RateLimitError, match=r"queued_jobs.*cancel one"):
        create()
    openai_client.fine_tuning.jobs.cancel(first)
    limit(Quota.JOBS, 2)
    create()
    for _ in range(3):
        supervisor.tick()
    with pytest.raises(openai.RateLimitError, match=r"\(jobs\): 2 are used.*Delete ended jobs"):
        create()


def test_the_last_place_goes_to_one_of_many_callers_at_once(openai_client: OpenAI, limit: Limit) -> None:
    limit(Quota.FILES, 3)
    refused: list[openai.RateLimitError] = []

    def upload() -> None:
        try:
            openai_client.files.create(file=rows.good(), purpose="fine-tune")
        except openai.RateLimitError as error:
            refused.append(error)

    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(openai_client.files.list().data), len(refused)) == (3, 5)


def test_deployments_have_limits_and_one_that_is_replaced_counts_once(
    openai_client: OpenAI, url: str, limit: Limit, supervisor: Supervisor
) -> None:
    file = openai_client.files.create(file=rows.good(), purpose="fine-tune")
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    for _ in range(3):
        supervisor.tick()
    tuned = openai_client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model

    def put(name: str, model: str | None) -> httpx2.Response:
        body = {"sku": {"name": "Standard"}, "properties": {"model": {"name": model}}}
        return httpx2.put(f"{url}{arm_names.path_of(DEFAULT_RESOURCE)}/{name}", headers={"api-key": KEY}, json=body)

    limit(Quota.FINE_TUNED_DEPLOYMENTS, 1)
    assert [put("a", tuned).status_code, put("a", tuned).status_code, put("b", BASE).status_code] == [201, 200, 201]
    refused = put("b", tuned)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "FineTunedDeploymentsQuotaExceeded"
    limit(Quota.DEPLOYMENTS, 2)
    assert put("c", BASE).status_code == 429
    assert put("a", BASE).status_code == 200
    assert put("b", tuned).status_code == 200, "its place is free again"


def test_models_of_others_take_a_place_like_ones_own(
    url: str, limit: Limit, context: Context, supervisor: Supervisor
) -> None:
    sharing.add_other(context)
    job_id, tuned = sharing.train(url, supervisor)
    head = {"api-key": KEY, "aoai-copy-ft-checkpoints": "preview"}
    lent = f"{tuned}:ckpt-step-2"
    shared = f"{url}/v1/fine_tuning/checkpoints/{lent}/permissions"
    assert httpx2.post(shared, headers=head, json={"project_ids": ["violas"]}).status_code == 200
    body = {"destinationResourceId": arm_names.id_of(sharing.OTHER), "region": "here"}
    copy = f"{url}/openai/v1/fine_tuning/jobs/{job_id}/checkpoints/{tuned}/copy"
    assert httpx2.post(copy, headers=head, json=body).status_code == 200
    quotas.set_limits(context, sharing.OTHER.id, {Quota.FINE_TUNED_DEPLOYMENTS: 1})
    for first, second in ((lent, tuned), (tuned, lent)):
        assert sharing.put(url, sharing.OTHER, "a", first).status_code == 201
        assert sharing.put(url, sharing.OTHER, "b", second).status_code == 429
        assert sharing.delete(url, sharing.OTHER, "a") == 200


def test_job_with_more_tokens_than_it_may_train_fails_as_soon_as_they_are_counted(
    openai_client: OpenAI, limit: Limit, supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    file = openai_client.files.create(file=rows.good(), purpose="fine-tune")
    limit(Quota.JOB_TOKENS, 199)  # the scripted trainer tells of 100 tokens
    hyperparameters = {"n_epochs": 2}
    over, under = (
        openai_client.fine_tuning.jobs.create(
            model=BASE, training_file=file.id, method={"type": "supervised", "supervised": {"hyperparameters": h}}
        )
        for h in (hyperparameters, {"n_epochs": 1})
    )
    for _ in range(6):
        supervisor.tick()
    failed = openai_client.fine_tuning.jobs.retrieve(over.id)
    assert (failed.status, failed.error and failed.error.code) == ("failed", "job_tokens_quota_exceeded")
    assert failed.error is not None
    assert "200 tokens x epochs, the limit of this resource is 199" in failed.error.message
    assert openai_client.fine_tuning.jobs.retrieve(under.id).status == "succeeded"
    assert executor.stopped, "its trainer was ended"


def test_usages_are_shown_in_arms_shape_and_azure_mgmt_reads_them(
    openai_client: OpenAI, url: str, limit: Limit
) -> None:
    openai_client.files.create(file=rows.good(), purpose="fine-tune")
    limit(Quota.FILES, 7)
    account = arm_names.path_of(DEFAULT_RESOURCE).removesuffix("/deployments")
    location = f"/subscriptions/{DEFAULT_RESOURCE.subscription}/providers/Microsoft.CognitiveServices/locations/here"
    shown = [
        httpx2.get(f"{url}{path}/usages", headers={"api-key": KEY}).json()["value"] for path in (account, location)
    ]
    assert shown[0] == shown[1]
    found = {usage["name"]["value"]: (usage["currentValue"], usage["limit"], usage["unit"]) for usage in shown[0]}
    assert found["OpenAI.FineTuning.files"] == (1, 7, "Count")
    assert found["OpenAI.FineTuning.file_bytes"] == (len(rows.good()), 2**40, "Bytes")
    assert found["OpenAI.FineTuning.jobs"] == (0, 1_000_000, "Count")
    stranger = location.replace("0000-0000-0000", "0000-0000-0001")
    assert httpx2.get(f"{url}{stranger}/usages", headers={"api-key": KEY}).status_code == 404

    class Credential:
        def get_token(self, *scopes: str, **kwargs: object) -> AccessToken:
            return AccessToken(KEY, 2**31)

    client = CognitiveServicesManagementClient(
        Credential(), DEFAULT_RESOURCE.subscription, base_url=url, credential_scopes=["https://example.test/.default"]
    )
    names = (DEFAULT_RESOURCE.resource_group, DEFAULT_RESOURCE.account)
    usages = client.usages.list("here", enforce_https=False)
    assert {usage.name.value: usage.limit for usage in usages}["OpenAI.FineTuning.files"] == 7
    regenerated = client.accounts.regenerate_key(*names, "Key2", enforce_https=False)
    assert len(regenerated.key2) == 64
    assert httpx2.get(f"{url}/v1/files", headers={"api-key": regenerated.key2}).status_code == 200
