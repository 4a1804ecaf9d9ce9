"""The portal's pages of files: the list, one file with its report and rows, and what its buttons do."""

import json

import httpx2
import pytest

import rows
from fakes import BASE
from luthier.api.services import Services
from luthier.core.roles import Role
from luthier.service.context import Context
from luthier.service.files import data_reports
from luthier.service.tenants import keys, resources, sessions
from portal_visitor import Visitor, sign_in, upload

BAD = b'{"messages": [{"role": "user", "content": "a"}]}\n' + b"no json <b>\n" + rows.good(12)


def test_list_has_name_verdict_and_number_of_jobs(visitor: Visitor, context: Context) -> None:
    good, bad = upload(visitor, rows.good(), "good.jsonl"), upload(visitor, BAD, "bad <1>.jsonl")
    upload(visitor, b"text", "other.txt", "user_data")
    assert "being checked" in visitor.get("/portal/files").text
    while data_reports.check_next(context):
        pass
    headers = {"x-csrf-token": visitor.csrf}
    visitor.post("/v1/fine_tuning/jobs", json={"model": BASE, "training_file": good}, headers=headers)
    page = visitor.get("/portal/files").text
    assert '<span class="badge good">ready</span>' in page
    assert "not ready" in page
    assert "bad &lt;1&gt;.jsonl" in page
    assert "2 error(s), 0 warning(s)" in page
    assert '<td class="number">1</td>' in page
    training = visitor.get("/portal/files?purpose=training&q=BAD").text
    assert bad in training
    assert good not in training
    assert "No file matches" in visitor.get("/portal/files?q=%25").text


def test_list_is_paged(visitor: Visitor, services: Services) -> None:
    for number in range(51):
        upload(visitor, b"x", f"file-{number}.txt", "user_data")
    page = visitor.get("/portal/files").text
    assert "file-50.txt" in page
    assert "file-0.txt" not in page
    (path,) = {part.split('"')[0] for part in page.split('href="') if "after=" in part.split('"')[0]}
    assert "file-0.txt" in visitor.get(path.replace("&amp;", "&")).text


def test_file_with_errors_shows_line_place_sentence_and_fix(visitor: Visitor, context: Context) -> None:
    file = upload(visitor, BAD)
    assert "being checked" in visitor.get(f"/portal/files/{file}").text
    data_reports.check_next(context)
    page = visitor.get(f"/portal/files/{file}").text
    assert "Not ready to train on" in page
    assert "Line 1" in page
    assert "Line 2" in page
    assert "<code" in page
    assert "Fix:" in page
    assert '<span class="badge bad">error</span>' in page
    assert "data-ended" in visitor.get(f"/portal/files/{file}/report").text


def test_mended_copy_is_a_new_file_and_the_old_one_stays(visitor: Visitor, context: Context) -> None:
    content = json.dumps([json.loads(line) for line in rows.good().splitlines()], indent=1).encode()
    file = upload(visitor, content, "array.json")
    data_reports.check_next(context)
    assert "A mended copy has no errors: 10 rows" in visitor.get(f"/portal/files/{file}").text
    made = visitor.send_form(f"/portal/files/{file}/mend")
    assert "array-mended.jsonl" in made.text
    mended = made.url.path.rpartition("/")[2]
    lines = visitor.get(f"/v1/files/{mended}/content").content.splitlines()
    assert [json.loads(line) for line in lines] == json.loads(content)
    assert visitor.get(f"/v1/files/{file}/content").content == content


def test_file_that_a_job_waits_for_is_not_deleted_and_the_page_says_why(visitor: Visitor) -> None:
    file = upload(visitor, rows.good())
    headers = {"x-csrf-token": visitor.csrf}
    body = {"model": BASE, "training_file": file}
    job = visitor.post("/v1/fine_tuning/jobs", json=body, headers=headers).json()["id"]
    page = visitor.get(f"/portal/files/{file}").text
    assert f"Job {job} waits to read it" in page
    assert f'href="/portal/jobs/{job}"' in page
    refused = visitor.send_form(f"/portal/files/{file}/delete")
    assert refused.status_code == 409
    assert f"Job {job} waits" in refused.text
    visitor.post(f"/v1/fine_tuning/jobs/{job}/cancel", headers=headers)
    assert "The file is deleted" in visitor.send_form(f"/portal/files/{file}/delete").text
    assert visitor.get(f"/portal/files/{file}").status_code == 404


def test_users_html_is_never_a_page_of_this_origin(visitor: Visitor) -> None:
    for purpose in ("fine-tune", "user_data", "vision", "assistants"):
        file = upload(visitor, b"<html><script>alert(1)</script>", 'a"\n<b>.html', purpose)
        answer = visitor.get(f"/v1/files/{file}/content")
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"] == "application/octet-stream"
    page = visitor.get(f"/portal/files/{upload(visitor, b'<script>alert(1)</script>', 'x.html', 'user_data')}").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_rows_are_shown_as_the_model_reads_them_with_what_it_learns_marked(
    visitor: Visitor, tokenizer: None, method: str
) -> None:
    file = upload(visitor, rows.good(12) if method == "supervised" else rows.pairs(12))
    page = visitor.get(f"/portal/files/{file}").text
    assert "Line 5" in page
    assert "Line 6" not in page
    assert "<mark>It is 1." in page
    assert "What is 0 plus one?" in page
    assert ("Preferred answer" in page) == (method == "dpo")
    assert "Line 6" in visitor.get(f"/portal/files/{file}?after=5").text
    counted = visitor.get(f"/portal/files/{file}?model={BASE}").text
    assert "Tokens an epoch" in counted
    assert "context: 8,192 tokens" in counted


def test_faulty_row_is_shown_with_its_problem_in_place_of_its_text(visitor: Visitor, tokenizer: None) -> None:
    page = visitor.get(f"/portal/files/{upload(visitor, BAD)}").text
    assert "error at <code>messages" in page


def test_model_that_is_not_here_is_a_sentence_on_the_page(visitor: Visitor) -> None:
    file = upload(visitor, rows.good())
    answer = visitor.get(f"/portal/files/{file}?model=qwen2.5-7b-instruct")
    assert answer.status_code == 200
    assert "not on this machine" in answer.text
    assert "no model &#39;none" in visitor.get(f"/portal/files/{file}?model=none").text.replace("&#34;", "&#39;")


def test_role_that_only_reads_is_offered_no_change(context: Context, url: str, visitor: Visitor) -> None:
    """No role of ours reads files without writing them; one that reads none gets no page."""
    file = upload(visitor, rows.good())
    key = keys.create(context, keys.DEFAULT_RESOURCE.id, "caller", Role.OPENAI_USER)
    token = sessions.create(context, keys.authenticate(context, [key]), key)
    with httpx2.Client(base_url=url, cookies={"luthier_session": token}) as reader:
        for path in ("/portal/files", f"/portal/files/{file}", "/portal/jobs/new"):
            assert reader.get(path).status_code == 403


def test_files_of_another_resource_are_not_there(context: Context, url: str, visitor: Visitor) -> None:
    file = upload(visitor, rows.good(), "of-mine.jsonl")
    _, (key, _) = resources.create(context, "other", None, None)
    with sign_in(url, key) as other:
        assert "No files yet" in other.get("/portal/files").text
        for path in (f"/portal/files/{file}", f"/portal/files/{file}/report"):
            assert other.get(path).status_code == 404
        for action in ("delete", "mend"):
            assert other.send_form(f"/portal/files/{file}/{action}").status_code == 404
        page = other.get(f"/portal/jobs/new?training_file={file}").text
        assert "There is no file" in page
        assert "of-mine" not in page
