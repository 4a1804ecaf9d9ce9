"""`make bench-batches`: a batch beside live streamed chat: time to first token without and with it, and its throughput.

A real service with the embedded model. Live callers ask one question after another, with a pause between: without a
batch, beside one until that has ended, and once more without. At the end every line must be answered once.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from bench.process import ROOT
from running import KEY, Running

BASE = "smollm2-135m-instruct"
HEADERS = {"authorization": f"Bearer {KEY}"}
CHAT = "/v1/chat/completions"
PAUSE_S = (0.1, 0.5)
MODELS = os.environ.get("LUTHIER_MODELS_DIR", str(ROOT / ".cache" / "models"))


@dataclass(slots=True)
class Seen:
    """What live callers saw in one phase, in seconds: to the first token, and from one token to the next."""

    first_s: list[float] = field(default_factory=list)
    between_s: list[float] = field(default_factory=list)

    def add(self, other: "Seen") -> None:
        self.first_s += other.first_s
        self.between_s += other.between_s

    def row(self, name: str) -> str:
        figures = [1000 * value for value in (*_middle_and_p95(self.first_s), *_middle_and_p95(self.between_s))]
        return f"| {name} | {len(self.first_s)} | " + " | ".join(f"{value:.0f}" for value in figures) + " |"


def _middle_and_p95(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.quantiles(values, n=20)[-1]


class Callers:
    """Live callers from `begin` to `end`; each phase has its own figures."""

    def __init__(self, url: str, count: int, tokens: int) -> None:
        self._url = url
        self._tokens = tokens
        self._ended = threading.Event()
        self.seen = Seen()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(count)]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def phase(self) -> Seen:
        """The figures so far; those of the next phase begin."""
        seen, self.seen = self.seen, Seen()
        return seen

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        chance = random.Random(number)
        with httpx2.Client(base_url=self._url, headers=HEADERS, timeout=120) as client:
            while not self._ended.wait(chance.uniform(*PAUSE_S)):
                self._ask(client, chance)

    def _ask(self, client: httpx2.Client, chance: random.Random) -> None:
        """One streamed chat, of a prompt that nobody has asked before."""
        seen = self.seen
        words = " ".join(str(chance.randrange(10_000)) for _ in range(8))
        body = {
            "model": BASE,
            "messages": [{"role": "user", "content": f"Tell me a story about these numbers: {words}."}],
            "max_tokens": self._tokens,
            "stream": True,
        }
        began = time.perf_counter()
        times: list[float] = []
        with client.stream("POST", CHAT, json=body) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                    times.append(time.perf_counter())
        if times:
            seen.first_s.append(times[0] - began)
            seen.between_s += [later - earlier for earlier, later in itertools.pairwise(times)]


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="luthier-batches-") as name:
        service = Running(Path(name) / "data", Path(options.models))
        service.data.mkdir()
        service.start()
        try:
            httpx2.post(f"{service.url}{CHAT}", headers=HEADERS, json=_body("Hi", 1), timeout=300).raise_for_status()
            if not options.callers:
                seconds, lines = _batch(service.url, options.lines, options.tokens)
                print(f"batch alone: {lines} lines in {seconds:.1f} s, {lines / seconds:.1f} a second")
            for count in options.callers:
                _measure(service.url, count, options)
        finally:
            service.close()


def _measure(url: str, count: int, options: argparse.Namespace) -> None:
    """So many live callers, without and beside a batch in turn, and without one at last."""
    callers = Callers(url, count, options.live_tokens)
    callers.begin()
    time.sleep(3.0)
    callers.phase()  # what came while the callers began
    without, beside, seconds, lines = Seen(), Seen(), 0.0, 0
    for _ in range(options.rounds):
        time.sleep(options.seconds / options.rounds)
        without.add(callers.phase())
        taken, answered = _batch(url, options.lines // options.rounds, options.tokens)
        seconds, lines = seconds + taken, lines + answered
        beside.add(callers.phase())
    time.sleep(options.seconds / options.rounds)
    without.add(callers.phase())
    callers.end()
    print(f"\n{count} live callers, {lines} lines in {seconds:.1f} s, {lines / seconds:.1f} a second\n")
    print("| live chats | n | first token ms, median | p95 | between tokens ms, median | p95 |")
    print("|---|---|---|---|---|---|")
    for name, seen in (("without a batch", without), ("beside it", beside)):
        print(seen.row(name))
    ratios = [
        with_it / without_it
        for with_it, without_it in zip(_middle_and_p95(beside.first_s), _middle_and_p95(without.first_s), strict=True)
    ]
    print(f"\ntime to first token, with / without: median {ratios[0]:.2f}, p95 {ratios[1]:.2f}", flush=True)


def _batch(url: str, n_lines: int, tokens: int) -> tuple[float, int]:
    """Runs a batch to its end; returns the seconds from its creation, and the lines that it answered, each once."""
    lines = [
        {"custom_id": f"q{number}", "method": "POST", "url": CHAT, "body": _body(f"What is {number} + 1?", tokens)}
        for number in range(n_lines)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with httpx2.Client(base_url=url, headers=HEADERS, timeout=120) as client:
        file = client.post("/v1/files", files={"file": ("q.jsonl", content)}, data={"purpose": "batch"}).json()["id"]
        began = time.perf_counter()
        asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        batch = client.post("/v1/batches", json=asked).json()
        while batch["status"] in {"validating", "in_progress", "finalizing"}:
            time.sleep(0.5)
            batch = client.get(f"/v1/batches/{batch['id']}").json()
        seconds = time.perf_counter() - began
        assert batch["status"] == "completed", batch
        answers = client.get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()
    ids = Counter(json.loads(answer)["custom_id"] for answer in answers)
    assert ids == Counter(line["custom_id"] for line in lines), "every line is answered once"
    return seconds, len(answers)


def _body(text: str, tokens: int) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": BASE, "messages": messages, "max_tokens": tokens, "temperature": 0}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.batches", description=__doc__)
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=8, help="the longest answer to a line")
    parser.add_argument("--callers", type=int, nargs="*", default=[2], help="numbers of live callers; none: no chat")
    parser.add_argument("--live-tokens", type=int, default=24, help="the longest answer to a live chat")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="of live chat without a batch, and as much after it"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="batches of fewer lines in turn with none: on a busy machine"
    )
    parser.add_argument("--models", default=MODELS, help="where the base models are")
    return parser.parse_args()


if __name__ == "__main__":
    main()
