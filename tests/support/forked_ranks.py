"""Runs of several ranks, each started as a launcher of several machines does it. Run as a process of its own:

    python forked_ranks.py RUN_DIR...

Imports torch once and forks a process for each rank, which a process with threads (pytest) must not do; runs follow
one another. Prints the exit statuses of each run's ranks as JSON.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from luthier.run_directory.run_directory import RunDirectory
from luthier.trainer import __main__ as trainer


def to_the_end(*runs: RunDirectory) -> list[list[int]]:
    """What the script prints, for a test that calls it."""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, __file__, *(str(run.path) for run in runs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=env, check=True)
    statuses: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
    return statuses


def _ranks(path: str) -> list[int]:
    """Trains a run by all of its ranks."""
    size = RunDirectory(Path(path)).read_spec().ranks
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pids = []
    for rank in range(size):
        pids.append(os.fork())
        if pids[-1] == 0:
            place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
            os.environ.update({name: str(value) for name, value in (place | address).items()})
            os._exit(trainer.main([path]))
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


if __name__ == "__main__":
    from luthier.trainer import loop  # noqa: F401  (torch is imported before the forks)

    print(json.dumps([_ranks(path) for path in sys.argv[1:]]))
