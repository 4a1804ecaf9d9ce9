"""A child process from start to end, and the most memory it ever held."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRL_PACKAGES = ROOT / ".cache" / "trl-1.16.0" / "site-packages"
"""The name matters: dill takes modules outside a folder of this name for the user's own and pickles them whole."""


def environment(*, allocator: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our own over `allocator`, with this project, the tests' support and TRL importable and the network left alone."""
    paths = [str(ROOT / "src"), str(ROOT / "tests/support"), str(ROOT), str(TRL_PACKAGES)]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**(allocator or {}), **os.environ, "PYTHONPATH": os.pathsep.join(paths), **offline}


def run(
    arguments: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    watch: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> int:
    """Runs `python -m ARGUMENTS` to its end and gives its peak resident memory in bytes; SystemExit if it fails.

    `watch` is called once, while the process runs.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=stream, stderr=subprocess.STDOUT, env=dict(env), cwd=ROOT
        )
    try:
        if watch is not None:
            watch(process)
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SystemExit(f"python -m {' '.join(arguments)} ended with {process.returncode}; the end of {log}:\n{tail}")
    return usage.ru_maxrss * 1024
