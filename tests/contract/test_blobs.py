"""What every BlobStore promises, over every implementation."""

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from disk import full_disk
from luthier import blobs
from luthier.core.errors import NoSpace
from luthier.core.ports import BlobStore


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    return blobs.local(tmp_path / "blobs") if request.param == "local" else blobs.by_url("memory:///")


@pytest.mark.parametrize("chunks", [[], [b""], [b"abc"], [b"abc", b"", b"def"], [b"x" * 9_000_000, b"y" * 9_000_000]])
def test_put_then_open_gives_the_bytes_and_their_hash(store: BlobStore, chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    blob = store.put("files/a", chunks)
    assert (blob.key, blob.bytes, blob.sha256) == ("files/a", len(data), hashlib.sha256(data).hexdigest())
    assert b"".join(store.open("files/a")) == data


def test_second_put_replaces_the_first(store: BlobStore) -> None:
    store.put("a", [b"long before"])
    store.put("a", [b"new"])
    assert b"".join(store.open("a")) == b"new"


def test_open_of_nothing_raises_and_delete_of_nothing_does_not(store: BlobStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.open("nothing")
    store.delete("nothing")
    store.put("a", [b"x"])
    store.delete("a")
    with pytest.raises(FileNotFoundError):
        store.open("a")


def test_put_that_breaks_off_leaves_nothing(store: BlobStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 20_000_000
        raise ValueError("the source ended")

    with pytest.raises(ValueError, match="the source ended"):
        store.put("a", broken())
    with pytest.raises(FileNotFoundError):
        store.open("a")


@pytest.mark.parametrize(("start", "length"), [(0, 3), (2, None), (4, 9_000_000), (9_000_006, 0), (9_000_003, 3)])
def test_open_of_a_range_gives_those_bytes(store: BlobStore, start: int, length: int | None) -> None:
    data = b"abc" + b"x" * 9_000_000 + b"def"
    store.put("a", [data])
    end = None if length is None else start + length
    assert b"".join(store.open("a", start, length)) == data[start:end]


def test_join_puts_parts_behind_one_another_and_shows_every_byte(store: BlobStore) -> None:
    parts = [b"x" * 9_000_000, b"y", b"z" * 20_000_000]
    for place, data in enumerate(parts):
        store.put(f"parts/{place}", [data])
    seen = hashlib.md5()
    blob = store.join("files/a", ["parts/2", "parts/0", "parts/1"], seen.update)
    data = parts[2] + parts[0] + parts[1]
    assert (blob.bytes, blob.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert seen.digest() == hashlib.md5(data).digest()
    assert b"".join(store.open("files/a")) == data


def test_join_with_a_part_that_is_gone_raises_and_leaves_nothing(store: BlobStore) -> None:
    store.put("parts/0", [b"x" * 20_000_000])
    with pytest.raises(FileNotFoundError):
        store.join("files/a", ["parts/0", "parts/1"], lambda chunk: None)
    with pytest.raises(FileNotFoundError):
        store.open("files/a")


def test_join_that_does_not_fit_says_so_and_ends_its_reading(tmp_path: Path) -> None:
    store = blobs.local(tmp_path)
    store.put("parts/0", [b"x" * 90_000_000])
    before = threading.active_count()
    with full_disk(1_000_000), pytest.raises(NoSpace):
        store.join("files/a", ["parts/0"], lambda chunk: None)
    assert threading.active_count() == before
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["0"]


def test_keys_lists_a_folder_with_times(store: BlobStore) -> None:
    for key in ("files/a", "files/b/c", "filesystem/d", "uploads/e"):
        store.put(key, [b"x"])
    found = dict(store.keys("files"))
    assert set(found) == {"files/a", "files/b/c"}
    assert all(abs((datetime.now(UTC) - time).total_seconds()) < 60 for time in found.values())


def test_local_store_opened_again_clears_what_a_kill_left_of_a_put(tmp_path: Path) -> None:
    blobs.local(tmp_path).put("checkpoints/ftckpt-1/meta.json", [b"{}"])
    (tmp_path / "checkpoints" / "ftckpt-1" / "adapter_config.json#1").write_bytes(b"half")
    blobs.local(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["meta.json"]


def test_local_store_leaves_no_stray_file_when_a_put_breaks_off(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 20_000_000
        raise ValueError("the source ended")

    store = blobs.local(tmp_path)
    with pytest.raises(ValueError, match="the source ended"):
        store.put("files/a", broken())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_put_that_does_not_fit_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    store = blobs.local(tmp_path)
    for chunks in ([b"x" * 9_000_000], [b"x" * 100_000] * 20):
        with full_disk(1_000_000), pytest.raises(NoSpace, match="disk of the stored files is full"):
            store.put("files/a", chunks)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
