"""The run directory in an object store: keys and documents that supervisor and node exchange (docs/run-directory.md).

A job's folder there is `runs/<job>`. Each attempt writes below its own number only, which is the fence: what an
attempt that was given up still writes, nobody reads (docs/decisions/0025-fencing-by-prefix.md).
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import Field, ValidationError

from luthier.atomic_io import disk_full_as_no_space, fsync_path, read_chunks
from luthier.core.errors import Conflict
from luthier.core.ports import StoredBlob
from luthier.run_directory.train_spec import StrictModel

FOLDER = "runs"
"""The folder of the blob store that holds the runs."""
INPUTS = "inputs"
"""The job's files that the supervisor uploads, each under the sha256 of its bytes: once, however many attempts."""

_PATH = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,2}$"
_KEY = r"^(inputs|[1-9][0-9]{0,5}/files)/[0-9a-f]{64}$"
_SHIPPED = re.compile(r"checkpoints/step-[0-9]{6}/[^/]+|resume/state\.safetensors|results\.csv|example_losses\.csv")
_HEX = r"^[0-9a-f]{64}$"

Document = TypeVar("Document", bound=StrictModel)


class ShippedFile(StrictModel):
    """A file of the run directory: its path there, and its key below the job's folder, which ends in its sha256."""

    path: str = Field(pattern=_PATH, max_length=300)
    key: str = Field(pattern=_KEY)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=_HEX)

    @property
    def is_output(self) -> bool:
        """Whether a trainer writes a file of this path, so that an attempt may ship it."""
        return _SHIPPED.fullmatch(self.path) is not None


class StartManifest(StrictModel):
    """What an attempt starts from, fixed before its process starts: all files of its run directory.

    `events_bytes` is the length of the event log among them. `interrupted` is whether the attempt before it was cut
    off. `lease_s`: without a new heartbeat for so long an attempt is given up; the node ends its trainer after half of
    it. `poll_s` is how often the node looks for requests.
    """

    version: int = 1
    job_id: str
    attempt: int = Field(ge=1)
    files: tuple[ShippedFile, ...]
    events_bytes: int = Field(ge=0)
    interrupted: bool
    lease_s: float = Field(gt=0)
    beat_s: float = Field(gt=0)
    poll_s: float = Field(gt=0)
    stop_grace_s: float = Field(ge=0)


class EventChunk(StrictModel):
    """Whole lines of the event log from byte `offset` on, with all output files that the run directory then has.

    One object, so that an event and the files that it names become readable at once; the files are stored before it.
    """

    offset: int = Field(ge=0)
    events: str
    files: tuple[ShippedFile, ...]


class Beat(StrictModel):
    """A heartbeat. The number tells that the node is alive; clocks of two machines are never compared."""

    sequence: int = Field(ge=0)
    node: str


class RunnerEnd(StrictModel):
    """The last object of an attempt: how its trainer ended. All that it wrote is stored before it."""

    exit_status: int | None = None
    signal: int | None = None
    out_of_memory: bool = False


class Request(StrEnum):
    """What the supervisor asks of the node; the object's absence means END: the job was discarded."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"
    END = "end"


class RunStore(Protocol):
    """The part of a blob store that shipping needs. Methods raise Unavailable for a store that cannot be reached."""

    def put(self, key: str, chunks: Iterable[bytes]) -> object:
        """Stores the chunks, in place of what the key had. Raises NoSpace if they do not fit."""
        ...

    def put_new(self, key: str, data: bytes) -> bool:
        """Stores bytes under a key that has none; False, and nothing stored, if it has."""
        ...

    def open(self, key: str) -> Iterator[bytes]:
        """The bytes in chunks. Raises FileNotFoundError if there is no such key."""
        ...

    def delete(self, key: str) -> None:
        """Deletes a blob; a missing key is no error."""
        ...

    def stored(self, folder: str) -> Iterator[StoredBlob]:
        """Every blob below a folder, in no order."""
        ...


class ShippedRun:
    """The folder of one job in the store. Keys are relative to it; making one reads nothing."""

    def __init__(self, store: RunStore, key: str) -> None:
        self._store = store
        self.key = key

    def start(self, attempt: int) -> StartManifest | None:
        return self._read(StartManifest, f"{attempt}/start.json")

    def create_start(self, start: StartManifest) -> bool:
        """Stores the manifest of an attempt; False if it has one, which then holds."""
        return self._create(f"{start.attempt}/start.json", start)

    def chunk(self, attempt: int, offset: int) -> EventChunk | None:
        """The chunk that begins at the byte; None if there is none yet."""
        return self._read(EventChunk, _chunk_key(attempt, offset))

    def create_chunk(self, attempt: int, chunk: EventChunk) -> bool:
        """Stores a chunk; False, and nothing stored, if there is one at its offset."""
        return self._create(_chunk_key(attempt, chunk.offset), chunk)

    def chunk_offsets(self, attempt: int) -> list[int]:
        """The offsets of an attempt's chunks, rising."""
        names = (blob.key.rpartition("/")[2] for blob in self._store.stored(f"{self.key}/{attempt}/events"))
        return sorted(int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdigit())

    def beat(self, attempt: int) -> Beat | None:
        return self._read(Beat, f"{attempt}/beat.json")

    def put_beat(self, attempt: int, beat: Beat) -> None:
        self._put(f"{attempt}/beat.json", beat.model_dump_json().encode())

    def end(self, attempt: int) -> RunnerEnd | None:
        """How the attempt ended; None while its runner has not said so."""
        return self._read(RunnerEnd, f"{attempt}/end.json")

    def put_end(self, attempt: int, end: RunnerEnd) -> None:
        self._put(f"{attempt}/end.json", end.model_dump_json().encode())

    def request(self, attempt: int) -> Request:
        """What the supervisor asks of the attempt now: END if its object is gone or cannot be read."""
        data = self.read(f"{attempt}/request")
        return Request(data.decode()) if data is not None and data.decode() in set(Request) else Request.END

    def put_request(self, attempt: int, request: Request) -> None:
        self._put(f"{attempt}/request", request.encode())

    def log(self, attempt: int) -> bytes | None:
        """The end of what the attempt's processes printed; None if it was not shipped."""
        return self.read(f"{attempt}/trainer.log")

    def put_log(self, attempt: int, tail: bytes) -> None:
        self._put(f"{attempt}/trainer.log", tail)

    def input_names(self) -> set[str]:
        """The sha256 of every input that is stored."""
        return {blob.key.rpartition("/")[2] for blob in self._store.stored(f"{self.key}/{INPUTS}")}

    def upload(self, source: Path, file: ShippedFile) -> None:
        """Stores a local file under the key of `file`. Raises OSError, NoSpace."""
        self._store.put(f"{self.key}/{file.key}", read_chunks(source))

    def download(self, file: ShippedFile, target: Path) -> None:
        """Writes a file to `target` atomically and fsynced. Raises Conflict for other bytes than the manifest names,
        FileNotFoundError for a key that is gone, NoSpace.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        digest = hashlib.sha256()
        try:
            with disk_full_as_no_space(target, file.bytes), temporary.open("wb") as stream:
                for chunk in self._store.open(f"{self.key}/{file.key}") if file.bytes else ():
                    digest.update(chunk)
                    stream.write(chunk)
            if digest.hexdigest() != file.sha256:
                text = f"The stored {file.path} of this run is damaged. Make a new job; check the object store."
                raise Conflict("run_damaged", text)
            fsync_path(temporary)
            temporary.replace(target)
            fsync_path(target.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, attempt: int | None = None) -> None:
        """Deletes all objects of the job, or of one attempt. Idempotent."""
        folder = self.key if attempt is None else f"{self.key}/{attempt}"
        for key in [blob.key for blob in self._store.stored(folder)]:
            self._store.delete(key)

    def read(self, key: str) -> bytes | None:
        """An object's bytes; None if there is none."""
        try:
            return b"".join(self._store.open(f"{self.key}/{key}"))
        except FileNotFoundError:
            return None

    def _put(self, key: str, data: bytes) -> None:
        """Stores bytes in place of what the key had."""
        self._store.put(f"{self.key}/{key}", [data])

    def _create(self, key: str, document: StrictModel) -> bool:
        """Stores a document under a key that has none; False if it has."""
        return self._store.put_new(f"{self.key}/{key}", document.model_dump_json().encode())

    def _read(self, kind: type[Document], key: str) -> Document | None:
        """A document; None if there is none. Raises Conflict for one that is not of its kind."""
        data = self.read(key)
        try:
            return None if data is None else kind.model_validate_json(data)
        except ValidationError as error:
            text = "An object of this run in the store is damaged. Make a new job; check the object store."
            raise Conflict("run_damaged", text) from error


def _chunk_key(attempt: int, offset: int) -> str:
    """A chunk's key: its number is the byte of the event log at which it begins."""
    return f"{attempt}/events/{offset:012d}.json"
