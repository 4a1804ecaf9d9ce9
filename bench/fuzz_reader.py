"""Coverage-guided fuzzing of the data reader: `make fuzz-reader`. What it finds becomes a test of tests/unit/data.

A target is what an input is taken for: a file of supervised rows or of preference pairs, a JSON text, an image. An
input fails if the reader raises, takes longer than a second, needs more memory than the cap, or tells something else
by its quick way than by its careful one. Inputs that reach new code stay in the folder for the next time.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["luthier.data"]):
    from luthier.core.states import Ability, Method
    from luthier.data.checks import validate
    from luthier.data.jsonl import json_reader, line_reader
    from luthier.data.problems.problem import Problem
    from luthier.data.rows import fast_path, image_header, supervised

MAX_SECONDS = 1.0
MAX_MEMORY_MB = 300
MAX_INPUT_BYTES = 256
MAX_TEXT_BYTES = 96
"""A fault of JSON needs no more, and twice as many are read in the same time."""
_ABILITIES = (None, frozenset[Ability](), frozenset(Ability))
_WORDS = (
    '"messages":', '"role":', '"content":', '"user"', '"assistant"', '"system"', '"tool"', '"function"', '"weight":',
    '"tool_calls":', '"tool_call_id":', '"arguments":', '"parameters":', '"type":', '"image_url":', '"url":',
    '"tools":', '"input":', '"preferred_output":', '"non_preferred_output":', '\\"', '\\\\u', '\\\\ud83d', '}\\x0a{',
    '\\xef\\xbb\\xbf', 'NaN', '1e400', 'data:image/png;base64,', 'iVBORw0KGgo', 'IHDR', 'acTL', 'IDAT', 'VP8X',
    '\\xff\\xc0', '\\xff\\xfe',
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=_TARGETS)
    parser.add_argument("--seconds", type=int, default=300, help="how long (default: 300)")
    parser.add_argument("--folder", type=Path, default=Path(".cache/fuzz-reader"), help="what is kept between runs")
    options = parser.parse_args()
    inputs = options.folder / options.target
    inputs.mkdir(parents=True, exist_ok=True)
    # In a process of its own: the corpus holds a file of 64 MiB, which is not to count as the reader's memory.
    subprocess.run([sys.executable, "-m", "bench.fuzz_seeds", options.target, str(inputs)], check=True)
    words = options.folder / "words.dict"
    words.write_text("".join(f'"{word}"\n' for word in (word.replace('"', '\\"') for word in _WORDS)))
    flags = [
        f"-max_total_time={options.seconds}",
        f"-max_len={MAX_TEXT_BYTES if options.target == 'text' else MAX_INPUT_BYTES}",
        f"-rss_limit_mb={MAX_MEMORY_MB}",
        "-timeout=20",
        f"-dict={words}",
        f"-artifact_prefix={options.folder}/failed-{options.target}-",
        "-print_final_stats=1",
    ]
    read = _TARGETS[options.target]

    def one(data: bytes) -> None:
        began = time.process_time()
        read(data)
        if time.process_time() - began > MAX_SECONDS:
            raise AssertionError(f"took more than {MAX_SECONDS} s of CPU")

    atheris.Setup([sys.argv[0], *flags, str(inputs)], one)
    atheris.Fuzz()


def _read_rows(content: bytes) -> None:
    """Each file is also read with care throughout, and has to tell the same."""
    abilities = _ABILITIES[len(content) % 3]
    report = validate.check_file([content], abilities, 0)
    carefully = {line.number: line_reader.parse_line(line) for line in line_reader.read_lines([content])}
    parsed = {
        number: supervised.parse_supervised(row, abilities)
        for number, row in carefully.items()
        if not isinstance(row, Problem)
    }
    for part in fast_path.scan([content[: len(content) // 2], content[len(content) // 2 :]], abilities):
        if isinstance(part, fast_path.PlainRows):
            warned = {part.first + index: warnings for index, warnings in part.warned}
            for number, _, example in part.examples():
                assert parsed[number].example == example
                assert parsed[number].problems == tuple(one.at(number) for one in warned.get(number, ()))
    assert report.n_examples in (0, sum(one.example is not None for one in parsed.values()))


def _read_pairs(content: bytes) -> None:
    validate.check_file([content], _ABILITIES[len(content) % 3], 0, Method.DPO)


def _read_text(content: bytes) -> None:
    text = content.decode("utf-8", "ignore")
    reading = json_reader.read(text)
    assert reading.complete or reading.faults
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        assert reading.faults
        return
    assert reading.faults or json.dumps(value) == json.dumps(reading.value)


def _read_image(content: bytes) -> None:
    try:
        image_header.read_header(content)
    except image_header.BrokenImage:
        return


_TARGETS = {"rows": _read_rows, "pairs": _read_pairs, "text": _read_text, "image": _read_image}

if __name__ == "__main__":
    main()
