"""What an engine host costs and saves: an API process with an engine of its own beside two that ask a host.

    make bench-hosts                       the embedded model; quiet machine, two minutes

Both installations run for the whole time and are asked in turns. First token and tokens a second are seen by a client
that streams; memory is that of all processes of an installation, private pages alone (USS), after both have answered.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from openai import AsyncOpenAI

from bench.process import ROOT
from running import KEY
from split_processes import Process, Split

MODEL = "smollm2-135m-instruct"
CALLERS = (1, 8)
ANSWER_TOKENS = 64
QUESTION = "Write a short story about a lighthouse keeper who repairs violins."


@dataclass
class Installation:
    """Its API processes, and what was measured: seconds to first tokens, and tokens a second, by number of callers."""

    name: str
    split: Split
    apis: list[Process]
    first: dict[int, list[float]] = field(default_factory=lambda: {count: [] for count in CALLERS})
    speed: dict[int, list[float]] = field(default_factory=lambda: {count: [] for count in CALLERS})

    def uss_mib(self) -> float:
        """Of all its processes, engines included."""
        tops = [psutil.Process(one.popen.pid) for one in self.split.processes]
        everyone = [one for top in tops for one in (top, *top.children(recursive=True))]
        return float(sum(one.memory_full_info().uss for one in everyone)) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="luthier-hosts-") as name:
        made = [_own_engines(Path(name) / "own"), _on_a_host(Path(name) / "host")]
        try:
            asyncio.run(_rounds(made, rounds))
            sys.stdout.write("\n".join(_table(made)) + "\n")
        finally:
            for one in made:
                one.split.close()


def _own_engines(folder: Path) -> Installation:
    split = _split(folder, {})
    return Installation("two API processes, an engine each", split, [split.api(), split.api()])


def _on_a_host(folder: Path) -> Installation:
    split = _split(folder, {"LUTHIER_ENGINES": "hosts"})
    split.engine_host()
    return Installation("two API processes, one engine host", split, [split.api(), split.api()])


def _split(folder: Path, more: dict[str, str]) -> Split:
    folder.mkdir()
    models = os.environ.get("LUTHIER_MODELS_DIR", str(ROOT / ".cache" / "models"))
    own = {"LUTHIER_SERVER_KEY": KEY, "LUTHIER_MODELS_DIR": models, "LUTHIER_MODEL_TOKENS": "100000000"}
    return Split(folder / "data", dict(os.environ) | own | more)


async def _rounds(made: Sequence[Installation], rounds: int) -> None:
    for one in made:
        for number in range(len(one.apis)):
            await _callers(one, 1, number, None)
    for number in range(rounds):
        for count in CALLERS:
            for one in made if number % 2 else reversed(made):
                await _callers(one, count, number, one)


async def _callers(asked: Installation, count: int, number: int, noted: Installation | None) -> None:
    """So many callers at once, spread over the API processes; noted unless they only warm up."""
    urls = [asked.apis[(number + place) % len(asked.apis)].url for place in range(count)]
    began = time.perf_counter()
    found = await asyncio.gather(*(_stream(url, number * 100 + place) for place, url in enumerate(urls)))
    wall = time.perf_counter() - began
    if noted is not None:
        noted.first[count] += [first for first, _ in found]
        noted.speed[count].append(sum(tokens for _, tokens in found) / wall)


async def _stream(url: str, seed: int) -> tuple[float, int]:
    """Seconds to the first token, and the tokens of the answer."""
    messages: Any = [{"role": "user", "content": f"{QUESTION} Story {seed}."}]
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        began, first, tokens = time.perf_counter(), None, 0
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=messages,
            max_tokens=ANSWER_TOKENS,
            temperature=0,
            seed=seed,
            stream=True,
            stream_options={"include_usage": True},
            logit_bias={"2": -100},
        )
        async for part in stream:
            if first is None and part.choices and part.choices[0].delta.content:
                first = time.perf_counter() - began
            tokens = part.usage.completion_tokens if part.usage else tokens
    assert first is not None
    return first, tokens


def _table(made: Sequence[Installation]) -> list[str]:
    own, hosted = made
    lines = ["| | " + " | ".join(one.name for one in made) + " | ratio |", "|---|---|---|---|"]
    for count in CALLERS:
        callers = "1 caller" if count == 1 else f"{count} callers"
        first = [statistics.median(one.first[count]) * 1000 for one in made]
        speed = [statistics.median(one.speed[count]) for one in made]
        lines.append(f"| {callers}: first token, ms | {first[0]:.0f} | {first[1]:.0f} | {first[1] / first[0]:.2f} |")
        lines.append(f"| {callers}: tokens a second | {speed[0]:.0f} | {speed[1]:.0f} | {speed[1] / speed[0]:.2f} |")
    memory = own.uss_mib(), hosted.uss_mib()
    lines.append(f"| memory (USS), MiB | {memory[0]:.0f} | {memory[1]:.0f} | {memory[1] / memory[0]:.2f} |")
    return lines


if __name__ == "__main__":
    main()
