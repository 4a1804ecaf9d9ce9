"""Signing in at the issuer: the authorization code flow with PKCE (RFC 6749, RFC 7636, OpenID Connect Core 3.1).

It implements the port `core.ports.IssuerSignIn` for the portal, if the settings name a client of the issuer.
"""

import base64
import hashlib
import hmac
import logging
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx2

from luthier.core.errors import Unauthenticated, Unavailable
from luthier.core.ports import SignInAttempt
from luthier.oidc import issuer_documents
from luthier.oidc.bearer_tokens import OidcVerifier

logger = logging.getLogger(__name__)

DISCOVERY_MAX_AGE = timedelta(hours=1)
_CODE = re.compile(r"[a-z_]{1,40}")
_REASONS = {
    "access_denied": "The issuer did not let you in, or the sign-in was cancelled there.",
    "login_required": "The issuer asks for a sign-in of its own first.",
    "consent_required": "The issuer asks for a consent that was not given.",
    "unauthorized_client": "The issuer does not know this installation as a client that may sign people in.",
    "invalid_client": "The issuer refuses this installation's client id or secret: the operator checks them.",
    "invalid_grant": "The issuer's answer was used already or is too old. Sign in again.",
    "invalid_scope": "The issuer does not have the scopes that this installation asks for.",
    "server_error": "The issuer has a fault of its own. Try again in a minute.",
    "temporarily_unavailable": "The issuer is too busy now. Try again in a minute.",
}


@dataclass(slots=True)
class CodeFlow:
    """Sends people to the issuer and exchanges the code that they bring back for a token.

    `client_secret` is None for a public client. `scope` is what is asked for. Safe to use from several threads.
    """

    verifier: OidcVerifier
    client_id: str
    client_secret: str | None
    scope: str
    now: Callable[[], datetime]
    _document: dict[str, Any] = field(default_factory=dict)
    _fetched_at: datetime | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        """The issuer's host, for the button."""
        return urlsplit(self.verifier.issuer).hostname or self.verifier.issuer

    def begin(self, redirect_uri: str) -> tuple[SignInAttempt, str]:
        """A new attempt, and the issuer's address to send the browser to. Raises Unavailable if it is silent."""
        attempt = SignInAttempt(*(secrets.token_urlsafe(32) for _ in range(3)))
        challenge = hashlib.sha256(attempt.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": redirect_uri,
            "scope": self.scope,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": _base64url(challenge),
            "code_challenge_method": "S256",
        }
        address = self._endpoint("authorization_endpoint")
        return attempt, f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"

    def finish(self, attempt: SignInAttempt, answer: Mapping[str, str], redirect_uri: str) -> str:
        """The token by which the caller is known from now on, which the verifier accepts.

        `answer` is the query that the browser came back with. Raises Unauthenticated, in words for people, for an
        answer to another attempt, one without a code, and tokens that are not accepted; Unavailable if the issuer is
        silent.
        """
        if not hmac.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise _refused("The issuer's answer belongs to another sign-in than yours. Sign in again.")
        if answer.get("iss", self.verifier.issuer) != self.verifier.issuer:  # RFC 9207: another issuer's answer
            raise _refused("The answer comes from another issuer than this installation trusts.")
        if "error" in answer:
            raise _refused(_words(answer["error"]))
        if not answer.get("code"):
            raise _refused("The issuer's answer has no code. Sign in again.")
        tokens = self._exchange(answer["code"], attempt.verifier, redirect_uri)
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str):
            raise _refused("The issuer gave no ID token: the operator checks that its client may use OpenID Connect.")
        self._check_id_token(id_token, access_token, attempt.nonce)
        return self._accepted(id_token, access_token)

    def _exchange(self, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        """The tokens that the issuer gives for a code. Raises Unauthenticated and Unavailable."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        url = self._endpoint("token_endpoint")
        methods = self._document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        credentials = None
        if self.client_secret is not None and "client_secret_basic" in methods:
            # RFC 6749 section 2.3.1: both are form-encoded before Basic encodes them.
            credentials = quote(self.client_id, safe=""), quote(self.client_secret, safe="")
        else:
            form["client_id"] = self.client_id
            if self.client_secret is not None:
                form["client_secret"] = self.client_secret
        try:
            with issuer_documents.new_client() as client:
                status, tokens = issuer_documents.post_form(client, url, form, credentials)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise _silent(error) from error
        if status != 200 or not isinstance(tokens, dict):
            reason = tokens.get("error") if isinstance(tokens, dict) else None
            logger.warning("code not exchanged status=%d reason=%s", status, _known(reason))
            raise _refused(_words(reason))
        return tokens

    def _check_id_token(self, id_token: str, access_token: object, nonce: str) -> None:
        """Raises Unauthenticated for an ID token of another client or attempt, or of another access token."""
        claims = self.verifier.claims(id_token, self.client_id)
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != self.client_id:
            raise _refused("The issuer's ID token was made for another client.")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise _refused("The issuer's ID token belongs to another sign-in than yours. Sign in again.")
        if isinstance(access_token, str) and "at_hash" in claims:
            half = hashlib.sha256(access_token.encode()).digest()[:16]  # both algorithms that we take hash by SHA-256
            if not hmac.compare_digest(str(claims["at_hash"]).encode(), _base64url(half).encode()):
                raise _refused("The issuer's tokens do not belong together. Sign in again.")

    def _accepted(self, id_token: str, access_token: object) -> str:
        """The access token if it is one for this service, else the ID token if that is. Raises Unauthenticated."""
        problem: Unauthenticated | None = None
        for token in (access_token, id_token):
            if not isinstance(token, str) or token.count(".") != 2:
                continue
            try:
                self.verifier.verify(token)
            except Unauthenticated as error:
                problem = problem or error
                continue
            return token
        assert problem is not None, "the ID token has been decoded"
        raise problem

    def _endpoint(self, name: str) -> str:
        """An address of the issuer, its discovery document fetched once an hour. Raises Unavailable."""
        with self._lock:
            now = self.now()
            if self._fetched_at is None or abs(now - self._fetched_at) > DISCOVERY_MAX_AGE:
                try:
                    with issuer_documents.new_client() as client:
                        self._document = issuer_documents.discovery(client, self.verifier.issuer)
                except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
                    raise _silent(error) from error
                self._fetched_at = now
            try:
                return issuer_documents.endpoint(self._document, name)
            except ValueError as error:
                raise _silent(error) from error


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _known(code: object) -> str:
    """The issuer's word for an error, if it has the form of one; else a dash: its text goes into no log and no page."""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else "-"


def _words(code: object) -> str:
    """An error of the issuer's in words for people."""
    word = _known(code)
    return _REASONS.get(word, f"The issuer refused the sign-in{'' if word == '-' else f' ({word})'}.")


def _refused(reason: str) -> Unauthenticated:
    return Unauthenticated("sign_in_refused", reason)


def _silent(error: Exception) -> Unavailable:
    """The error for an issuer that does not answer as one."""
    logger.warning("issuer not usable reason=%s", type(error).__name__)
    return Unavailable(
        "issuer_unavailable",
        "The issuer does not answer as it should, so nobody can sign in there now. Try again in a minute, or sign in "
        "with an API key.",
    )
