"""The contract at rest: events whole or not there, the spec refused when it is not one of ours."""

import fcntl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from disk import full_disk
from luthier.atomic_io import write_durably
from luthier.core.errors import NoSpace
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Message, Metrics
from luthier.run_directory.train_spec import TrainSpec


def spec(folder: Path) -> TrainSpec:
    return TrainSpec.model_validate(
        {
            "job_id": "ftjob-1",
            "base_model": "tiny",
            "base_folder": str(folder),
            "context_tokens": 128,
            "seed": 1,
            "n_epochs": 1,
            "batch_size": 2,
            "learning_rate": 1e-3,
            "lora": {"rank": 4, "alpha": 8, "targets": ["q_proj"]},
        }
    )


def test_spec_comes_back_equal_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_spec(spec(tmp_path))
    assert run.read_spec() == spec(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["spec.json"]


def test_spec_of_one_rank_is_written_as_it_was_before_there_were_several(tmp_path: Path) -> None:
    one = spec(tmp_path)
    assert not {"ranks", "shard_base"} & one.model_dump(mode="json").keys()
    assert (one.ranks, one.shard_base) == (1, False)
    two = TrainSpec.model_validate(one.model_dump() | {"ranks": 2, "shard_base": True})
    assert TrainSpec.model_validate_json(two.model_dump_json()) == two


@pytest.mark.parametrize(
    "changes",
    [
        {"ranks": 0},
        {"ranks": 1, "shard_base": True},
        {"ranks": 2, "shard_base": True, "lora": None, "tuning": "full"},
        {"ranks": 2, "shard_base": True, "lora": {"rank": 4, "alpha": 8, "targets": ["q"], "quantization": "8bit"}},
    ],
)
def test_ranks_that_a_run_cannot_have_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainSpec.model_validate(spec(tmp_path).model_dump() | changes)


def test_unknown_field_or_version_of_the_spec_is_refused(tmp_path: Path) -> None:
    for change in ({"later": 1}, {"version": 2}, {"seed": -1}):
        with pytest.raises(ValidationError):
            TrainSpec.model_validate(spec(tmp_path).model_dump() | change)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=6), st.data())
def test_log_cut_anywhere_gives_the_whole_events_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], data: st.DataObject
) -> None:
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    ends = []
    for text in texts:
        run.append(Message(at=1.0, message=text))
        ends.append(run.events.stat().st_size)
    cut = data.draw(st.integers(0, ends[-1]))
    run.events.write_bytes(run.events.read_bytes()[:cut])
    whole = [text for text, end in zip(texts, ends, strict=True) if end <= cut]
    assert [event.message for event, _ in run.tail() if isinstance(event, Message)] == whole
    run.repair()
    run.append(Message(at=2.0, message="after"))
    assert [event.message for event, _ in run.tail() if isinstance(event, Message)] == [*whole, "after"]


def test_tail_goes_on_from_its_offset(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert list(run.tail()) == []
    run.append(Message(at=1.0, message="one"))
    [(_, offset)] = run.tail()
    run.append(Message(at=1.0, message="two"))
    assert [event.message for event, _ in run.tail(offset) if isinstance(event, Message)] == ["two"]


def test_figures_of_a_step_are_its_losses_and_accuracies_alone() -> None:
    step = Metrics(
        at=1.0,
        step=1,
        n_steps=2,
        train_loss=0.5,
        train_mean_token_accuracy=0.25,
        tokens=10,
        supervised_tokens=5,
        seconds=0.1,
    )
    assert step.figures() == {"train_loss": 0.5, "train_mean_token_accuracy": 0.25}


def test_run_is_held_for_as_long_as_its_lock_is(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert not run.is_locked()
    with run.lock.open("a") as stream:
        assert not run.is_locked()
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert run.is_locked()
    assert not run.is_locked()


def test_line_that_does_not_fit_is_not_there_at_all_and_the_next_one_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is almost full takes a part of a write without an error; half a line would stay for ever."""
    run = RunDirectory(tmp_path)
    run.append(Message(at=1.0, message="first"))
    before = run.events.read_bytes()
    match = r"events\.jsonl needs \d+ bytes, .* are free"
    with full_disk(len(before) + 100), pytest.raises(NoSpace, match=match) as caught:
        run.append(Message(at=2.0, message="x" * 200))
    assert caught.value.code == "disk_full"
    assert str(tmp_path) not in caught.value.message, "users read it"
    assert f"disk full folder={tmp_path}" in caplog.text
    assert run.events.read_bytes() == before
    run.append(Message(at=3.0, message="short"))
    assert [event.at for event, _ in run.tail()] == [1.0, 3.0]


def test_file_that_does_not_fit_leaves_the_old_one_and_no_half(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_durably(path, b"old")
    with full_disk(100), pytest.raises(NoSpace, match=r"state needs 200 kB"):
        write_durably(path, b"x" * 200_000)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["state"]
