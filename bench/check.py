"""The data doctor beside the bare decoder: `make bench-check`. Files of made chat rows, checked in full but for tokens.

Each way reads each file in a process of its own, in turn with the other; the time is that of reading and checking, the
memory that of the whole process. The bare decoder is `orjson.loads` over the lines of the open file, as users write it.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from bench import process
from bench.check_rows import KINDS, write
from luthier.data.checks import validate

_CHUNK_BYTES = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512, help="size of each file (default: 512)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way reads each file (default: 3)")
    parser.add_argument(
        "--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="which files (default: all)"
    )
    parser.add_argument("--folder", type=Path, default=process.ROOT / ".cache" / "bench-check")
    parser.add_argument("--only", choices=list(_WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        _timed(_WAYS[options.only], options.file)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| rows | orjson MB/s | luthier MB/s | ratio | luthier's memory, MB |")
    print("|---|---|---|---|---|")
    for kind in options.kinds:
        path = options.folder / f"{kind}-{options.mib}.jsonl"
        if not path.exists():
            write(path, kind, options.mib << 20)
        _compare(kind, path, options.rounds)


def _compare(kind: str, path: Path, rounds: int) -> None:
    rates: dict[str, list[float]] = {way: [] for way in _WAYS}
    peaks: dict[str, int] = dict.fromkeys(_WAYS, 0)
    for _ in range(rounds):
        for way in _WAYS:
            log = path.with_suffix(f".{way}.log")
            arguments = ["bench.check", "--only", way, "--file", str(path)]
            peaks[way] = max(peaks[way], process.run(arguments, process.environment(), log))
            rates[way].append(path.stat().st_size / 1e6 / float(log.read_text().split()[-1]))
    bare, ours = (statistics.median(rates[way]) for way in ("orjson", "luthier"))
    print(f"| {kind} | {bare:.0f} | {ours:.0f} | {ours / bare:.2f} | {peaks['luthier'] / 1e6:.0f} |", flush=True)


def _timed(way: Callable[[Path], int], path: Path) -> None:
    began = time.perf_counter()
    n_rows = way(path)
    print(n_rows, time.perf_counter() - began)


def _orjson(path: Path) -> int:
    n_rows = 0
    with path.open("rb") as stream:
        for line in stream:
            orjson.loads(line)
            n_rows += 1
    return n_rows


def _luthier(path: Path) -> int:
    report = validate.check_file(_chunks(path), None)
    if report.n_errors:
        sys.exit(f"{path} has errors: {report.problems[0].sentence()}")
    return report.n_examples


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


_WAYS: dict[str, Callable[[Path], int]] = {"orjson": _orjson, "luthier": _luthier}

if __name__ == "__main__":
    main()
