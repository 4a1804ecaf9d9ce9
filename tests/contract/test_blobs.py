"""The contract of core.ports.BlobStore, over every kind of store; those of servers by `make test-blobs`."""

import asyncio
import hashlib
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from disk import full_disk
from luthier import blobs
from luthier.blobs import ObjectBlobs
from luthier.core.errors import NoSpace
from object_servers import ObjectServer

SERVERS = [pytest.param("s3", marks=pytest.mark.blobs), pytest.param("azure", marks=pytest.mark.blobs)]


@pytest.fixture(params=["local", "memory", "prefixed", *SERVERS])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectBlobs:
    folder = tmp_path / "blobs & more"
    match request.param:
        case "memory":
            return blobs.by_url("memory:///")
        case "local":
            return blobs.local(folder)
        case "prefixed":
            return blobs.by_url(folder.as_uri()).within("luthier-1")
        case kind:
            server: ObjectServer = request.getfixturevalue(f"{kind}_server")
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            return blobs.by_url(server.blobs_url).within(f"luthier-{uuid.uuid4().hex}")


@pytest.mark.parametrize("chunks", [[], [b""], [b"abc"], [b"abc", b"", b"def"], [b"x" * 9_000_000, b"y" * 9_000_000]])
def test_put_then_open_gives_the_bytes_and_their_hash(store: ObjectBlobs, chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    blob = store.put("files/a", chunks)
    assert (blob.key, blob.bytes, blob.sha256) == ("files/a", len(data), hashlib.sha256(data).hexdigest())
    assert b"".join(store.open("files/a")) == data


def test_put_new_takes_a_free_key_only(store: ObjectBlobs) -> None:
    assert store.put_new("pointers/1", b"first")
    assert not store.put_new("pointers/1", b"second")
    assert b"".join(store.open("pointers/1")) == b"first"


def test_second_put_replaces_the_first(store: ObjectBlobs) -> None:
    store.put("a", [b"long before"])
    store.put("a", [b"new"])
    assert b"".join(store.open("a")) == b"new"


def test_open_of_nothing_raises_and_delete_of_nothing_does_not(store: ObjectBlobs) -> None:
    with pytest.raises(FileNotFoundError):
        store.open("nothing")
    store.delete("nothing")
    store.put("a", [b"x"])
    store.delete("a")
    with pytest.raises(FileNotFoundError):
        store.open("a")


def test_interrupted_put_leaves_nothing(store: ObjectBlobs) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 20_000_000
        raise ValueError("the source ended")

    with pytest.raises(ValueError, match="the source ended"):
        store.put("a", broken())
    with pytest.raises(FileNotFoundError):
        store.open("a")


@pytest.mark.parametrize(("start", "length"), [(0, 3), (2, None), (4, 9_000_000), (9_000_006, 0), (9_000_003, 3)])
def test_open_of_a_range_gives_those_bytes(store: ObjectBlobs, start: int, length: int | None) -> None:
    data = b"abc" + b"x" * 9_000_000 + b"def"
    store.put("a", [data])
    end = None if length is None else start + length
    assert b"".join(store.open("a", start, length)) == data[start:end]


def test_join_puts_parts_behind_one_another_and_shows_every_byte(store: ObjectBlobs) -> None:
    parts = [b"x" * 9_000_000, b"y", b"z" * 20_000_000]
    for place, data in enumerate(parts):
        store.put(f"parts/{place}", [data])
    seen = hashlib.md5()
    blob = store.join("files/a", ["parts/2", "parts/0", "parts/1"], seen.update)
    data = parts[2] + parts[0] + parts[1]
    assert (blob.bytes, blob.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert seen.digest() == hashlib.md5(data).digest()
    assert b"".join(store.open("files/a")) == data


def test_join_with_a_missing_part_raises_and_leaves_nothing(store: ObjectBlobs) -> None:
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


def test_stored_lists_a_folder_with_lengths_and_times(store: ObjectBlobs) -> None:
    for key in ("files/a", "files/b/c", "filesystem/d", "uploads/e"):
        store.put(key, [key.encode()])
    found = list(store.stored("files"))
    assert {blob.key: blob.bytes for blob in found} == {"files/a": 7, "files/b/c": 9}
    assert all(abs((datetime.now(UTC) - blob.stored_at).total_seconds()) < 60 for blob in found)


def test_move_gives_the_bytes_another_key_and_of_nothing_raises(store: ObjectBlobs) -> None:
    store.put("files/a", [b"abc"])
    store.move("files/a", "lost-and-found/2026-11-28/files/a")
    assert b"".join(store.open("lost-and-found/2026-11-28/files/a")) == b"abc"
    assert list(store.stored("files")) == []
    with pytest.raises(FileNotFoundError):
        store.move("files/a", "files/b")


def test_store_within_a_prefix_sees_and_deletes_nothing_beside_it(tmp_path: Path) -> None:
    whole = blobs.local(tmp_path)
    one, other = whole.within("one"), whole.within("other")
    for store in (whole, one, other):
        store.put("files/a", [b"x"])
    one.delete("files/a")
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("a")} == {"files/a", "other/files/a"}
    assert [blob.key for blob in other.stored("files")] == ["files/a"]
    assert list(one.stored("files")) == []


def test_partial_puts_of_our_folders_are_deleted_and_nothing_else_is(tmp_path: Path) -> None:
    store = blobs.local(tmp_path)
    store.put("checkpoints/ftckpt-1/meta.json", [b"{}"])
    (tmp_path / "checkpoints" / "ftckpt-1" / "adapter_config.json#1").write_bytes(b"half")
    (tmp_path / "checkpoints" / "notes #draft.txt").write_bytes(b"somebody's")
    (tmp_path / "photo#1").write_bytes(b"somebody's")
    store.delete_partial_puts(["files", "checkpoints"])
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"meta.json", "notes #draft.txt", "photo#1"}


def test_local_store_leaves_no_file_of_an_interrupted_put(tmp_path: Path) -> None:
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


async def _coming(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("chunks", [[], [b"abc", b"", b"def"], [b"x" * 9_000_000, b"y" * 9_000_000]])
def test_put_as_it_comes_stores_the_same_as_put(store: ObjectBlobs, chunks: list[bytes]) -> None:
    assert asyncio.run(store.put_as_it_comes("files/a", _coming(chunks))) == store.put("files/a", chunks)
    assert b"".join(store.open("files/a")) == b"".join(chunks)


@pytest.mark.parametrize("end", ["error", "cancellation"])
def test_put_as_it_comes_that_ends_early_leaves_nothing(tmp_path: Path, end: str) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 20_000_000
        if end == "cancellation":
            asked.set()
            await asyncio.sleep(60)
        raise ValueError("the source ended")

    async def act() -> None:
        putting = asyncio.create_task(blobs.local(tmp_path).put_as_it_comes("files/a", broken()))
        if end == "cancellation":
            await asked.wait()
            putting.cancel()
        await putting

    asked = asyncio.Event()
    with pytest.raises((ValueError, asyncio.CancelledError)):
        asyncio.run(act())
    until = time.monotonic() + 30
    while (left := [path for path in tmp_path.rglob("*") if path.is_file()]) and time.monotonic() < until:
        time.sleep(0.01)  # the store clears up in a thread of its own
    assert left == []


def test_put_as_it_comes_that_does_not_fit_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    store = blobs.local(tmp_path)
    with full_disk(1_000_000), pytest.raises(NoSpace, match="disk of the stored files is full"):
        asyncio.run(store.put_as_it_comes("files/a", _coming([b"x" * 9_000_000] * 2)))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_put_as_it_comes_holds_no_thread_while_it_waits(store: ObjectBlobs) -> None:
    async def act() -> list[int]:
        async def slow(place: int) -> AsyncIterator[bytes]:
            yield b"x"
            started[place].set()
            await go_on.wait()

        started, go_on = [asyncio.Event() for _ in range(50)], asyncio.Event()
        putting = [asyncio.create_task(store.put_as_it_comes(f"a{place}", slow(place))) for place in range(50)]
        await asyncio.gather(*(one.wait() for one in started))
        await asyncio.to_thread(lambda: None)  # there is a worker for others
        threads = threading.active_count()
        go_on.set()
        return [threads, *[one.bytes for one in await asyncio.gather(*putting)]]

    threads, *lengths = asyncio.run(act())
    assert lengths == [1] * 50
    assert threads < 45
