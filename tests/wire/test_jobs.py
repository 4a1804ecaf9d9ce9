"""Fine-tuning jobs as the official clients create, watch and cancel them, in every dialect."""

import httpx2
import openai
import pytest
from openai import AzureOpenAI, OpenAI

import rows
from fakes import BASE, KEY, ScriptedExecutor
from luthier.service.background.supervisor import Supervisor

ALIAS = "gpt-35-turbo-0125"


def upload(client: OpenAI, data: bytes | None = None) -> str:
    return client.files.create(file=("rows.jsonl", rows.good() if data is None else data), purpose="fine-tune").id


def run_to_end(supervisor: Supervisor) -> None:
    for _ in range(6):
        supervisor.tick()


def test_job_from_creation_to_results(client: OpenAI, supervisor: Supervisor) -> None:
    training, validation = upload(client), upload(client)
    job = client.fine_tuning.jobs.create(
        training_file=training, validation_file=validation, model=ALIAS, seed=105, suffix="clippy"
    )
    assert job.id.startswith("ftjob-")
    assert job.model == BASE
    assert job.seed == 105
    assert job.status in {"pending", "validating_files"}
    assert job.object == "fine_tuning.job"
    run_to_end(supervisor)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded"
    assert job.fine_tuned_model == f"{BASE}.ft-{job.id.removeprefix('ftjob-')}-clippy"
    assert job.trained_tokens == 200
    assert job.hyperparameters.n_epochs == 8
    assert job.hyperparameters.batch_size == 2
    assert job.hyperparameters.learning_rate_multiplier == 1.0
    results = client.files.retrieve(job.result_files[0])
    assert (results.filename, results.purpose) == ("results.csv", "fine-tune-results")
    content = client.files.content(results.id, extra_headers={"Accept": "text/csv"})
    assert content.read().startswith(b"step,train_loss")
    assert [found.id for found in client.fine_tuning.jobs.list()] == [job.id]


def test_events_come_newest_first_and_page_to_the_end(client: OpenAI, supervisor: Supervisor) -> None:
    job = client.fine_tuning.jobs.create(training_file=upload(client), model=ALIAS)
    run_to_end(supervisor)
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
    messages = [event.message for event in reversed(events)]
    assert messages[0].startswith(f"{ALIAS} is an alias for {BASE} here: the weights are SmolLM2-135M-Instruct")
    assert messages[1:3] == ["Job enqueued. Waiting for jobs ahead to complete.", "Job started."]
    assert messages[-3:] == ["Job succeeded.", messages[-2], "Training tokens billed: 200"]
    assert messages[-2].startswith("Completed results file: file-")
    steps = [event for event in events if event.type == "metrics"]
    assert [event.data["step"] for event in steps] == [4, 3, 2, 1]
    assert steps[0].message == f"Step 4: training loss={steps[0].data['train_loss']!r}"
    assert len({event.id for event in events}) == len(events)


def test_checkpoints_come_newest_first_and_the_last_has_the_models_own_name(
    client: OpenAI, supervisor: Supervisor
) -> None:
    job = client.fine_tuning.jobs.create(training_file=upload(client), model=BASE)
    run_to_end(supervisor)
    tuned = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    found = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
    assert [checkpoint.fine_tuned_model_checkpoint for checkpoint in found] == [tuned, f"{tuned}:ckpt-step-2"]
    assert [checkpoint.step_number for checkpoint in found] == [4, 2]
    assert found[0].id.startswith("ftchkpt-")
    assert found[0].metrics.train_loss == 0.1


@pytest.mark.parametrize("auto", ["auto", -1, None])
def test_auto_is_written_in_three_ways_and_becomes_a_number(
    client: OpenAI, supervisor: Supervisor, auto: object
) -> None:
    asked = {"n_epochs": auto, "batch_size": auto, "learning_rate_multiplier": auto}
    job = client.fine_tuning.jobs.create(training_file=upload(client), model=BASE, hyperparameters=asked)
    assert job.hyperparameters.n_epochs in {"auto", -1}
    run_to_end(supervisor)
    assert client.fine_tuning.jobs.retrieve(job.id).hyperparameters.n_epochs == 8


def test_seed_is_made_where_none_is_given(client: OpenAI) -> None:
    assert client.fine_tuning.jobs.create(training_file=upload(client), model=BASE).seed == 170999531


def test_method_supervised_carries_hyperparameters(client: OpenAI, supervisor: Supervisor) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 5}}}
    job = client.fine_tuning.jobs.create(training_file=upload(client), model=BASE, method=method)
    assert job.method.supervised.hyperparameters.n_epochs == 2
    assert job.hyperparameters.batch_size == 5


def test_nulls_are_left_out_on_azure_and_sent_on_openai(url: str, azure: AzureOpenAI) -> None:
    job = azure.fine_tuning.jobs.create(training_file=upload(azure), model=BASE)
    head = {"headers": {"api-key": KEY}}
    dated = httpx2.get(f"{url}/openai/fine_tuning/jobs/{job.id}?api-version=2024-10-21", **head).json()
    assert dated["status"] == "pending"
    assert dated["hyperparameters"] == {"n_epochs": -1, "batch_size": -1, "learning_rate_multiplier": 1.0}
    assert not {"error", "fine_tuned_model", "result_files", "suffix", "method"} & set(dated)
    plain = httpx2.get(f"{url}/v1/fine_tuning/jobs/{job.id}", **head).json()
    assert plain["status"] == "validating_files"
    assert plain["hyperparameters"]["n_epochs"] == "auto"
    assert plain["error"] is None
    assert plain["result_files"] == []


def test_extras_of_azures_callers_are_accepted_and_shown(azure: AzureOpenAI) -> None:
    job = azure.fine_tuning.jobs.create(
        training_file=upload(azure), model=BASE, metadata={"team": "a"}, extra_body={"trainingType": "GlobalStandard"}
    )
    assert job.metadata == {"team": "a"}
    assert job.to_dict()["trainingType"] == "globalStandard"


def test_second_job_waits_and_a_cancelled_one_never_runs(
    azure: AzureOpenAI, supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    executor.trainer = lambda run: None
    executor.alive = {"fake:1"}
    first = azure.fine_tuning.jobs.create(training_file=upload(azure), model=BASE)
    second = azure.fine_tuning.jobs.create(training_file=upload(azure), model=BASE)
    for _ in range(4):
        supervisor.tick()
    assert azure.fine_tuning.jobs.retrieve(first.id).status == "running"
    assert azure.fine_tuning.jobs.retrieve(second.id).to_dict()["status"] == "pending"
    assert azure.fine_tuning.jobs.cancel(second.id).status == "cancelled"
    cancelled = azure.fine_tuning.jobs.cancel(first.id)
    assert cancelled.status == "cancelled"
    assert cancelled.finished_at is not None
    for _ in range(3):
        supervisor.tick()
    assert executor.killed == ["fake:1"]
    assert len(executor.started) == 1
    with pytest.raises(openai.ConflictError, match="already cancelled"):
        azure.fine_tuning.jobs.cancel(first.id)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"training_file": "file-none"}, "file_not_found", "There is no file 'file-none'"),
        ({"model": "gpt-9"}, "model_not_found", "Base models ready on this machine: smollm2"),
        ({"model": "qwen3-8b"}, "model_not_ready", "luthier models pull qwen3-8b"),
        ({"suffix": "x" * 65}, "suffix_too_long", "at most"),
        ({"suffix": "a.b"}, "invalid_suffix", "letters, digits"),
        ({"seed": -4}, "invalid_seed", "from 0 to"),
        ({"hyperparameters": {"n_epochs": 0}}, "invalid_hyperparameter", "from 1 to 50"),
        ({"hyperparameters": {"batch_size": 10_000}}, "invalid_hyperparameter", "from 1 to 256"),
        ({"hyperparameters": {"n_epochs": "many"}}, "invalid_value", 'must be a number or "auto"'),
        ({"hyperparameters": {"epochs": 3}}, "unknown_field", "hyperparameters.epochs"),
        ({"method": {"type": "reinforcement"}}, "method_not_supported", "use 'supervised' or 'dpo'"),
        ({"extra_body": {"n_epochs": 3}}, "unknown_field", "n_epochs"),
    ],
)
def test_bad_request_says_what_and_where_and_what_to_do(
    openai_client: OpenAI, change: dict[str, object], code: str, words: str
) -> None:
    request = {"training_file": upload(openai_client), "model": BASE} | change
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.fine_tuning.jobs.create(**request)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert list(openai_client.fine_tuning.jobs.list()) == []


def test_suffix_limit_is_the_dialects_own(azure: AzureOpenAI, openai_client: OpenAI) -> None:
    file = upload(azure)
    assert openai_client.fine_tuning.jobs.create(training_file=file, model=BASE, suffix="x" * 64).id
    with pytest.raises(openai.BadRequestError, match="at most 40"):
        azure.fine_tuning.jobs.create(training_file=file, model=BASE, suffix="x" * 41)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (rows.good(9), "10"),
        (b"question,answer\nwhy,because\n" * 20, "JSON"),
        (rows.good(9) + b'{"messages": [{"role": "user", "content": "?"}]}\n', "Line 10"),
        (rows.good(9) + b'{"prompt": "a", "completion": "b"}\n', "messages"),
        (
            rows.good(9)
            + b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b"}}]},'
            b' {"role": "assistant", "content": "a cat"}]}\n',
            "image",
        ),
    ],
)
def test_bad_file_fails_the_job_with_line_and_fix(
    client: OpenAI, supervisor: Supervisor, executor: ScriptedExecutor, data: bytes, words: str
) -> None:
    job = client.fine_tuning.jobs.create(training_file=upload(client, data), model=BASE)
    supervisor.tick()
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "failed"
    assert job.error.code == "invalid_training_file"
    assert job.error.param == "training_file"
    assert words in job.error.message
    newest = next(iter(client.fine_tuning.jobs.list_events(job.id)))
    assert newest.level == "error"
    assert executor.started == []


def test_checkpoints_metrics_have_the_step_as_both_vendors_do(openai_client: OpenAI, supervisor: Supervisor) -> None:
    file = openai_client.files.create(file=("a.jsonl", rows.good()), purpose="fine-tune")
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    for _ in range(4):
        supervisor.tick()
    found = openai_client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert [(one.step_number, one.metrics.step) for one in found] == [(4, 4.0), (2, 2.0)]
