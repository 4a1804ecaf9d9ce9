"""What a shipment holds: a state from which a trainer resumes, whatever the trainer does meanwhile."""

from pathlib import Path

import pytest

from luthier import blobs
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import CheckpointHeld, CheckpointSaved, Message, Saved, Succeeded
from luthier.run_directory.shipped_run import EventChunk, ShippedRun, StartManifest
from luthier.runner.run_store import ObjectRunStore
from luthier.runner.shipper import NotOurs, Shipper

START = StartManifest(
    job_id="ftjob-1",
    attempt=1,
    files=(),
    events_bytes=0,
    interrupted=False,
    lease_s=60,
    beat_s=5,
    poll_s=1,
    stop_grace_s=20,
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def shipped(tmp_path: Path) -> ShippedRun:
    return ShippedRun(ObjectRunStore(blobs.local(tmp_path / "store")), "runs/ftjob-1")


@pytest.fixture
def shipper(run: RunDirectory, shipped: ShippedRun, tmp_path: Path) -> Shipper:
    return Shipper(run, shipped, START, tmp_path / "staging")


def add_folder(run: RunDirectory, name: str, *files: str) -> None:
    (run.checkpoints / name).mkdir(parents=True)
    for file in files:
        (run.checkpoints / name / file).write_text(file)


def saved(folder: str, step: int, *dropped: str) -> CheckpointSaved:
    return CheckpointSaved(at=0, step=step, epoch=step, folder=folder, metrics={}, dropped=dropped)


def paths(chunk: EventChunk | None) -> list[str]:
    assert chunk is not None
    return [file.path for file in chunk.files]


def test_nothing_is_shipped_before_a_line_is_whole(run: RunDirectory, shipper: Shipper, shipped: ShippedRun) -> None:
    assert not shipper.ship()
    run.events.write_bytes(b'{"kind":"saved","at":0,')
    assert not shipper.ship()
    assert shipped.chunk_offsets(1) == []


def test_chunks_begin_where_the_one_before_ended(run: RunDirectory, shipper: Shipper, shipped: ShippedRun) -> None:
    for text in ("one", "zwei, ü"):
        run.append(Message(at=0, message=text))
        assert shipper.ship()
        assert not shipper.ship()
    offsets = shipped.chunk_offsets(1)
    chunks = [shipped.chunk(1, offset) for offset in offsets]
    assert len(chunks) == 2
    assert "".join(chunk.events for chunk in chunks if chunk).encode() == run.events.read_bytes()


def test_checkpoint_is_shipped_with_its_event_and_left_out_once_it_is_dropped(
    run: RunDirectory, shipper: Shipper, shipped: ShippedRun
) -> None:
    add_folder(run, "step-000001", "README.md", "meta.json")
    run.append(saved("step-000001", 1))
    shipper.ship()
    assert paths(shipped.chunk(1, 0)) == ["checkpoints/step-000001/README.md", "checkpoints/step-000001/meta.json"]
    before = run.events.stat().st_size
    add_folder(run, "step-000002", "README.md")
    run.append(CheckpointHeld(at=0, step=2, epoch=2, folder="step-000002", dropped=("step-000001",)))
    shipper.ship()
    assert paths(shipped.chunk(1, before)) == ["checkpoints/step-000002/README.md"]


def test_folder_that_no_event_names_is_not_shipped(run: RunDirectory, shipper: Shipper, shipped: ShippedRun) -> None:
    add_folder(run, "step-000001", "README.md")
    run.append(Message(at=0, message="before its event"))
    shipper.ship()
    assert paths(shipped.chunk(1, 0)) == []


def test_equal_files_are_stored_once(run: RunDirectory, shipper: Shipper, shipped: ShippedRun, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        add_folder(run, f"step-{step:06d}", "tokenizer.json")
        run.append(saved(f"step-{step:06d}", step))
    shipper.ship()
    stored = list((tmp_path / "store").rglob("1/files/*"))
    assert len(stored) == 1
    assert len(paths(shipped.chunk(1, 0))) == 3


def test_resume_point_and_figures_come_with_their_events(
    run: RunDirectory, shipper: Shipper, shipped: ShippedRun
) -> None:
    run.resume.mkdir()
    (run.resume / "state.safetensors").write_text("state")
    run.results.write_text("step\n1\n")
    run.append(Saved(at=0, step=1))
    shipper.ship()
    assert paths(shipped.chunk(1, 0)) == ["resume/state.safetensors"], "figures grow until the verdict"
    before = run.events.stat().st_size
    run.append(Succeeded(at=0, trained_tokens=1, seconds=1, peak_memory_bytes=1))
    shipper.ship()
    assert paths(shipped.chunk(1, before)) == ["results.csv", "resume/state.safetensors"]


def test_chunk_that_got_through_although_its_answer_was_lost_is_no_error_and_another_ones_is(
    run: RunDirectory, shipper: Shipper, shipped: ShippedRun, tmp_path: Path
) -> None:
    run.append(Message(at=0, message="one"))
    again = Shipper(run, shipped, START, tmp_path / "staging")
    assert shipper.ship()
    assert again.ship()
    stranger = Shipper(run, shipped, START, tmp_path / "staging")
    run.append(Message(at=0, message="two"))
    with pytest.raises(NotOurs):
        stranger.ship()


def test_damaged_line_is_shipped_for_the_service_to_judge(
    run: RunDirectory, shipper: Shipper, shipped: ShippedRun
) -> None:
    run.events.write_bytes(b"no event\n")
    assert shipper.ship()
    chunk = shipped.chunk(1, 0)
    assert chunk is not None
    assert chunk.events == "no event\n"
