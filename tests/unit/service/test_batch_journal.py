"""The journal of a batch: what is whole stands, whatever a kill or a full disk has left behind it."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from disk import full_disk
from luthier.core.errors import NoSpace
from luthier.core.inference.batches import BatchCounts
from luthier.core.inference.generation import Usage
from luthier.service.batches.journal import AnswerKind, Journal, Record
from luthier.service.batches.journal_writer import JournalWriter


def record(index: int, text: str = "an answer", kind: AnswerKind = AnswerKind.COMPLETED) -> Record:
    usage = Usage(3, 2, 1) if kind is AnswerKind.COMPLETED else None
    return Record(index, kind, msgspec.Raw(msgspec.json.encode({"said": f"{text} \n {index}"})), usage)


def test_journal_that_is_torn_at_any_byte_has_every_line_before_that_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    whole = Journal.open(path)
    whole.append([record(0), record(1, kind=AnswerKind.FAILED)])
    whole.append([record(2)])
    data = path.read_bytes()
    ends = [end + 1 for end, byte in enumerate(data) if byte == ord("\n")]
    assert len(ends) == 3
    torn = tmp_path / "torn"
    for length in range(len(data) + 1):
        torn.write_bytes(data[:length])
        journal = Journal.open(torn)
        n = sum(end <= length for end in ends)
        assert sorted(journal.entries) == list(range(n))
        assert torn.stat().st_size == ([0, *ends][n])
        journal.append([record(7, "later")])
        again = Journal.open(torn)
        assert sorted(again.entries) == [*range(n), 7]
        assert again.counts == journal.counts
        assert bytes(again.read(7).line) == bytes(record(7, "later").line)


@pytest.mark.parametrize("damage", [b"\0", b"x"])
def test_damage_in_the_middle_drops_what_follows_it(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "journal"
    journal = Journal.open(path)
    for index in range(3):
        journal.append([record(index)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 1] = damage
    path.write_bytes(bytes(data))
    assert sorted(Journal.open(path).entries) == [0]


def test_first_of_two_answers_to_a_line_stands_and_is_counted_once(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal")
    journal.append([record(0, "first"), record(0, "second"), record(1, kind=AnswerKind.FAILED)])
    for one in (journal, Journal.open(tmp_path / "journal")):
        assert one.counts == BatchCounts(1, 1, 3, 1, 2)
        assert b"first" in bytes(one.read(0).line)


def test_full_disk_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal")
    journal.append([record(0)])
    before = journal.path.read_bytes()
    with full_disk(len(before) + 20), pytest.raises(NoSpace):
        journal.append([record(1), record(2)])
    assert journal.path.read_bytes() == before
    assert sorted(journal.entries) == [0]
    journal.append([record(1)])
    assert sorted(Journal.open(journal.path).entries) == [0, 1]


def test_writer_waits_for_room_on_a_full_disk_and_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        journal = Journal.open(tmp_path / "journal")
        writer = JournalWriter(journal, retry_s=0.01)
        with full_disk(10):
            appending = [asyncio.ensure_future(writer.append(record(index))) for index in range(5)]
            await asyncio.sleep(0.1)
            assert not any(task.done() for task in appending)
        await asyncio.gather(*appending)
        await writer.close()

    asyncio.run(main())
    assert sorted(Journal.open(tmp_path / "journal").entries) == [0, 1, 2, 3, 4]


def test_answers_that_come_together_are_synced_together(tmp_path: Path) -> None:
    async def main() -> None:
        writer = JournalWriter(Journal.open(tmp_path / "journal"))
        await asyncio.gather(*(writer.append(record(index)) for index in range(200)))
        await writer.close()

    asyncio.run(main())
    assert len(Journal.open(tmp_path / "journal").entries) == 200
