"""Sessions of the portal: a key or token is presented once, and a random token in a cookie stands for it afterwards.

A session ends by signing out, after LIFETIME, with its key or when its token expires: each request asks the database
again.
"""

import hashlib
import hmac
import logging
import secrets
from datetime import timedelta

from luthier.core.errors import Unauthenticated
from luthier.core.models import Principal
from luthier.service.context import Context
from luthier.store.queries.portal import sessions

logger = logging.getLogger(__name__)

PREFIX = "lps_"
"""What the token of every session begins with: no key does."""
LIFETIME = timedelta(hours=12)


def create(context: Context, caller: Principal, presented: str) -> str:
    """Starts a session of the caller, whom `presented` (a key or a token) has authenticated; returns its token.

    A session that began with an issuer's token ends with it at the latest. Deletes the sessions that have expired, so
    that their rows do not pile up. Raises as `keys.authenticate` for a token that is not accepted any more.
    """
    token = PREFIX + secrets.token_hex(32)
    now = context.now()
    is_key = not caller.key_name.startswith("oidc:")
    ends_at = now + LIFETIME
    if not is_key:
        assert context.tokens is not None, "a token was accepted"
        ends_at = min(ends_at, context.tokens.verify(presented).expires_at)
    with context.database.writing() as tx:
        sessions.delete_expired(tx, now)
        key_sha256 = _hash(presented) if is_key else None
        sessions.insert_session(tx, _hash(token), caller, key_sha256, now, ends_at)
    logger.info("session created resource=%s", caller.resource.id)
    return token


def is_token(presented: str) -> bool:
    """Whether it has the form of a session's token."""
    return presented.startswith(PREFIX)


def authenticate(context: Context, token: str) -> Principal:
    """Whom the session's token stands for. Raises Unauthenticated if it has ended, or its key is gone."""
    with context.database.reading() as tx:
        caller = sessions.principal(tx, _hash(token), context.now())
    if caller is None:
        raise Unauthenticated("session_ended", "You are signed out: the session has ended. Sign in again.")
    return caller


def end(context: Context, token: str) -> None:
    """Ends the session; does nothing if it has ended already."""
    with context.database.writing() as tx:
        sessions.delete_session(tx, _hash(token))


def csrf_token(token: str) -> str:
    """What a changing request must carry beside the cookie: only a page of ours, which can read it, can send it."""
    return hashlib.sha256(f"csrf:{token}".encode()).hexdigest()


def is_csrf_token(token: str, presented: str) -> bool:
    """Whether `presented` is the session's, compared in constant time."""
    return hmac.compare_digest(csrf_token(token).encode(), presented.encode())


def _hash(token: str) -> str:
    """The sha256 in hex, as of keys: enough for a random token of 256 bits."""
    return hashlib.sha256(token.encode()).hexdigest()
