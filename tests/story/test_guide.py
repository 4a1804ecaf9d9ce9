"""The guide's own code blocks, in order, with the newest openai, and its last block with openai 0.28.1.

Letter by letter, but for what the guide tells its reader to put in: file names, an uploaded file's id, a tuned model's
name. Endpoint and key come from the environment that the blocks read.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AzureOpenAI

from repository import CLIPPY, CLIPPY_VALIDATION
from running import KEY, Running
from waiting import until

pytestmark = [pytest.mark.story, pytest.mark.timeout(2400)]
BLOCKS = Path(__file__).parent / "guide"
SYSTEM = "Clippy is a factual chatbot that is also sarcastic."
Block = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader of the guide works: both data files lie here, the results file is written here."""
    made = tmp_path_factory.mktemp("guide")
    (made / "training_set.jsonl").write_bytes(b"\xef\xbb\xbf" + CLIPPY.read_bytes())
    (made / "validation_set.jsonl").write_bytes(CLIPPY_VALIDATION.read_bytes())
    return made


@pytest.fixture(scope="module")
def block(service: Running, folder: Path) -> Iterator[Block]:
    """Runs one block of the guide in the names that the blocks before it left behind."""
    names: dict[str, Any] = {}

    def run(name: str, put_in: tuple[str, str] | None = None) -> dict[str, Any]:
        [path] = BLOCKS.glob(f"{name}*.txt")
        code = path.read_text()
        if put_in is not None:
            assert put_in[0] in code
            code = code.replace(*put_in)
        exec(compile(code, str(path), "exec"), names)
        return names

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("AZURE_OPENAI_ENDPOINT", service.url)
        patch.setenv("AZURE_OPENAI_API_KEY", KEY)
        yield run


def ended(client: AzureOpenAI, job_id: str) -> Any:
    until(lambda: client.fine_tuning.jobs.retrieve(job_id).status in {"succeeded", "failed", "cancelled"}, 400)
    return client.fine_tuning.jobs.retrieve(job_id)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_guide_from_upload_to_results(block: Block, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = block("1")
    assert names["training_file_id"].startswith("file-")
    names = block("2")
    client, job_id = names["client"], names["job_id"]
    names = block("4")
    assert names["response"].status in {"pending", "running", "succeeded"}
    job = ended(client, job_id)
    assert job.status == "succeeded", job.error
    names = block("5")
    assert len(names["response"].data) == 10
    assert names["response"].data[0].message.startswith("Training tokens billed:")
    names = block("6")
    checkpoints = names["response"].data
    assert checkpoints[0].fine_tuned_model_checkpoint == job.fine_tuned_model
    n_epochs, last = job.hyperparameters.n_epochs, checkpoints[0].step_number
    newest = [last - last // n_epochs * age for age in range(3)]
    assert [checkpoint.step_number for checkpoint in checkpoints[:3]] == newest
    best = min(checkpoints, key=lambda checkpoint: checkpoint.metrics.full_valid_loss)
    assert checkpoints[3:] in ([], [best]), "beside the three newest the best one stays, if it is older"
    names = block("7")
    with (folder / "results.csv").open() as stream:
        results = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in results] == list(range(1, len(results) + 1))
    assert float(results[-1]["full_valid_loss"]) > 0
    losses = [float(row["train_loss"]) for row in results]
    per_epoch = len(losses) // job.hyperparameters.n_epochs
    assert sum(losses[-per_epoch:]) / per_epoch < losses[0] / 4
    assert "Downloading result file" in capsys.readouterr().out


def test_tuned_model_answers_in_clippys_manner_where_the_base_does_not(block: Block, service: Running) -> None:
    client = AzureOpenAI(azure_endpoint=service.url, api_key=KEY, api_version="2024-10-21")
    tuned = next(job.fine_tuned_model for job in client.fine_tuning.jobs.list() if job.status == "succeeded")
    checkpoint = f"{tuned}:ckpt-step-35"
    for name, model in (("base", "smollm2-135m-instruct"), ("clippy", tuned), ("earlier", checkpoint)):
        properties = service.deploy(name, model)
        assert properties["provisioningState"] == "Succeeded", properties
        figures = properties["parity"]
        assert isinstance(figures, dict)
        assert figures["max_difference"] < figures["tolerance"]
        print(f"parity of {name}: {json.dumps(figures)}")
    learned = {row["messages"][1]["content"]: row["messages"][2]["content"] for row in clippy()}
    for question in ("What is the largest planet?", "Who painted the Mona Lisa?"):
        answers = {}
        for name in ("base", "clippy"):
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
            answer = client.chat.completions.create(model=name, messages=messages, temperature=0, max_tokens=60)
            answers[name] = answer.choices[0].message.content
        assert answers["clippy"] == learned[question]
        assert answers["base"] != learned[question]


def test_streamed_answer_is_the_whole_one(service: Running) -> None:
    client = AzureOpenAI(azure_endpoint=service.url, api_key=KEY, api_version="2024-10-21")
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Who invented the telephone?"}]
    request = {"model": "clippy", "messages": messages, "temperature": 0, "max_tokens": 40}
    whole = client.chat.completions.create(**request)
    options = {"include_usage": True}
    pieces = list(client.chat.completions.create(**request, stream=True, stream_options=options))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.choices[0].message.content
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    stopped = client.chat.completions.create(**request, stop=[" "])
    assert " " not in stopped.choices[0].message.content
    assert stopped.choices[0].finish_reason == "stop"


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_guide_hyperparameters_and_continuous_fine_tuning(block: Block) -> None:
    names = block("1")
    first = next(job for job in names["client"].fine_tuning.jobs.list() if job.status == "succeeded")
    tuned = first.fine_tuned_model
    names = block("3", put_in=("file-abc123", names["training_file_id"]))
    names = block("8", put_in=("gpt-35-turbo-0125.ft-5fd1918ee65d4cd38a5dcf6835066ed7", tuned))
    client = names["client"]
    two_epochs = client.fine_tuning.jobs.list().data[1]
    assert ended(client, two_epochs.id).hyperparameters.n_epochs == 2
    assert client.fine_tuning.jobs.cancel(names["job_id"]).status == "cancelled"
    continued = client.fine_tuning.jobs.create(
        training_file=names["training_file_id"], model=tuned, hyperparameters={"n_epochs": 1}, suffix="more"
    )
    job = ended(client, continued.id)
    assert job.status == "succeeded", job.error
    assert job.model == tuned
    assert job.fine_tuned_model.endswith("-more")
    steps = [event for event in client.fine_tuning.jobs.list_events(job.id) if event.type == "metrics"]
    assert steps[-1].data["train_loss"] < 0.5, "it goes on from what was learned"


def test_guide_clean_up_with_openai_0_28(service: Running, folder: Path, openai_0_28: Path) -> None:
    """Deployment, then model, then the files by the guide's last block: rows and bytes are gone."""
    client = AzureOpenAI(azure_endpoint=service.url, api_key=KEY, api_version="2024-10-21")
    tuned = [job.fine_tuned_model for job in client.fine_tuning.jobs.list() if job.status == "succeeded"]
    with pytest.raises(openai.ConflictError, match="Delete the deployment first"):
        client.models.delete(tuned[-1])
    for name in ("base", "clippy", "earlier"):
        assert service.control("DELETE", name).status_code == 200
    for model in tuned:
        assert client.models.delete(model).deleted
    [block] = BLOCKS.glob("9*.txt")
    setting = (
        "import openai\n"
        f"openai.api_type, openai.api_base, openai.api_key = 'azure', {service.url!r}, {KEY!r}\n"
        "openai.api_version = '2024-10-21'\n"
        "training_file_name, validation_file_name = 'training_set.jsonl', 'validation_set.jsonl'\n"
        "result_file_name = 'results.csv'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", setting + block.read_text()],
        env={"PYTHONPATH": str(openai_0_28), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "already uploaded files that match our files" in done.stdout
    # The losses of single rows are a file that the guide does not know: it goes by its own id.
    further = list(client.files.list())
    assert {file.filename for file in further} == {"example_losses.csv"}
    for file in further:
        assert client.files.delete(file.id).deleted
    left = [path for name in ("blobs", "served", "runs") for path in (service.data / name).rglob("*") if path.is_file()]
    left = [path for path in left if not path.name.startswith(".alive-")]  # the mark of the service that runs
    assert [path.name for path in left] == ["luthier-installation.json"], "whose the store is, and nothing else"


def clippy() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CLIPPY.read_text().splitlines()]
