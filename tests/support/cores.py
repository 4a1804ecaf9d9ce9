"""How many cores are a test's own: those of the machine, shared with the processes that run other tests."""

import os


def own_cores() -> int:
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
