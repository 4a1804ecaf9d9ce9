"""`make bench-serve`: the service with either engine, and both engines without it, in turns on one machine.

All of them run for the whole time and rest while another one is measured. A failure is a cell of the table.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx2
import psutil

from bench.process import ROOT
from bench.serving import adapters, opened, table
from bench.serving.lines import LINES, Line, Trial
from bench.serving.prompts import Prompts
from bench.serving.table import Results
from bench.serving.targets import BASE, Failed, ServiceTarget, Target
from luthier.core.errors import LuthierError

ADAPTERS_LINE = 7
LIMIT_S = 900.0
"""What one measurement may take."""
FAILURES = (
    Failed,
    LuthierError,
    httpx2.HTTPError,
    psutil.Error,
    OSError,  # TimeoutError is one
    AssertionError,
    ValueError,
    LookupError,
)


def main() -> None:
    options = _options()
    models = Path(os.environ.get("LUTHIER_MODELS_DIR", ROOT / ".cache" / "models")).absolute()
    prompts = Prompts(models / BASE / "hf")
    head, rows = table.head(options.divide), []
    with tempfile.TemporaryDirectory(prefix="luthier-serve-") as name:
        chosen = [line for line in options.lines if line in LINES]
        if chosen:
            rows += _compared(Path(name), models, prompts, chosen, options)
        if ADAPTERS_LINE in options.lines:
            rows += _many(Path(name) / "adapters", models, prompts, max(1, adapters.ADAPTERS // options.divide))
    print("\n".join([*head, *rows]))


def _compared(
    folder: Path, models: Path, prompts: Prompts, chosen: Sequence[int], options: argparse.Namespace
) -> list[str]:
    results = Results()
    data = options.folder.absolute() if options.folder else folder
    with ExitStack() as stack:
        targets: list[Target] = []
        for name, start in opened.openers(stack, folder, data, models, prompts).items():
            if options.without_llamacpp and "llama.cpp" in name:
                continue
            _say(f"starting {name}")
            try:
                targets.append(start())
            except FAILURES as error:
                results.close(name, _reason(error))
        asyncio.run(_rounds(targets, results, prompts, chosen, options))
    return [text for line in sorted(chosen) for figure in LINES[line].figures for text in results.rows(line, figure)]


async def _rounds(
    targets: list[Target], results: Results, prompts: Prompts, chosen: Sequence[int], options: argparse.Namespace
) -> None:
    for target in targets:
        await _warm(target, prompts)
    for number in range(1, options.rounds + 1):
        trial = Trial(prompts, number, options.divide)
        for place in (place for place in LINES if place in chosen):
            line = LINES[place]
            for target in targets:
                if isinstance(target, ServiceTarget) or not line.of_services:
                    await _measure(target, place, line, trial, results)
    for target in targets:
        await target.close()


async def _warm(target: Target, prompts: Prompts) -> None:
    """A first answer of the base and of each deployment, which are not measured."""
    models = [None, *target.deployments] if isinstance(target, ServiceTarget) else [None]
    target.wake()
    try:
        for place, model in enumerate(models):
            await target.ask(prompts.short(0, place), 8, model)
    except FAILURES as error:
        _say(f"{target.name}: not warmed: {_reason(error)}")
    finally:
        target.rest()


async def _measure(target: Target, place: int, line: Line, trial: Trial, results: Results) -> None:
    began = time.perf_counter()
    told = f"round {trial.number}, line {place}, {target.name}"
    target.wake()
    try:
        async with asyncio.timeout(LIMIT_S):
            found = await line.measure(target, trial)
    except FAILURES as error:
        results.fail(target.name, place, f"round {trial.number}: {_reason(error)}")
        _say(f"{told}: failed: {_reason(error)}")
    else:
        results.add(target.name, trial.number, found)
        figures = ", ".join(f"{key} {value:.2f}" for key, value in found.items())
        _say(f"{told}: {figures} ({time.perf_counter() - began:.1f} s)")
    finally:
        target.rest()


def _many(folder: Path, models: Path, prompts: Prompts, n: int) -> list[str]:
    _say(f"line {ADAPTERS_LINE}, {n} adapters")
    try:
        rows = asyncio.run(adapters.many_adapters(folder, models, prompts, n)).rows()
    except FAILURES as error:
        rows = [(f"{n} adapters", f"failed: {_reason(error)}")]
    return [table.row(f"{ADAPTERS_LINE}. {title}", "", "", "", cell, "") for title, cell in rows]


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    def lines(text: str) -> list[int]:
        return [int(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", type=lines, default=[*sorted(LINES), ADAPTERS_LINE], help="which, as 1,3,5")
    parser.add_argument("--without-llamacpp", action="store_true", help="only our own engine")
    parser.add_argument("--divide", type=int, default=1, help="every number of tokens and of adapters by this")
    parser.add_argument("--folder", type=Path, help="where tuned models stay for the next call")
    options = parser.parse_args()
    for line in options.lines:
        if line not in (*LINES, ADAPTERS_LINE):
            parser.error(f"there is no line {line}")
    return options


if __name__ == "__main__":
    main()
