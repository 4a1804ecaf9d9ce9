"""kill -9 of the service around a webhook's POST: every event arrives, a repeat has the same id, none comes again after
it was recorded.
"""

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

import batch_runs
from installed import Install, Installation
from waiting import until
from webhook_receiver import Posted, Receiver, receiving

pytestmark = pytest.mark.timeout(3000)
ENVIRONMENT = {"LUTHIER_IMPORT_ALLOW": "127.0.0.0/8", "LUTHIER_IMPORT_HTTP": "true"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def service(install: Install) -> Installation:
    made = install(**ENVIRONMENT)
    made.start()
    return made


def subscribe(service: Installation, receiver: Receiver) -> str:
    """An endpoint at the receiver; its secret."""
    url = f"http://127.0.0.1:{receiver.port}/hook"
    with service.client() as client:
        return client.webhooks.create(name="n", url=url, event_types=["batch.failed"]).signing_secret


def failing_batch(service: Installation) -> str:
    """A batch whose file has a fault: it has failed within a moment, without a model."""
    with service.client() as client:
        file_id = batch_runs.upload(client, [{"custom_id": "a"}])
        endpoint = "/v1/chat/completions"
        return client.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h").id


def ids_of(receiver: Receiver, secret: str) -> dict[str, set[str]]:
    """The ids under which each batch's event has come; every one is signed."""
    found: dict[str, set[str]] = {}
    for posted in list(receiver.posted):
        event = posted.unwrap(secret)
        assert event.type == "batch.failed"
        found.setdefault(event.data.id, set()).add(posted.id)
    return found


def recorded(service: Installation) -> dict[str, str]:
    """The state of each delivery in the database, by its id."""
    with closing(sqlite3.connect(service.data / "luthier.db", timeout=20)) as database:
        return dict(database.execute("SELECT id, state FROM webhook_deliveries").fetchall())


def is_recorded(service: Installation, number: int) -> bool:
    return list(recorded(service).values()) == ["delivered"] * number


def kill_at_next_post(service: Installation, receiver: Receiver, before_answer: bool, wait_s: float) -> None:
    """Has the service killed once at the next POST, before its answer or that long after it; returns when it is."""
    is_killed = threading.Event()
    once = threading.Lock()

    def end() -> None:
        service.kill()
        is_killed.set()

    def kill(posted: Posted) -> None:
        if once.acquire(blocking=False):
            if before_answer:
                end()
            else:
                threading.Timer(wait_s, end).start()

    receiver.before = kill
    failing_batch(service)
    assert is_killed.wait(60)
    receiver.before = lambda posted: None


def shot(service: Installation, receiver: Receiver, kills: int, seed: int) -> None:
    """Kills the service so many times: before the answer, about when it is recorded, anywhere from the creation on."""
    chance = random.Random(seed)
    secret = subscribe(service, receiver)
    for number in range(1, kills + 1):
        match number % 3:
            case 0:
                failing_batch(service)
                time.sleep(chance.uniform(0, 0.2))  # the fault itself: from the status to the record
                service.kill()
            case kind:
                kill_at_next_post(service, receiver, kind == 1, chance.uniform(0, 0.01))
        service.start()
        until(lambda number=number: is_recorded(service, number), 30)  # type: ignore[misc]
    counts = Counter(posted.id for posted in receiver.posted)
    assert set(counts) == set(recorded(service)), "what was posted is what there is"
    assert max(counts.values()) <= 2, "a kill repeats its own event alone"
    found = ids_of(receiver, secret)
    assert len(found) == kills
    assert all(len(ids) == 1 for ids in found.values())
    before = len(receiver.posted)
    service.kill()
    service.start()
    failing_batch(service)
    until(lambda: is_recorded(service, kills + 1), 30)
    assert len(receiver.posted) == before + 1, "what was recorded never comes again"


def test_kills_around_the_post_lose_no_event_and_repeat_none_under_another_id(
    service: Installation, receiver: Receiver
) -> None:
    shot(service, receiver, 3, seed=1)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(5))
def test_many_kills_around_the_post_lose_and_repeat_nothing(
    service: Installation, receiver: Receiver, seed: int
) -> None:
    shot(service, receiver, 20, seed)


def test_events_of_a_service_that_was_down_come_when_it_is_back(service: Installation, receiver: Receiver) -> None:
    secret = subscribe(service, receiver)
    receiver.answers = [503] * 2
    made = {failing_batch(service) for _ in range(2)}
    until(lambda: len(receiver.posted) == 2, 30)
    service.kill()
    service.set_clocks(wall=100 * 3600.0)
    service.start()
    until(lambda: is_recorded(service, 2), 30)
    assert {event.data.id for event in (posted.unwrap(secret) for posted in receiver.posted[:2])} == made
    assert Counter(posted.id for posted in receiver.posted) == dict.fromkeys(recorded(service), 2)
