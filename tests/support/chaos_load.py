"""Clients that keep a real service busy, and remember what they were told: what was acknowledged must stay so."""

import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2

from running import KEY, Running

QUESTION = [{"role": "user", "content": "Repeat after me: one, two, three, four."}]
DEPLOYMENT = "steady"
CLEAN_REFUSALS = {429, 503}
"""What a caller may be told while something is down: ask again."""
_HEADERS = {"api-key": KEY}
_VERSION = {"api-version": "2024-10-21"}


@dataclass(slots=True)
class Told:
    """What the service has acknowledged, and how everything else ended."""

    files: dict[str, str] = field(default_factory=dict)
    """sha256 by id of each file whose upload was answered, and whose deletion was not asked for since."""
    deleted: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    """Deletions that were asked for and never answered."""
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Load:
    """Uploaders, a deleter and chatters, from `start` to `stop`."""

    def __init__(self, service: Running, reference: str) -> None:
        self.told = Told()
        self._service = service
        self._reference = reference
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for act in (self._upload, self._upload, self._delete, self._chat, self._chat, self._chat):
            thread = threading.Thread(target=self._repeat, args=(act, random.Random(len(self._threads))), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def count(self, outcome: str) -> int:
        with self._lock:
            return self.told.outcomes[outcome]

    def _repeat(self, act: Callable[[random.Random], str], chance: random.Random) -> None:
        while not self._ended.is_set():
            try:
                outcome = act(chance)
            except httpx2.TransportError:
                outcome = "connection lost"
            with self._lock:
                self.told.outcomes[outcome] += 1
            self._ended.wait(0.02)

    def _upload(self, chance: random.Random) -> str:
        row = {"messages": [*QUESTION, {"role": "assistant", "content": str(chance.random())}]}
        content = (json.dumps(row) + "\n").encode() * chance.randint(1, 2000)
        with httpx2.Client(timeout=60) as client:
            form = {"file": ("rows.jsonl", content)}
            purpose = {"purpose": "fine-tune"}
            answer = client.post(f"{self._service.url}/v1/files", files=form, data=purpose, headers=_bearer())
        if answer.status_code != 200:
            return self._refused("upload", answer)
        with self._lock:
            self.told.files[answer.json()["id"]] = hashlib.sha256(content).hexdigest()
        return "uploaded"

    def _delete(self, chance: random.Random) -> str:
        with self._lock:
            if len(self.told.files) < 20:
                return "nothing to delete"
            id = chance.choice(sorted(self.told.files))
            del self.told.files[id]
            self.told.unsure.add(id)
        with httpx2.Client(timeout=60) as client:
            answer = client.delete(f"{self._service.url}/v1/files/{id}", headers=_bearer())
        if answer.status_code != 200:
            return self._refused("deletion", answer)
        with self._lock:
            self.told.unsure.discard(id)
            self.told.deleted.add(id)
        return "deleted"

    def _chat(self, _: random.Random) -> str:
        answer = ask(self._service.url)
        if answer.status_code != 200:
            return self._refused("chat", answer)
        text = text_of(answer)
        if text != self._reference:
            with self._lock:
                self.told.wrong.append(f"chat said {text!r}")
        return "answered"

    def _refused(self, what: str, answer: httpx2.Response) -> str:
        if answer.status_code not in CLEAN_REFUSALS:
            with self._lock:
                self.told.wrong.append(f"{what}: {answer.status_code} {answer.text[:200]}")
        return f"{what} refused {answer.status_code}"


def ask(url: str) -> httpx2.Response:
    """One short greedy chat to the deployment that stands all the time."""
    body = {"messages": QUESTION, "temperature": 0, "max_tokens": 6}
    path = f"{url}/openai/deployments/{DEPLOYMENT}/chat/completions"
    with httpx2.Client(timeout=120) as client:
        return client.post(path, params=_VERSION, json=body, headers=_HEADERS)


def text_of(answer: httpx2.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


def differences(service: Running, told: Told) -> list[str]:
    """What the service says now that is not what it has acknowledged."""
    found = []
    with httpx2.Client(timeout=60, base_url=service.url, headers=_bearer()) as client:
        for id, sha256 in told.files.items():
            answer = client.get(f"/v1/files/{id}/content")
            if answer.status_code != 200 or hashlib.sha256(answer.content).hexdigest() != sha256:
                found.append(f"{id}: {answer.status_code}, {len(answer.content)} bytes")
        found += [f"{id} is back" for id in told.deleted if client.get(f"/v1/files/{id}").status_code != 404]
        listed = {file["id"] for file in client.get("/v1/files", params={"limit": 10000}).json()["data"]}
        found += [f"{id} is not listed" for id in told.files if id not in listed]
    return found


def _bearer() -> dict[str, str]:
    return {"authorization": f"Bearer {KEY}"}
