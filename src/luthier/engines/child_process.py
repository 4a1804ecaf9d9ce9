"""What every engine process and its parent do alike: the line that says it is ready, its end, and the parent's end.

`reply_pipe` and `end_with_parent` run in the child, all else in the service.
"""

import json
import logging
import os
import selectors
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from luthier.core.engine_ports import ServedModel
from luthier.core.errors import Unavailable
from luthier.process import child_environment

logger = logging.getLogger(__name__)

LOG = "engine.log"
END_TIMEOUT_S = 5.0


def reply_pipe() -> Callable[..., None]:
    """In the child, first of all: keeps stdout for its one line and sends what else is written there to the log.

    Returns the function that writes its keywords as that line, in JSON, and closes the pipe: to be called once.
    """
    descriptor = os.dup(1)
    os.dup2(2, 1)

    def reply(**fields: Any) -> None:
        """Writes the line to the parent and closes the pipe."""
        os.write(descriptor, json.dumps(fields).encode() + b"\n")
        os.close(descriptor)

    return reply


def end_with_parent() -> None:
    """In the child: a thread ends it once its stdin is closed, which the system does for a parent that was killed."""

    def wait() -> None:
        """Reads stdin to its end, then exits at once with status 0."""
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


class ChildProcess:
    """An engine process as its parent sees it: the part that does not depend on what it speaks.

    `folder` holds its configuration and its log; the process ends when our end of its stdin is closed.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path, base: ServedModel) -> None:
        self.folder = folder
        self._process = process
        self._base = base

    @property
    def base_model(self) -> str:
        return self._base.base_model

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_status(self) -> int | None:
        """None while the process lives; below zero, the signal that ended it."""
        return self._process.poll()

    def is_stopped(self) -> bool:
        """Whether the system has it stopped (SIGSTOP, a debugger); False if it is gone."""
        try:
            return psutil.Process(self.pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        except psutil.NoSuchProcess:
            return False

    def await_line(self, timeout_s: float) -> dict[str, Any]:
        """The fields of the line that the process writes once it is loaded; waits for it up to `timeout_s`.

        Raises Unavailable when the line is an error, or the process ends or takes too long; it is not ended here.
        """
        line = read_line(self._process, timeout_s)
        if line is None:
            raise self.failed(f"did not load the model within {timeout_s:.0f} s")
        if not line:
            self._process.wait(END_TIMEOUT_S)
            raise self.failed(f"ended while loading (status {self.exit_status()})")
        answer: dict[str, Any] = json.loads(line)
        if "code" in answer:
            raise Unavailable(answer["code"], answer["message"])
        return answer

    def kill(self) -> None:
        """Ends the process in the middle of whatever it does (SIGKILL); returns when it is gone. Its log stays."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Ends the process now, by SIGKILL if it takes over 5 s, and removes its folder; returns when it is gone."""
        self._process.terminate()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self.abandon()
        shutil.rmtree(self.folder, ignore_errors=True)

    def abandon(self) -> None:
        """Closes our ends of the pipes of a process that has ended; its folder with the log stays."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def failed(self, what: str) -> Unavailable:
        """Logs what happened and where the process's log is; returns the error for the caller."""
        logger.error("engine failed: it %s log=%s", what, self.folder / LOG)
        return Unavailable("engine_failed", f"The engine process {what}. The operator has its log.")


def spawn(python: str, module: str, folder: Path, config: str, more: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Starts `python -m module config.json` with the configuration, which holds a key, in a new folder of mode 0700.

    Its stdin and stdout are pipes, its stderr is the log in the folder. `more` are variables of its environment unless
    the service's own say otherwise. Raises OSError.
    """
    folder.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700)
    path = folder / "config.json"
    path.touch(mode=0o600)
    path.write_text(config)
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(
            [python, "-m", module, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # A Ctrl-C is for the service: it ends its engines when the answers under way are done.
            start_new_session=True,
            env={**more, **child_environment.to_compute(os.environ)},
        )


def incomplete(base: ServedModel) -> Unavailable:
    """Logs a base model whose weights are not there; returns the error for the caller."""
    logger.error("base model incomplete name=%s", base.base_model)
    text = f"The weights of {base.base_model} are not whole on this machine. Run: luthier models pull {base.base_model}"
    return Unavailable("model_not_ready", text)


def read_line(process: "subprocess.Popen[bytes]", timeout_s: float) -> bytes | None:
    """The child's line; empty if it closes stdout without one, None when `timeout_s` is up."""
    assert process.stdout is not None
    data = b""
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not data.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                return b""
            data += piece
    return data
