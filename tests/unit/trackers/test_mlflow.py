"""MLflow's REST API: what is looked up before it is sent, and how refusals are taken."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

import fake_mlflow
import tracked
from fake_mlflow import FakeMlflow, Refusal
from luthier.core.errors import LuthierError, NotFound, Unauthenticated, Unavailable, UpstreamFailed
from luthier.core.training.tracking import MlflowTarget, TrackedPoint
from luthier.trackers.mlflow_sink import MlflowSink
from tracked import AT, JOB
from waiting import PATIENCE


@pytest.fixture
def fake() -> Iterator[FakeMlflow]:
    with fake_mlflow.running() as running:
        yield running


Make = Callable[..., MlflowSink]


@pytest.fixture
def sink_of() -> Iterator[Make]:
    """Makes sinks as new processes have them, and closes them after the test."""
    with ExitStack() as closing:

        def make(fake: FakeMlflow, timeout_s: float = 10.0) -> MlflowSink:
            sink = MlflowSink(MlflowTarget(fake.uri, fake.token), "luthier", timeout_s)
            closing.callback(sink.close)
            return sink

        yield make


def figures(fake: FakeMlflow) -> tracked.Figures:
    return tracked.once([(m["step"], m["key"], m["value"]) for m in fake.run_of(JOB)["metrics"]])


def test_run_has_params_tags_figures_and_an_end(sink_of: Make, fake: FakeMlflow) -> None:
    sink = sink_of(fake)
    delivery = sink.deliver(tracked.run(), tracked.points(1, 5), tracked.end())
    run = fake.run_of(JOB)
    assert run["params"] == {"model": "tiny", "seed": "1", "n_epochs": "2", "trained_tokens": "200"}
    assert (run["name"], run["status"], run["tags"]["luthier.job_id"]) == (JOB, "FINISHED", JOB)
    assert figures(fake) == tracked.expected(tracked.points(1, 5))
    assert run["metrics"][0]["timestamp"] == 1000 * (AT + timedelta(seconds=1)).timestamp()
    assert delivery.place == f"{fake.uri}/#/experiments/1/runs/{delivery.run_id}"


def test_delivery_after_one_that_was_answered_looks_nothing_up(sink_of: Make, fake: FakeMlflow) -> None:
    sink = sink_of(fake)
    delivery = sink.deliver(tracked.run(), tracked.points(1, 3), None)
    fake.calls.clear()
    sink.deliver(tracked.run(run_id=delivery.run_id), tracked.points(4, 4), None)
    assert fake.calls == ["runs/log-batch"]


def test_new_process_looks_up_histories_only_of_what_may_be_there(sink_of: Make, fake: FakeMlflow) -> None:
    delivery = sink_of(fake).deliver(tracked.run(), tracked.points(1, 4), None)
    fake.calls.clear()
    sink_of(fake).deliver(tracked.run(run_id=delivery.run_id), tracked.points(5, 8), None)
    assert fake.calls == ["experiments/get-by-name", "runs/get", "runs/log-batch", "runs/log-batch"]
    sink_of(fake).deliver(tracked.run(run_id=delivery.run_id), tracked.points(7, 12), None)
    assert fake.calls.count("metrics/get-history") > 2
    assert figures(fake) == tracked.expected(tracked.points(1, 12))


def test_more_figures_than_one_call_takes_are_sent_in_several(sink_of: Make, fake: FakeMlflow) -> None:
    sink_of(fake).deliver(tracked.run(), tracked.points(1, 1001), tracked.end())
    assert figures(fake) == tracked.expected(tracked.points(1, 1001))


@pytest.mark.parametrize("lost", ["question", "answer"])
def test_call_that_is_lost_anywhere_stores_nothing_twice(sink_of: Make, fake: FakeMlflow, lost: str) -> None:
    """Each call of a delivery in turn, before it is carried out and after. The first one's answer is a 404 anyway."""
    whole = sink_of(fake)
    whole.deliver(tracked.run("ftjob-" + "b" * 32), tracked.points(1, 6), tracked.end())
    for number in range(1 if lost == "question" else 2, len(fake.calls) + 1):
        fake.calls.clear()
        fake.runs.clear()
        fake.experiments.clear()

        def refuse(seen: int, number: int = number) -> None:
            if seen == number:
                raise Refusal(503, "TEMPORARILY_UNAVAILABLE")

        fake.behave()
        setattr(fake, "before" if lost == "question" else "after", refuse)
        sink = sink_of(fake)
        with pytest.raises(Unavailable):
            sink.deliver(tracked.run(), tracked.points(1, 6), tracked.end())
        sink.deliver(tracked.run(), tracked.points(1, 6), tracked.end())
        assert figures(fake) == tracked.expected(tracked.points(1, 6)), number
        assert fake.run_of(JOB)["status"] == "FINISHED"


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, "UNAUTHENTICATED", Unauthenticated),
        (403, "PERMISSION_DENIED", Unauthenticated),
        (404, "ENDPOINT_NOT_FOUND", UpstreamFailed),
        (400, "INVALID_PARAMETER_VALUE", UpstreamFailed),
        (302, "", UpstreamFailed),
        (429, "REQUEST_LIMIT_EXCEEDED", Unavailable),
        (500, "INTERNAL_ERROR", Unavailable),
        (503, "a text with a secret", Unavailable),
    ],
)
def test_refusal_says_whether_a_later_call_may_succeed(
    sink_of: Make, fake: FakeMlflow, status: int, code: str, error: type[LuthierError]
) -> None:
    fake.refuse(status, code, retry_after="7")
    with pytest.raises(error, match=f"MLflow answered {status}") as raised:
        sink_of(fake).deliver(tracked.run(), tracked.points(1, 2), None)
    assert "nobody is shown" not in raised.value.message
    assert "secret" not in raised.value.message
    if isinstance(raised.value, Unavailable):
        assert raised.value.retry_after_s == 7.0


def test_run_that_was_deleted_on_the_server_is_a_refusal(sink_of: Make, fake: FakeMlflow) -> None:
    sink = sink_of(fake)
    delivery = sink.deliver(tracked.run(), tracked.points(1, 2), None)
    fake.runs.clear()
    with pytest.raises(NotFound):
        sink.deliver(tracked.run(run_id=delivery.run_id), tracked.points(3, 4), None)


def test_server_that_never_answers_is_given_up_in_time(sink_of: Make, fake: FakeMlflow) -> None:
    fake.before = fake.hang
    began = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer within"):
        sink_of(fake, 0.3).deliver(tracked.run(), tracked.points(1, 2), None)
    assert time.monotonic() - began < 5 * PATIENCE


def test_server_that_is_not_there_is_unavailable() -> None:
    sink = MlflowSink(MlflowTarget("http://127.0.0.1:1"), "luthier", 1.0)
    with pytest.raises(Unavailable, match="cannot be reached"):
        sink.deliver(tracked.run(), [], None)
    sink.close()
    with pytest.raises(Unavailable, match="cannot be reached"):
        sink.deliver(tracked.run(), [], None)


def test_token_is_sent_and_shown_by_no_value(sink_of: Make, fake: FakeMlflow) -> None:
    fake.token = "s3cret-token"
    sink_of(fake).deliver(tracked.run(), [], None)
    assert "s3cret" not in repr(MlflowTarget(fake.uri, fake.token))


def test_numbers_that_are_not_finite_are_sent_in_protobufs_words(sink_of: Make, fake: FakeMlflow) -> None:
    values = {"a": math.inf, "b": -math.inf, "c": math.nan}
    sink_of(fake).deliver(tracked.run(), [TrackedPoint(1, 1, AT, values)], None)
    stored = figures(fake)
    assert (stored[1, "a"], stored[1, "b"]) == (math.inf, -math.inf)
    assert math.isnan(stored[1, "c"])
