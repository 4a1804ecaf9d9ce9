"""What a put leaves in S3 and Azure Blob Storage whose process was killed: no blob, and no parts after the sweep."""

import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import httpx2
import pytest

from luthier import blobs
from luthier.service.background import installation
from luthier.service.background.expiry import Housekeeper
from luthier.service.background.installation import StoreLocation
from luthier.service.context import Context
from object_servers import ObjectServer

pytestmark = pytest.mark.blobs

PUT = """
import sys, time
from luthier import blobs
def chunks():
    for _ in range(5):
        yield b"x" * 8_388_608
    print("sent", flush=True)
    time.sleep(600)
blobs.by_url(sys.argv[1]).within(sys.argv[2]).put("files/file-" + "a" * 32, chunks())
"""


def killed_put(server: ObjectServer, prefix: str) -> None:
    """Puts 40 MB, and is killed before the end."""
    process = subprocess.Popen([sys.executable, "-c", PUT, server.blobs_url, prefix], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"sent\n"
    process.kill()
    process.wait()
    process.stdout.close()


def unfinished(server: ObjectServer, prefix: str) -> list[str]:
    """The keys of S3's unfinished uploads below a prefix."""
    page = httpx2.get(f"{server.address}/runs?uploads&prefix={prefix}/").content
    return [key.text or "" for key in ElementTree.fromstring(page).iter() if key.tag.endswith("}Key")]


def test_killed_put_leaves_no_blob_and_its_key_can_be_put_again(object_server: ObjectServer) -> None:
    prefix = f"luthier-{uuid.uuid4().hex}"
    store = blobs.by_url(object_server.blobs_url).within(prefix)
    killed_put(object_server, prefix)
    assert list(store.stored("files")) == []
    with pytest.raises(FileNotFoundError):
        store.open(f"files/file-{'a' * 32}")
    store.put(f"files/file-{'a' * 32}", [b"whole"])
    assert b"".join(store.open(f"files/file-{'a' * 32}")) == b"whole"


def test_put_that_fails_leaves_no_unfinished_upload(
    s3_server: ObjectServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)

    def broken() -> object:
        yield b"x" * 20_000_000
        raise ValueError("the source ended")

    prefix = f"luthier-{uuid.uuid4().hex}"
    with pytest.raises(ValueError, match="the source ended"):
        blobs.by_url(s3_server.blobs_url).within(prefix).put("files/a", broken())
    assert unfinished(s3_server, prefix) == []


def test_sweep_of_the_service_ends_the_uploads_of_killed_processes_below_its_own_prefix(
    s3_server: ObjectServer, monkeypatch: pytest.MonkeyPatch, context: Context
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    location = StoreLocation(blobs.by_url(s3_server.blobs_url), "the store", is_shared=True)
    own = installation.claim(context.database, location, datetime.now(UTC))
    assert own.blob_prefix
    store = blobs.by_url(s3_server.blobs_url).within(own.blob_prefix)
    killed_put(s3_server, own.blob_prefix)
    killed_put(s3_server, "another-installation")
    assert len(unfinished(s3_server, own.blob_prefix)) == 1

    running = replace(context, blobs=store, now=lambda: datetime.now(UTC))
    assert store.abort_partial_puts(datetime(2010, 1, 1, tzinfo=UTC)) == 0
    Housekeeper(running, timedelta(days=30)).sweep()
    assert unfinished(s3_server, own.blob_prefix) == []
    assert len(unfinished(s3_server, "another-installation")) == 1
