"""luthier reproduce: equal bytes are found equal, and what is not so is named; on a folder and on a service's job."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

import received
import rows
import tiny
from luthier import app, data_folder
from luthier.cli.screen import errors
from luthier.cli.training import follow, local_executor
from luthier.core.models import Job
from luthier.core.states import JobStatus, Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.manifest import Manifest
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Succeeded
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.jobs import job_creation, jobs, progress, runs
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from luthier.settings import Settings

Command = Callable[..., Result]


@pytest.fixture
def finished(alone: Command, tmp_path: Path) -> RunDirectory:
    """A finished run of four epochs, of which the last three are kept."""
    (tmp_path / "rows.jsonl").write_bytes(rows.good())
    done = alone("train", "--model", tiny.NAME, "--data", "rows.jsonl", "--epochs", "4", "--seed", "1", "--out", "out")
    assert done.exit_code == 0, done.output
    return RunDirectory(tmp_path / "out")


def test_folder_is_reproduced_and_left_alone(alone: Command, finished: RunDirectory) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.path.rglob("*")}
    done = alone("reproduce", "out")
    assert done.exit_code == 0, done.output
    names = [line.split("\t")[0] for line in done.stdout.splitlines()[:-1]]
    assert names == ["weights of step 10", "weights of step 15", "weights of step 20", "results.csv"]
    assert [line.split("\t")[-1] for line in done.stdout.splitlines()[:-1]] == ["equal"] * 4
    assert {path: path.stat().st_mtime_ns for path in finished.path.rglob("*")} == before


def test_folder_with_other_bytes_differs_and_the_manifests_say_in_what(alone: Command, finished: RunDirectory) -> None:
    folder = finished.checkpoints / "step-000020"
    made = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    older = made.model_copy(update={"versions": made.versions | {"torch": "1.0"}})
    (folder / "manifest.json").write_bytes(older.to_bytes())
    with (folder / "adapter_model.safetensors").open("r+b") as stream:
        last = stream.seek(-1, 2)
        byte = stream.read(1)[0]
        stream.seek(last)
        stream.write(bytes([byte ^ 1]))
    done = alone("reproduce", "out")
    assert done.exit_code == 1, done.output
    told = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[-1] for line in told[:4]] == ["equal", "equal", "differs", "equal"]
    assert told[-1] == ["versions.torch", "1.0", made.versions["torch"]]


def test_what_cannot_be_reproduced_is_refused_before_any_training(
    alone: Command, finished: RunDirectory, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert "is not a run directory" in alone("reproduce", "empty").stderr
    assert "is not the data folder of a service" in alone("reproduce", "ftjob-1").stderr
    (tmp_path / "data").mkdir(exist_ok=True)  # a run's speed is noted there
    sqlite3.connect(tmp_path / "data" / "luthier.db").close()
    assert "is of another version of Luthier" in alone("reproduce", "ftjob-1").stderr
    finished.training.write_bytes(rows.good(11))
    changed = alone("reproduce", "out")
    assert changed.exit_code == 1
    assert "train.jsonl is not what the model was trained on" in changed.stderr
    finished.training.unlink()
    assert "was deleted" in alone("reproduce", "out").stderr


@pytest.fixture
def context(alone: Command) -> Iterator[Context]:
    """The data folder of a service that is not running now."""
    app.build(Settings()).supervisor.context.database.close()
    with data_folder.open_data(Settings()) as context:
        yield context


def finish_job(context: Context) -> Job:
    """A job moved by hand as the supervisor does it, with the real trainer."""
    resource = DEFAULT_RESOURCE.id
    file = files.create(context, resource, "rows.jsonl", "fine-tune", received.blob(context, [rows.good()]))
    asked = Hyperparameters(n_epochs=4)
    request = job_creation.JobRequest(tiny.NAME, file.id, file.id, asked, Method.SUPERVISED, False, 7, None, 18, {})
    job = job_creation.create(context, resource, request)
    runs.validate_files(context, job)
    job = jobs.get(context, resource, job.id)
    runs.claim(context, job)
    assert (
        follow.train(local_executor.patient_executor(), runs.write_directory(context, job, 1, 60.0), errors) is not None
    )
    verdict = progress.absorb(context, job)
    assert isinstance(verdict, Succeeded), verdict
    progress.finish(context, job, verdict)
    job = jobs.get(context, resource, job.id)
    assert job.status is JobStatus.SUCCEEDED
    runs.remove_files(context, job)
    return job


def test_job_is_reproduced_from_the_store_until_its_file_is_deleted(alone: Command, context: Context) -> None:
    job = finish_job(context)
    done = alone("reproduce", job.id)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("\tequal") == 4
    assert "There is no job" in alone("reproduce", "ftjob-none").stderr
    files.delete(context, job.resource_id, job.training_file)
    gone = alone("reproduce", job.id)
    assert gone.exit_code == 1
    assert f"The file {job.training_file} of {job.id} was deleted" in gone.stderr


def test_job_that_did_not_succeed_is_refused(alone: Command, context: Context) -> None:
    file = files.create(context, DEFAULT_RESOURCE.id, "rows.jsonl", "fine-tune", received.blob(context, [rows.good()]))
    request = job_creation.JobRequest(
        tiny.NAME, file.id, None, Hyperparameters(), Method.SUPERVISED, False, 7, None, 18, {}
    )
    job = job_creation.create(context, DEFAULT_RESOURCE.id, request)
    refused = alone("reproduce", job.id)
    assert refused.exit_code == 1
    assert "only a job that succeeded" in refused.stderr
