"""Placement: what fits and nothing else, in order within a resource, fair between resources, nobody passed for ever."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.training.executor_port import NodeRoom, RunNeeds
from luthier.core.training.placement import (
    HOLD_AFTER_S,
    Placement,
    Rooms,
    WaitingJob,
    WaitingResource,
    place,
)

SMALL, WHOLE = RunNeeds(cpus=1), RunNeeds(cpus=4)
GIB = 2**30


def resource(name: str, running: int = 0, limit: int = 99, since_s: float = 0.0, seq: int = 0) -> WaitingResource:
    return WaitingResource(name, running, limit, since_s, seq)


def placed(
    queues: dict[WaitingResource, list[RunNeeds]], rooms: list[NodeRoom], now_s: float = 0.0, most: int = 99
) -> Placement:
    """Jobs are named by their resource and their place in its queue."""

    def queue_of(one: WaitingResource) -> Iterator[WaitingJob]:
        return (WaitingJob(f"{one.resource_id}{place}", needs) for place, needs in enumerate(queues[one]))

    return place(list(queues), queue_of, Rooms(rooms), now_s, most)


def started(placement: Placement) -> list[str]:
    return [start.job_id for start in placement.starts]


def test_resources_take_turns_whatever_they_have_queued() -> None:
    queues = {resource("a", seq=1): [SMALL] * 9, resource("b", seq=2): [SMALL] * 2, resource("c", seq=3): [SMALL]}
    assert started(placed(queues, [NodeRoom("n", cpus=5)])) == ["a0", "b0", "c0", "a1", "b1"]


def test_resource_with_fewest_running_jobs_is_next_then_the_one_that_waits_longest() -> None:
    queues = {
        resource("a", running=1, since_s=1): [SMALL],
        resource("b", since_s=9): [SMALL],
        resource("c", since_s=5, seq=8): [SMALL],
        resource("d", since_s=5, seq=7): [SMALL],
    }
    assert started(placed(queues, [NodeRoom("n", cpus=9)])) == ["d0", "c0", "b0", "a0"]


def test_limit_of_a_resource_counts_what_runs_already() -> None:
    queues = {resource("a", running=1, limit=3): [SMALL] * 9, resource("b", running=2, limit=2): [SMALL]}
    assert started(placed(queues, [NodeRoom("n", cpus=9)])) == ["a0", "a1"]


def test_job_takes_the_node_with_the_least_left_and_leaves_gpus_to_those_in_need() -> None:
    rooms = [NodeRoom("gpu", cpus=2, gpus=2), NodeRoom("big", cpus=8), NodeRoom("tight", cpus=1)]
    queues = {resource("a"): [SMALL, SMALL, RunNeeds(cpus=1, gpus=2)]}
    assert [start.node for start in placed(queues, rooms).starts] == ["tight", "big", "gpu"]


def test_labels_must_be_those_of_the_node() -> None:
    rooms = [NodeRoom("a", cpus=9, labels={"zone": "x"}), NodeRoom("b", cpus=1, labels={"zone": "y", "disk": "ssd"})]
    needs = RunNeeds(cpus=1, labels={"zone": "y"})
    placement = placed({resource("a"): [needs, needs]}, rooms)
    assert [start.node for start in placement.starts] == ["b"]
    assert placement.unholdable == (), "a node that does not say what it holds may hold it later"


@pytest.mark.parametrize(
    ("busy", "left", "needed", "fits"),
    [
        (0, 4, 0, True),
        (1, 4, 0, False),
        (1, None, 0, True),
        (1, 4, 4, True),
        (1, 4, 5, False),
        (0, 4, 5, False),
        (1, None, 5, True),
    ],
)
def test_memory_that_is_not_known_fits_a_free_node(busy: int, left: int | None, needed: int, fits: bool) -> None:
    room = NodeRoom("n", cpus=9, memory_bytes=None if left is None else left * GIB, busy_runs=busy)
    assert bool(started(placed({resource("a"): [RunNeeds(1, 0, needed * GIB)]}, [room]))) is fits


def test_machine_that_takes_any_run_alone_takes_the_next_by_its_memory() -> None:
    room = NodeRoom("n", cpus=9, memory_bytes=4 * GIB, takes_any_alone=True, holds=RunNeeds(9))
    for first, second, n_started in ((9, 1, 1), (3, 1, 2), (3, 2, 1), (0, 1, 1)):
        needs = [RunNeeds(1, 0, first * GIB), RunNeeds(1, 0, second * GIB)]
        assert len(started(placed({resource("a"): needs}, [room]))) == n_started, (first, second)


def test_job_that_no_node_could_hold_is_named_and_passed_by_its_own_resource() -> None:
    room = NodeRoom("n", cpus=4, memory_bytes=GIB, holds=RunNeeds(cpus=4, memory_bytes=GIB))
    placement = placed({resource("a"): [RunNeeds(cpus=5), RunNeeds(1, 0, 2 * GIB), RunNeeds(1, 1), SMALL]}, [room])
    assert started(placement) == ["a3"]
    assert [job.job_id for job in placement.unholdable] == ["a0", "a1", "a2"]
    assert placed({resource("a"): [RunNeeds(cpus=5)]}, []).unholdable == (), "without nodes nothing is known"


def test_node_is_held_for_a_job_that_has_waited_and_others_pass_it_elsewhere() -> None:
    rooms = [NodeRoom(name, cpus=left, holds=WHOLE) for name, left in (("a", 1.0), ("b", 3.0), ("c", 1.0))]
    queues = {resource("big", since_s=0): [WHOLE], resource("small", since_s=1): [SMALL] * 9}
    early, late = (placed(queues, rooms, now_s=HOLD_AFTER_S - 1 + more) for more in (0, 1))
    assert (early.held, len(early.starts)) == ({}, 5)
    assert late.held == {"b": "big0"}
    assert [start.node for start in late.starts] == ["a", "c"]


def test_a_quarter_of_the_nodes_may_be_held_and_never_more() -> None:
    rooms = [NodeRoom(f"n{number}", cpus=1.0, holds=WHOLE) for number in range(8)]
    queues = {resource(f"big{number}", seq=number): [WHOLE] for number in range(8)}
    placement = placed(queues, rooms, now_s=HOLD_AFTER_S)
    assert sorted(placement.held.values()) == ["big00", "big10"]


def test_no_more_than_asked_for_are_started() -> None:
    assert len(started(placed({resource("a"): [SMALL] * 9}, [NodeRoom("n", cpus=9)], most=2))) == 2


@dataclass
class Cluster:
    """Nodes that run what is placed on them, in simulated time; checks at each pass that nothing is promised twice."""

    nodes: list[NodeRoom]
    limit: int
    queues: dict[str, list[tuple[int, RunNeeds, float, float]]] = field(default_factory=dict)
    last_start: dict[str, float] = field(default_factory=dict)
    running: list[tuple[float, str, str, RunNeeds]] = field(default_factory=list)
    waits: dict[int, float] = field(default_factory=dict)
    order: dict[str, list[int]] = field(default_factory=dict)
    now: float = 0.0
    made: int = 0

    def submit(self, owner: str, needs: RunNeeds, seconds: float) -> int:
        self.made += 1
        self.queues.setdefault(owner, []).append((self.made, needs, seconds, self.now))
        return self.made

    def rooms(self) -> list[NodeRoom]:
        left = []
        for node in self.nodes:
            own = [needs for _, _, name, needs in self.running if name == node.name]
            cpus, gpus = sum(one.cpus for one in own), sum(one.gpus for one in own)
            assert cpus <= node.cpus
            assert gpus <= node.gpus
            holds = RunNeeds(node.cpus, node.gpus)
            left.append(replace(node, cpus=node.cpus - cpus, gpus=node.gpus - gpus, busy_runs=len(own), holds=holds))
        return left

    def tick(self) -> None:
        self.running = [run for run in self.running if run[0] > self.now]
        counts = Counter(owner for _, owner, _, _ in self.running)
        assert all(count <= self.limit for count in counts.values())
        waiting = [
            WaitingResource(
                owner, counts[owner], self.limit, max(queue[0][3], self.last_start.get(owner, 0.0)), queue[0][0]
            )
            for owner, queue in self.queues.items()
            if queue
        ]

        def queue_of(one: WaitingResource) -> Iterator[WaitingJob]:
            return (WaitingJob(str(number), needs) for number, needs, _, _ in list(self.queues[one.resource_id]))

        for start in place(waiting, queue_of, Rooms(self.rooms()), self.now, 99).starts:
            number, needs, seconds, since = self.queues[start.resource_id].pop(0)
            assert start.job_id == str(number), "a resource's jobs start in their order"
            self.running.append((self.now + seconds, start.resource_id, start.node, needs))
            self.last_start[start.resource_id] = self.now
            self.waits[number] = self.now - since
        self.now += 10.0


needs_of_jobs = st.sampled_from([SMALL, SMALL, RunNeeds(2), WHOLE, RunNeeds(8), RunNeeds(1, 1), RunNeeds(2, 4)])
jobs_of_tenants = st.lists(
    st.tuples(st.sampled_from("abcde"), needs_of_jobs, st.sampled_from([10.0, 30.0, 200.0])), max_size=40
)


@settings(max_examples=40, deadline=None)
@given(jobs=jobs_of_tenants, limit=st.integers(1, 5), n_nodes=st.integers(1, 6))
def test_every_job_starts_in_its_resources_order_and_no_node_is_overfull(
    jobs: list[tuple[str, RunNeeds, float]], limit: int, n_nodes: int
) -> None:
    nodes = [NodeRoom(f"n{number}", cpus=8, gpus=4 * (number % 2 == 0)) for number in range(n_nodes)]
    cluster = Cluster(nodes, limit)
    for owner, needs, seconds in jobs:
        cluster.submit(owner, needs, seconds)
    # One after the other, each held for and then run to its end, is the slowest that the rules allow.
    passes = int(sum(seconds + HOLD_AFTER_S + 20 for _, _, seconds in jobs) / 10) + 5
    for _ in range(passes):
        cluster.tick()
        if len(cluster.waits) == len(jobs):
            break
    assert len(cluster.waits) == len(jobs)


@settings(max_examples=12, deadline=None)
@given(seed_seconds=st.lists(st.sampled_from([20.0, 50.0, 100.0]), min_size=3, max_size=9), busy=st.booleans())
def test_large_job_starts_although_small_ones_of_ever_new_resources_would_fill_every_gap(
    seed_seconds: list[float], busy: bool
) -> None:
    cluster = Cluster([NodeRoom("n1", cpus=4), NodeRoom("n2", cpus=4)], limit=99)
    for number in range(40):  # what runs at the beginning, and what waits before the large one
        cluster.submit(f"early{number}", SMALL, seed_seconds[number % len(seed_seconds)])
    cluster.tick()
    if busy:
        cluster.submit("large", SMALL, 50.0)
    large = cluster.submit("large", WHOLE, 50.0)
    for step in range(200):
        for number in range(2):  # more than the nodes can take
            cluster.submit(f"late{step}-{number}", SMALL, seed_seconds[(step + number) % len(seed_seconds)])
        cluster.tick()
        if large in cluster.waits:
            break
    # 40 small ones before it take five turns of eight, then its node is held until the longest run on it has ended. If
    # its resource has a small one first, those who came before that one's start are before it too.
    turns = 6 if not busy else 6 + cluster.made / 8
    assert cluster.waits[large] <= turns * max(seed_seconds) + HOLD_AFTER_S + 20
