"""A finished run of `luthier train` becomes a job with its checkpoints, results and model; anything else is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import rows
from fakes import BASE, ScriptedExecutor, train_well
from job_reads import refreshed
from luthier.core.errors import Conflict, InvalidRequest
from luthier.core.models import Job, Principal
from luthier.core.states import JobStatus
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.train_spec import LoraRecipe, TrainSpec
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.jobs import jobs, run_import
from luthier.service.models import models
from luthier.service.models.serving import Serving

JOB_ID = "ftjob-" + "5" * 32


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """What `luthier train` leaves, without its weights."""
    made = RunDirectory(tmp_path / "out")
    made.path.mkdir()
    made.training.write_bytes(rows.good())
    spec = TrainSpec(
        job_id=JOB_ID,
        base_model=BASE,
        base_folder=tmp_path,
        context_tokens=512,
        seed=7,
        n_epochs=2,
        batch_size=5,
        learning_rate=2e-3,
        lora=LoraRecipe(rank=4, alpha=8, targets=("q_proj",)),
    )
    made.write_spec(spec)
    return made


def test_finished_run_has_its_models_results_and_events_and_is_imported_once(
    context: Context, caller: Principal, serving: Serving, run: RunDirectory
) -> None:
    train_well(run)
    job, name = run_import.import_run(context, caller.resource.id, run.path, "mine")
    Supervisor(context, ScriptedExecutor(train_well), serving, tick_s=0.01).tick_runs()
    ended = refreshed(context, job)
    assert (ended.status, ended.fine_tuned_model, ended.seed) == (JobStatus.SUCCEEDED, name, 7)
    assert ended.hyperparameters.learning_rate_multiplier == pytest.approx(2.0)
    assert ended.extras == {
        "luthier": {"lora_rank": 4, "lora_alpha": 8.0, "lora_targets": ["q_proj"], "max_tokens": 512}
    }
    assert JOB_ID.removeprefix("ftjob-") in name.replace("-", "") or "mine" in name
    saved, _ = jobs.list_checkpoints(context, caller.resource.id, job.id, None, 10)
    assert [one.step for one in saved] == [4, 2]
    assert models.get(context, caller.resource.id, name).checkpoint is not None
    content = b"".join(context.blobs.open(files.blob_key(ended.training_file)))
    assert content == run.training.read_bytes()
    assert ended.result_file is not None
    told, _ = jobs.list_events(context, caller.resource.id, job.id, None, 100)
    assert {"Imported from a run of luthier train.", "Job succeeded."} <= {event.message for event in told}
    with pytest.raises(Conflict, match="was imported before"):
        run_import.import_run(context, caller.resource.id, run.path)


def _unfinished(run: RunDirectory) -> None:
    pass


def _no_run(run: RunDirectory) -> None:
    run.spec.unlink()


def _other_version(run: RunDirectory) -> None:
    run.spec.write_text('{"version": 9}')


def _unknown_base(run: RunDirectory) -> None:
    train_well(run)
    run.write_spec(run.read_spec().model_copy(update={"base_model": "nobody-has-this"}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_unfinished, "has not finished"),
        (_no_run, "is not a run of"),
        (_other_version, "not a spec of this version"),
        (_unknown_base, "luthier models pull nobody-has-this"),
    ],
)
def test_folder_that_cannot_be_imported_is_refused_and_leaves_nothing(
    context: Context, caller: Principal, run: RunDirectory, spoil: Callable[[RunDirectory], None], words: str
) -> None:
    spoil(run)
    with pytest.raises(InvalidRequest, match=words):
        run_import.import_run(context, caller.resource.id, run.path)
    assert files.list_page(context, caller.resource.id, None, None, 10, "desc")[0] == []
    assert not context.runs_folder.exists() or list(context.runs_folder.iterdir()) == []


def test_run_that_cannot_be_copied_leaves_no_file_behind(
    context: Context, caller: Principal, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_well(run)

    def broken(*_: object, **__: object) -> None:
        raise OSError("the disk has gone")

    monkeypatch.setattr(shutil, "copytree", broken)
    with pytest.raises(OSError, match="has gone"):
        run_import.import_run(context, caller.resource.id, run.path)
    assert not any((context.data_folder / "blobs").rglob("file-*"))
    monkeypatch.undo()
    assert isinstance(run_import.import_run(context, caller.resource.id, run.path)[0], Job)
