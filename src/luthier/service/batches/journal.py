"""The journal of a batch's answers: lines are appended and synced, and after a kill whatever is whole stands.

Each line has the CRC-32 of what follows it, so that a torn end, or one that the disk has lost, is recognized and cut
off. Of two answers to one line of the input the first one stands.

A supervisor that was paused, and wakes after another has taken over, may still append what it was about to: no lease
fences a file. So the journal looks where its own lines have come to lie, and reads what another process has put before
them.
"""

import errno
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from io import BytesIO
from pathlib import Path

import msgspec

from luthier import atomic_io
from luthier.core.inference.batches import BatchCounts
from luthier.core.inference.generation import Usage

_CRC_CHARACTERS = 9  # eight hex digits and a blank


class AnswerKind(StrEnum):
    """How a line of the input has ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Record(msgspec.Struct, frozen=True):
    """The answer to the input's line of this index (from 0, without blank ones): `line` is that of the output file."""

    index: int
    kind: AnswerKind
    line: msgspec.Raw
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an answer is in the journal, in bytes, and what of it is counted."""

    offset: int
    length: int
    kind: AnswerKind


_decoder = msgspec.json.Decoder(Record)


@dataclass(slots=True)
class Journal:
    """The answers so far, by index of their line, and the counts over them. One thread at a time may use it."""

    path: Path
    entries: dict[int, Entry] = field(default_factory=dict)
    counts: BatchCounts = field(default_factory=BatchCounts)
    _length: int = 0

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """The journal as a kill may have left it: what follows the last whole line is cut off. Raises OSError."""
        journal = cls(path)
        if path.exists():
            with path.open("rb") as stream:
                for data in stream:
                    record = _whole(data)
                    if record is None:
                        break
                    journal._note(record, len(data))
            if path.stat().st_size > journal._length:
                os.truncate(path, journal._length)
        return journal

    def append(self, records: Sequence[Record]) -> None:
        """Appends the answers and syncs them, all or none. Raises NoSpace and other OSErrors, ESTALE among them if
        another process has cut the journal: open it again.
        """
        lines = [_encoded(record) for record in records]
        begin = atomic_io.append_line(self.path, b"".join(lines), durable=True)
        if begin != self._length:
            self._note_others(begin)
        for record, line in zip(records, lines, strict=True):
            self._note(record, len(line))

    def read(self, index: int) -> Record:
        """The answer to the line of that index, which is in `entries`. Raises OSError, also for damage."""
        entry = self.entries[index]
        with self.path.open("rb") as stream:
            stream.seek(entry.offset)
            record = _whole(stream.read(entry.length))
        if record is None or record.index != index:
            raise OSError(errno.EIO, "the journal of a batch has changed, or is damaged", str(self.path))
        return record

    def _note_others(self, end: int) -> None:
        """Counts what another process has appended before `end`; of a torn line only that it is there."""
        if end < self._length:
            raise OSError(errno.ESTALE, "another process has cut the journal", str(self.path))
        with self.path.open("rb") as stream:
            stream.seek(self._length)
            others = stream.read(end - self._length)
        for data in BytesIO(others):
            if (record := _whole(data)) is not None:
                self._note(record, len(data))
            else:
                self._length += len(data)

    def _note(self, record: Record, length: int) -> None:
        """Counts an answer of so many bytes at the journal's end, unless its line has one."""
        offset = self._length
        self._length += length
        if record.index in self.entries:
            return
        self.entries[record.index] = Entry(offset, length, record.kind)
        usage, counts = record.usage or Usage(0, 0), self.counts
        is_completed = record.kind is AnswerKind.COMPLETED
        self.counts = BatchCounts(
            counts.completed + is_completed,
            counts.failed + (not is_completed),
            counts.input_tokens + usage.prompt_tokens,
            counts.cached_tokens + usage.cached_tokens,
            counts.output_tokens + usage.completion_tokens,
        )


def _encoded(record: Record) -> bytes:
    body = msgspec.json.encode(record)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _whole(data: bytes) -> Record | None:
    """The record of a line; None for one that is torn or damaged."""
    body = data[_CRC_CHARACTERS:-1]
    if not data.endswith(b"\n") or data[:_CRC_CHARACTERS] != b"%08x " % zlib.crc32(body):
        return None
    return _decoder.decode(body)
