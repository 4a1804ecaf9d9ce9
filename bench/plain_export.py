"""An export in its own tool, in a process that imports nothing of Luthier: the figures of docs/exports.md.

    python bench/plain_export.py FOLDER PROBES.json [--base HF_FOLDER | --base BASE.gguf]

FOLDER is what `luthier export --out` wrote, PROBES.json the probes beside the checkpoint. Plain peft needs the base as
a Hugging Face folder, llama.cpp with an adapter needs it as GGUF. Prints one line of JSON: differences in nats from the
trainer's log-probabilities over the positions of the probes, each behind the trainer's own tokens.
"""

import argparse
import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

COMPARED = 5
MIN_LOGPROB = -6.9
TOP = 40
Score = Callable[[Sequence[dict[str, str]], list[int]], Iterator[dict[int, float] | None]]


def main() -> None:
    """Prints the figures of the folder that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("probes", type=Path)
    parser.add_argument("--base", type=Path)
    given = parser.parse_args()
    began = time.monotonic()
    tool, score = _tool(given.folder, given.base)
    differences: list[float] = []
    positions = same = unsaid = 0
    for probe in json.loads(given.probes.read_bytes())["probes"]:
        trained = probe["positions"]
        said = [position["token_id"] for position in trained]
        for likeliest, position in zip(score(probe["messages"], said), trained, strict=True):
            if likeliest is None:
                unsaid += 1
                continue
            positions += 1
            same += max(likeliest, key=lambda id: likeliest[id]) == position["token_id"]
            for id, logprob in position["top"][:COMPARED]:
                if logprob > MIN_LOGPROB:
                    differences.append(abs(likeliest.get(id, min(likeliest.values())) - logprob))
    figures = {
        "tool": tool,
        "positions": positions,
        "unsaid": unsaid,
        "max": round(max(differences), 5),
        "mean": round(sum(differences) / len(differences), 5),
        "top": round(same / positions, 4),
        "seconds": round(time.monotonic() - began, 1),
        "bytes": sum(path.stat().st_size for path in given.folder.iterdir()),
    }
    print(json.dumps(figures))
    assert not any(name.partition(".")[0] == "luthier" for name in sys.modules)
    sys.stdout.flush()
    os._exit(0)  # llama.cpp's server has threads that nobody ends


def _tool(folder: Path, base: Path | None) -> tuple[str, Score]:
    """The tool that the folder's files are for, with them loaded."""
    if (folder / "model.gguf").exists():
        return "llama.cpp", _llama(folder / "model.gguf", None)
    if (folder / "adapter.gguf").exists():
        assert base is not None
        return "llama.cpp", _llama(base, folder / "adapter.gguf")
    import torch
    import transformers

    if (folder / "adapter_config.json").exists():
        import peft

        model: Any = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return f"peft {peft.__version__}", _torch(peft.PeftModel.from_pretrained(model, folder), folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return f"transformers {transformers.__version__}", _torch(model, folder)


def _torch(model: Any, folder: Path) -> Score:
    """Plain transformers: one forward pass over a prompt and the trainer's tokens."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model.eval()

    def score(messages: Sequence[dict[str, str]], said: list[int]) -> Iterator[dict[int, float] | None]:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + said[:-1]])).logits[0, -len(said) :].float()
        for row in logits.log_softmax(-1):
            values, ids = row.topk(TOP)
            yield dict(zip(ids.tolist(), values.tolist(), strict=True))

    return score


def _llama(model: Path, adapter: Path | None) -> Score:
    """llama.cpp's server by HTTP; None for a token that ends within a character, of which it says nothing."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_ctx = 2048
    parameters.n_parallel = 1
    parameters.port = 0
    parameters.use_jinja = True
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = os.cpu_count() or 1
    if adapter is not None:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    server = xllamacpp.Server(parameters)

    def post(path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    def score(messages: Sequence[dict[str, str]], said: list[int]) -> Iterator[dict[int, float] | None]:
        text = post("/apply-template", {"messages": messages})["prompt"]
        prompt = post("/tokenize", {"content": text, "parse_special": True})["tokens"]
        for place in range(len(said)):
            asked = {"n_predict": 1, "temperature": 0, "n_probs": TOP, "ignore_eos": True}
            answer = post("/completion", {"prompt": prompt + said[:place], **asked})
            entries = answer.get("completion_probabilities")
            yield {top["id"]: top["logprob"] for top in entries[0]["top_logprobs"]} if entries else None

    score.server = server  # type: ignore[attr-defined]  # kept alive
    return score


if __name__ == "__main__":
    main()
