"""Settings: quotas with bars, keys that are shown once, the machine; and the audit trail, read from its end."""

import json
import logging
import re
import time
from pathlib import Path

import httpx2
import pytest

import sharing
from fakes import KEY
from luthier.core.quotas import Quota
from luthier.core.roles import Role
from luthier.service.context import Context
from luthier.service.tenants import audit, keys, quotas
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from portal_visitor import Visitor, sign_in

OWN = DEFAULT_RESOURCE.id
NEW_KEY = re.compile(r"[0-9a-f]{64}")


def shown_key(html: str) -> str:
    """The new key on a page, in the block that the script adds a copy button to."""
    found = re.search(r"data-copy[^>]*><code>([0-9a-f]{64})</code>", html)
    assert found, html
    return found[1]


def opens(url: str, key: str) -> bool:
    return httpx2.get(f"{url}/v1/models", headers={"api-key": key}).status_code == 200


def test_settings_show_quotas_keys_resource_and_machine(visitor: Visitor, context: Context) -> None:
    quotas.set_limits(context, OWN, {Quota.DEPLOYMENTS: 0})
    html = visitor.get("/portal/settings").text
    assert "0 of 1,000,000" in html
    assert "used up" in html
    assert "at most 2,000,000,000 in each job" in html
    assert "1.1 TB" in html
    assert html.count("<meter") == len(Quota) - 1
    assert "this session" in html
    assert "luthier resources quota luthier" in html
    assert "Microsoft.CognitiveServices/accounts/luthier" in html
    assert re.search(r"python 3\.\d+", html)
    assert KEY not in html


def test_new_key_is_shown_once_with_its_role_and_is_in_no_address_and_no_log(
    visitor: Visitor, url: str, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = visitor.send_form("/portal/settings/keys", name="ci", role=str(Role.OPENAI_USER))
    key = shown_key(answer.text)
    assert answer.headers["cache-control"] == "no-store"
    assert not NEW_KEY.search(str(answer.url))
    assert opens(url, key)
    assert httpx2.get(f"{url}/v1/files", headers={"api-key": key}).status_code == 403
    html = visitor.get("/portal/settings").text
    assert "ci" in html
    assert key not in html
    assert key not in caplog.text
    line = json.loads(context.audit_file.read_text().splitlines()[-1])
    assert (line["id"], line["action"]) == ("ci", "keys/write")
    assert key not in context.audit_file.read_text()


def test_fault_of_a_new_key_is_at_its_field(visitor: Visitor) -> None:
    for name, status, problem in (("a b", 400, "1 to 64 letters"), ("key1", 409, "regenerate it instead")):
        answer = visitor.send_form("/portal/settings/keys", name=name, role=str(Role.OWNER))
        assert answer.status_code == status
        assert re.search(rf'id="name-problem">[^<]*{problem}', answer.text)
        assert "data-copy" not in answer.text
    answer = visitor.send_form("/portal/settings/keys", name="x", role="King")
    assert (answer.status_code, 'id="role-problem"' in answer.text) == (400, True)


def test_key_is_regenerated_and_revoked(visitor: Visitor, url: str, context: Context) -> None:
    old = keys.create(context, OWN, "ci", Role.OPENAI_USER)
    new = shown_key(visitor.send_form("/portal/settings/keys/ci/regenerate").text)
    assert (opens(url, old), opens(url, new)) == (False, True)
    assert "The key opens nothing any more." in visitor.send_form("/portal/settings/keys/ci/revoke").text
    assert not opens(url, new)
    assert visitor.send_form("/portal/settings/keys/ci/revoke").status_code == 404
    assert visitor.send_form("/portal/settings/keys/key1/revoke").status_code == 409
    assert "Make key2" in visitor.get("/portal/settings").text
    assert opens(url, shown_key(visitor.send_form("/portal/settings/keys/key2/regenerate").text))


def test_regenerating_the_key_of_the_session_shows_the_new_one_and_ends_the_session(
    visitor: Visitor, context: Context
) -> None:
    answer = visitor.send_form("/portal/settings/keys/key1/regenerate")
    key = shown_key(answer.text)
    assert "sign in again" in answer.text
    assert context.key_file.read_text().strip() == key
    assert visitor.get("/portal/settings").url.path == "/portal/sign-in"


def test_each_role_sees_the_parts_that_the_api_shows_it(context: Context, url: str) -> None:
    parts = {"Quotas": "quotas", "Keys": "keys", "Resource": "resource", "Machine": "machine"}
    for role, seen in (
        (Role.OWNER, {"Quotas", "Keys", "Resource", "Machine"}),
        (Role.CONTRIBUTOR, {"Quotas", "Keys", "Resource", "Machine"}),
        (Role.OPENAI_USER, {"Machine"}),
        (Role.OPENAI_CONTRIBUTOR, {"Machine"}),
        (Role.USAGES_READER, {"Quotas"}),
    ):
        key = keys.create(context, OWN, role.name.lower(), role)
        with sign_in(url, key) as reader:
            html = reader.get("/portal/settings").text
            assert {part for part, id in parts.items() if f'<h2 id="{id}">' in html} == seen, role
            assert ("New key" in html) == ("Keys" in seen)
            audit_status = reader.get("/portal/settings/audit").status_code
            assert (audit_status == 200) == ("Resource" in seen), role


def test_audit_trail_is_newest_first_filtered_and_of_the_own_resource(
    visitor: Visitor, context: Context, url: str
) -> None:
    sharing.add_other(context)
    with sign_in(url, sharing.OTHER_KEY) as other:
        other.send_form("/portal/settings/keys", name="theirs", role=str(Role.OWNER))
        visitor.send_form("/portal/settings/keys", name="our-own", role=str(Role.OWNER))
        visitor.send_form("/portal/jobs/ftjob-none/cancel")
        html = other.get("/portal/settings/audit").text
        assert "theirs" in html
        assert "our-own" not in html
        html = visitor.get("/portal/settings/audit").text
        assert html.index("ftjob-none") < html.index("our-own") < html.index("theirs")
        assert "refused" in html
        html = visitor.get("/portal/settings/audit?action=keys/write").text
        assert "ftjob-none" not in html
        assert "our-own" in html


def test_contributor_of_the_default_resource_sees_only_its_own_entries(context: Context, url: str) -> None:
    sharing.add_other(context)
    with sign_in(url, sharing.OTHER_KEY) as other:
        other.send_form("/portal/settings/keys", name="theirs", role=str(Role.OWNER))
    key = keys.create(context, OWN, "admin", Role.CONTRIBUTOR)
    with sign_in(url, key) as reader:
        assert "theirs" not in reader.get("/portal/settings/audit").text


def lines(path: Path, number: int, account: str = "luthier") -> None:
    with path.open("a") as stream:
        for index in range(number):
            entry = audit.Entry(
                "2026-11-22T00:00:00+00:00", account, "key1", "jobs/write", "POST /x", f"n{index}", 200, "r"
            )
            stream.write(json.dumps(vars_of(entry), separators=(",", ":")) + "\n")


def vars_of(entry: audit.Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in audit.Entry.__slots__}


def test_pages_of_the_log_have_every_entry_once_whatever_a_crash_left(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    assert audit.read_newest(path, None, None, None, 50).entries == []
    lines(path, 1200)
    with path.open("a") as stream:
        stream.write('{"at":"torn\n[]\n{"status":"none"}\n')
    lines(path, 3, "violas")
    seen: list[str] = []
    before: int | None = None
    while True:
        page = audit.read_newest(path, "luthier", "jobs/write", before, 500)
        seen += [entry.id for entry in page.entries]
        before = page.before
        if before is None:
            break
    assert seen == [f"n{index}" for index in reversed(range(1200))]
    assert audit.read_newest(path, None, "keys/write", None, 50).entries == []


def test_log_is_read_from_its_end_in_bounded_parts(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    lines(path, 1)
    lines(path, 20_000, "violas")
    page = audit.read_newest(path, "luthier", None, None, 50, max_bytes=2**20)
    assert page.entries == []
    assert page.before is not None
    found: list[audit.Entry] = []
    while page.before is not None:
        page = audit.read_newest(path, "luthier", None, page.before, 50, max_bytes=2**20)
        found += page.entries
    assert [entry.id for entry in found] == ["n0"]
    began = time.perf_counter()
    assert len(audit.read_newest(path, None, None, None, 50).entries) == 50
    assert time.perf_counter() - began < 1.0
