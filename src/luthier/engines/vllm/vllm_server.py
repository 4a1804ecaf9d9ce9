"""Runs vLLM for one base model until our parent ends: `python -m luthier.engines.vllm.vllm_server CONFIG.json`.

vLLM does not notice that the service was killed. This process does, by its stdin, and leaves. Whatever ends it or vLLM,
kill -9 of either included, a guard beside it takes vLLM's whole process group along: the processes that compute outlive
the one that answers. It writes one JSON line once vLLM answers: its port.
"""

import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.engines import child_process
from luthier.engines.remote.completions_server import CompletionsServer
from luthier.process import child_environment, logs

logger = logging.getLogger("luthier.engines.vllm.vllm_server")

_LOOK_S = 0.5
_END_S = 4.0
_GUARD = 'read _; kill -s KILL -- "-$0" 2>/dev/null'
"""A shell's whole work: its stdin ends with us."""


@dataclass(frozen=True, slots=True)
class Config:
    """What vLLM serves: `command` is the program with its options, to which host, port and model are added."""

    command: tuple[str, ...]
    hf_folder: str
    served_name: str
    key: str

    def to_json(self) -> str:
        """As `main` reads it."""
        return json.dumps(asdict(self))


def main(config_path: Path) -> None:
    """Starts vLLM, waits until it answers, says so, and waits for its end or our parent's."""
    reply = child_process.reply_pipe()
    config = Config(**json.loads(config_path.read_bytes()))
    port = _free_port()
    command = [*config.command[:1], "serve", config.hf_folder, *config.command[1:]]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", config.served_name]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,
            start_new_session=True,
            env=_environment(config.key),
            preexec_fn=_die_with_us,
        )
    except OSError as error:
        reply(code="engine_failed", message=f"vLLM cannot be started ({type(error).__name__}). Is LUTHIER_VLLM right?")
        return
    with _guard(process.pid):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        child_process.end_with_parent()
        try:
            server = CompletionsServer(f"http://127.0.0.1:{port}/v1", config.key)
            while process.poll() is None and not server.is_healthy():
                time.sleep(_LOOK_S)
            if process.poll() is None:
                reply(port=port)
            sys.exit(process.wait())
        finally:
            _end(process)


def _environment(key: str) -> dict[str, str]:
    """What vLLM needs to compute, its own variables, adapters at any time, and its key; no network for weights."""
    own = {name: value for name, value in os.environ.items() if name.startswith("VLLM_")}
    told = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1"}
    return child_environment.to_compute(os.environ) | {"HF_HUB_OFFLINE": "1"} | own | told


def _die_with_us() -> None:
    """In vLLM's process before it runs: has Linux kill it when we are killed ourselves (prctl(2), PR_SET_PDEATHSIG)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _guard(group: int) -> "subprocess.Popen[bytes]":
    """Starts the process that kills vLLM's process group once we are gone; as a context, once that is left."""
    command = ["/bin/sh", "-c", _GUARD, str(group)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=2, start_new_session=True, env=child_environment.to_compute(os.environ)
    )


def _free_port() -> int:
    """A port of the loopback that nobody has now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Asks vLLM to end, and waits for it, but not for long."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)


if __name__ == "__main__":
    logs.configure(logging.WARNING)
    main(Path(sys.argv[1]))
