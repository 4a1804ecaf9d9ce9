"""A check with token counts beside the bare tokenizer on the same texts: what all the rest of a check costs.

The bare tokenizer is given the rendered texts, read and laid out beforehand, in batches, with all cores: once by the
call that everybody uses (encode_batch) and once by the one that leaves offsets out (encode_batch_fast). The check is
given the file: JSON, every rule of rows and of the set, template, tokens. All run in turns; rates are medians. Shares
by the processor time of all threads are steadier than those by the clock where others use the machine too.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import tokenizers

import parsed_rows
from bench import made
from bench.process import ROOT
from luthier import catalog
from luthier.service.files import data_check
from luthier.tokenization import base_tokenizers
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

MODEL = "smollm2-135m-instruct"
BATCH = 256
CHUNK_BYTES = 1 << 20
Row = dict[str, Any]


def main() -> None:
    options = _options()
    base = catalog.load().find(MODEL)
    assert base is not None
    folder = options.models / MODEL
    bare = tokenizers.Tokenizer.from_file(str(folder / "hf" / "tokenizer.json"))
    base_tokenizers.load_tokenizer(folder)  # what a service or a command does once
    rules = data_check.Rules(base=base, base_folder=folder)
    heads = ("rows", "characters a row", "tokens", "check, tokens/s")
    bare_heads = (head for way in ("encode_batch", "encode_batch_fast") for head in (way, "share", "by processor time"))
    print(f"| {' | '.join([*heads, *bare_heads])} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, rows in _sets(options.data, options.characters):
        content = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        texts = _texts(folder, content)
        counts: dict[str, Callable[[], int]] = {
            "check": partial(_check, content, rules),
            "plain": partial(_bare, bare.encode_batch, texts),
            "fast": partial(_bare, bare.encode_batch_fast, texts),
        }
        rates: dict[str, list[float]] = {way: [] for way in counts}
        costs: dict[str, list[float]] = {way: [] for way in counts}
        tokens: dict[str, int] = {}
        for _ in range(options.rounds):
            for way, count in counts.items():
                began, used = time.perf_counter(), time.process_time()
                tokens[way] = count()
                rates[way].append(tokens[way] / (time.perf_counter() - began))
                costs[way].append((time.process_time() - used) / tokens[way])
        check, plain, fast = (median(rates[way]) for way in counts)
        cost, plain_cost, fast_cost = (median(costs[way]) for way in counts)
        size = sum(map(len, texts)) // len(texts)
        print(
            f"| {name}, {len(rows):,} | {size:,} | {tokens['check']:,} | {check:,.0f} "
            f"| {plain:,.0f} | {check / plain:.0%} | {plain_cost / cost:.0%} "
            f"| {fast:,.0f} | {check / fast:.0%} | {fast_cost / cost:.0%} |",
            flush=True,
        )


def _check(content: bytes, rules: data_check.Rules) -> int:
    chunks = (content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES))
    checked = data_check.check_training(chunks, rules)
    assert checked.report.valid
    assert checked.tokens is not None
    return checked.tokens.tokens.total


def _bare(encode: Callable[..., list[tokenizers.Encoding]], texts: list[str]) -> int:
    batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
    return sum(len(found) for batch in batches for found in encode(batch, add_special_tokens=False))


def _texts(folder: Path, content: bytes) -> list[str]:
    """What the template makes of each row, up to the end of its last answer."""
    tokenizer = TorchFreeTokenizer(folder / "hf")
    whole = (
        tokenizer.text([{"role": m.role.value, "content": m.content} for m in example.messages], (), False)
        for _, example in parsed_rows.read_examples(content)
    )
    return [text.rstrip("\n") for text in whole]


def _sets(data: Path, characters: int) -> Iterator[tuple[str, list[Row]]]:
    """Real rows again and again until there are so many characters, each with a number that makes it another row."""
    pairs = _read(data / "orca-dpo.valid.jsonl")
    long = [{"messages": [*pair["input"]["messages"], *pair["preferred_output"]]} for pair in pairs]
    sets = {
        "GSM8K": _read(data / "gsm8k-chat.train.jsonl"),
        "Orca": long,
        "made chats of several turns": made.long_rows(),
    }
    for name, rows in sets.items():
        if not rows:
            print(f"{name}: left out, its file is not in {data}")
            continue
        size = sum(len(message["content"]) for row in rows for message in row["messages"])
        yield name, [_numbered(row, number) for number in range(max(1, characters // size)) for row in rows]


def _numbered(row: Row, number: int) -> Row:
    messages = [dict(message) for message in row["messages"]]
    place = next(index for index, message in enumerate(messages) if message["role"] == "user")
    messages[place]["content"] = f"{number}. {messages[place]['content']}"
    return {"messages": messages}


def _read(path: Path) -> list[Row]:
    """The rows of a real file; none where it is not on this machine."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the real files")
    parser.add_argument("--models", type=Path, default=ROOT / ".cache" / "models")
    parser.add_argument("--characters", type=int, default=16_000_000, help="of each set")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
