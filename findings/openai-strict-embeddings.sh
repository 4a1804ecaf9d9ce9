#!/usr/bin/env bash
# openai 3.57.0: do the embeddings that the SDK asks for pass its own strict validation?
#
# Guess: yes. `_strict_response_validation=True` checks answers against the SDK's types, and the SDK itself chooses base64
#        where the caller names no encoding.
# Seen:  no. The check runs before the SDK decodes its own base64, so the answer that it asked for is refused; the same
#        call with numbers passes, and so does base64 without the check.
#
#   asked base64 | strict APIResponseValidationError | plain [0.5, -0.25] | strict with numbers [0.5, -0.25]
#
# Takes half a minute; talks to a server of its own on this machine.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check install -q --no-compile 'openai==3.57.0'
cat > "$folder/ask.py" <<'PY'
import base64
import json
import struct
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai

VECTOR = [0.5, -0.25]
asked = []


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked.append(body.get("encoding_format"))
        packed = base64.b64encode(struct.pack("<2f", *VECTOR)).decode()
        vector = packed if asked[-1] == "base64" else VECTOR
        data = [{"object": "embedding", "index": 0, "embedding": vector}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        answer = json.dumps({"object": "list", "model": "m", "data": data, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = {"base_url": f"http://127.0.0.1:{server.server_port}/v1", "api_key": "k", "max_retries": 0}
strict = openai.OpenAI(**base, _strict_response_validation=True)
try:
    strict.embeddings.create(model="m", input="a")
    seen = "passes"
except openai.APIResponseValidationError as error:
    seen = type(error).__name__
plain = openai.OpenAI(**base).embeddings.create(model="m", input="a").data[0].embedding
numbers = strict.embeddings.create(model="m", input="a", encoding_format="float").data[0].embedding
print(f"asked {asked[0]} | strict {seen} | plain {plain} | strict with numbers {numbers}")
PY
found=$("$folder/venv/bin/python" "$folder/ask.py")
echo "$found"
test "$found" = "asked base64 | strict APIResponseValidationError | plain [0.5, -0.25] | strict with numbers [0.5, -0.25]"
