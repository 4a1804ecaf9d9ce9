"""Which waiting jobs start now, each on which node: as many as fit, fair between resources, none passed over for ever.

1. A resource's jobs start in the order of their creation, as many at once as its limit allows. Only a job that no node
   could hold even empty is passed over by later ones of its own resource.
2. Between resources the one with the fewest running jobs is next; of equals the one that has waited longest, counted
   from its latest start or from the creation of its oldest waiting job, whichever is later.
3. A job takes the fitting node with the least left, GPUs first, so that nodes with much left stay for those in need.
4. Whoever comes later in this order may pass a job that fits nowhere now. Once its resource has waited for
   HOLD_AFTER_S, the node that lacks least for it is held: nothing else starts there. At most a quarter of the nodes are
   held.

So nobody starves. While resources with no running job wait, each start makes its resource the last of them: at most as
many starts come before a resource's turn as there are resources. At its turn its job starts, or has a node held, and
starts at the latest when the runs on that node have ended.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from luthier.core.training import node_rooms
from luthier.core.training.executor_port import NodeRoom, RunNeeds

HOLD_AFTER_S = 60.0
"""How long smaller jobs may pass a resource's next job before a node is held for it."""
HELD_SHARE = 4
"""One node in so many may be held, and at least one."""


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that a node is wanted for."""

    job_id: str
    needs: RunNeeds


@dataclass(frozen=True, slots=True)
class WaitingResource:
    """A resource with waiting jobs: how many of its jobs run, how many may, since when it waits (seconds since 1970),
    and `seq`, its oldest waiting job's place in the order of creation.
    """

    resource_id: str
    running: int
    limit: int
    since_s: float
    seq: int


@dataclass(frozen=True, slots=True)
class Start:
    """A job that starts now, and the name of the node whose room it takes."""

    job_id: str
    resource_id: str
    node: str
    needs: RunNeeds


@dataclass(frozen=True, slots=True)
class Placement:
    """What starts now, in order. `held` names the job that a node is held for; `unholdable` are jobs that no node could
    hold even empty.
    """

    starts: tuple[Start, ...]
    held: Mapping[str, str]
    unholdable: tuple[WaitingJob, ...]


class Rooms:
    """The room of all nodes while jobs are placed: it only shrinks."""

    def __init__(self, rooms: Iterable[NodeRoom]) -> None:
        self._rooms = {room.name: room for room in rooms}
        self._held: dict[str, str] = {}
        self._full_for: set[object] = set()
        self._are_full: bool | None = None

    @property
    def held(self) -> Mapping[str, str]:
        """The jobs that nodes are held for, by the nodes' names."""
        return self._held

    @property
    def are_full(self) -> bool:
        """Whether nothing more fits anywhere, however little it needs."""
        if self._are_full is None:
            open_rooms = map(node_rooms.is_open, self._not_held())
            self._are_full = not any(open_rooms)
        return self._are_full

    def take(self, needs: RunNeeds, node: str | None = None) -> str | None:
        """Takes what a run needs from the fitting node with the least left, and returns its name; None if none fits.

        From the `node` of that name, if there is one, whether it fits there or not: the run is there already.
        """
        if node is None or node not in self._rooms:
            key = _key(needs)
            if key in self._full_for:
                return None
            fitting = [
                room for name, room in self._rooms.items() if name not in self._held and node_rooms.fits(room, needs)
            ]
            if not fitting:
                self._full_for.add(key)
                return None
            node = min(fitting, key=lambda room: (room.gpus, room.cpus, room.name)).name
        self._rooms[node] = node_rooms.without(self._rooms[node], needs)
        self._are_full = None
        return node

    def could_hold(self, needs: RunNeeds) -> bool:
        """Whether some node could hold it if nothing else ran there, or might: not all say what they hold."""
        return not self._rooms or any(node_rooms.could_hold(room, needs) for room in self._rooms.values())

    def hold(self, job: WaitingJob) -> None:
        """Holds the node that lacks least for the job, unless as many are held as may be."""
        if len(self._held) >= max(1, len(self._rooms) // HELD_SHARE):
            return
        able = [
            room
            for name, room in self._rooms.items()
            if name not in self._held and node_rooms.could_hold(room, job.needs)
        ]
        if able:
            nearest = min(able, key=lambda room: (*node_rooms.lack(room, job.needs), room.name))
            self._held[nearest.name] = job.job_id
            self._are_full = None

    def _not_held(self) -> list[NodeRoom]:
        return [room for name, room in self._rooms.items() if name not in self._held]


def place(
    resources: Sequence[WaitingResource],
    queue_of: Callable[[WaitingResource], Iterator[WaitingJob]],
    rooms: Rooms,
    now_s: float,
    most: int,
) -> Placement:
    """Places at most `most` jobs by the rules above; takes their room from `rooms`. `queue_of` gives a resource's
    waiting jobs in the order of their creation and is read no further than needed.
    """
    queues: dict[str, Iterator[WaitingJob]] = {}
    by_id = {one.resource_id: one for one in resources}
    order = [(one.running, one.since_s, one.seq, one.resource_id) for one in resources]
    heapq.heapify(order)
    starts: list[Start] = []
    unholdable: list[WaitingJob] = []
    while order and len(starts) < most and not rooms.are_full:
        running, since_s, _, resource_id = heapq.heappop(order)
        one = by_id[resource_id]
        if running >= one.limit:
            continue
        if resource_id not in queues:
            queues[resource_id] = queue_of(one)
        for job in queues[resource_id]:
            node = rooms.take(job.needs)
            if node is not None:
                starts.append(Start(job.job_id, resource_id, node, job.needs))
                heapq.heappush(order, (running + 1, now_s, one.seq, resource_id))
                break
            if rooms.could_hold(job.needs):
                if now_s - since_s >= HOLD_AFTER_S:
                    rooms.hold(job)
                break
            unholdable.append(job)
    return Placement(tuple(starts), dict(rooms.held), tuple(unholdable))


def _key(needs: RunNeeds) -> object:
    return needs.cpus, needs.gpus, needs.memory_bytes, tuple(sorted(needs.labels.items()))
