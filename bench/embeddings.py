"""Embeddings: texts per second and latency of our service, of llama.cpp's bare server, and of transformers.

    make bench-embeddings        # python -m bench.embeddings [--texts N] [--rounds N]

Needs the embedding model (luthier models pull all-minilm-l6-v2) in LUTHIER_MODELS_DIR. All have the same threads and
the same texts, in turn, round by round; the table shows the best round of each, and how far their vectors are from
those of transformers in float32. The service is the whole of it, over HTTP with a key; the others have no queue.
"""

import argparse
import asyncio
import base64
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from luthier.model_folder import BaseModelFolder, EmbeddingFolder
from luthier.tokenization.embedding_tokenizer import EmbeddingTokenizer

NAME = "all-minilm-l6-v2"
KEY = "bench-embeddings-key-0123456789"
CALLERS = 8
SENTENCES = (
    "the sea is wide and ships sail far away while people on land wait for letters that tell of storms islands markets "
    "harbours prices of grain new maps old songs and whatever else a traveller may have seen before winter came"
)
Vectors = list[Sequence[float]]
Embed = Callable[[Sequence[str]], Vectors]


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=96, help="texts of a call for throughput")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    folder = Path(os.environ["LUTHIER_MODELS_DIR"]).absolute() / NAME
    if not BaseModelFolder(folder).is_complete:
        sys.exit(f"{NAME} is not in LUTHIER_MODELS_DIR. Run: luthier models pull {NAME}")
    sets = {"12 words": _texts(options.texts, 12), "90 words": _texts(max(8, options.texts // 4), 90)}
    with _service(folder, options.threads) as ours, _bare(folder, options.threads) as bare:
        targets = {"luthier": ours, "llama.cpp, bare": bare, "transformers": _transformers(folder, options.threads)}
        _print_table(targets, sets, options.rounds)
        _print_callers(ours)


def _print_table(targets: dict[str, Embed], sets: dict[str, list[str]], rounds: int) -> None:
    """Texts per second of each set and the latency of one text, the best of the rounds."""
    rates: dict[tuple[str, str], float] = {}
    latencies: dict[str, float] = {}
    vectors: dict[str, Vectors] = {}
    for _ in range(rounds):
        for target, embed in targets.items():
            for name, texts in sets.items():
                began = time.perf_counter()
                vectors[target] = embed(texts)
                rates[target, name] = max(rates.get((target, name), 0.0), len(texts) / (time.perf_counter() - began))
            one = [_seconds(embed, ["The sea is wide and the ships are far away."]) for _ in range(10)]
            latencies[target] = min(latencies.get(target, 9e9), statistics.median(one))
    print(f"load {os.getloadavg()[0]:.1f}, best of {rounds} rounds")
    print(f"{'':18}" + "".join(f"{name + ' /s':>14}" for name in sets) + f"{'one text ms':>14}{'distance':>12}")
    for target in targets:
        figures = "".join(f"{rates[target, name]:14.1f}" for name in sets)
        pairs = zip(vectors[target], vectors["transformers"], strict=True)
        distance = max(sum((a - b) ** 2 for a, b in zip(one, two, strict=True)) ** 0.5 for one, two in pairs)
        print(f"{target:18}{figures}{latencies[target] * 1e3:14.1f}{distance:12.5f}")


def _print_callers(embed: Embed) -> None:
    """How long one text takes while eight callers embed sixteen texts each, again and again."""

    async def run() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        ends = loop.time() + 5.0
        counts: list[int] = []

        async def flood() -> None:
            while loop.time() < ends:
                counts.append(len(await asyncio.to_thread(embed, _texts(16, 60))))

        floods = [asyncio.ensure_future(flood()) for _ in range(CALLERS)]
        one: list[float] = []
        while loop.time() < ends:
            one.append(await asyncio.to_thread(_seconds, embed, ["A short question?"]))
        await asyncio.gather(*floods)
        return sum(counts) / 5.0, statistics.median(one)

    rate, latency = asyncio.run(run())
    print(f"luthier, {CALLERS} callers with 16 texts of 60 words: {rate:.1f} texts/s; one text beside: {latency:.2f} s")


def _seconds(embed: Embed, texts: Sequence[str]) -> float:
    began = time.perf_counter()
    embed(texts)
    return time.perf_counter() - began


def _texts(count: int, words: int) -> list[str]:
    """Texts of about so many words, the same at each call."""
    chosen = random.Random(7)
    return [
        " ".join(chosen.choices(SENTENCES.split(), k=words + chosen.randint(-words // 4, words // 4)))
        for _ in range(count)
    ]


def _over_http(url: str, key: str, shape: Callable[[Sequence[str]], Any]) -> Embed:
    """An OpenAI-compatible server; `shape` makes the input of the texts."""
    client = httpx2.Client(headers={"Authorization": f"Bearer {key}"}, timeout=120, trust_env=False)

    def embed(texts: Sequence[str]) -> Vectors:
        body = {"model": NAME, "input": shape(texts), "encoding_format": "base64"}
        reply = client.post(f"{url}/embeddings", json=body)
        reply.raise_for_status()
        entries = sorted(reply.json()["data"], key=lambda entry: int(entry["index"]))
        vectors = [base64.b64decode(entry["embedding"]) for entry in entries]
        return [struct.unpack(f"<{len(vector) // 4}f", vector) for vector in vectors]

    return embed


@contextmanager
def _service(folder: Path, threads: int) -> Iterator[Embed]:
    """`luthier serve` on a folder of its own."""
    with tempfile.TemporaryDirectory() as data:
        settings = {
            "LUTHIER_DATA_DIR": data,
            "LUTHIER_MODELS_DIR": str(folder.parent),
            "LUTHIER_SERVER_KEY": KEY,
            "LUTHIER_SERVE_THREADS": str(threads),
            "LUTHIER_PORT": "18437",
        }
        command = [sys.executable, "-m", "luthier", "serve"]
        with subprocess.Popen(command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL) as process:
            try:
                embed = _over_http("http://127.0.0.1:18437/v1", KEY, list)
                _await(embed, process)
                yield embed
            finally:
                process.terminate()


def _await(embed: Embed, process: "subprocess.Popen[bytes]") -> None:
    """Waits until the service answers. Raises RuntimeError if it has ended."""
    while True:
        try:
            embed(["ready?"])
            return
        except httpx2.TransportError:
            if process.poll() is not None:
                raise RuntimeError("luthier serve has ended") from None
            time.sleep(0.2)


@contextmanager
def _bare(folder: Path, threads: int) -> Iterator[Embed]:
    """llama.cpp's server in a process of its own, with 16 slots and its own tokenizer."""
    code = (
        "import sys, os, threading, xllamacpp; p = xllamacpp.CommonParams(); p.model.path = sys.argv[1]\n"
        "p.hostnames = ['127.0.0.1']; p.port = 0; p.embedding = True; p.n_parallel = 16; p.n_ctx = 16 * 512\n"
        "p.n_batch = p.n_ubatch = 512; p.ui = False; p.fit_params = False\n"
        "p.cpuparams.n_threads = p.cpuparams_batch.n_threads = int(sys.argv[2])\n"
        "out = os.dup(1); os.dup2(os.open(os.devnull, os.O_WRONLY), 1); s = xllamacpp.Server(p)\n"
        "os.write(out, s.listening_address.encode() + b'\\n'); sys.stdin.read(); os._exit(0)\n"
    )
    command = [sys.executable, "-c", code, str(EmbeddingFolder(folder).gguf), str(threads)]
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield _over_http(f"{process.stdout.readline().decode().strip()}/v1", "none", list)
        process.stdin.close()


def _transformers(folder: Path, threads: int) -> Embed:
    """transformers in this process, as sentence-transformers computes: sorted by length, 32 texts in a padded batch."""
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    import transformers

    torch.set_num_threads(threads)
    encoder = transformers.BertModel.from_pretrained(folder / "hf", dtype=torch.float32, add_pooling_layer=False).eval()
    tokenizer = EmbeddingTokenizer(folder)

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> Vectors:
        ids = tokenizer.token_ids(list(texts))
        vectors: list[Sequence[float]] = [()] * len(ids)
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        for at in range(0, len(order), 32):
            places = order[at : at + 32]
            longest = max(len(ids[place]) for place in places)
            ids_BN = torch.tensor([ids[place] + [0] * (longest - len(ids[place])) for place in places])
            mask_BN = (torch.arange(longest) < torch.tensor([[len(ids[place])] for place in places])).float()
            hidden_BND = encoder(input_ids=ids_BN, attention_mask=mask_BN).last_hidden_state
            mean_BD = (hidden_BND * mask_BN[..., None]).sum(1) / mask_BN.sum(1, keepdim=True)
            for place, vector_D in zip(places, torch.nn.functional.normalize(mean_BD, dim=1), strict=True):
                vectors[place] = vector_D.tolist()
        return vectors

    return embed


if __name__ == "__main__":
    main()
