#!/usr/bin/env bash
# obstore 0.12.1: how many requests does a put of fifteen bytes cost, given as bytes and as an iterator?
#
# Guess: one either way. A multipart upload is for what is larger than a part (5 MiB by default), and obstore reads
#        ahead that far before it decides.
# Seen:  bytes are one PUT. An iterator is a multipart upload whatever its length: POST ?uploads, PUT of part 1, POST
#        with the list of parts: three requests in turn, three times the latency, and a killed process leaves an
#        upload in the bucket that is paid for and seen by no list.
#
#   bytes: ['PUT']     iterator of 15 bytes: ['POST', 'PUT', 'POST']     the same, use_multipart=False: ['PUT']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'obstore==0.12.1'
"$folder/venv/bin/python" - <<'PY'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from obstore import put
from obstore.store import S3Store

asked = []


class Bucket(BaseHTTPRequestHandler):
    """As much of S3's answers as three kinds of requests need; notes their methods."""

    protocol_version = "HTTP/1.1"

    def answer(self, body=b""):
        asked.append(self.command)
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(200)
        self.send_header("etag", '"1"')
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        self.answer()

    def do_POST(self):
        if "uploads" in self.path:
            self.answer(b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
        else:
            self.answer(b'<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>')

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
threading.Thread(target=server.serve_forever, daemon=True).start()
store = S3Store(
    "bucket",
    endpoint=f"http://127.0.0.1:{server.server_port}",
    region="us-east-1",
    access_key_id="a",
    secret_access_key="b",
    client_options={"allow_http": True},
)


def requests(**options):
    asked.clear()
    put(store, "key", **options)
    return list(asked)


text = b"fifteen bytes.\n"
whole, streamed = requests(file=text), requests(file=iter([text]))
single = requests(file=iter([text]), use_multipart=False)
print("bytes:", whole, "- iterator:", streamed, "- iterator, use_multipart=False:", single)
assert whole == ["PUT"], whole
assert streamed == ["POST", "PUT", "POST"], streamed
assert single == ["PUT"], single
PY
