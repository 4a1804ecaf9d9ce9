"""Runs vLLM for one base model until our parent ends: `python -m luthier.engines.vllm.vllm_server CONFIG.json`.

vLLM does not notice that the service was killed. This process does, by its stdin, and takes vLLM's whole process group
with it. It writes one JSON line once vLLM answers: its port.
"""

import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from luthier.engines import child_process
from luthier.engines.remote.completions_server import CompletionsServer
from luthier.process import child_environment, logs

logger = logging.getLogger("luthier.engines.vllm.vllm_server")

_LOOK_S = 0.5
_END_S = 4.0


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
    threading.Thread(target=_end_with_parent, args=(process,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda number, frame: _end(process, number, frame))
    server = CompletionsServer(f"http://127.0.0.1:{port}/v1", config.key)
    while process.poll() is None and not server.is_healthy():
        time.sleep(_LOOK_S)
    if process.poll() is None:
        reply(port=port)
    sys.exit(process.wait())


def _environment(key: str) -> dict[str, str]:
    """What vLLM needs to compute, its own variables, adapters at any time, and its key; no network for weights."""
    own = {name: value for name, value in os.environ.items() if name.startswith("VLLM_")}
    told = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1"}
    return child_environment.to_compute(os.environ) | {"HF_HUB_OFFLINE": "1"} | own | told


def _die_with_us() -> None:
    """In vLLM's process before it runs: has Linux kill it when we are killed ourselves (prctl(2), PR_SET_PDEATHSIG)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _free_port() -> int:
    """A port of the loopback that nobody has now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _end_with_parent(process: "subprocess.Popen[bytes]") -> None:
    """The thread: reads stdin to its end, which the system closes with our parent, then kills vLLM and us."""
    while os.read(0, 4096):
        pass
    _kill(process)
    os._exit(0)


def _end(process: "subprocess.Popen[bytes]", number: int, frame: FrameType | None) -> None:
    """On SIGTERM: asks vLLM to end, kills it when it takes too long, and leaves."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    _kill(process)
    os._exit(0)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Ends vLLM's process group: its workers do not always end with it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    logs.configure(logging.WARNING)
    main(Path(sys.argv[1]))
