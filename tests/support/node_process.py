"""A runner whose trainer is another program: `python node_process.py TRAINER -m luthier.runner RUN_KEY ATTEMPT`."""

import logging
import os
import sys
from pathlib import Path

from luthier.process import logs
from luthier.runner import __main__ as runner

if __name__ == "__main__":
    logs.configure(logging.INFO)
    os._exit(runner.main(sys.argv[4:], Path(sys.argv[1])))
