"""What every engine process and its parent do alike: the line that says it is ready, its end, and the parent's end."""

import json
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

END_TIMEOUT_S = 5.0


def reply_pipe() -> Callable[..., None]:
    """In the child, first of all: keeps stdout for its one line and sends what else is written there to the log.

    The function that it gives writes the line, of its keywords, and closes the pipe.
    """
    descriptor = os.dup(1)
    os.dup2(2, 1)

    def reply(**fields: Any) -> None:
        os.write(descriptor, json.dumps(fields).encode() + b"\n")
        os.close(descriptor)

    return reply


def end_with_parent() -> None:
    """In the child: ends it as soon as its stdin is closed, which the system does for a parent that was killed."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def read_line(process: "subprocess.Popen[bytes]", timeout_s: float) -> bytes | None:
    """The child's line; empty if it ends without one, None when time is up."""
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


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a child now; returns when it is gone."""
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def close_pipes(process: "subprocess.Popen[bytes]") -> None:
    """Closes the parent's ends of the pipes of a child that has ended."""
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
