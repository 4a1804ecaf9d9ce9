"""The frame of the portal: signing in and out, what protects each page, errors as pages."""

from typing import Any

import httpx2
import pytest

from fakes import KEY
from luthier.api.services import Services
from luthier.core.roles import Role
from luthier.portal import portal_app
from luthier.portal.web.page import Page
from luthier.service.context import Context
from luthier.service.tenants import keys, sessions
from portal_visitor import Visitor, sign_in

_POSTS = [page for page in portal_app.PAGES if page.method == "POST"]
_GETS = [page for page in portal_app.PAGES if page.method == "GET"]


def _path(template: str) -> str:
    """The page's path with some value for each of its parameters."""
    return "/portal" + template.replace("{", "").replace("}", "")


def test_root_and_portal_lead_to_the_jobs_and_to_the_sign_in_page_without_a_session(url: str) -> None:
    with httpx2.Client(base_url=url, follow_redirects=True) as client:
        for path in ("/", "/portal", "/portal/", "/portal/jobs"):
            answer = client.get(path)
            assert answer.status_code == 200
            assert answer.url.path == "/portal/sign-in"
            assert "API key" in answer.text


def test_sign_in_with_a_wrong_key_says_what_to_do(url: str) -> None:
    answer = httpx2.post(f"{url}/portal/sign-in", data={"key": "wrong"})
    assert answer.status_code == 401
    assert "opens nothing here" in answer.text
    assert "set-cookie" not in answer.headers


def test_sign_in_sets_a_cookie_that_no_script_and_no_other_site_can_use(url: str) -> None:
    answer = httpx2.post(f"{url}/portal/sign-in", data={"key": KEY})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert KEY not in cookie


def test_sign_in_goes_on_to_pages_of_the_portal_only(url: str) -> None:
    for path, target in (
        ("/portal/files?purpose=x", "/portal/files?purpose=x"),
        ("https://elsewhere.example/portal/", "/portal/jobs"),
        ("//elsewhere.example", "/portal/jobs"),
        ("/portal/\\elsewhere.example", "/portal/jobs"),
    ):
        answer = httpx2.post(f"{url}/portal/sign-in", data={"key": KEY, "next": path})
        assert answer.headers["location"] == target


def test_sign_in_from_another_site_is_refused(url: str) -> None:
    answer = httpx2.post(f"{url}/portal/sign-in", data={"key": KEY}, headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 403


def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(visitor: Visitor, url: str) -> None:
    with httpx2.Client(base_url=url, cookies=dict(visitor.cookies)) as copy:
        assert copy.get("/portal/jobs").status_code == 200
        assert visitor.send_form("/portal/sign-out").url.path == "/portal/sign-in"
        assert copy.get("/portal/jobs").status_code == 303


def test_session_ends_with_its_key(context: Context, url: str) -> None:
    key = keys.create(context, keys.DEFAULT_RESOURCE.id, "browser", Role.OPENAI_CONTRIBUTOR)
    with sign_in(url, key) as visitor:
        keys.revoke(context, keys.DEFAULT_RESOURCE.id, "browser")
        assert visitor.get("/portal/jobs").url.path == "/portal/sign-in"


def test_session_ends_after_its_lifetime(visitor: Visitor, context: Context) -> None:
    clock: Any = context.now
    clock.__self__.time += sessions.LIFETIME
    assert visitor.get("/portal/jobs").url.path == "/portal/sign-in"


def test_key_is_no_session_and_a_session_is_no_key_to_sign_in_with(visitor: Visitor, url: str) -> None:
    (token,) = dict(visitor.cookies).values()
    assert httpx2.post(f"{url}/portal/sign-in", data={"key": token}).status_code == 401
    assert httpx2.get(f"{url}/portal/jobs", cookies={"luthier_session": KEY}).status_code == 303


@pytest.mark.parametrize("page", _POSTS, ids=lambda page: page.path)
def test_change_without_the_sessions_csrf_token_is_refused(visitor: Visitor, page: Page) -> None:
    assert visitor.post(_path(page.path), data={"csrf": ""}).status_code == 403
    assert visitor.post(_path(page.path), data={"csrf": "0" * 64}).status_code == 403
    answer = visitor.post(_path(page.path), data={"csrf": visitor.csrf}, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403


@pytest.mark.parametrize("page", portal_app.PAGES, ids=lambda page: f"{page.method} {page.path}")
def test_page_needs_a_session_and_a_role_that_allows_its_action(context: Context, url: str, page: Page) -> None:
    assert httpx2.request(page.method, url + _path(page.path)).status_code == 303
    key = keys.create(context, keys.DEFAULT_RESOURCE.id, "reader", Role.USAGES_READER)
    token = sessions.create(context, keys.authenticate(context, [key]), key)
    answer = httpx2.request(page.method, url + _path(page.path), cookies={"luthier_session": token})
    if page.action not in (None, "usages/read"):
        assert answer.status_code == 403


@pytest.mark.parametrize("page", _GETS, ids=lambda page: page.path)
def test_page_of_nothing_that_exists_is_a_page_and_never_a_fault(visitor: Visitor, page: Page) -> None:
    for query in ("", "?after=nothing&status=nothing&q=%00%ff&notice=nothing&limit=x&job=nothing"):
        answer = visitor.get(_path(page.path) + query)
        assert answer.status_code < 500
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_error_page_has_the_request_id_and_a_way_back(visitor: Visitor) -> None:
    answer = visitor.get("/portal/no-such-page")
    assert answer.status_code == 404
    assert answer.headers["x-request-id"] in answer.text
    assert 'href="/portal/"' in answer.text


def test_session_reads_the_public_api_and_changes_it_only_with_its_csrf_token(visitor: Visitor) -> None:
    assert visitor.get("/v1/models").status_code == 200
    body = {"model": "no-such-model", "training_file": "file-0"}
    assert visitor.post("/v1/fine_tuning/jobs", json=body).status_code == 401
    answer = visitor.post("/v1/fine_tuning/jobs", json=body, headers={"x-csrf-token": visitor.csrf})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "model_not_found"


def test_forms_and_uploads_leave_an_audit_line(visitor: Visitor, services: Services) -> None:
    visitor.send_form("/portal/jobs/ftjob-none/cancel")
    line = services.context.audit_file.read_text().splitlines()[-1]
    assert "POST /portal/jobs/{job_id}/cancel" in line
    assert "ftjob-none" in line


def test_theme_is_remembered_without_script(visitor: Visitor) -> None:
    assert 'data-theme="dark"' in visitor.post("/portal/theme", data={"theme": "dark"}).text
    assert "data-theme" not in visitor.post("/portal/theme", data={"theme": "<b>"}).text


def test_form_that_is_no_form_or_comes_from_a_text_that_is_no_origin_is_refused_without_a_key(url: str) -> None:
    for path in ("/portal/theme", "/portal/sign-in"):
        answer = httpx2.post(url + path, files={"theme": ("x", b"dark")})
        assert (answer.status_code, "pages send forms" in answer.text) == (400, True)
        assert httpx2.post(url + path, data={"key": KEY}, headers={"origin": "http://["}).status_code == 403


def test_session_is_no_key_of_the_api(visitor: Visitor, url: str) -> None:
    (token,) = dict(visitor.cookies).values()
    for headers in ({"api-key": token}, {"authorization": f"Bearer {token}"}):
        assert httpx2.get(f"{url}/v1/models", headers=headers).status_code == 401


def test_cookie_over_https_counts_only_under_its_secure_name(visitor: Visitor, url: str) -> None:
    (token,) = dict(visitor.cookies).values()
    https = {"x-forwarded-proto": "https"}
    for name, status in (("luthier_session", 303), ("__Host-luthier_session", 200)):
        answer = httpx2.get(f"{url}/portal/jobs", headers=https | {"cookie": f"{name}={token}"})
        assert answer.status_code == status


def test_signing_in_again_ends_the_session_before(visitor: Visitor, url: str) -> None:
    with httpx2.Client(base_url=url, cookies=dict(visitor.cookies)) as copy:
        visitor.post("/portal/sign-in", data={"key": KEY})
        assert copy.get("/portal/jobs").status_code == 303


def test_looking_at_a_form_leaves_no_audit_line(visitor: Visitor, services: Services) -> None:
    visitor.get("/portal/jobs/new?suffix=x")
    visitor.get("/portal/deployments/new")
    assert not services.context.audit_file.exists() or "/new" not in services.context.audit_file.read_text()


@pytest.mark.parametrize("page", _GETS, ids=lambda page: page.path)
def test_page_takes_long_words_and_odd_numbers_without_a_fault(visitor: Visitor, page: Page) -> None:
    digits = "9" * 5000
    query = dict.fromkeys(("after", "from"), "²") | {"max_tokens": f"1{'0' * 400}", "seed": digits}
    assert visitor.get(_path(page.path), params=query).status_code < 500
    for name in ("q", "find", "from"):
        assert visitor.get(_path(page.path), params={name: "9" * 52_000}).status_code < 500


def test_method_that_a_page_does_not_take_is_405_with_those_that_it_takes(visitor: Visitor) -> None:
    answer = visitor.delete("/portal/jobs")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
