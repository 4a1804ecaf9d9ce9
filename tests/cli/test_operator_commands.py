"""luthier resources, keys, audit: an operator at the data folder, with the service running or not."""

import json
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import AuthenticationError, OpenAI
from typer.testing import CliRunner, Result

import received
import rows
from fakes import KEY
from luthier.cli.main import app
from luthier.core.ports import Blob
from luthier.core.states import FilePurpose
from luthier.service.background import installation
from luthier.service.background.expiry import Housekeeper
from luthier.service.background.installation import StoreLocation
from luthier.service.context import Context
from luthier.service.files import files
from luthier.store.queries import files as file_rows

Command = Callable[..., Result]


@pytest.fixture
def luthier(context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(context.data_folder))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def lines(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split("\t") for line in result.stdout.splitlines()]


def opens(url: str, key: str) -> bool:
    try:
        OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0).models.list()
    except AuthenticationError:
        return False
    return True


def test_resource_is_made_shown_used_and_deleted_while_the_service_runs(luthier: Command, url: str) -> None:
    made = lines(luthier("resources", "create", "team-a", "--group", "research"))
    (_, key1), (_, key2) = made[-2:]
    assert [row[:2] for row in lines(luthier("resources", "list"))] == [["luthier", "luthier"], ["team-a", "research"]]
    client = OpenAI(base_url=f"{url}/v1", api_key=key1, max_retries=0)
    client.files.create(file=rows.good(), purpose="fine-tune")
    shown = json.loads(luthier("resources", "show", "team-a").stdout)
    assert [key["name"] for key in shown["keys"]] == ["key1", "key2"]
    assert shown["usages"]["files"] == {"current": 1, "limit": 100}
    assert "/resourceGroups/research/" in shown["deployments"]
    refused = luthier("resources", "delete", "team-a")
    assert refused.exit_code == 1
    assert "has 1 files" in refused.stderr
    assert opens(url, key2)
    assert "next start" in luthier("resources", "delete", "team-a", "--force").stdout
    assert not opens(url, key1)
    assert not opens(url, key2)


def test_keys_are_made_with_a_role_regenerated_and_revoked(luthier: Command, url: str) -> None:
    role = "cognitive services openai user"
    [[first]] = lines(luthier("keys", "create", "ci", "--role", role))
    assert opens(url, first)
    assert [row[:2] for row in lines(luthier("keys", "list"))] == [
        ["ci", "Cognitive Services OpenAI User"],
        ["key1", "Owner"],
    ]
    [[second]] = lines(luthier("keys", "regenerate", "ci"))
    assert (opens(url, first), opens(url, second)) == (False, True)
    assert luthier("keys", "revoke", "ci").exit_code == 0
    assert not opens(url, second)
    for arguments, words in (
        (("create", "x", "--role", "King"), "Cognitive Services Usages Reader"),
        (("create", "a b", "--role", role), "letters"),
        (("revoke", "key1"), "Regenerate"),
        (("regenerate", "nothing"), "no key"),
        (("list", "--resource", "nobody"), "no resource"),
    ):
        refused = luthier("keys", *arguments)
        assert refused.exit_code == 1, arguments
        assert words in refused.stderr
        assert "Traceback" not in refused.stderr


def test_first_key_is_key1_and_its_successor_lies_in_the_key_file(luthier: Command, url: str, context: Context) -> None:
    [[key]] = lines(luthier("keys", "regenerate", "key1"))
    assert (opens(url, KEY), opens(url, key)) == (False, True)
    assert context.key_file.read_text().strip() == key


def test_quotas_are_shown_and_set(luthier: Command) -> None:
    assert lines(luthier("resources", "quota"))[0][:3] == ["files", "0", "1000000"]
    changed = lines(luthier("resources", "quota", "luthier", "--set", "files=7", "--set", "jobs=0"))
    assert [row[1:3] for row in changed if row[0] in {"files", "jobs", "job_tokens"}] == [
        ["0", "7"],
        ["0", "0"],
        ["", "2000000000"],
    ]
    assert lines(luthier("resources", "quota", "--set", "files=default"))[0][2] == "1000000"
    for wrong in ("files", "files=", "files=-1", "files=many", "cats=1", f"files={2**63}", "files=²"):
        refused = luthier("resources", "quota", "luthier", "--set", wrong)
        assert refused.exit_code == 1, wrong
        assert "Traceback" not in refused.output
    assert lines(luthier("resources", "quota"))[0][2] == "1000000"


def test_quotas_are_set_all_or_none(luthier: Command) -> None:
    refused = luthier("resources", "quota", "--set", "files=5", "--set", f"jobs={2**62 + 1}")
    assert (refused.exit_code, "must be from 0" in refused.stderr) == (1, True)
    assert lines(luthier("resources", "quota"))[0][2] == "1000000"
    assert lines(luthier("audit", "--action", "quotas/write")) == []
    lines(luthier("resources", "quota", "--set", "files=5", "--set", "jobs=6"))
    assert len(lines(luthier("audit", "--action", "quotas/write"))) == 1


def test_audit_shows_what_operator_and_callers_have_changed(luthier: Command, openai_client: OpenAI) -> None:
    file = openai_client.files.create(file=rows.good(), purpose="fine-tune")
    [[key]] = lines(luthier("keys", "create", "ci", "--role", "Owner"))
    luthier("keys", "revoke", "nothing")
    told = lines(luthier("audit"))
    assert [(row[2], row[3], row[5], row[6]) for row in told] == [
        ("key1", "files/write", file.id, "200"),
        ("operator", "keys/write", "ci", "0"),
    ]
    assert lines(luthier("audit", "--who", "operator")) == told[1:]
    assert lines(luthier("audit", "--limit", "1")) == told[1:]
    [entry] = json.loads(luthier("audit", "--action", "files/write", "--json").stdout)
    assert entry["id"] == file.id
    assert key not in luthier("audit", "--json").stdout


def test_folder_of_no_service_is_told_in_one_line(luthier: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_DATA_DIR", "nowhere")
    for arguments in (("resources", "list"), ("keys", "list"), ("audit",)):
        refused = luthier(*arguments)
        assert refused.exit_code == 1
        assert "not the data folder of a service" in refused.stderr


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.one_of(st.text(max_size=70), st.text(string.ascii_letters + string.digits + "._-/ \x00[]", max_size=66)))
def test_any_name_is_taken_and_listed_or_refused_in_words(luthier: Command, name: str) -> None:
    listed = {row[0].lower() for row in lines(luthier("resources", "list"))}
    made = luthier("resources", "create", "--", name)
    if made.exit_code == 0:
        assert name in {row[0] for row in lines(luthier("resources", "list"))}
        assert luthier("resources", "delete", "--", name).exit_code == 0
    else:
        assert made.exit_code == 1, made.output
        assert isinstance(made.exception, SystemExit)
        assert "resource's name has" in made.stderr or name.lower() in listed
    assert {row[0].lower() for row in lines(luthier("resources", "list"))} == listed


def test_storage_shows_lists_restores_and_empties_what_no_row_knows(
    luthier: Command, context: Context, tmp_path: Path
) -> None:
    installation.claim(context.database, StoreLocation(context.blobs, "The folder", is_shared=False), context.now())
    lost = [received.blob(context, [b"abc"]).key for _ in range(2)]
    housekeeper = Housekeeper(context)
    housekeeper.sweep()
    housekeeper.sweep()
    shown = json.loads(luthier("storage", "show").stdout)
    assert (shown["prefix"], shown["swept"], shown["lost_and_found"]) == ("", True, {"count": 2, "bytes": 6})
    [[first, n_bytes, day], _] = lines(luthier("storage", "list"))
    assert (first in lost, n_bytes) == (True, "3")

    assert luthier("storage", "restore", "--to", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out" / day / first).read_bytes() == b"abc"
    again = luthier("storage", "restore", "--to", str(tmp_path / "out"))
    assert (again.exit_code, "File exists" in again.stderr) == (1, True)
    file = files.make_file(context, "default", "a.txt", FilePurpose.USER_DATA, Blob(first, 3, ""), None)
    with context.database.writing() as tx:
        file_rows.insert_file(tx, file)
    assert luthier("storage", "restore").stdout == "restored 1\n"
    assert b"".join(files.content(context, file)) == b"abc"

    assert luthier("storage", "empty", "--before", day, "--yes").stdout == "deleted 0 (0 bytes)\n"
    assert luthier("storage", "empty").exit_code == 1, "unasked nothing is deleted"
    assert luthier("storage", "empty", "--yes").stdout == "deleted 1 (3 bytes)\n"
    assert lines(luthier("storage", "list")) == []


def test_adopted_blob_store_is_in_the_audit(luthier: Command) -> None:
    assert "belongs to installation" in luthier("storage", "adopt", "--yes").stdout
    [entry] = lines(luthier("audit", "--action", "storage/write"))
    assert (entry[2], entry[5]) == ("operator", "blob-store")
