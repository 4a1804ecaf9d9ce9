"""The first inputs of the fuzzer: faulty lines and files of the corpus, and images, each as a file of a folder."""

import sys
from pathlib import Path

from corpus import CASES, CLEAN, image_cases
from luthier.core.states import Method

MAX_BYTES = 256


def main(target: str, folder: Path) -> None:
    for index, seed in enumerate(_seeds(target)):
        if len(seed) <= MAX_BYTES:
            (folder / f"seed-{index:03}").write_bytes(seed)


def _seeds(target: str) -> list[bytes]:
    if target == "image":
        return [image_cases.png(), image_cases.jpeg(), image_cases.LOSSY, image_cases.LOSSLESS, image_cases.extended(2)]
    method = Method.DPO if target == "pairs" else Method.SUPERVISED
    cases = [case for case in (*CASES, *CLEAN) if case.method is method]
    lines = [line for case in cases for line in case.content.split(b"\n")[1:2] if line]
    return lines if target == "text" else [*lines, *(case.content for case in cases)]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
