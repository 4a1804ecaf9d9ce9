"""Files as the official clients send and read them, in every dialect."""

import io
import socket

import httpx2
import openai
import pytest
from openai import AzureOpenAI, OpenAI

import rows
from disk import full_disk
from fakes import BASE, KEY
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context


def test_upload_then_read_gives_the_same_bytes(client: OpenAI) -> None:
    data = b"\xef\xbb\xbf" + rows.good()
    file = client.files.create(file=("training_set.jsonl", data), purpose="fine-tune")
    assert file.id.startswith("file-")
    assert len(file.id) == 37
    assert (file.filename, file.bytes, file.purpose, file.status) == (
        "training_set.jsonl",
        len(data),
        "fine-tune",
        "processed",
    )
    assert client.files.retrieve(file.id).id == file.id
    assert client.files.content(file.id).read() == data
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_list_is_newest_first_and_ends_with_every_page_size(client: OpenAI) -> None:
    made = [client.files.create(file=(f"{n}.jsonl", b"{}"), purpose="fine-tune").id for n in range(5)]
    assert [file.id for file in client.files.list(limit=2)] == made[::-1]
    assert [file.id for file in client.files.list(order="asc", limit=3)] == made
    assert [file.id for file in client.files.list(purpose="fine-tune-results")] == []


def test_same_name_twice_makes_two_files(client: OpenAI) -> None:
    first, second = (client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune") for _ in range(2))
    assert first.id != second.id


def test_upload_answers_201_with_location_on_azure_and_200_elsewhere(url: str) -> None:
    form = {"data": {"purpose": "fine-tune"}, "files": {"file": ("a.jsonl", b"{}")}, "headers": {"api-key": KEY}}
    azure = httpx2.post(f"{url}/openai/files?api-version=2024-10-21", **form)
    assert azure.status_code == 201
    assert azure.headers["location"].startswith(f"{url}/openai/files/{azure.json()['id']}?")
    assert "status_details" not in azure.json()
    assert httpx2.post(f"{url}/openai/v1/files", **form).status_code == 200
    plain = httpx2.post(f"{url}/v1/files", **form)
    assert plain.status_code == 200
    assert "status_details" not in plain.json()


def test_wrong_purpose_and_empty_file_are_refused_with_what_to_do(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose='fine-tune'"):
        client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune-results")
    with pytest.raises(openai.BadRequestError, match="no bytes"):
        client.files.create(file=("a.jsonl", b""), purpose="fine-tune")
    assert list(client.files.list()) == []


@pytest.mark.parametrize("file_first", [False, True])
def test_parts_of_the_form_come_in_any_order(url: str, file_first: bool) -> None:
    parts = [
        b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n',
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\r\n',
    ]
    body = b"".join(parts[::-1] if file_first else parts) + b"--x--\r\n"
    headers = {"api-key": KEY, "content-type": "multipart/form-data; boundary=x"}
    answer = httpx2.post(f"{url}/v1/files", headers=headers, content=body)
    assert (answer.status_code, answer.json()["bytes"]) == (200, 2)


def test_refused_upload_leaves_no_bytes(url: str, context: Context) -> None:
    headers = {"api-key": KEY, "content-type": "multipart/form-data; boundary=x"}
    file = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\r\n'
    purpose = b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbotch\r\n--x--\r\n'
    for body in (file + purpose, file + b"--x--\r\n", file):
        assert httpx2.post(f"{url}/v1/files", headers=headers, content=body).status_code == 400
    assert [path for path in (context.runs_folder.parent / "blobs").rglob("*") if path.is_file()] == []


def test_upload_of_thirty_megabytes_streams_through(azure: AzureOpenAI) -> None:
    data = b"x" * 30_000_000
    file = azure.files.create(file=("big.jsonl", io.BytesIO(data)), purpose="fine-tune")
    assert file.bytes == len(data)
    assert azure.files.content(file.id).read() == data


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": "multipart/form-data; boundary=x"}, b'--x\r\ncontent-disposition: form-data; name="pur'),
        ({"content-type": "multipart/form-data; boundary=x"}, b"no form at all"),
        ({"content-type": "multipart/form-data"}, b"--x--"),
    ],
)
def test_broken_form_is_a_400_that_says_so(url: str, headers: dict[str, str], body: bytes) -> None:
    answer = httpx2.post(f"{url}/v1/files", headers=headers | {"api-key": KEY}, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_multipart"


def test_declared_length_over_the_cap_is_refused_before_it_is_read(url: str) -> None:
    address = httpx2.URL(url)
    with socket.create_connection((address.host, address.port)) as connection:
        head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\napi-key: {KEY}\r\ncontent-length: {600 * 2**20}\r\n\r\n"
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 413")
    assert "body_too_large" in answer


def test_upload_onto_a_full_disk_is_refused_in_words_and_nothing_of_it_stays(client: OpenAI, context: Context) -> None:
    match = "disk of the stored files is full"
    with full_disk(6_000_000), pytest.raises(openai.InternalServerError, match=match) as caught:
        client.files.create(file=("large.jsonl", b"x" * 8_000_000), purpose="fine-tune")
    assert caught.value.status_code == 507
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert list(client.files.list()) == []
    assert [path for path in (context.runs_folder.parent / "blobs").rglob("*") if path.is_file()] == []
    assert client.files.create(file=("small.jsonl", rows.good()), purpose="fine-tune").status == "processed"


@pytest.mark.parametrize("purpose", ["assistants", "batch", "evals", "user_data", "vision"])
def test_file_of_a_vendors_other_purpose_is_kept_and_trains_nothing(
    client: OpenAI, supervisor: Supervisor, purpose: str
) -> None:
    client = client.with_options()  # the SDK's type of a file knows no `evals`: not checked by it here
    client._strict_response_validation = False
    file = client.files.create(file=("a.jsonl", b'{"item": {}}\n'), purpose=purpose)
    supervisor.tick()
    assert [(one.id, one.purpose) for one in client.files.list(purpose=purpose)] == [(file.id, purpose)]
    assert client.files.content(file.id).read() == b'{"item": {}}\n'
    assert not client.files.retrieve(file.id).status_details, "no doctor looks at it"
    with pytest.raises(openai.BadRequestError, match="only a file of purpose 'fine-tune' is trained on"):
        client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
