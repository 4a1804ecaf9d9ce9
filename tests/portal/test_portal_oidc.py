"""Signing in at an issuer: the whole way with a browser's cookies, and every way in which it is refused."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from pydantic import SecretStr, ValidationError

from asgi_switch import Switch
from fakes import KEY, engine_calls
from issuer import AUDIENCE, CLIENT, SECRET, Issuer
from luthier.api import server
from luthier.api.services import Services
from luthier.core.roles import Role
from luthier.oidc.bearer_tokens import OidcVerifier
from luthier.oidc.code_flow import CodeFlow
from luthier.portal import portal_app
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.tenants import keys, sessions
from luthier.settings import Settings
from portal_visitor import Visitor


@pytest.fixture
def issuer(context: Context) -> Iterator[Issuer]:
    made = Issuer()
    made.now = int(context.now().timestamp())
    yield made
    made.close()


@pytest.fixture
def flow(issuer: Issuer, context: Context) -> CodeFlow:
    verifier = OidcVerifier(issuer.url, AUDIENCE, "roles", "resource", context.now)
    return CodeFlow(verifier, CLIENT, SECRET, "openid profile", context.now)


@pytest.fixture
def services(context: Context, serving: Serving, flow: CodeFlow) -> Services:
    with_issuer = replace(context, tokens=flow.verifier, issuer=flow)
    return Services(with_issuer, serving, lambda: None, calls=engine_calls())


@pytest.fixture
def browser(url: str) -> Iterator[Visitor]:
    """Somebody who has not signed in."""
    with Visitor(base_url=url, follow_redirects=True) as made:
        yield made


def sign_in(browser: Visitor, next_path: str = "/portal/settings") -> httpx2.Response:
    """The answer to the way back from the issuer."""
    return browser.get("/portal/sign-in/issuer", params={"next": next_path})


def go_on(browser: Visitor, answer: httpx2.Response) -> httpx2.Response:
    """The page that the browser goes on to by itself."""
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', answer.text)
    assert found, answer.text
    return browser.get(found[1])


def refusal(answer: httpx2.Response) -> str:
    """What the sign-in page says went wrong; nobody is signed in then."""
    assert answer.status_code in (401, 503), answer.text
    assert "luthier_session" not in answer.headers.get("set-cookie", "")
    found = re.search(r'role="alert">([^<]+)', answer.text)
    assert found, answer.text
    return found[1]


def test_sign_in_page_offers_the_issuer_only_if_it_is_configured(
    browser: Visitor, switch: tuple[Switch, str], services: Services, context: Context
) -> None:
    assert "Sign in with 127.0.0.1" in browser.get("/portal/sign-in").text
    plain = replace(services, context=context)
    switch[0].app = server.build(plain, None, portal_app.build(plain))
    assert "Sign in with" not in browser.get("/portal/sign-in").text
    assert browser.get("/portal/sign-in/issuer").status_code == 404
    assert browser.get("/portal/sign-in/callback?code=x&state=y").status_code == 404


def test_sign_in_goes_the_whole_way_with_pkce_state_and_nonce(browser: Visitor, issuer: Issuer) -> None:
    answer = sign_in(browser)
    [asked] = issuer.attempts
    assert asked["code_challenge_method"] == "S256"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert asked["scope"] == "openid profile"
    assert asked["redirect_uri"].endswith("/portal/sign-in/callback")
    page = go_on(browser, answer)
    assert page.url.path == "/portal/settings"
    assert "oidc:subject-1" in page.text
    assert "Owner" in page.text
    session = browser.cookies["luthier_session"]
    assert sessions.is_token(session)


def test_cookie_of_the_attempt_is_lax_and_short_and_that_of_the_session_strict(url: str, issuer: Issuer) -> None:
    left = httpx2.get(f"{url}/portal/sign-in/issuer")
    cookie = left.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=lax", "max-age=600"))
    to = urlsplit(left.headers["location"])
    secrets_told = {values[0] for values in parse_qs(to.query).values()}
    back = httpx2.get(left.headers["location"]).headers["location"]
    came = httpx2.get(back, cookies=dict(left.cookies))
    set_cookies = [value.lower() for value in came.headers.get_list("set-cookie")]
    assert any("luthier_session=lps_" in one and "samesite=strict" in one and "httponly" in one for one in set_cookies)
    assert any(one.startswith("luthier_sign_in=") and "max-age=0" in one for one in set_cookies)
    assert came.status_code == 200, "a redirect would go without the strict cookie"
    assert not any(secret in came.text for secret in secrets_told if len(secret) > 20)


def test_sign_in_that_comes_back_to_another_process_goes_on_there(
    url: str, issuer: Issuer, switch: tuple[Switch, str], services: Services
) -> None:
    left = httpx2.get(f"{url}/portal/sign-in/issuer")
    back = httpx2.get(left.headers["location"]).headers["location"]
    switch[0].app = server.build(services, None, portal_app.build(services))
    assert httpx2.get(back, cookies=dict(left.cookies)).status_code == 200


def test_session_does_not_outlive_the_token(browser: Visitor, issuer: Issuer, context: Context) -> None:
    go_on(browser, sign_in(browser))
    clock: Any = context.now
    clock.__self__.time += timedelta(seconds=400)
    assert browser.get("/portal/settings").url.path == "/portal/settings"
    clock.__self__.time += timedelta(seconds=250)
    assert browser.get("/portal/settings").url.path == "/portal/sign-in"


def test_session_of_a_pasted_token_does_not_outlive_it_either(
    browser: Visitor, issuer: Issuer, context: Context
) -> None:
    token = issuer.sign({"aud": AUDIENCE, "roles": ["Owner"], "resource": "luthier"})
    assert browser.post("/portal/sign-in", data={"key": token, "next": ""}).url.path == "/portal/jobs"
    clock: Any = context.now
    clock.__self__.time += timedelta(seconds=650)
    assert browser.get("/portal/jobs").url.path == "/portal/sign-in"


def test_session_has_the_roles_of_the_token_and_begins_at_a_page_that_they_allow(
    browser: Visitor, issuer: Issuer
) -> None:
    issuer.access_claims = {"roles": [str(Role.OPENAI_USER)]}
    assert go_on(browser, sign_in(browser, "/portal/jobs")).url.path == "/portal/playground"
    assert browser.get("/portal/deployments/new").status_code == 403


def test_id_token_counts_if_the_access_token_is_opaque_and_its_audience_is_ours(
    browser: Visitor, issuer: Issuer, flow: CodeFlow
) -> None:
    issuer.access_claims = None
    assert "its audience (aud) is not" in refusal(sign_in(browser))
    flow.verifier.audience = CLIENT
    assert go_on(browser, sign_in(browser)).url.path == "/portal/settings"


def test_public_client_and_client_with_its_secret_in_the_form(browser: Visitor, issuer: Issuer, flow: CodeFlow) -> None:
    issuer.auth_methods = ["client_secret_post"]
    assert go_on(browser, sign_in(browser)).url.path == "/portal/settings"
    flow.client_secret = issuer.secret = None
    assert go_on(browser, sign_in(browser)).url.path == "/portal/settings"


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"state": "another"}, "another sign-in than yours"),
        ({"state": None}, "another sign-in than yours"),
        ({"iss": "https://elsewhere.example"}, "another issuer"),
        ({"code": None}, "no code"),
        ({"code": "code-of-another"}, "used already or is too old"),
        ({"code": None, "error": "access_denied"}, "did not let you in"),
        ({"code": None, "error": "odd_word", "error_description": "<b>call 555</b>"}, "(odd_word)"),
        ({"code": None, "error": "<script>"}, "The issuer refused the sign-in."),
    ],
)
def test_answer_of_the_issuer_that_does_not_fit_is_refused_in_plain_words(
    browser: Visitor, issuer: Issuer, says: dict[str, str | None], words: str
) -> None:
    issuer.says = says
    answer = sign_in(browser)
    assert words in refusal(answer)
    assert "555" not in answer.text
    assert browser.get("/portal/settings").url.path == "/portal/sign-in"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"nonce": "another"}, "another sign-in than yours"),
        ({"nonce": None}, "another sign-in than yours"),
        ({"aud": "another-client"}, "its audience (aud) is not"),
        ({"aud": [CLIENT, "other"]}, "made for another client"),
        ({"at_hash": "AAAA"}, "do not belong together"),
        ({"exp": 1}, "it has expired"),
        ({"iss": "https://elsewhere.example"}, "its issuer (iss)"),
    ],
)
def test_id_token_that_does_not_fit_is_refused(
    browser: Visitor, issuer: Issuer, claims: dict[str, object], words: str
) -> None:
    issuer.id_claims = claims
    assert words in refusal(sign_in(browser))


def test_access_token_without_a_role_or_of_an_unknown_resource_is_refused(browser: Visitor, issuer: Issuer) -> None:
    issuer.access_claims = {"resource": "nothing"}
    assert "names no resource" in refusal(sign_in(browser))
    issuer.access_claims = issuer.id_claims = {"roles": ["King"]}
    assert "no role of" in refusal(sign_in(browser))


def test_wrong_secret_and_silent_issuer_are_told_in_plain_words(
    browser: Visitor, issuer: Issuer, flow: CodeFlow
) -> None:
    issuer.is_down = True
    assert "Try again in a minute" in refusal(sign_in(browser))
    issuer.is_down = False
    flow.client_secret = "wrong"
    assert "client id or secret" in refusal(sign_in(browser))


def test_way_back_without_the_cookie_with_a_forged_or_an_old_one_or_twice_is_refused(
    url: str, issuer: Issuer, context: Context
) -> None:
    left = httpx2.get(f"{url}/portal/sign-in/issuer")
    back = httpx2.get(left.headers["location"]).headers["location"]
    cookie = left.cookies["luthier_sign_in"]
    for forged in ("", "x", "e30=.00", cookie[:-1] + ("0" if cookie[-1] != "0" else "1"), f"A{cookie}"):
        assert "another browser" in refusal(httpx2.get(back, cookies={"luthier_sign_in": forged} if forged else {}))
    assert httpx2.get(back, cookies={"luthier_sign_in": cookie}).status_code == 200
    assert "used already" in refusal(httpx2.get(back, cookies={"luthier_sign_in": cookie}))
    clock: Any = context.now
    clock.__self__.time += timedelta(seconds=700)
    assert "ten minutes" in refusal(httpx2.get(back, cookies={"luthier_sign_in": cookie}))


def test_way_on_leads_to_pages_of_the_portal_only(browser: Visitor, issuer: Issuer) -> None:
    answer = sign_in(browser, "https://elsewhere.example/")
    assert "elsewhere" not in answer.text
    assert go_on(browser, answer).url.path == "/portal/jobs"


def test_keys_open_the_portal_beside_the_issuer(browser: Visitor) -> None:
    assert browser.post("/portal/sign-in", data={"key": KEY, "next": ""}).url.path == "/portal/jobs"


def test_settings_take_a_client_with_its_issuer_only() -> None:
    whole: dict[str, Any] = {
        "oidc_issuer": "https://login.example",
        "oidc_audience": AUDIENCE,
        "oidc_client_id": CLIENT,
    }
    secret = Settings(**whole, oidc_client_secret=SecretStr("s"))
    assert "'s'" not in repr(secret)
    for wrong in (
        {"oidc_client_id": CLIENT},
        {"oidc_client_secret": "s"},
        whole | {"oidc_scope": "profile"},
    ):
        with pytest.raises(ValidationError, match="LUTHIER_OIDC_"):
            Settings(**wrong)


def test_token_of_the_session_is_a_principal_of_the_issuer(browser: Visitor, issuer: Issuer, context: Context) -> None:
    go_on(browser, sign_in(browser))
    caller = keys.authenticate(context, [browser.cookies["luthier_session"]])
    assert caller.key_name == "oidc:subject-1"
