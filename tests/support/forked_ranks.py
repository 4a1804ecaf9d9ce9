"""Runs of several ranks, each started as a launcher of several machines does it. Run as a process of its own:

    python forked_ranks.py RUN_DIR...         runs, one after another; prints the exit statuses of each run's ranks
    python forked_ranks.py collectives SIZE   what ranks do together; prints what each rank got

Imports torch once and forks a process for each rank, which a process with threads (pytest) must not do. Prints JSON.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from luthier.run_directory.run_directory import RunDirectory
from luthier.trainer import __main__ as trainer
from luthier.trainer.ranks import rank_processes


def to_the_end(*runs: RunDirectory) -> list[list[int]]:
    """Trains the runs; the exit statuses of each run's ranks."""
    statuses: list[list[int]] = _printed(*(str(run.path) for run in runs))
    return statuses


def collectives(size: int) -> list[dict[str, Any]]:
    """What each of so many ranks got, by the names of `_together`."""
    results: list[dict[str, Any]] = _printed("collectives", str(size))
    return results


def _printed(*arguments: str) -> Any:
    """What the script prints for these arguments."""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, env=env, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _forked(size: int, main: Callable[[], int]) -> list[int]:
    """Calls `main` in a process for each rank; their exit statuses."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pids = []
    for rank in range(size):
        pids.append(os.fork())
        if pids[-1] == 0:
            place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
            os.environ.update({name: str(value) for name, value in (place | address).items()})
            os._exit(main())
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def _train(path: str) -> list[int]:
    """Trains a run by all of its ranks."""
    return _forked(RunDirectory(Path(path)).read_spec().ranks, lambda: trainer.main([path]))


def _together(told: int) -> int:
    """What one rank does: writes what it got as a line to the pipe `told`."""
    from luthier.core.errors import Unavailable
    from luthier.trainer.ranks import rank_group

    place = rank_processes.place_given(os.environ)
    assert place is not None
    ranks = rank_group.join(place, None)
    mine = torch.randn(100, generator=torch.Generator().manual_seed(ranks.rank))
    small, large = mine[:10].clone(), mine.clone()
    ranks.sum_in_rank_order([small, large.view(10, 10)])
    from_first = torch.full((3,), float(ranks.rank))
    ranks.copy_from_rank_0([from_first])
    refusal = ""
    ranks.require_equal(b"same", "Words")
    try:
        ranks.require_equal(b"same" if ranks.rank != 1 else b"other", "Words")
    except Unavailable as error:
        refusal = error.message
    result = {
        "rank": ranks.rank,
        "small": small.tolist(),
        "large": large.tolist(),
        "sums": ranks.sums([0.1, ranks.rank]),
        "any": [ranks.any_of(ranks.rank == 1), ranks.any_of(False)],
        "told": [ranks.told(ranks.rank == 0), ranks.told(ranks.rank != 0)],
        "most": ranks.most(-ranks.rank),
        "copied": from_first.tolist(),
        "refusal": refusal,
    }
    ranks.part()
    os.write(told, json.dumps(result).encode() + b"\n")
    return 0


def _collectives(size: int) -> list[Any]:
    """What each rank got, in their order."""
    read, told = os.pipe()
    assert _forked(size, lambda: _together(told)) == [0] * size
    os.close(told)
    with open(read) as stream:  # noqa: PTH123  (a descriptor)
        return sorted(map(json.loads, stream), key=lambda result: int(result["rank"]))


if __name__ == "__main__":
    import torch

    if sys.argv[1] == "collectives":
        print(json.dumps(_collectives(int(sys.argv[2]))))
    else:
        from luthier.trainer import loop  # noqa: F401  (what takes long is imported before the forks)

        print(json.dumps([_train(path) for path in sys.argv[1:]]))
