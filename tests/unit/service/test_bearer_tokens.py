"""Bearer tokens: an issuer of the test's own, its keys, and every way in which a token can be wrong."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from openai import AzureOpenAI
from pydantic import ValidationError

from fakes import KEY, engine_calls
from issuer import AUDIENCE, EC, RSA, SHORT, Issuer, public
from luthier.api import server
from luthier.api.services import Services
from luthier.api.streaming.event_feed import EventFeed
from luthier.core.errors import Unauthenticated, Unavailable
from luthier.core.models import Job
from luthier.core.roles import Role
from luthier.oidc.bearer_tokens import KEYS_MAX_AGE_S, LEEWAY_S, RETRY_S, OidcVerifier
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.settings import Settings

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def verifier(issuer: Issuer, time: Time) -> OidcVerifier:
    return OidcVerifier(issuer.url, AUDIENCE, "roles", "resource", time)


Sign = Callable[..., str]


@pytest.fixture
def sign(issuer: Issuer) -> Sign:
    def signed(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **changes: object) -> str:
        claims: dict[str, object] = {
            "iss": issuer.url,
            "aud": AUDIENCE,
            "sub": "subject-1",
            "iat": int(NOW.timestamp()),
            "exp": int(NOW.timestamp()) + 600,
            "roles": [str(Role.OPENAI_USER)],
            "resource": "luthier",
        }
        claims |= changes
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, key, algorithm, headers={"kid": kid} if kid else None)

    return signed


def seconds(number: float) -> int:
    return int(NOW.timestamp() + number)


def test_token_of_either_algorithm_says_who_where_and_what(verifier: OidcVerifier, sign: Sign) -> None:
    for token in (sign(), sign(EC, "ES256", "ec")):
        claims = verifier.verify(token)
        assert (claims.subject, claims.account, claims.roles) == ("subject-1", "luthier", frozenset({Role.OPENAI_USER}))
    several = verifier.verify(sign(roles=["stranger", "cognitive services usages reader", str(Role.CONTRIBUTOR)]))
    assert several.roles == {Role.USAGES_READER, Role.CONTRIBUTOR}
    assert verifier.verify(sign(roles=str(Role.OPENAI_USER))).roles == {Role.OPENAI_USER}
    assert verifier.verify(sign(aud=["api://else", AUDIENCE])).account == "luthier"


def _named(value: object) -> str:
    """Names that are the same in every process: a key's own spelling is not."""
    return (
        ",".join(f"{name}={one if isinstance(one, str | int) else name}" for name, one in value.items())
        if isinstance(value, dict)
        else str(value)
    )


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://elsewhere.example"}, "issuer"),
        ({"aud": "api://else"}, "audience"),
        ({"exp": seconds(-LEEWAY_S - 1)}, "expired"),
        ({"exp": None}, "exp"),
        ({"sub": None}, "sub"),
        ({"aud": None}, "aud"),
        ({"nbf": seconds(LEEWAY_S + 2)}, "not valid yet"),
        ({"iat": seconds(LEEWAY_S + 2)}, "not valid yet"),
        ({"roles": None}, "names no role"),
        ({"roles": ["Administrator"]}, "names no role"),
        ({"roles": {"a": 1}}, "names no role"),
        ({"resource": None}, "names no resource"),
        ({"resource": ["luthier"]}, "names no resource"),
        ({"kid": "unknown"}, "key id"),
        ({"kid": None}, "key id"),
        ({"kid": "ec"}, "signature or form"),
        ({"key": SHORT, "kid": "short"}, "signature or form"),
        ({"key": rsa.generate_private_key(65537, 2048)}, "signature or form"),
        ({"algorithm": "RS512"}, "algorithm"),
        ({"algorithm": "PS256"}, "algorithm"),
        ({"key": "s" * 64, "algorithm": "HS256"}, "algorithm"),
        ({"key": None, "algorithm": "none"}, "algorithm"),
    ],
    ids=_named,
)
def test_token_that_is_wrong_is_refused_with_the_reason(
    verifier: OidcVerifier, sign: Sign, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unauthenticated, match=reason):
        verifier.verify(sign(**changes))


def test_times_may_differ_by_the_leeway(verifier: OidcVerifier, sign: Sign) -> None:
    assert verifier.verify(sign(exp=seconds(-LEEWAY_S + 1), nbf=seconds(LEEWAY_S - 1), iat=seconds(LEEWAY_S - 1)))


def test_public_key_is_no_secret_to_sign_with(verifier: OidcVerifier, sign: Sign, issuer: Issuer) -> None:
    """The confusion attack: a token signed by HMAC with what everybody can read."""
    head, payload, _ = sign().split(".")
    forged = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "rsa"}).encode()).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated, match="algorithm"):
        verifier.verify(f"{forged}.{payload}.{head}")
    issuer.keys = [{"kty": "oct", "k": "c2VjcmV0", "kid": "rsa"}]
    fresh = OidcVerifier(issuer.url, AUDIENCE, "roles", "resource", verifier.now)
    with pytest.raises(Unauthenticated):
        fresh.verify(sign())


NO_TOKENS = ["..", "a.b.c", "\u00e9.\u00e9.\u00e9", "e30.e30.", "." * 2000, "eyJhbGciOiJub25lIn0.e30."]


@pytest.mark.parametrize("token", NO_TOKENS)
def test_malformed_token_is_refused(verifier: OidcVerifier, token: str) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(token)


def test_new_key_of_the_issuer_is_fetched_and_unknown_ids_do_not_fetch_each_time(
    verifier: OidcVerifier, sign: Sign, issuer: Issuer, time: Time
) -> None:
    verifier.verify(sign())
    verifier.verify(sign())
    assert issuer.asked == 1
    new = rsa.generate_private_key(65537, 2048)
    issuer.keys = [public("rsa-new", new)]
    for _ in range(5):
        with pytest.raises(Unauthenticated, match="key id"):
            verifier.verify(sign(new, kid="rsa-new"))
    assert issuer.asked == 1
    time.now += timedelta(seconds=RETRY_S)
    assert verifier.verify(sign(new, kid="rsa-new"))
    assert verifier.verify(sign(new, kid=None))
    assert issuer.asked == 2
    with pytest.raises(Unauthenticated, match="key id"):
        verifier.verify(sign())  # the old key is withdrawn


def test_new_key_is_fetched_after_the_clock_was_set_back_a_day(
    verifier: OidcVerifier, sign: Sign, issuer: Issuer, time: Time
) -> None:
    verifier.verify(sign())
    time.now -= timedelta(days=1)
    issuer.keys.append(public("rsa-new", RSA))
    assert verifier.verify(sign(kid="rsa-new", iat=seconds(-86400), exp=seconds(3600))).account
    assert issuer.asked == 2


def test_cached_keys_are_used_while_the_issuer_is_down_and_none_are_a_503(
    verifier: OidcVerifier, sign: Sign, issuer: Issuer, time: Time
) -> None:
    issuer.is_down = True
    with pytest.raises(Unavailable, match="API key"):
        verifier.verify(sign())
    issuer.is_down = False
    time.now += timedelta(seconds=RETRY_S)
    assert verifier.verify(sign())
    issuer.is_down = True
    time.now += timedelta(seconds=KEYS_MAX_AGE_S + 1)
    assert verifier.verify(sign(exp=seconds(2 * KEYS_MAX_AGE_S)))


def test_stream_of_a_token_that_expires_ends_with_an_error(
    switch: tuple[Any, str],
    context: Context,
    serving: Serving,
    verifier: OidcVerifier,
    sign: Sign,
    time: Time,
    create: Callable[..., Job],
) -> None:
    there, job = replace(context, tokens=verifier), create()
    services = Services(there, serving, lambda: None, event_feed=EventFeed(poll_s=0.05), calls=engine_calls())
    switch[0].app = server.build(services, None)
    token = sign(roles=[str(Role.OWNER)])
    address = f"{switch[1]}/v1/fine_tuning/jobs/{job.id}/events?stream=true"
    with httpx2.stream("GET", address, headers={"authorization": f"Bearer {token}"}, timeout=30) as answer:
        lines = answer.iter_lines()
        assert "fine_tuning.job.event" in next(lines)
        time.now += timedelta(days=365)  # nothing is committed meanwhile
        assert "it has expired" in [line for line in lines if line][-1]


def test_discovery_document_of_another_issuer_is_not_trusted(
    verifier: OidcVerifier, sign: Sign, issuer: Issuer
) -> None:
    issuer.named = "https://elsewhere.example"
    with pytest.raises(Unavailable):
        verifier.verify(sign())
    assert issuer.asked == 0


def test_sdk_with_a_token_does_what_its_role_allows_and_keys_go_on(
    switch: tuple[Any, str], context: Context, serving: Serving, verifier: OidcVerifier, sign: Sign
) -> None:
    values = {name: getattr(context, name) for name in Context.__dataclass_fields__}
    switch[0].app = server.build(
        Services(Context(**values | {"tokens": verifier}), serving, lambda: None, calls=engine_calls()), None
    )
    url = switch[1]

    def client(token: str) -> AzureOpenAI:
        return AzureOpenAI(
            azure_endpoint=url, azure_ad_token_provider=lambda: token, api_version="2024-10-21", max_retries=0
        )

    with client(sign(roles=[str(Role.OPENAI_CONTRIBUTOR)])) as contributor:
        assert contributor.files.list().data == []

    def status(token: str, path: str = "/v1/files", **headers: str) -> int:
        return httpx2.get(url + path, headers={"authorization": f"Bearer {token}", **headers}).status_code

    assert status(sign(roles=[str(Role.OPENAI_USER)])) == 403
    assert status(sign(resource="nobody")) == 401
    assert status(sign(aud="else")) == 401
    assert status("a.b.c", **{"api-key": KEY}) == 200
    assert status(KEY) == 200


@pytest.mark.parametrize(
    "given", [{"oidc_issuer": "https://a.example"}, {"oidc_issuer": "http://a.example", "oidc_audience": "b"}]
)
def test_half_an_issuer_or_an_open_one_stops_the_start(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="LUTHIER_OIDC"):
        Settings(**given)
