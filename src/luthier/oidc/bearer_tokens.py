"""Bearer tokens of an OpenID Connect issuer: signature, issuer, audience, times, and what their claims say.

It implements the port `core.ports.TokenVerifier` for service.tenants.keys, if the settings name an issuer.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import jwt

from luthier.core import roles
from luthier.core.errors import Unauthenticated, Unavailable
from luthier.core.ports import Claims
from luthier.core.roles import Role
from luthier.oidc import issuer_documents

logger = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "ES256")
"""Asymmetric only: with a shared-secret algorithm the public key would be the secret. `none` is never accepted."""
LEEWAY_S = 60
KEYS_MAX_AGE_S = 3600
RETRY_S = 30
"""The keys are fetched at most this often, whatever tokens with unknown key ids arrive."""


@dataclass(slots=True)
class OidcVerifier:
    """Verifies tokens of one issuer; caches its public keys, and fetches them again if a token names an unknown one.

    `issuer` is its URL, `audience` what tokens must be issued for; `role_claim` and `resource_claim` name the claims
    with the roles and the resource. `_keys` are JWKs by key id, `_fetched_at` the last success and `_tried_at` the last
    attempt. Safe to use from several threads.
    """

    issuer: str
    audience: str
    role_claim: str
    resource_claim: str
    now: Callable[[], datetime]
    _keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    _fetched_at: datetime | None = None
    _tried_at: datetime | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def verify(self, token: str) -> Claims:
        """What a valid token claims. May fetch the issuer's keys over the network, for some seconds.

        Raises Unauthenticated for a token that is not accepted, and Unavailable if no keys could ever be fetched.
        """
        return self._to_claims(self.claims(token, self.audience))

    def claims(self, token: str, audience: str) -> dict[str, Any]:
        """Every claim of a token of the issuer for that audience, signature and times checked. Raises as `verify`."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise _invalid("it is not a signed JSON Web Token") from error
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise _invalid(f"its algorithm is none of {', '.join(ALGORITHMS)}")
        claims = self._decode(token, algorithm, self._key(header.get("kid")), audience)
        self._check_times(claims)
        return claims

    def _decode(self, token: str, algorithm: str, key: dict[str, Any], audience: str) -> dict[str, Any]:
        """The claims of a token whose signature, issuer and audience are right, its times unchecked.

        Raises Unauthenticated, with the reason as the caller reads it.
        """
        if key.get("alg", algorithm) != algorithm or key.get("use", "sig") != "sig":
            raise _invalid("its algorithm is not the one of the issuer's key")
        try:
            return jwt.decode(
                token,
                jwt.PyJWK(key, algorithm),
                algorithms=[algorithm],
                issuer=self.issuer,
                audience=audience,
                # Times are checked by our own clock.
                options={
                    "require": ["exp", "iss", "aud", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.InvalidIssuerError as error:
            raise _invalid("its issuer (iss) is not the one that this installation trusts") from error
        except jwt.InvalidAudienceError as error:
            raise _invalid(f"its audience (aud) is not {audience!r}") from error
        except jwt.MissingRequiredClaimError as error:
            raise _invalid(f"it lacks the claim {error.claim}") from error
        except jwt.PyJWTError as error:
            raise _invalid("its signature or form is not right") from error

    def _check_times(self, claims: dict[str, Any]) -> None:
        """Raises Unauthenticated for a token that has expired or is not valid yet; clocks may differ by LEEWAY_S."""
        now = self.now().timestamp()
        times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
        if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in times.values()):
            raise _invalid("one of its times is not a number")
        if times["exp"] <= now - LEEWAY_S:
            raise _invalid("it has expired; get a new one from the issuer")
        if max(times.get("nbf", now), times.get("iat", now)) > now + LEEWAY_S:
            raise _invalid("it is not valid yet; compare the clocks of this machine and of the issuer")

    def _to_claims(self, claims: dict[str, Any]) -> Claims:
        """Subject (128 characters of it), resource and known roles; unknown roles are ignored.

        Raises Unauthenticated if the token names no resource, or no role that is known here.
        """
        claim = claims.get(self.role_claim)
        names = [claim] if isinstance(claim, str) else claim if isinstance(claim, list) else []
        named_roles = {roles.by_name(name) for name in names if isinstance(name, str)} - {None}
        account = claims.get(self.resource_claim)
        if not isinstance(account, str) or not account:
            raise _invalid(f"its claim {self.resource_claim} names no resource")
        if not named_roles:
            raise _invalid(f"its claim {self.role_claim} names no role of {', '.join(Role)}")
        held = frozenset(role for role in named_roles if role is not None)
        try:
            expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise _invalid("one of its times is beyond the calendar") from error
        return Claims(str(claims["sub"])[:128], account, held, expires_at)

    def _key(self, id: object) -> dict[str, Any]:
        """The issuer's public key (JWK) of a token's key id, fetched if the cache is old or lacks it.

        Callers wait for each other during a fetch. Raises Unauthenticated for an id that the issuer does not have,
        Unavailable while no keys have ever been fetched.
        """
        with self._lock:
            now = self.now()
            is_stale = self._fetched_at is None or abs(now - self._fetched_at) > timedelta(seconds=KEYS_MAX_AGE_S)
            if is_stale or not self._has(id):
                self._fetch(now)
            if self._fetched_at is None:
                raise Unavailable(
                    "issuer_unavailable",
                    "The token cannot be checked now: the issuer's keys cannot be fetched. Try again in a minute, or "
                    "use an API key.",
                )
            if not self._has(id):
                raise _invalid("the issuer has no key of its key id (kid)")
            return self._keys[id] if isinstance(id, str) else next(iter(self._keys.values()))

    def _has(self, id: object) -> bool:
        """Whether the key is cached; a token without a key id fits only an issuer with a single key."""
        return id in self._keys if isinstance(id, str) else id is None and len(self._keys) == 1

    def _fetch(self, now: datetime) -> None:
        """Fetches the issuer's keys into the cache; if that fails, it is logged and the cached ones stay in use.

        Does nothing within RETRY_S of the last attempt. Needs the lock.
        """
        if self._tried_at is not None and abs(now - self._tried_at) < timedelta(seconds=RETRY_S):
            return
        self._tried_at = now
        try:
            with issuer_documents.new_client() as client:
                document = issuer_documents.discovery(client, self.issuer)
                keys = issuer_documents.get_json(client, str(document["jwks_uri"]))["keys"]
            self._keys = {str(key.get("kid", "")): key for key in keys if isinstance(key, dict)}
            self._fetched_at = now
            logger.info("issuer keys fetched count=%d", len(self._keys))
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("issuer keys not fetched reason=%s", type(error).__name__)


def _invalid(reason: str) -> Unauthenticated:
    """The caller's 401 for a token, with the reason as the end of its sentence."""
    return Unauthenticated("invalid_token", f"Access denied: the bearer token is not accepted: {reason}.")
