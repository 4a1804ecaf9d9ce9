"""The new-job assistant: from a bad file to a started job, problems at their fields, and code that does the same."""

import html
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rows
from fakes import BASE, KEY
from luthier.cli.main import app
from luthier.core.models import Job
from luthier.service.context import Context
from luthier.service.jobs import jobs
from luthier.service.tenants import keys
from portal_visitor import Visitor

RECIPES: dict[str, dict[str, str]] = {
    "defaults": {},
    "hyperparameters": {
        "n_epochs": "3",
        "batch_size": "4",
        "learning_rate_multiplier": "0.5",
        "seed": "105",
        "suffix": "my-suffix",
    },
    "recipe": {
        "n_epochs": "60",
        "learning_rate": "2e-4",
        "lora_rank": "8",
        "lora_alpha": "12.5",
        "lora_dropout": "0.1",
        "warmup": "0.03",
        "schedule": "cosine",
        "weight_decay": "0.01",
        "max_tokens": "512",
        "early_stopping": "2",
        "suffix": "-begins-with-a-hyphen",
    },
    "targets": {"lora_targets": "q_proj, v_proj", "full": "false", "model": "gpt-4o-mini"},
    "full": {"full": "true", "seed": "1"},
    "dpo": {"method": "dpo", "beta": "0.2", "n_epochs": "2"},
    "dpo defaults": {"method": "dpo"},
}


def upload(visitor: Visitor, content: bytes, name: str = "rows.jsonl") -> str:
    answer = visitor.post(
        "/v1/files",
        data={"purpose": "fine-tune"},
        files={"file": (name, content)},
        headers={"x-csrf-token": visitor.csrf},
    )
    return str(answer.json()["id"])


def newest(context: Context, visitor: Visitor) -> Job:
    job_id = visitor.get("/v1/fine_tuning/jobs?limit=1").json()["data"][0]["id"]
    return jobs.get(context, keys.DEFAULT_RESOURCE.id, job_id)


def blocks(page: str) -> list[str]:
    """The texts of the code blocks of a page."""
    return [html.unescape(code) for code in re.findall(r"<code>((?:from|luthier jobs).*?)</code>", page, re.DOTALL)]


def test_form_without_parameters_says_what_to_do_and_names_the_weights(visitor: Visitor) -> None:
    page = visitor.get("/portal/jobs/new").text
    assert "Choose training data first" in page
    assert "SmolLM2-135M-Instruct" in page
    assert "Apache-2.0" in page
    assert "not on this machine" in page
    assert re.search(r"<button class=\"primary\"[^>]* disabled[^>]*>Start the job", page)


def test_bad_file_becomes_a_started_job_by_the_mended_copy(visitor: Visitor, context: Context) -> None:
    bad = b"[\n" + b",\n".join(rows.good(12).splitlines()) + b"\n]\n"
    file = upload(visitor, bad, "bad.json")
    page = visitor.get(f"/portal/jobs/new?training_file={file}&n_epochs=2").text
    assert "Not ready to train on" in page
    assert "A mended copy has no errors: 12 rows" in page
    assert "has errors, which step 2 lists" in page
    refused = visitor.send_form("/portal/jobs/new", training_file=file, model=BASE)
    assert refused.status_code == 400
    assert "has errors, which step 2 lists" in refused.text
    mended = visitor.send_form("/portal/jobs/new/mend", training_file=file, model=BASE, n_epochs="2", method="dpo")
    assert "The mended copy is stored as a new file and chosen here" in mended.text
    assert "Ready to train on: 12 rows, no problems." in mended.text
    query = dict(mended.url.params)
    assert query["n_epochs"] == "2"
    assert not re.search(r"<button class=\"primary\"[^>]* disabled[^>]*>Start the job", mended.text)
    started = visitor.post(
        "/portal/jobs/new", data=query | {"csrf": visitor.csrf, "method": "supervised"}, follow_redirects=False
    )
    assert started.status_code == 303
    job = newest(context, visitor)
    assert started.headers["location"] == f"/portal/jobs/{job.id}?notice=job_created"
    assert (job.training_file, job.hyperparameters.n_epochs) == (query["training_file"], 2)


def test_estimate_and_what_auto_becomes_are_shown(visitor: Visitor, tokenizer: None) -> None:
    file = upload(visitor, rows.good(30))
    page = visitor.get(f"/portal/jobs/new?training_file={file}").text
    assert "auto becomes 3: three passes over the data" in page
    assert "auto becomes 4: about 0.6 times the square root of 30 examples" in page
    assert "the peak rate is 0.001" in page
    assert "24 (3 epochs in batches of 4)" in page
    assert "of them learned" in page
    other = visitor.get(f"/portal/jobs/new?training_file={file}&batch_size=10&n_epochs=1").text
    assert "auto would be 4" in other
    assert "3 (1 epoch in batches of 10)" in other


def test_data_suggests_the_method_unless_one_was_chosen_for_it(visitor: Visitor) -> None:
    chats, pairs = upload(visitor, rows.good()), upload(visitor, rows.pairs())
    dpo = 'value="dpo" checked'
    assert dpo in visitor.get(f"/portal/jobs/new?training_file={pairs}").text
    assert dpo in visitor.get(f"/portal/jobs/new?training_file={pairs}&method=supervised&method_for={chats}").text
    assert dpo not in visitor.get(f"/portal/jobs/new?training_file={pairs}&method=supervised&method_for={pairs}").text
    assert dpo not in visitor.get(f"/portal/jobs/new?training_file={chats}").text


WRONG = (
    ("n_epochs", "many", "number or &#34;auto&#34;"),
    ("n_epochs", "2000", "from 1 to 1,000"),
    ("batch_size", "300", "from 1 to 256"),
    ("learning_rate_multiplier", "0", "greater than 0"),
    ("seed", "x", "a whole number"),
    ("suffix", "not good", "only letters, digits"),
    ("early_stopping", "2", "there is no validation_file"),
    ("lora_rank", "4000", "from 1 to 1,024"),
    ("warmup", "nan", "a number"),
    ("bits", "4", "not on this machine yet"),
    ("model", "gpt-9", "There is no model"),
    ("training_file", "file-none", "There is no file"),
    ("validation_file", "file-none", "There is no file"),
)


def test_wrong_value_is_told_at_its_field_and_creates_nothing(visitor: Visitor) -> None:
    good = {"training_file": upload(visitor, rows.good()), "model": BASE, "method": "supervised"}
    for field, value, sentence in WRONG:
        answer = visitor.send_form("/portal/jobs/new", **(good | {field: value}))
        assert answer.status_code == 400, field
        problem = re.search(rf'id="{field}-(?:note|problem)"[^>]*>\s*<p class="problem">([^<]*)', answer.text)
        assert problem is not None, field
        assert sentence in problem[1], field
        assert f'value="{value}"' in answer.text, field
    assert visitor.get("/v1/fine_tuning/jobs").json()["data"] == []


def test_two_problems_are_told_at_once(visitor: Visitor) -> None:
    page = visitor.get("/portal/jobs/new?n_epochs=x&lora_rank=y&seed=-2&suffix=a+b").text
    assert page.count('class="problem"') == 4


def test_refusal_of_no_field_is_told_above_the_form(visitor: Visitor, context: Context) -> None:
    file = upload(visitor, rows.good())
    for _ in range(20):
        body = {"model": BASE, "training_file": file}
        visitor.post("/v1/fine_tuning/jobs", json=body, headers={"x-csrf-token": visitor.csrf})
    answer = visitor.send_form("/portal/jobs/new", training_file=file, model=BASE)
    assert answer.status_code == 400
    assert re.search(r'<p class="callout bad" role="alert">[^<]*queued', answer.text, re.IGNORECASE)


def test_shown_code_creates_the_same_job_as_the_form(
    visitor: Visitor, context: Context, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("AZURE_OPENAI_API_KEY", "OPENAI_API_KEY", "LUTHIER_API_KEY"):
        monkeypatch.setenv(variable, KEY)
    monkeypatch.setenv("LUTHIER_URL", url)
    monkeypatch.chdir(tmp_path)
    chats = {"training_file": upload(visitor, rows.good()), "validation_file": upload(visitor, rows.good(1))}
    pairs = {"training_file": upload(visitor, rows.pairs()), "validation_file": upload(visitor, rows.pairs(1))}
    for name, settings in RECIPES.items():
        fields = (pairs if settings.get("method") == "dpo" else chats) | {"model": BASE, "method": "supervised"}
        fields |= settings
        azure, openai, command = blocks(visitor.get("/portal/jobs/new", params=fields).text)
        sent = visitor.post("/portal/jobs/new", data=fields | {"csrf": visitor.csrf}, follow_redirects=False)
        assert sent.is_redirect, name
        wanted = comparable(newest(context, visitor))
        told: list[str] = []
        for code in (azure, openai):
            exec(code, {"print": told.append})
        done = CliRunner().invoke(app, shlex.split(command.replace("\\\n", " "))[1:])
        assert done.exit_code == 0, done.output
        for job_id in (*told, done.output.strip()):
            assert comparable(jobs.get(context, keys.DEFAULT_RESOURCE.id, job_id)) == wanted, name
            assert visitor.post(f"/v1/fine_tuning/jobs/{job_id}/cancel", headers={"x-csrf-token": visitor.csrf})


def comparable(job: Job) -> Job:
    """The job without what each has of its own."""
    return replace(job, id="", created_at=datetime(2026, 1, 1, tzinfo=UTC))
