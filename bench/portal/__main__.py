"""Runs the whole measurement and prints its tables; a bar that is missed is an exit status of 1."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bench.portal import browser, cost, pages, seed
from bench.process import ROOT
from running import Running

MODELS = os.environ.get("LUTHIER_MODELS_DIR", str(ROOT / ".cache" / "models"))


def main() -> int:
    """The exit status: 1 if a page misses a bar."""
    parser = argparse.ArgumentParser(prog="make bench-portal")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100_000, help="metric rows of one job")
    parser.add_argument("--tabs", type=int, default=200)
    parser.add_argument("--without-browser", action="store_true")
    parser.add_argument("--without-job", action="store_true", help="do not measure what a page costs a running job")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        running = Running(Path(folder) / "data", Path(MODELS))
        running.start()  # makes the database and the key
        running.stop()
        job_id = seed.fill(running.data, options.jobs, options.rows)
        running.start()
        try:
            paths = pages.paths(running.url, job_id)
            missed = pages.measure(running.url, paths)
            if not options.without_browser:
                missed += browser.measure_first_paint(running.url, paths)
                missed += browser.measure_tabs(running.url, job_id, running.pid, options.tabs)
            if not options.without_job:
                missed += cost.measure_cost(running.url, running.pid)
        finally:
            running.close()
    print("\n".join(missed) or "every bar is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
