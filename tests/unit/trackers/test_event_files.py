"""TensorBoard's event files: checksums, torn tails, and what TensorBoard's own reader finds in them."""

import math
import struct
import warnings
from pathlib import Path

import pytest

import tracked
from luthier.core.errors import Unavailable
from luthier.trackers import event_files
from luthier.trackers.tensorboard_sink import TensorBoardSink
from tracked import AT, JOB


def test_checksums_are_crc_32c_masked_as_tensorflow_does() -> None:
    """The vector of RFC 3720, B.4: 32 bytes of zeros; masked as in TensorFlow's crc32c.h."""
    crc = 0x8A9136AA
    assert event_files.masked_crc(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_file_torn_anywhere_is_read_up_to_there_and_completed(tmp_path: Path) -> None:
    whole = TensorBoardSink(tmp_path / "whole")
    whole.deliver(tracked.run(), tracked.points(1, 6), tracked.end())
    data = tracked.event_file(tmp_path / "whole", JOB).read_bytes()
    path = tmp_path / "torn" / JOB / tracked.event_file(tmp_path / "whole", JOB).name
    path.parent.mkdir(parents=True)
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        TensorBoardSink(tmp_path / "torn").deliver(tracked.run(), tracked.points(1, 6), tracked.end())
        assert path.read_bytes() == data, size


def test_file_that_somebody_else_has_cut_is_completed_by_the_same_process(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.deliver(tracked.run(), tracked.points(1, 6), None)
    path = tracked.event_file(tmp_path, JOB)
    data = path.read_bytes()
    path.write_bytes(data[:-3])
    sink.deliver(tracked.run(), tracked.points(1, 6), None)
    assert path.read_bytes() == data


def test_folder_that_cannot_be_written_is_unavailable_and_works_later(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path / "file")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(Unavailable, match="cannot be written"):
        sink.deliver(tracked.run(), tracked.points(1, 3), None)
    (tmp_path / "file").unlink()
    assert sink.deliver(tracked.run(), tracked.points(1, 3), None).confirmed == 30


def test_tensorboard_reads_every_step_once(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.deliver(tracked.run(), tracked.points(1, 20), None)
    path = tracked.event_file(tmp_path, JOB)
    path.write_bytes(path.read_bytes()[:-5])  # the process was killed while it wrote
    TensorBoardSink(tmp_path).deliver(tracked.run(), tracked.points(11, 40), tracked.end())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own libraries
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        read = EventAccumulator(str(path.parent), size_guidance={"scalars": 0, "tensors": 0})
        read.Reload()
    losses = read.Scalars("train_loss")
    assert [(each.step, each.value) for each in losses] == [(step, tracked.loss(step)) for step in range(1, 41)]
    assert losses[0].wall_time == AT.timestamp() + 1
    assert [(each.step, each.value) for each in read.Scalars("epoch")] == [(5 * n, n) for n in range(1, 9)]
    [params] = read.Tensors("params")
    assert b"| seed | 1 |" in params.tensor_proto.string_val[0]
    [outcome] = read.Tensors("outcome")
    assert b"| status | FINISHED |" in outcome.tensor_proto.string_val[0]


def test_numbers_that_float32_does_not_have_become_infinite() -> None:
    figures = {"a": 1e300, "b": -1e300, "c": math.nan}
    record = event_files.scalars_record(AT, 2**40, figures)
    [(payload, _)] = event_files.read_records(record)
    assert event_files.step_and_tags(payload) == (2**40, {"a", "b", "c"})
    assert struct.pack("<f", math.inf) in payload
    assert struct.pack("<f", -math.inf) in payload
