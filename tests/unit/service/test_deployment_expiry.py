"""Expiry of deployments, on a clock of the test's."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from fakes import BASE, KEY, EchoEngine, ScriptedExecutor
from luthier.core.models import Checkpoint, Job
from luthier.core.states import JobStatus, Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models import deployments
from luthier.service.models.deployment_expiry import Lifetimes
from luthier.service.models.deployments import DeploymentRequest
from luthier.service.models.serving import Serving
from luthier.service.steady_clock import SettledClock
from luthier.settings import Settings
from luthier.store import schema
from luthier.store.queries import checkpoints
from luthier.store.queries import jobs as job_rows

START = datetime(2027, 1, 1, tzinfo=UTC)
TUNED = f"{BASE}.ft-1"
DAY = timedelta(days=1)


class Hands:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def context(context: Context, clock: Hands) -> Context:
    moved = replace(context, now=clock.now)
    add_model(moved)
    return moved


def add_model(context: Context) -> None:
    job = Job(
        id="ftjob-1",
        resource_id="default",
        status=JobStatus.SUCCEEDED,
        base_model=BASE,
        requested_model=BASE,
        parent_model=None,
        training_file="file-1",
        validation_file=None,
        hyperparameters=Hyperparameters(),
        method=Method.SUPERVISED,
        method_sent=False,
        seed=1,
        suffix=None,
        extras={},
        created_at=START,
    )
    with context.database.writing() as tx:
        job_rows.insert_job(tx, job)
        made = Checkpoint("ftchkpt-1", "default", "ftjob-1", TUNED, BASE, 4, {}, (), START)
        checkpoints.insert_checkpoint(tx, made)


def put(context: Context, name: str, model: str, sku: str = "Standard") -> None:
    deployments.put(context, "default", DeploymentRequest(name, model, None, sku, 1))


def names(context: Context) -> list[str]:
    return [deployment.name for deployment in deployments.list_all(context, "default")]


def test_idle_deployment_of_a_tuned_model_is_deleted_and_the_model_is_kept(
    context: Context, supervisor: Supervisor, clock: Hands, engine: EchoEngine
) -> None:
    for name, model in (("tuned", TUNED), ("base", BASE)):
        put(context, name, model)
    supervisor.tick_deployments()
    clock.time = START + 15 * DAY
    supervisor.tick_deployments()
    assert names(context) == ["base", "tuned"]
    clock.time += timedelta(seconds=1)
    supervisor.tick_deployments()
    assert names(context) == ["base"], "a base model's stays"
    assert engine.released == [TUNED]
    put(context, "tuned", TUNED)
    supervisor.tick_deployments()
    assert deployments.get(context, "default", "tuned").state == "Succeeded"


def test_developer_deployment_is_deleted_after_a_day_despite_calls(
    context: Context, supervisor: Supervisor, clock: Hands
) -> None:
    put(context, "a", TUNED, "developer")
    put(context, "b", BASE, "DeveloperTier")
    put(context, "c", TUNED)
    clock.time = START + DAY
    supervisor.tick_deployments()
    assert names(context) == ["a", "b", "c"]
    deployments.update(context, "default", "c", sku_name="Developer")
    deployments.update(context, "default", "b", tags={"a": "b"})
    clock.time += timedelta(seconds=1)
    supervisor.tick_deployments()
    assert names(context) == ["c"], "its day begins with its sku, and no patch of tags prolongs one"
    clock.time += DAY
    supervisor.tick_deployments()
    assert names(context) == []


@pytest.mark.parametrize("days", [1, 20])
def test_clock_that_jumps_forward_and_back_expires_nothing(
    context: Context, executor: ScriptedExecutor, serving: Serving, clock: Hands, days: int
) -> None:
    context = replace(context, settled=SettledClock(clock.now, lambda: 0.0))
    supervisor = Supervisor(context, executor, serving, tick_s=0.01)
    put(context, "idle", TUNED)
    put(context, "developer", TUNED, "Developer")
    clock.time += days * DAY
    supervisor.tick_deployments()
    clock.time = START - DAY
    put(context, "made-a-day-ago", TUNED, "Developer")
    clock.time = START + timedelta(hours=1)
    supervisor.tick_deployments()
    assert names(context) == ["developer", "idle", "made-a-day-ago"]


def test_limits_are_settings_and_zero_is_never(context: Context, supervisor: Supervisor, clock: Hands) -> None:
    assert (Settings().developer_deployment_hours, Settings().idle_deployment_days) == (24, 15)
    put(context, "idle", TUNED)
    put(context, "developer", TUNED, "Developer")
    supervisor.lifetimes = Lifetimes(timedelta(0), timedelta(0))
    clock.time = START + 1000 * DAY
    supervisor.tick_deployments()
    assert names(context) == ["developer", "idle"]
    supervisor.lifetimes = Lifetimes(timedelta(0), timedelta(days=2000))
    supervisor.tick_deployments()
    assert names(context) == ["developer", "idle"]
    supervisor.lifetimes = Lifetimes(timedelta(hours=1), timedelta(0))
    supervisor.tick_deployments()
    assert names(context) == ["idle"]


def test_call_keeps_a_deployment_and_is_recorded_once_a_minute(
    url: str, context: Context, supervisor: Supervisor, serving: Serving, clock: Hands
) -> None:
    put(context, "clippy", BASE)
    supervisor.tick_deployments()

    def ask_at(seconds: float) -> datetime:
        clock.time = START + timedelta(seconds=seconds)
        address = f"{url}/openai/deployments/clippy/chat/completions?api-version=2024-10-21"
        body = {"messages": [{"role": "user", "content": "hi"}]}
        assert httpx2.post(address, headers={"api-key": KEY}, json=body).status_code == 200
        return deployments.get(context, "default", "clippy").last_used_at

    assert ask_at(59) == START
    assert ask_at(61) == START + timedelta(seconds=61)
    assert ask_at(120) == START + timedelta(seconds=61)
    assert ask_at(122) == START + timedelta(seconds=122)
    with context.database.writing() as tx:
        tx.execute(schema.deployments.update().values(model=TUNED))
    clock.time = START + 15 * DAY + timedelta(seconds=100)
    supervisor.tick_deployments()
    assert names(context) == ["clippy"]
