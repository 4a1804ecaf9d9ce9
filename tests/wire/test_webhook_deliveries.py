"""Events from the status that they are of to a receiver, which the official SDK verifies; retries, and their end."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from sqlalchemy import select

import batch_runs
import rows
from disk import full_disk
from fakes import BASE, EchoEngine, ScriptedExecutor
from luthier.core.errors import LuthierError
from luthier.core.inference.batches import BatchFault
from luthier.core.models import Principal
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Failed
from luthier.service.background import resource_purge
from luthier.service.background.supervisor import Supervisor
from luthier.service.background.webhook_worker import WebhookWorker
from luthier.service.batches import preparation
from luthier.service.batches.batch_folder import BatchFolder
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.tenants import resources
from luthier.service.webhooks import deliveries, webhook_endpoints
from luthier.service.webhooks.webhook_endpoints import Change
from luthier.store.queries.inference import batches
from luthier.store.webhook_schema import webhook_deliveries
from luthier.url_fetch.fetcher import GuardedFetcher
from servers import LOOPBACK
from waiting import until
from webhook_receiver import Receiver, receiving

JOBS = ["fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"]
BATCHES = ["batch.completed", "batch.failed", "batch.cancelled", "batch.expired"]
RESPONSES = ["response.completed", "response.failed", "response.cancelled", "response.incomplete"]


@dataclass
class Hands:
    """A clock that runs with the machine's, so that the SDK takes a signature, and that the test sets ahead."""

    ahead: timedelta = field(default_factory=timedelta)
    address: str = "127.0.0.1"

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def resolve(self, host: str, port: int) -> list[str]:
        return [self.address]


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def context(context: Context, hands: Hands) -> Context:
    fetcher = GuardedFetcher(LOOPBACK, allow_http=True, resolve=hands.resolve)
    return replace(context, fetcher=fetcher, now=hands.now)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def worker(context: Context) -> WebhookWorker:
    return WebhookWorker(context, chance=lambda: 0.5)


def pass_over(worker: WebhookWorker) -> None:
    """Ticks until nothing more is due."""
    for _ in range(3):
        worker.tick()
        worker.settle(30)


def ticking(worker: WebhookWorker, condition: Callable[[], bool]) -> None:
    """Ticks without a wait for what is under way, until the condition holds."""

    def holds() -> bool:
        worker.tick()
        return condition()

    until(holds, 20, every_s=0.001)


def subscribe(client: OpenAI, receiver: Receiver, event_types: Any, path: str = "/hook") -> str:
    """An endpoint at the receiver; its secret."""
    return client.webhooks.create(name="n", url=receiver.url(path), event_types=event_types).signing_secret


def make_job(client: OpenAI) -> str:
    file = client.files.create(file=rows.good(), purpose="fine-tune")
    return client.fine_tuning.jobs.create(model=BASE, training_file=file.id).id


def cancelled_job(client: OpenAI) -> str:
    return client.fine_tuning.jobs.cancel(make_job(client)).id


def states(context: Context) -> list[tuple[str, int, int | None]]:
    """State, attempts and last status of every delivery, oldest first."""
    table = webhook_deliveries.c
    with context.database.reading() as tx:
        return [(row[0], row[1], row[2]) for row in tx.execute(select(table.state, table.attempts, table.status_code))]


def test_event_of_a_job_is_sent_once_and_the_sdk_verifies_it(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, supervisor: Supervisor, context: Context
) -> None:
    secret = subscribe(openai_client, receiver, JOBS, "/hook?token=a%2Fb")
    job = make_job(openai_client)
    for _ in range(3):
        supervisor.tick()
        pass_over(worker)
    assert openai_client.fine_tuning.jobs.retrieve(job).status == "succeeded"
    [posted] = receiver.posted
    event = posted.unwrap(secret)
    assert (event.type, event.data.id) == ("fine_tuning.job.succeeded", job)
    assert event.created_at == openai_client.fine_tuning.jobs.retrieve(job).finished_at
    assert event.object == "event"
    assert event.id.startswith("evt_")
    assert posted.id.startswith("wh_")
    assert (posted.path, posted.headers["content-type"]) == ("/hook?token=a%2Fb", "application/json")
    assert posted.headers["user-agent"].startswith("luthier/")
    assert len(posted.body) < 20_000
    assert states(context) == [("delivered", 1, 200)]
    with pytest.raises(InvalidWebhookSignatureError):
        replace(posted, body=posted.body.replace(b"succeeded", b"failed")).unwrap(secret)


def test_every_last_status_of_jobs_batches_and_responses_has_its_event(
    openai_client: OpenAI,
    receiver: Receiver,
    worker: WebhookWorker,
    supervisor: Supervisor,
    executor: ScriptedExecutor,
    engine: EchoEngine,
    context: Context,
) -> None:
    secret = subscribe(openai_client, receiver, JOBS + BATCHES + RESPONSES)
    expected = [("fine_tuning.job.cancelled", cancelled_job(openai_client))]

    def train_badly(run: RunDirectory) -> None:
        run.append(Failed(at=context.now().timestamp(), code="broken", message="It broke.", param=None))

    executor.trainer = train_badly
    expected.append(("fine_tuning.job.failed", make_job(openai_client)))
    for _ in range(3):
        supervisor.tick()
    batch_ids = []
    for _ in range(2):
        file_id = batch_runs.upload(openai_client, [{"custom_id": "a"}])
        batch = openai_client.batches.create(
            input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        batch_ids.append(batch.id)
    expected.append(("batch.failed", batch_ids[0]))
    fail_batch(context, batch_ids[0])
    begun = openai_client.responses.create(model=BASE, input="a", background=True)
    until(lambda: openai_client.responses.retrieve(begun.id).status == "completed", 10)
    expected.append(("response.completed", begun.id))
    openai_client.responses.create(model=BASE, input="a")  # in the foreground: its caller has it
    engine.holds.set()
    held = openai_client.responses.create(model=BASE, input="a", background=True)
    openai_client.responses.cancel(held.id)
    engine.holds.clear()
    expected.append(("response.cancelled", held.id))
    pass_over(worker)
    events: list[Any] = [posted.unwrap(secret) for posted in receiver.posted]
    assert sorted((event.type, event.data.id) for event in events) == sorted(expected)
    assert len({event.id for event in events}) == len({posted.id for posted in receiver.posted}) == len(expected)


def fail_batch(context: Context, batch_id: str) -> None:
    """Twice, as after a kill: the second time it has failed already."""
    with context.database.reading() as tx:
        [batch] = [one for one in batches.list_open(tx) if one.id == batch_id]
    folder = BatchFolder(context.data_folder / "batches" / batch_id)
    for _ in range(2):
        preparation.fail(context, batch, folder, (BatchFault("empty_file", "It is empty."),))


def test_each_endpoint_gets_what_it_wants_under_an_id_of_its_own(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker
) -> None:
    for path, event_types in (("/all", JOBS), ("/cancelled", JOBS[2:]), ("/batches", BATCHES)):
        subscribe(openai_client, receiver, event_types, path)
    cancelled_job(openai_client)
    pass_over(worker)
    assert sorted(receiver.paths()) == ["/all", "/cancelled"]
    first, second = receiver.posted
    assert first.body == second.body
    assert first.id != second.id


def test_repeated_delivery_has_the_same_id_and_a_signature_of_its_own_time(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, hands: Hands, context: Context
) -> None:
    secret = subscribe(openai_client, receiver, JOBS)
    receiver.answers = [500, 302, 404]
    cancelled_job(openai_client)
    pass_over(worker)
    assert states(context) == [("pending", 1, 500)]
    for later, attempts in ((2, 1), (4, 2), (290, 2), (20, 3), (1801, 4), (10**6, 4)):
        hands.ahead += timedelta(seconds=later)
        pass_over(worker)
        assert len(receiver.posted) == attempts, later
    assert states(context) == [("delivered", 4, 200)]
    assert len({posted.id for posted in receiver.posted}) == 1
    assert len({posted.body for posted in receiver.posted}) == 1
    first, last = receiver.posted[0], receiver.posted[-1]
    assert last.timestamp - first.timestamp >= 2105
    assert first.headers["webhook-signature"] != last.headers["webhook-signature"]
    first.unwrap(secret)
    with pytest.raises(InvalidWebhookSignatureError, match="too new"):
        last.unwrap(secret)


def test_delivery_that_is_never_accepted_is_given_up_after_72_hours_and_its_record_goes(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, hands: Hands, context: Context
) -> None:
    subscribe(openai_client, receiver, JOBS)
    receiver.answers = [500] * 100
    cancelled_job(openai_client)
    hours = 0.0
    while states(context)[0][0] == "pending":
        assert hours < 80
        pass_over(worker)
        hands.ahead += timedelta(hours=0.5)
        hours += 0.5
    assert 72 <= hours <= 73
    assert states(context) == [("failed", len(receiver.posted), 500)]
    assert 9 <= len(receiver.posted) <= 11
    deliveries.remove_old(context)
    assert len(states(context)) == 1
    hands.ahead += timedelta(days=8)
    deliveries.remove_old(context)
    assert states(context) == []


def test_service_that_was_down_for_days_sends_what_it_had_and_tries_for_72_hours_from_there(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, hands: Hands, context: Context
) -> None:
    subscribe(openai_client, receiver, JOBS)
    cancelled_job(openai_client)
    hands.ahead += timedelta(days=10)
    receiver.answers = [500]
    pass_over(worker)
    assert states(context) == [("pending", 1, 500)]
    hands.ahead += timedelta(seconds=6)
    pass_over(worker)
    assert states(context) == [("delivered", 2, 200)]


def test_rotated_secret_signs_beside_the_old_one_for_24_hours_or_alone(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, hands: Hands
) -> None:
    old = subscribe(openai_client, receiver, JOBS)
    endpoint_id = openai_client.webhooks.list().data[0].id
    new = openai_client.webhooks.rotate_secret(endpoint_id, keep_old_secret_active_for_24_hours=True).signing_secret
    cancelled_job(openai_client)
    pass_over(worker)
    for secret in (old, new):
        receiver.posted[0].unwrap(secret)
    hands.ahead += timedelta(hours=25)
    cancelled_job(openai_client)
    pass_over(worker)
    assert len(receiver.posted[1].headers["webhook-signature"].split()) == 1
    hands.ahead = timedelta()
    newest = openai_client.webhooks.rotate_secret(endpoint_id).signing_secret
    cancelled_job(openai_client)
    pass_over(worker)
    receiver.posted[2].unwrap(newest)
    with pytest.raises(InvalidWebhookSignatureError):
        receiver.posted[2].unwrap(new)


def test_receiver_that_is_gone_is_asked_no_more_until_its_owner_changes_it(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, context: Context
) -> None:
    subscribe(openai_client, receiver, JOBS)
    receiver.answers = [410]
    cancelled_job(openai_client)
    pass_over(worker)
    cancelled_job(openai_client)
    pass_over(worker)
    assert states(context) == [("failed", 1, 410)]
    [endpoint] = openai_client.webhooks.list().data
    assert endpoint.to_dict()["disabled_at"] is not None
    openai_client.webhooks.update(endpoint.id, name="back")
    cancelled_job(openai_client)
    pass_over(worker)
    assert len(receiver.posted) == 2
    assert openai_client.webhooks.retrieve(endpoint.id).to_dict()["disabled_at"] is None


def test_receiver_that_asks_for_time_gets_it_for_all_its_deliveries(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, hands: Hands
) -> None:
    subscribe(openai_client, receiver, JOBS)
    receiver.headers = {"retry-after": "600"}
    receiver.answers = [429, 503, 500]
    cancelled_job(openai_client)
    pass_over(worker)
    cancelled_job(openai_client)
    pass_over(worker)
    assert len(receiver.posted) == 2
    for later, posted in ((590, 2), (20, 4)):
        hands.ahead += timedelta(seconds=later)
        pass_over(worker)
        assert len(receiver.posted) == posted


def test_name_that_comes_to_lead_inside_is_not_posted_to(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, hands: Hands, context: Context
) -> None:
    subscribe(openai_client, receiver, JOBS)
    hands.address = "10.0.0.1"
    cancelled_job(openai_client)
    pass_over(worker)
    assert receiver.posted == []
    assert states(context) == [("pending", 1, None)]
    hands.address = "127.0.0.1"
    hands.ahead += timedelta(seconds=6)
    pass_over(worker)
    assert states(context) == [("delivered", 2, 200)]


def test_slow_receiver_delays_no_other_and_has_two_deliveries_under_way_at_most(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, context: Context
) -> None:
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def wait_if_slow(posted: Any) -> None:
        if posted.path == "/slow":
            begun.release()
            assert go_on.wait(30)

    receiver.before = wait_if_slow
    subscribe(openai_client, receiver, JOBS, "/slow")
    subscribe(openai_client, receiver, JOBS, "/quick")
    for _ in range(5):
        cancelled_job(openai_client)
    worker.tick()
    assert begun.acquire(timeout=20)
    assert begun.acquire(timeout=20)
    ticking(worker, lambda: receiver.paths().count("/quick") == 5)
    assert receiver.paths().count("/slow") == 2
    go_on.set()
    ticking(worker, lambda: [state for state, *_ in states(context)] == ["delivered"] * 10)
    assert len({posted.id for posted in receiver.posted}) == len(receiver.posted) == 10


@pytest.mark.parametrize("database_kind", ["sqlite"])  # the disk of this process is full, not the server's
def test_full_disk_between_answer_and_record_sends_nothing_twice(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, context: Context, tmp_path: Path
) -> None:
    subscribe(openai_client, receiver, JOBS)
    cancelled_job(openai_client)
    with full_disk(0):
        for _ in range(3):
            worker.tick()
            worker.settle(20)
    assert len(receiver.posted) == 1
    assert states(context) == [("pending", 0, None)]
    pass_over(worker)
    assert states(context) == [("delivered", 1, 200)]
    assert len(receiver.posted) == 1


def test_endpoint_that_is_deleted_gets_nothing_more(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, context: Context
) -> None:
    subscribe(openai_client, receiver, JOBS)
    receiver.before = lambda posted: openai_client.webhooks.delete(openai_client.webhooks.list().data[0].id)
    for _ in range(3):
        cancelled_job(openai_client)
        if not receiver.posted:
            pass_over(worker)
    pass_over(worker)
    assert len(receiver.posted) == 1
    assert states(context) == []


def test_key_that_is_lost_holds_deliveries_back_and_a_rotation_or_the_key_frees_them(
    openai_client: OpenAI, receiver: Receiver, worker: WebhookWorker, hands: Hands, context: Context
) -> None:
    subscribe(openai_client, receiver, JOBS)
    key = context.webhook_key_file.read_bytes()
    context.webhook_key_file.unlink()
    cancelled_job(openai_client)
    pass_over(worker)
    assert (receiver.posted, states(context)) == ([], [("pending", 1, None)])
    context.webhook_key_file.write_bytes(key)
    hands.ahead += timedelta(seconds=6)
    pass_over(worker)
    assert len(receiver.posted) == 1
    context.webhook_key_file.unlink()
    endpoint_id = openai_client.webhooks.list().data[0].id
    new = openai_client.webhooks.rotate_secret(endpoint_id, keep_old_secret_active_for_24_hours=True).signing_secret
    hands.ahead = timedelta()
    cancelled_job(openai_client)
    pass_over(worker)
    receiver.posted[1].unwrap(new)


def test_deleted_resource_sends_nothing_and_takes_endpoints_and_deliveries_along(
    context: Context, receiver: Receiver, worker: WebhookWorker, serving: Serving, url: str
) -> None:
    resource, keys = resources.create(context, "tenant", None, None)
    with OpenAI(base_url=f"{url}/v1", api_key=keys[0], max_retries=0) as client:
        subscribe(client, receiver, JOBS)
        cancelled_job(client)
    resources.delete(context, "tenant", force=True)
    pass_over(worker)
    assert (receiver.posted, len(states(context))) == ([], 1)
    resource_purge.purge_deleted(context, serving)
    assert states(context) == []
    with pytest.raises(LuthierError):
        webhook_endpoints.get(context, resource.id, "whe_none")


def test_log_has_ids_and_neither_url_nor_secret(
    openai_client: OpenAI,
    receiver: Receiver,
    worker: WebhookWorker,
    context: Context,
    caller: Principal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("DEBUG", logger="luthier"):
        secret = subscribe(openai_client, receiver, JOBS, "/private-path?token=private-token")
        receiver.answers = [500]
        cancelled_job(openai_client)
        pass_over(worker)
        endpoint = openai_client.webhooks.list().data[0].id
        webhook_endpoints.update(context, caller.resource.id, endpoint, Change(url=receiver.url("/private-other")))
    assert f"endpoint={endpoint} attempt=1 status=500" in caplog.text
    for word in ("private", "receiver.example", secret.removeprefix("whsec_")):
        assert word not in caplog.text
