"""The sweep of multipart uploads in S3: its two calls, their signatures, and what they leave alone."""

import hashlib
import hmac
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest

from luthier import blobs

SECRET = "a-secret-key-of-nobody"
KEY_ID = "AKIDOFNOBODY"
NOW = datetime(2026, 11, 30, tzinfo=UTC)
OLD, YOUNG = "2026-11-01T10:00:00.000Z", "2026-12-01T10:00:00.000Z"
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass
class Bucket:
    """What S3 would answer of unfinished uploads, (key, id, when it began), two on a page; every signature is checked.

    `aborted` are keys and ids. `refusal` is a body that answers everything with a 403.
    """

    uploads: list[tuple[str, str, str]] = field(default_factory=list)
    aborted: list[tuple[str, str]] = field(default_factory=list)
    other_calls: list[str] = field(default_factory=list)
    path: str = "/runs"
    listing: str = ""
    refusal: str = ""

    def list(self, query: dict[str, str]) -> str:
        if self.listing:
            return self.listing
        found = [one for one in self.uploads if one[0].startswith(query["prefix"])]
        start = next((place + 1 for place, one in enumerate(found) if one[1] == query.get("upload-id-marker")), 0)
        page = found[start : start + 2]
        rows = "".join(
            f"<Upload><Key>{key.replace('&', '&amp;')}</Key><UploadId>{upload_id}</UploadId>"
            f"<Initiated>{began}</Initiated></Upload>"
            for key, upload_id, began in page
        )
        more = start + 2 < len(found)
        last = page[-1] if page else ("", "", "")
        markers = f"<NextKeyMarker>{last[0]}</NextKeyMarker><NextUploadIdMarker>{last[1]}</NextUploadIdMarker>"
        return (
            f'<?xml version="1.0"?><ListMultipartUploadsResult {NAMESPACE}>{markers}'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{rows}</ListMultipartUploadsResult>"
        )


def signature(request: BaseHTTPRequestHandler) -> str:
    """The signature that AWS computes of a request: Signature Version 4, by S3's reference."""
    scope_text, names_text, _ = request.headers["Authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(", ")
    scope = scope_text.removeprefix(f"Credential={KEY_ID}/")
    names = names_text.removeprefix("SignedHeaders=").split(";")
    parts = urlsplit(request.path)
    pairs = sorted((quote(k, safe="~"), quote(v, safe="~")) for k, v in parse_qsl(parts.query, True))
    lines = [request.command, parts.path, "&".join(f"{name}={value}" for name, value in pairs)]
    lines += [f"{name}:{request.headers[name].strip()}" for name in names]
    canonical = "\n".join([*lines, "", ";".join(names), request.headers["x-amz-content-sha256"]])
    text = "\n".join(
        ["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = f"AWS4{SECRET}".encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@contextmanager
def serving(bucket: Bucket) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
            path = unquote(urlsplit(self.path).path)
            status, body = 200, ""
            if bucket.refusal or not self.headers["Authorization"].endswith(f"Signature={signature(self)}"):
                status, body = 403, bucket.refusal or "<Error><Code>SignatureDoesNotMatch</Code></Error>"
            elif self.command == "GET" and path == bucket.path and "uploads" in query:
                body = bucket.list(query)
            elif self.command == "DELETE" and query.get("uploadId"):
                bucket.aborted.append((path.removeprefix(bucket.path).removeprefix("/"), query["uploadId"]))
                status = 204 if query["uploadId"] != "gone" else 404
            else:
                bucket.other_calls.append(f"{self.command} {self.path}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_DELETE = do_POST = do_PUT = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    made = Bucket()
    with serving(made) as address:
        environment = {"ACCESS_KEY_ID": KEY_ID, "SECRET_ACCESS_KEY": SECRET, "REGION": "eu-central-1"}
        for name, value in (environment | {"ENDPOINT": address, "ALLOW_HTTP": "true"}).items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield made
    assert made.other_calls == []


def test_old_uploads_of_every_page_are_aborted_and_young_ones_are_not(bucket: Bucket) -> None:
    bucket.uploads = [
        ("luthier-1/files/file-1", "one", OLD),
        ("luthier-1/files/file-2", "two", YOUNG),
        ("luthier-1/uploads/a b&c+ü~/part", "three/+=", OLD),
        ("luthier-1/files/file-4", "gone", OLD),
        ("luthier-1/runs/ftjob-1/1/x", "five", OLD),
    ]
    assert blobs.by_url("s3://runs").within("luthier-1").abort_partial_puts(NOW) == 4
    assert bucket.aborted == [(key, upload_id) for key, upload_id, began in bucket.uploads if began == OLD]


def test_endpoint_of_s3_alone_in_the_environment_does_not_win_over_the_call(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", os.environ["AWS_ENDPOINT"])
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    bucket.uploads = [("luthier-1/files/a", "one", OLD)]
    assert blobs.by_url("s3://runs").within("luthier-1").abort_partial_puts(NOW) == 1
    assert bucket.aborted == [("luthier-1/files/a", "one")]


def test_bucket_that_is_a_host_of_its_own_is_swept_too(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    bucket.path = "/"
    bucket.uploads = [("luthier-1/files/a", "one", OLD)]
    assert blobs.by_url("s3://runs").within("luthier-1").abort_partial_puts(NOW) == 1
    assert bucket.aborted == [("luthier-1/files/a", "one")]


def test_uploads_of_other_prefixes_are_left_alone_whatever_the_store_lists(bucket: Bucket) -> None:
    bucket.uploads = [("luthier-12/files/a", "one", OLD), ("backup/luthier-1/files/a", "two", OLD)]
    bucket.uploads += [("deep/luthier-1/files/a", "three", OLD)]
    assert blobs.by_url("s3://runs").within("luthier-1").abort_partial_puts(NOW) == 0
    assert blobs.by_url("s3://runs/deep").within("luthier-1").abort_partial_puts(NOW) == 1
    assert bucket.aborted == [("deep/luthier-1/files/a", "three")]
    upload = "<Upload><Key>other/a</Key><UploadId>x</UploadId><Initiated>2026-11-01T10:00:00Z</Initiated></Upload>"
    bucket.listing = f"<ListMultipartUploadsResult {NAMESPACE}>{upload}</ListMultipartUploadsResult>"
    assert blobs.by_url("s3://runs").within("luthier-1").abort_partial_puts(NOW) == 0


def test_upload_without_an_id_is_left_alone_for_its_request_would_delete_the_object(bucket: Bucket) -> None:
    bucket.uploads = [("luthier-1/files/a", "", OLD)]
    assert blobs.by_url("s3://runs").within("luthier-1").abort_partial_puts(NOW) == 0
    assert bucket.aborted == []


def test_store_that_is_used_from_its_root_is_not_asked(bucket: Bucket) -> None:
    bucket.uploads = [("files/a", "one", OLD)]
    assert blobs.by_url("s3://runs").abort_partial_puts(NOW) == 0
    assert bucket.aborted == []


@pytest.mark.parametrize("listing", ["not xml", "<ListBucketResult/>", "<a><b></a>"])
def test_store_that_lists_no_uploads_is_logged_and_nothing_is_aborted(
    bucket: Bucket, caplog: pytest.LogCaptureFixture, listing: str
) -> None:
    bucket.listing = listing
    assert blobs.by_url("s3://runs").within("luthier-1").abort_partial_puts(NOW) == 0
    assert "unfinished uploads in the store not looked for" in caplog.text


def test_refusal_of_the_store_is_logged_without_address_or_secret(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.refusal = f"<Error><Code>AccessDenied</Code><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>"
    with caplog.at_level(logging.WARNING):
        assert blobs.by_url("s3://runs").within("luthier-1").abort_partial_puts(NOW) == 0
    assert "403" in caplog.text
    for private in (SECRET, "127.0.0.1", "uploads=", KEY_ID):
        assert private not in caplog.text


def test_stores_of_other_kinds_end_nothing_and_ask_nobody() -> None:
    assert blobs.by_url("memory:///").within("luthier-1").abort_partial_puts(NOW) == 0
