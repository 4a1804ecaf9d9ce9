"""Line 7: many adapters on one base in our own engine, without the service."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench.serving.opened import CONTEXT_TOKENS, STREAMS
from bench.serving.prompts import Prompts
from bench.serving.targets import BASE, NEVER_ENDS
from luthier.core.engine_ports import Address, ServedModel
from luthier.core.inference.generation import EngineDelta
from luthier.engines.native.client import NativeClient
from luthier.engines.native.native_engine import NativeEngine

SPREAD = 0.03
ADAPTERS = 50
SAMPLE = 5
COMPARED_TOKENS = 8
TEXT = "Name three things that float on water, and say why."
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Many:
    """What was found. `different` answers there were of all; `equal` of `sampled` are the same as alone."""

    n: int
    loads_s: list[float]
    before_mib: float
    after_mib: float
    firsts_s: list[float]
    different: int
    equal: int
    sampled: int

    def rows(self) -> list[tuple[str, str]]:
        """The table's rows: a title and what stands under bare native."""
        loads, firsts = ([1000 * seconds for seconds in each] for each in (self.loads_s, self.firsts_s))
        each_mib = (self.after_mib - self.before_mib) / self.n
        memory = f"{self.before_mib:.0f}, {self.after_mib:.0f} ({each_mib:.1f} an adapter)"
        return [
            (f"{self.n} adapters: ms to load one, median [min, max]", _spread(loads)),
            (f"{self.n} adapters: resident MiB of the engine before, after", memory),
            (f"{self.n} adapters: ms to first text of each, median [min, max]", _spread(firsts)),
            (
                f"first {COMPARED_TOKENS} tokens as when loaded alone",
                f"{self.equal} of {self.sampled}; {self.different} different answers of {self.n}",
            ),
        ]


async def many_adapters(folder: Path, models: Path, prompts: Prompts, n: int) -> Many:
    """Loads `n` random adapters, asks each, and asks some of them again in a process of their own."""
    folder.mkdir()
    adapters = _made(folder, models, n)
    token_ids = prompts.token_ids(TEXT)
    client = NativeClient()
    others = _engine_pids()
    engine = NativeEngine(folder / "engine", context_tokens=CONTEXT_TOKENS, sequences=STREAMS)
    try:
        base = engine.ensure(ServedModel(BASE, BASE, models / BASE, None))
        await _asked(client, base, token_ids)
        (pid,) = _engine_pids() - others
        before = _resident_mib(pid)
        loads_s = [_timed_load(engine, adapter) for adapter in adapters]
        after = _resident_mib(pid)
        asked = [await _asked(client, engine.ensure(adapter), token_ids) for adapter in adapters]
    finally:
        await client.close()
        engine.close()
    places = list(range(0, n, max(1, n // SAMPLE)))[:SAMPLE]
    alone = {place: await _alone(folder / f"alone-{place}", adapters[place], token_ids) for place in places}
    equal = sum(asked[place][1] == alone[place] for place in places)
    different = len({tuple(tokens) for _, tokens in asked})
    return Many(n, loads_s, before, after, [first_s for first_s, _ in asked], different, equal, len(places))


def _made(folder: Path, models: Path, n: int) -> list[ServedModel]:
    from transformers.utils import logging

    import small_models  # torch

    logging.disable_progress_bar()
    base = models / BASE
    names = {f"random-{seed}": seed for seed in range(1, n + 1)}
    made = {name: small_models.make_adapter(folder / name, base, seed, SPREAD) for name, seed in names.items()}
    return [ServedModel(name, BASE, base, adapter) for name, adapter in made.items()]


def _timed_load(engine: NativeEngine, adapter: ServedModel) -> float:
    began = time.perf_counter()
    engine.ensure(adapter)
    return time.perf_counter() - began


async def _alone(folder: Path, adapter: ServedModel, token_ids: list[int]) -> list[bytes]:
    client, engine = NativeClient(), NativeEngine(folder, context_tokens=CONTEXT_TOKENS, sequences=1)
    try:
        return (await _asked(client, engine.ensure(adapter), token_ids))[1]
    finally:
        await client.close()
        engine.close()


async def _asked(client: NativeClient, address: Address, token_ids: list[int]) -> tuple[float, list[bytes]]:
    """The seconds to the first token of a greedy answer, and its tokens' bytes."""
    request = {"prompt": token_ids, "max_tokens": COMPARED_TOKENS, "temperature": 0, "logit_bias": NEVER_ENDS}
    began, first_s, tokens = time.perf_counter(), None, []
    async for value in client.generate(address, request | {"logprobs": 1, "cache_scope": "bench"}):
        if isinstance(value, EngineDelta):
            first_s = first_s or time.perf_counter() - began
            tokens += [bytes(entry.bytes) for entry in value.log_probs or ()]
    assert first_s is not None
    assert len(tokens) == COMPARED_TOKENS, tokens
    return first_s, tokens


def _engine_pids() -> set[int]:
    children = psutil.Process().children()
    return {child.pid for child in children if "luthier.engines.native.engine_server" in child.cmdline()}


def _resident_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / MIB


def _spread(values: list[float]) -> str:
    return f"{median(values):.1f} [{min(values):.1f}, {max(values):.1f}]"
