"""A runner whose trainer is another program: `python node_process.py TRAINER -m luthier.runner RUN_KEY ATTEMPT`."""

import functools
import logging
import os
import sys
from pathlib import Path

from luthier.process import logs
from luthier.runner import __main__ as runner
from luthier.runner.node_run import NodeRun

if __name__ == "__main__":
    logs.configure(logging.INFO)
    runner.NodeRun = functools.partial(NodeRun, python=Path(sys.argv[1]))  # type: ignore[misc, assignment]
    os._exit(runner.main(sys.argv[4:]))
