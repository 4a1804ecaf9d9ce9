"""A faulty line corrected in the portal: a copy with that line, the file of before as it was; and example files."""

import html
import re

import pytest

import rows
from fakes import BASE
from luthier.core.roles import Role
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.tenants import keys
from portal_visitor import Visitor, sign_in, upload

LINES = rows.good(3).splitlines()
BROKEN = '{"messages": [{"role": "usr", "content": "a <b>"}, {"role": "assistant", "content": "c"}]}'
BAD = b"\n".join([LINES[0], b"", BROKEN.encode(), *LINES[1:]]) + b"\n"
GOOD = BROKEN.replace("usr", "user")


def content(context: Context, file_id: str) -> bytes:
    file = files.get(context, keys.DEFAULT_RESOURCE.id, file_id)
    return b"".join(files.content(context, file))


def test_report_leads_to_the_line_and_its_correction_to_a_copy(visitor: Visitor, context: Context) -> None:
    file = upload(visitor, BAD)
    report = visitor.get(f"/portal/jobs/new?training_file={file}&model={BASE}").text
    address = re.search(rf'href="(/portal/files/{file}/lines/3[^"]*)"', report)
    assert address is not None
    page = visitor.get(html.unescape(address[1])).text
    assert html.escape(BROKEN) in page.replace("&#34;", "&quot;")
    assert "role is unknown" in page
    made = visitor.send_form(f"/portal/files/{file}/lines/3", text=GOOD, **{"for": "job", "model": BASE})
    assert "The corrected copy is stored as a new file and chosen here" in made.text
    assert made.url.params["model"] == BASE
    copy = made.url.params["training_file"]
    assert content(context, copy) == BAD.replace(b"usr", b"user")
    assert content(context, file) == BAD
    assert files.get(context, keys.DEFAULT_RESOURCE.id, copy).filename == "rows-edited.jsonl"


def test_line_is_left_out_and_other_lines_keep_their_order(visitor: Visitor, context: Context) -> None:
    file = upload(visitor, BAD)
    made = visitor.send_form(f"/portal/files/{file}/lines/3", text=BROKEN, leave_out="1")
    copy = made.url.path.rsplit("/", 1)[1]
    assert content(context, copy).split() == b"\n".join(LINES).split()


def test_line_breaks_typed_into_a_row_do_not_split_it(visitor: Visitor, context: Context) -> None:
    file = upload(visitor, BAD)
    made = visitor.send_form(f"/portal/files/{file}/lines/3", text=GOOD.replace("{", "{\r\n", 1))
    copy = made.url.path.rsplit("/", 1)[1]
    assert len(content(context, copy).splitlines()) == len(BAD.splitlines())


@pytest.mark.parametrize("line", [0, 2, 6, 99])
def test_line_without_a_row_is_not_found(visitor: Visitor, line: int) -> None:
    file = upload(visitor, BAD)
    assert visitor.get(f"/portal/files/{file}/lines/{line}").status_code == 404
    assert visitor.send_form(f"/portal/files/{file}/lines/{line}", text=GOOD).status_code == 404


def test_line_that_is_no_text_or_too_long_is_refused_with_what_to_do(visitor: Visitor) -> None:
    latin = upload(visitor, BAD + b'{"messages": "\xe9"}\n')
    answer = visitor.get(f"/portal/files/{latin}/lines/6")
    assert (answer.status_code, "save the file as UTF-8 first" in answer.text) == (400, True)
    long = upload(visitor, BAD + b'{"messages": "' + b"a" * (300 << 10) + b'"}\n')
    answer = visitor.get(f"/portal/files/{long}/lines/6")
    assert (answer.status_code, "correct your copy and upload that" in answer.text) == (413, True)


def test_line_of_a_file_of_another_kind_cannot_be_edited(visitor: Visitor) -> None:
    other = upload(visitor, BAD, "notes.txt", "user_data")
    assert visitor.get(f"/portal/files/{other}/lines/1").status_code == 400


def test_example_files_are_offered_to_who_has_none_and_chosen(visitor: Visitor) -> None:
    assert "Use ten example chats" in visitor.get("/portal/jobs/new").text
    made = visitor.send_form("/portal/jobs/new/examples", n_epochs="2", model=BASE)
    assert "Ten example chats and their validation data" in made.text
    assert "Ready to train on: 10 rows, no problems." in made.text
    assert (made.url.params["n_epochs"], made.url.params["model"]) == ("2", BASE)
    assert made.url.params["validation_file"]
    assert "Use ten example chats" not in made.text


def test_role_that_may_not_store_files_cannot_correct_one(url: str, visitor: Visitor, context: Context) -> None:
    file = upload(visitor, BAD)
    key = keys.create(context, keys.DEFAULT_RESOURCE.id, "caller", Role.OPENAI_USER)
    with sign_in(url, key) as caller:
        assert "/lines/" not in caller.get(f"/portal/files/{file}").text
        assert caller.get(f"/portal/files/{file}/lines/3").status_code == 403
