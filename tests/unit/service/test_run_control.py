"""Several runs at once: as many as nodes hold, fair between resources, and a slow one holds up no other."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import BASE, ScriptedExecutor, train_well
from job_reads import attempts, messages, refreshed
from luthier import catalog
from luthier.catalog import Catalog, NeedsOfRun
from luthier.core.errors import Unavailable
from luthier.core.models import Job, Principal
from luthier.core.quotas import Quota
from luthier.core.states import AttemptEnd, JobStatus, RunState
from luthier.core.training.executor_port import NONE_RUNNING, ONE_CPU, Ending, NodeRoom, RunNeeds
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Message, Metrics
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.jobs import job_recipes, jobs, runs, train_specs
from luthier.service.models.serving import Serving
from luthier.service.tenants import quotas, resources
from luthier.store.queries import jobs as job_rows

NOTHING: Callable[[RunDirectory], object] = lambda run: None  # noqa: E731
MANY = {f"fake:{number}" for number in range(1, 99)}


class Cluster(ScriptedExecutor):
    """Nodes of the test's choice, and answers that it withholds."""

    def __init__(self, rooms: Sequence[NodeRoom]) -> None:
        super().__init__(NOTHING)
        self.rooms = rooms
        self.alive = set(MANY)
        self.needs: list[RunNeeds] = []
        self.asked_with: Mapping[str, RunNeeds] = {}
        self.out_of_reach: set[str] = set()
        self.is_silent = False
        self.slow: set[Path] = set()
        self.go_on = threading.Event()

    outlives_service = True

    def room(self, running: Mapping[str, RunNeeds] = NONE_RUNNING) -> Sequence[NodeRoom]:
        if self.is_silent:
            raise Unavailable("cluster_silent", "The cluster does not answer.")
        self.asked_with = dict(running)
        return self.rooms

    def start(self, run: Path, attempt: int = 1, needs: RunNeeds = ONE_CPU) -> str:
        if run in self.slow:
            assert self.go_on.wait(30)
        self.needs.append(needs)
        return super().start(run, attempt, needs)

    def look(self, handle: str) -> RunState:
        return RunState.UNKNOWN if handle in self.out_of_reach else super().look(handle)

    def sync(self, run: Path, handle: str) -> None:
        if self.is_silent:
            raise Unavailable("cluster_silent", "The cluster does not answer.")


@pytest.fixture
def other(context: Context) -> str:
    return resources.create(context, "team", None, None)[0].id


def queued(context: Context, create: Callable[..., Job], owners: Sequence[str]) -> list[Job]:
    """A job for each owner, in this order, waiting for a node."""
    made = []
    pattern = create()
    runs.validate_files(context, pattern)
    with context.database.writing() as tx:
        for number, owner in enumerate(owners):
            row = replace(refreshed(context, pattern), id=f"ftjob-{5000 + number:032x}", resource_id=owner)
            job_rows.insert_job(tx, row)
            made.append(row)
        job_rows.move(tx, pattern.id, [JobStatus.QUEUED], JobStatus.CANCELLED, finished_at=context.now())
    return made


def running(context: Context, made: Sequence[Job]) -> list[int]:
    return [number for number, job in enumerate(made) if refreshed(context, job).status is JobStatus.RUNNING]


def with_needs(context: Context, needs: NeedsOfRun) -> Context:
    entries = catalog.load().entries
    return replace(context, catalog=Catalog({BASE: entries[BASE].model_copy(update={"needs": needs})}, {}))


def test_as_many_runs_start_as_fit_and_resources_take_turns(
    context: Context, serving: Serving, create: Callable[..., Job], caller: Principal, other: str
) -> None:
    own = caller.resource.id
    made = queued(context, create, [own] * 4 + [other] * 2)
    cluster = Cluster([NodeRoom("a", cpus=2), NodeRoom("b", cpus=1)])
    supervisor = Supervisor(context, cluster, serving, tick_s=0.01)
    supervisor.tick_runs()
    assert running(context, made) == [0, 1, 4]
    cluster.rooms = [NodeRoom("a", cpus=1)]
    supervisor.tick_runs()
    assert running(context, made) == [0, 1, 4, 5], "the resource with fewer running jobs is next"
    assert set(cluster.asked_with) == {"fake:1", "fake:2", "fake:3"}


def test_resource_at_its_limit_waits_while_others_start(
    context: Context, serving: Serving, create: Callable[..., Job], caller: Principal, other: str
) -> None:
    made = queued(context, create, [caller.resource.id] * 3 + [other] * 5)
    quotas.set_limits(context, caller.resource.id, {Quota.RUNNING_JOBS: 1})
    supervisor = Supervisor(context, Cluster([NodeRoom("a", cpus=99)]), serving, tick_s=0.01)
    for _ in range(3):
        supervisor.tick_runs()
    assert running(context, made) == [0, 3, 4, 5], "Azure's default is three"
    usage = next(one for one in quotas.usages(context, other) if one.quota is Quota.RUNNING_JOBS)
    assert (usage.current, usage.limit) == (3, 3)


def test_one_resource_with_a_long_queue_does_not_hold_up_another_on_one_machine(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job], other: str
) -> None:
    made = queued(context, create, [create().resource_id] * 6 + [other] * 2)
    executor.trainer = train_well
    supervisor = Supervisor(context, executor, serving, tick_s=0.01)
    for _ in range(30):
        supervisor.tick_runs()
    order = [made.index(next(job for job in made if job.id == path.name)) for path in executor.started]
    assert order[:4] == [0, 6, 1, 7]
    assert sorted(order) == list(range(8))


def test_run_gets_what_its_recipe_says_and_its_estimate(
    context: Context, serving: Serving, create: Callable[..., Job], caller: Principal
) -> None:
    needs = NeedsOfRun(cpus=3, gpus=1, labels={"zone": "a"})
    rich = with_needs(context, needs)
    [job] = queued(rich, create, [caller.resource.id])
    with context.database.writing() as tx:
        resolved = train_specs.resolve(
            rich.catalog.entries[BASE], job.hyperparameters, job_recipes.of_job(job), 10, job.method
        )
        job_rows.set_resolved(tx, job.id, resolved, 7 * 2**30)
    cluster = Cluster([NodeRoom("plain", cpus=9), NodeRoom("rich", cpus=4, gpus=1, labels={"zone": "a"})])
    specs = []
    cluster.trainer = lambda run: specs.append(run.read_spec())
    Supervisor(rich, cluster, serving, tick_s=0.01).tick_runs()
    assert cluster.needs == [RunNeeds(3, 1, 7 * 2**30, {"zone": "a"})]
    assert specs[0].threads == 3, "as many as CPUs"


def test_job_that_no_node_can_hold_tells_its_user_once_and_lets_others_pass(
    context: Context, serving: Serving, create: Callable[..., Job], caller: Principal
) -> None:
    rich = with_needs(context, NeedsOfRun(gpus=2, memory_gib=1.0, labels={"zone": "a"}))
    [job] = queued(rich, create, [caller.resource.id])
    cluster = Cluster([NodeRoom("a", cpus=9, holds=RunNeeds(9))])
    for _ in range(2):
        supervisor = Supervisor(rich, cluster, serving, tick_s=0.01)
        for _ in range(2):
            supervisor.tick_runs()
    text = "No node of this service has what the job needs: 1 CPU, 2 GPUs, 1.1 GB of memory, zone a. It waits until"
    assert [told[: len(text)] for told in messages(context, job)] == [text]
    assert refreshed(context, job).status is JobStatus.QUEUED


def test_run_out_of_reach_keeps_its_place_and_is_neither_restarted_nor_failed(
    context: Context,
    serving: Serving,
    create: Callable[..., Job],
    caller: Principal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    [job] = queued(context, create, [caller.resource.id])
    cluster = Cluster([NodeRoom("a", cpus=1)])
    supervisor = Supervisor(context, cluster, serving, tick_s=0.01)
    supervisor.tick_runs()
    cluster.alive.clear()  # nobody can know that yet
    cluster.out_of_reach = {"fake:1"}
    for _ in range(5):
        supervisor.tick_runs()
    assert refreshed(context, job).status is JobStatus.RUNNING
    assert [attempt.end for attempt in attempts(context, job)] == [None]
    assert caplog.text.count("out of reach") == 1
    cluster.alive, cluster.out_of_reach = {"fake:1"}, set()
    supervisor.tick_runs()
    assert caplog.text.count("in reach again") == 1
    assert len(cluster.started) == 1


def test_end_of_a_run_whose_last_events_cannot_be_had_yet_is_waited_for(
    context: Context, serving: Serving, create: Callable[..., Job], caller: Principal
) -> None:
    [job] = queued(context, create, [caller.resource.id])
    cluster = Cluster([NodeRoom("a", cpus=1)])
    supervisor = Supervisor(context, cluster, serving, tick_s=0.01)
    supervisor.tick_runs()
    cluster.alive.clear()
    cluster.is_silent = True
    supervisor.tick_runs()
    assert [attempt.end for attempt in attempts(context, job)] == [None]
    train_well(RunDirectory(cluster.started[0]))  # what the executor brings once it answers
    cluster.is_silent = False
    supervisor.tick_runs()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED


def test_silent_cluster_starts_nothing_and_is_logged_once(
    context: Context,
    serving: Serving,
    create: Callable[..., Job],
    caller: Principal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = queued(context, create, [caller.resource.id])
    cluster = Cluster([NodeRoom("a", cpus=1)])
    cluster.is_silent = True
    supervisor = Supervisor(context, cluster, serving, tick_s=0.01)
    for _ in range(3):
        supervisor.tick_runs()
    assert (running(context, made), caplog.text.count("executor does not answer")) == ([], 1)
    cluster.is_silent = False
    supervisor.tick_runs()
    assert running(context, made) == [0]


def test_next_attempt_has_its_place_before_jobs_that_wait(
    context: Context, serving: Serving, create: Callable[..., Job], caller: Principal, other: str
) -> None:
    made = queued(context, create, [caller.resource.id, other])
    cluster = Cluster([NodeRoom("a", cpus=1)])
    supervisor = Supervisor(context, cluster, serving, tick_s=0.01)
    supervisor.tick_runs()
    cluster.alive.remove("fake:1")
    cluster.endings = {"fake:1": Ending(signal=9)}
    for _ in range(4):
        supervisor.tick_runs()
        cluster.rooms = [NodeRoom("a", cpus=2 - len(cluster.started))]
    assert [path.name for path in cluster.started] == [made[0].id] * 2
    assert [attempt.end for attempt in attempts(context, made[0])] == [AttemptEnd.KILLED, None]
    assert running(context, made) == [0]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_slow_start_holds_up_neither_the_following_of_others_nor_their_starts(
    context: Context, serving: Serving, create: Callable[..., Job], caller: Principal
) -> None:
    made = queued(context, create, [caller.resource.id] * 3)
    cluster = Cluster([NodeRoom("a", cpus=3)])
    cluster.slow = {context.runs_folder / made[0].id}
    supervisor = Supervisor(context, cluster, serving, tick_s=0.01)
    supervisor.start()
    try:
        until(lambda: len(cluster.started) == 2)
        assert running(context, made) == [0, 1, 2]
        step = Metrics(at=2.0, step=1, n_steps=9, train_loss=1.0, train_mean_token_accuracy=0.5)
        RunDirectory(context.runs_folder / made[1].id).append(step)
        until(lambda: "Step 1: training loss=1.0" in messages(context, made[1]))
        assert refreshed(context, made[0]).handle is None
        cluster.go_on.set()
        until(lambda: refreshed(context, made[0]).handle is not None)
    finally:
        cluster.go_on.set()
        supervisor.stop()
    assert len(cluster.started) == 3, "each was started once"


def test_events_are_absorbed_once_by_many_threads_and_passes(
    context: Context, serving: Serving, create: Callable[..., Job], caller: Principal
) -> None:
    made = queued(context, create, [caller.resource.id] * 6)
    cluster = Cluster([NodeRoom("a", cpus=6)])
    supervisor = Supervisor(context, cluster, serving, tick_s=0.001)
    supervisor.start()
    try:
        until(lambda: len(cluster.started) == 6)
        for number in range(20):
            for job in made:
                RunDirectory(context.runs_folder / job.id).append(Message(at=1.0, level="info", message=f"m{number}."))
                supervisor.wake()
        until(lambda: all("m19." in messages(context, job) for job in made))
    finally:
        supervisor.stop()
    for job in made:
        assert [text for text in messages(context, job) if text[0] == "m"] == [f"m{number}." for number in range(20)]


def test_cancel_during_a_slow_start_ends_in_no_process_and_no_directory(
    context: Context, serving: Serving, create: Callable[..., Job], caller: Principal
) -> None:
    [job] = queued(context, create, [caller.resource.id])
    cluster = Cluster([NodeRoom("a", cpus=1)])
    cluster.slow = {context.runs_folder / job.id}
    supervisor = Supervisor(context, cluster, serving, tick_s=0.01)
    supervisor.start()
    try:
        until(lambda: (context.runs_folder / job.id / "spec.json").exists())
        jobs.cancel(context, job.resource_id, job.id)
        cluster.go_on.set()
        until(lambda: not refreshed(context, job).has_run)
    finally:
        cluster.go_on.set()
        supervisor.stop()
    assert cluster.killed == ([f"fake:{len(cluster.started)}"] if cluster.started else [])
    assert not (context.runs_folder / job.id).exists()


def test_next_job_starts_when_one_has_ended_however_long_the_pause_between_ticks(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job], caller: Principal
) -> None:
    made = queued(context, create, [caller.resource.id] * 3)
    supervisor = Supervisor(context, executor, serving, tick_s=600)
    supervisor.start()
    try:
        until(lambda: all(refreshed(context, job).status is JobStatus.SUCCEEDED for job in made))
    finally:
        supervisor.stop()
    assert [path.name for path in executor.started] == [job.id for job in made]
