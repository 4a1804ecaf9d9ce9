"""Which host serves a model: one for all processes, shares by weight, and few that move when a host comes or goes."""

from collections import Counter
from datetime import timedelta

import pytest

from luthier.core.errors import Unavailable
from luthier.core.inference.engine_hosts import EngineHost
from luthier.service.context import Context
from luthier.service.models.hosting.host_directory import AVOIDED_S, FRESH_S, HostDirectory
from luthier.store.queries.leasing import engine_hosts, leases
from luthier.store.queries.leasing.leases import Lease

MODELS = [f"base.ft-{number}" for number in range(3000)]


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def start(context: Context, name: str, weight: int = 8, process: str | None = None) -> Lease:
    """A host that lives."""
    process = process or f"process/{name}"
    with context.database.writing() as tx:
        lease = leases.take(tx, process, f"holder {process}", timedelta(seconds=60))
        engine_hosts.put(tx, EngineHost(f"http://{name}:8100", process, weight))
    assert lease is not None
    return lease


def placed(directory: HostDirectory) -> dict[str, str]:
    return {model: directory.host_of(model).url for model in MODELS}


def test_without_a_host_the_operator_is_told_what_to_start(context: Context) -> None:
    with pytest.raises(Unavailable, match="luthier engine-host") as raised:
        HostDirectory(context.database, Clock()).host_of("m")
    assert raised.value.code == "no_engine_host"


def test_shares_are_as_weights_and_the_same_in_every_process(context: Context) -> None:
    for name, weight in (("a", 8), ("b", 8), ("c", 16)):
        start(context, name, weight)
    first = placed(HostDirectory(context.database, Clock()))
    assert first == placed(HostDirectory(context.database, Clock()))
    shares = Counter(first.values())
    for name, share in (("a", 0.25), ("b", 0.25), ("c", 0.5)):
        assert shares[f"http://{name}:8100"] / len(MODELS) == pytest.approx(share, abs=0.03)


def test_host_that_comes_or_goes_moves_only_its_own_share(context: Context) -> None:
    clock = Clock()
    directory = HostDirectory(context.database, clock)
    start(context, "a")
    start(context, "b")
    before = placed(directory)
    gone = start(context, "c")
    clock.time += FRESH_S
    with_third = placed(directory)
    moved = {model for model in MODELS if before[model] != with_third[model]}
    assert {with_third[model] for model in moved} == {"http://c:8100"}
    with context.database.writing() as tx:
        leases.release(tx, gone)
    clock.time += FRESH_S
    assert placed(directory) == before


def test_host_that_starts_again_keeps_its_models(context: Context) -> None:
    clock = Clock()
    directory = HostDirectory(context.database, clock)
    start(context, "a")
    start(context, "b")
    before = placed(directory)
    start(context, "a", process="process/second-start")
    clock.time += FRESH_S
    assert placed(directory) == before
    assert {host.process for host in directory.hosts()} == {"process/second-start", "process/b"}


def test_host_that_was_not_reached_is_avoided_for_a_while_unless_it_is_the_last(context: Context) -> None:
    clock = Clock()
    directory = HostDirectory(context.database, clock)
    start(context, "a")
    start(context, "b")
    before = placed(directory)
    directory.note_gone("http://a:8100")
    assert set(placed(directory).values()) == {"http://b:8100"}
    directory.note_gone("http://b:8100")
    assert placed(directory) == before, "better those than none"
    clock.time += AVOIDED_S
    assert placed(directory) == before


def test_host_that_has_left_is_not_asked(context: Context) -> None:
    start(context, "a")
    start(context, "b")
    with context.database.writing() as tx:
        engine_hosts.remove(tx, "process/a")
    assert set(placed(HostDirectory(context.database, Clock())).values()) == {"http://b:8100"}
