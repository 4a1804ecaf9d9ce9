"""What every drive program shares: steps with their outcomes, the rows, and deployments by plain HTTP.

Runs in each client's own environment, so it needs nothing but the standard library.
"""

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

URL = os.environ.get("LUTHIER_URL", "")
KEY = os.environ.get("LUTHIER_KEY", "")
MODEL = os.environ.get("LUTHIER_MODEL", "")
EMBEDDER = os.environ.get("LUTHIER_EMBEDDER", "")
ARM_PATH = os.environ.get("LUTHIER_ARM_PATH", "")
API_VERSION = "2024-10-21"

HELD_EPOCHS = 9
"""A job of so many epochs runs until it is cancelled or paused: the service of these tests sees to it."""

OK = "ok"
ABSENT = "not in this client"
MAX_WORDS = 250


class Absent(Exception):
    """The client has no such call."""


class Drive:
    """Outcomes by operation, in the order in which they were tried. With a scope, what each step sends is recorded."""

    def __init__(self, scope: str | None = None) -> None:
        self.outcomes: dict[str, str] = {}
        self._scope = scope

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Writes down how the block ended; whatever it raises is an outcome, and the next step is tried."""
        if self._scope is not None:
            rest("GET", f"/tests/step?{urllib.parse.urlencode({'scope': self._scope, 'name': name})}")
        try:
            yield
        except Absent:
            self.outcomes[name] = ABSENT
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            self.outcomes[name] = (
                words if len(words) <= 2 * MAX_WORDS else f"{words[:MAX_WORDS]} ... {words[-MAX_WORDS:]}"
            )
        else:
            self.outcomes[name] = OK


def report(version: str, scopes: dict[str, Drive]) -> None:
    """Writes the one JSON object that the tests read; without a place for it, prints it."""
    outcomes = {scope: drive.outcomes for scope, drive in scopes.items()}
    text = json.dumps({"version": version, "outcomes": outcomes}, indent=1) + "\n"
    place = os.environ.get("LUTHIER_OUTCOMES")
    if place is None:
        print(text)
    else:
        Path(place).write_text(text)


def rows(n: int = 10) -> bytes:
    """`n` rows of chat that no rule objects to."""
    lines = []
    for number in range(n):
        messages = [
            {"role": "system", "content": "You are brief."},
            {"role": "user", "content": f"What is {number} plus one?"},
            {"role": "assistant", "content": f"It is {number + 1}."},
        ]
        lines.append(json.dumps({"messages": messages}))
    return ("\n".join(lines) + "\n").encode()


def wanted(condition: object, what: object) -> None:
    """An assertion that no `python -O` takes away and that says what it saw."""
    if not condition:
        raise AssertionError(str(what))


def repeats(text: str, prompt: str) -> bool:
    """Whether an answer is whole: the engine of the tests says the request that it got, as JSON."""
    return bool(json.loads(text)["messages"][-1]["content"] == prompt)


def part(thing: Any, path: str) -> Any:
    """`thing.a.b` for the path "a.b". Raises Absent where this version of the client has none."""
    for name in path.split("."):
        if not hasattr(thing, name):
            raise Absent
        thing = getattr(thing, name)
    return thing


def until(look: Callable[[], Any], is_done: Callable[[Any], bool], limit_s: float = 30.0) -> Any:
    """Looks again and again until it is done. Raises TimeoutError with what it saw last."""
    deadline = time.monotonic() + limit_s
    while not is_done(found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {found}")
        time.sleep(0.05)
    return found


def rest(method: str, path: str, body: object = None, bearer: bool = True) -> tuple[int, Any]:
    """One plain HTTP call as the guides show it: status and decoded body."""
    head = {"Authorization": f"Bearer {KEY}"} if bearer else {"api-key": KEY}
    head["Content-Type"] = "application/json"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, headers=head, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text else None


def tuned() -> str:
    """The name of a model trained by plain HTTP, for clients that only chat."""
    edge = "luthier-drive"
    form = (
        f'--{edge}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
    ).encode() + rows()
    data = form + f"\r\n--{edge}--\r\n".encode()
    head = {"Authorization": f"Bearer {KEY}", "Content-Type": f"multipart/form-data; boundary={edge}"}
    with urllib.request.urlopen(urllib.request.Request(f"{URL}/v1/files", data, head), timeout=30) as answer:
        file = json.loads(answer.read())
    job = rest("POST", "/v1/fine_tuning/jobs", {"model": MODEL, "training_file": file["id"]})[1]
    path = f"/v1/fine_tuning/jobs/{job['id']}"
    return str(until(lambda: rest("GET", path)[1], lambda found: found["status"] == "succeeded")["fine_tuned_model"])


def deploy(name: str, model: str) -> None:
    """The guide's step "deploy a fine-tuned model", by the control plane, until it answers."""
    path = f"{ARM_PATH}/{name}?api-version=2024-10-01"
    body = {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }
    status, answer = rest("PUT", path, body)
    wanted(status in (200, 201), answer)
    until(
        lambda: rest("GET", path)[1]["properties"]["provisioningState"],
        lambda state: state in ("Succeeded", "Failed"),
    )
    state = rest("GET", path)[1]["properties"]["provisioningState"]
    wanted(state == "Succeeded", state)


def undeploy(name: str) -> None:
    status, answer = rest("DELETE", f"{ARM_PATH}/{name}?api-version=2024-10-01")
    wanted(status in (200, 202, 204), answer)
