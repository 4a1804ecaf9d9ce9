"""results.csv in OpenAI's dialect: programs that decode base64 and those that read CSV both work; Azure's is CSV."""

import base64
import csv
import io
from collections.abc import Callable

import httpx2
import pytest
from fastapi import FastAPI
from openai import AzureOpenAI, OpenAI

import rows
from asgi_switch import Switch
from fakes import BASE, KEY, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.core.states import ResultsAs
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models.serving import Serving

HEAD = {"api-key": KEY}
Served = Callable[[ResultsAs], None]


@pytest.fixture
def results(openai_client: OpenAI, supervisor: Supervisor) -> str:
    """The id of a job's results.csv."""
    file = openai_client.files.create(file=("a.jsonl", rows.good()), purpose="fine-tune")
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    for _ in range(4):
        supervisor.tick()
    (found,) = openai_client.fine_tuning.jobs.retrieve(job.id).result_files
    return found


@pytest.fixture
def served_as(switch: tuple[Switch, str], url: str, context: Context, serving: Serving) -> Served:
    """Serves anew under the other setting."""

    def serve(setting: ResultsAs) -> None:
        app: FastAPI = server.build(
            Services(context, serving, lambda: None, results_as=setting, calls=engine_calls()), None
        )
        switch[0].app = app

    return serve


def decoded(content: bytes) -> str:
    """As OpenAI's cookbook does it (Fine_tuning_for_function_calling, cell 24)."""
    return base64.b64decode(content).decode("utf-8")


def test_openais_sample_decodes_what_plain_readers_read(
    url: str, openai_client: OpenAI, azure: AzureOpenAI, azure_v1: OpenAI, results: str
) -> None:
    text = decoded(openai_client.files.content(results).read())
    assert text.startswith("step,train_loss\n")
    plain = httpx2.get(f"{url}/v1/files/{results}/content", headers=HEAD)
    assert plain.text == text, "curl, requests and pandas.read_csv accept anything"
    assert plain.headers["content-type"].startswith("text/csv")
    assert plain.headers["vary"] == "Accept"
    assert openai_client.files.content(results, extra_headers={"Accept": "text/csv"}).text == text
    for client in (azure, azure_v1):
        assert client.files.content(results).text == text


def test_other_files_are_never_encoded(openai_client: OpenAI) -> None:
    file = openai_client.files.create(file=("results.csv", b"step,train_loss\n1,2\n"), purpose="user_data")
    assert openai_client.files.content(file.id).read() == b"step,train_loss\n1,2\n"


def test_head_range_and_tag_are_those_of_what_goes_out(url: str, results: str) -> None:
    path = f"{url}/v1/files/{results}/content"
    sdk = HEAD | {"accept": "application/binary"}
    whole = httpx2.get(path, headers=sdk)
    assert int(httpx2.head(path, headers=sdk).headers["content-length"]) == len(whole.content)
    part = httpx2.get(path, headers=sdk | {"range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, whole.content[2:6])
    assert part.headers["content-range"] == f"bytes 2-5/{len(whole.content)}"
    assert whole.headers["etag"] != httpx2.get(path, headers=HEAD).headers["etag"]
    assert httpx2.get(path, headers=sdk | {"range": "bytes=99999-"}).status_code == 416


def test_setting_decides_for_programs_that_accept_anything(
    url: str, openai_client: OpenAI, results: str, served_as: Served
) -> None:
    path = f"{url}/v1/files/{results}/content"
    served_as(ResultsAs.BASE64)
    assert decoded(httpx2.get(path, headers=HEAD).content).startswith("step,")
    assert httpx2.get(path, headers=HEAD | {"accept": "text/csv"}).text.startswith("step,")
    assert httpx2.get(f"{url}/openai/v1/files/{results}/content", headers=HEAD).text.startswith("step,")
    served_as(ResultsAs.CSV)
    read = csv.DictReader(io.StringIO(openai_client.files.content(results).text))
    assert "train_loss" in (read.fieldnames or ())
