"""`luthier webhooks` against a running service, into a pipe."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from typer.testing import Result

from luthier.service.context import Context
from luthier.url_fetch.fetcher import GuardedFetcher
from servers import LOOPBACK
from webhook_receiver import Receiver, receiving

Command = Callable[..., Result]


@pytest.fixture
def context(context: Context) -> Context:
    """On the machine's clock: the SDK takes no signature of another time."""
    fetcher = GuardedFetcher(LOOPBACK, allow_http=True)
    return replace(context, fetcher=fetcher, now=lambda: datetime.now(UTC))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def lines(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split("\t") for line in result.stdout.splitlines()]


def test_webhook_is_created_tested_rotated_changed_and_deleted(luthier: Command, receiver: Receiver) -> None:
    url = f"http://127.0.0.1:{receiver.port}/hook"
    [[sentence], [secret]] = lines(luthier("webhooks", "create", url, "--name", "mine"))
    [[id, name, listed, events, created, disabled]] = lines(luthier("webhooks", "list"))
    assert sentence.startswith(f"created {id};")
    assert (name, listed, disabled) == ("mine", url, "")
    assert events == "fine_tuning.job.succeeded,fine_tuning.job.failed,fine_tuning.job.cancelled"
    assert created
    assert lines(luthier("webhooks", "test", id)) == [[f"{id} 200"]]
    [[new]] = lines(luthier("webhooks", "rotate", id, "--keep-old", "--quiet"))
    assert new != secret
    receiver.answers = [500]
    refused = luthier("webhooks", "test", id, "--event", "batch.failed", "--json")
    assert (refused.exit_code, json.loads(refused.stdout)["status_code"]) == (1, 500)
    assert [posted.unwrap(new).type for posted in receiver.posted[1:]] == ["batch.failed"]
    assert lines(luthier("webhooks", "update", id, "--event", "batch.failed")) == [[f"updated {id}"]]
    assert json.loads(luthier("webhooks", "list", "--json").stdout)[0]["event_types"] == ["batch.failed"]
    assert lines(luthier("webhooks", "list", "-q")) == [[id]]
    assert lines(luthier("webhooks", "delete", id, "-q")) == [[id]]
    gone = luthier("webhooks", "delete", id)
    assert gone.exit_code == 1
    assert id in gone.stderr


def test_refusals_are_one_line(luthier: Command) -> None:
    for arguments, words in (
        (("create", "https://10.0.0.1/"), "public addresses"),
        (("create", "https://example.com/", "--event", "nothing"), "batch.expired"),
        (("test", "whe_none"), "whe_none"),
    ):
        refused = luthier("webhooks", *arguments)
        assert refused.exit_code == 1
        assert words in refused.stderr
