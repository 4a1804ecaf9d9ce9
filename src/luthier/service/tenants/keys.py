"""API keys: the first start, authentication, and keys created, regenerated and revoked. A key is shown once."""

import hashlib
import logging
import os
import re
import secrets
from functools import partial
from pathlib import Path

from luthier.core import ids
from luthier.core.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from luthier.core.models import ApiKey, Principal, Resource
from luthier.core.roles import Role
from luthier.service.context import Context
from luthier.service.tenants import sessions
from luthier.store.queries import resources

logger = logging.getLogger(__name__)

DEFAULT_RESOURCE = Resource(
    id=ids.DEFAULT_RESOURCE,
    subscription="00000000-0000-0000-0000-000000000000",
    resource_group="luthier",
    account="luthier",
)
FIRST_KEY_NAME = "key1"
ACCOUNT_KEYS = (FIRST_KEY_NAME, "key2")
"""The two keys that every Azure resource has: while one is regenerated, callers use the other."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHORT_KEY = 20
"""A shorter first key is a warning at each start: it has every right."""
_SENDABLE = re.compile(r"[!-~]+")


def prepare_default(context: Context, key_file: Path, given_key: str | None) -> str:
    """Makes sure that the default resource and its key1 exist; returns the key.

    The key is `given_key`, else the one in `key_file`, else a new random one of 256 bits. The file is readable by its
    owner only; the database holds only the hash. Raises InvalidRequest for a key that no header can carry, Conflict
    for one that belongs to another resource or is another key of this one.
    """
    stored = key_file.read_text("ascii").strip() if key_file.exists() else None
    key = given_key or stored or new_key()
    _check_server_key(context, key)
    if len(key) < SHORT_KEY:
        logger.warning("LUTHIER_SERVER_KEY has %d characters only: a key that cannot be guessed has 32", len(key))
    if stored != key:
        _write_private(key_file, key)
    with context.database.writing() as tx:
        if resources.get(tx, DEFAULT_RESOURCE.id) is None:
            resources.insert_resource(tx, DEFAULT_RESOURCE, context.now())
            logger.info("resource created id=%s", DEFAULT_RESOURCE.id)
        if resources.principal_of_key(tx, hash_key(key)) is None:
            resources.delete_key(tx, DEFAULT_RESOURCE.id, FIRST_KEY_NAME)
            resources.insert_key(tx, hash_key(key), DEFAULT_RESOURCE.id, FIRST_KEY_NAME, context.now())
            logger.info("key created resource=%s name=%s", DEFAULT_RESOURCE.id, FIRST_KEY_NAME)
    return key


def _check_server_key(context: Context, key: str) -> None:
    """Raises Conflict for a key that is already another one: as key1 it would open another resource.

    Raises InvalidRequest for a key that no header can carry.
    """
    if not _SENDABLE.fullmatch(key):
        text = "The key of the service must be of visible ASCII characters, without spaces: it is sent in a header."
        raise InvalidRequest("invalid_server_key", text)
    with context.database.reading() as tx:
        owner = resources.principal_of_key(tx, hash_key(key))
    if owner is not None and (owner.resource.id, owner.key_name) != (DEFAULT_RESOURCE.id, FIRST_KEY_NAME):
        raise Conflict(
            "server_key_taken",
            f"The key that is to be {FIRST_KEY_NAME} of the resource {DEFAULT_RESOURCE.account} is {owner.key_name} of "
            f"the resource {owner.resource.account} already. Set LUTHIER_SERVER_KEY to another one. If it is unset, "
            "the key comes from the file api-key of the data folder: delete the file, and a new one is created.",
        )


def refuse_clients_key(context: Context, key: str) -> None:
    """Raises Conflict if the key in a client's environment variable is not key1: which of the two is meant is unclear.

    LUTHIER_API_KEY is what clients send. Older versions took it for the service's own key, so a service that was
    started with a tenant's key in that variable would have locked out all others.
    """
    with context.database.reading() as tx:
        owner = resources.principal_of_key(tx, hash_key(key))
    if owner is None or (owner.resource.id, owner.key_name) != (DEFAULT_RESOURCE.id, FIRST_KEY_NAME):
        raise Conflict(
            "clients_key_at_start",
            "LUTHIER_API_KEY is set, which is what clients send, and its key is not key1 of this data folder. To use "
            "it as key1, set LUTHIER_SERVER_KEY to it; otherwise unset LUTHIER_API_KEY for the service.",
        )


def authenticate(context: Context, presented: list[str]) -> Principal:
    """The caller, by the first of the presented keys or tokens that opens a resource, or by a session of the portal.

    Older SDKs send the key twice, as `api-key` and as bearer token: one right key is enough (wire-contract.md 2.1).
    Raises Unauthenticated, and Unavailable if a token's issuer does not answer.
    """
    for key in presented:
        if sessions.is_token(key):
            return sessions.authenticate(context, key)
        sha256 = hash_key(key)
        principal = context.database.cached(("key", sha256), partial(resources.principal_of_key, sha256=sha256))
        if principal is not None:
            return principal
    if context.tokens is not None:
        for token in presented:
            if may_be_token(token):
                return _principal_of_token(context, token)
    if presented:
        raise Unauthenticated(
            "invalid_api_key",
            "Access denied: this API key opens no resource here. The first key is in the file api-key of the service's "
            "data folder, whose path `luthier serve` prints; check also that the endpoint is the right one.",
        )
    raise Unauthenticated(
        "missing_api_key",
        "Access denied: the request carries no API key. Send it in the header `api-key: KEY` or "
        "`Authorization: Bearer KEY`; `luthier serve` prints the path of the file that holds it.",
    )


def may_be_token(presented: str) -> bool:
    """Whether it has the form of a JSON Web Token, which may need the issuer's keys."""
    return presented.count(".") == 2


def recall_principal(context: Context, presented: list[str]) -> Principal | None:
    """The caller that `authenticate` found for the first key, from the cache; None if it is not there. Never blocks."""
    cached: Principal | None = context.database.peek(("key", hash_key(presented[0]))) if presented else None
    return cached


def list_all(context: Context, resource_id: str) -> list[ApiKey]:
    with context.database.reading() as tx:
        return resources.list_keys(tx, resource_id)


def create(context: Context, resource_id: str, name: str, role: Role) -> str:
    """Creates a named key with a role; returns the key, of which only the hash is stored: it cannot be shown again.

    Raises InvalidRequest for the name, Conflict if it is taken.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "invalid_key_name",
            "A key's name has 1 to 64 letters, digits, '-', '_' and '.', and begins with a letter or digit.",
            "name",
        )
    if name.lower() in ACCOUNT_KEYS:
        raise Conflict("key_name_taken", f"{name} is one of the two keys that a resource has: regenerate it instead.")
    key = new_key()
    with context.database.writing() as tx:
        if resources.get_key(tx, resource_id, name) is not None:
            raise Conflict("key_name_taken", f"There already is a key {name}. Regenerate it, or choose another name.")
        resources.insert_key(tx, hash_key(key), resource_id, name, context.now(), role)
    logger.info("key created resource=%s name=%s role=%s", resource_id, name, role)
    return key


def regenerate(context: Context, resource_id: str, name: str) -> str:
    """Replaces a key, which opens nothing from then on, and returns the new one; the role stays. Raises NotFound.

    Key1 of the default resource is also written to its file.
    """
    key = new_key()
    if (resource_id, name) == (DEFAULT_RESOURCE.id, FIRST_KEY_NAME):
        # The file first: a crash in between leaves the old key valid until the next start, which reads the file.
        _write_private(context.key_file, key)
    with context.database.writing() as tx:
        old = resources.get_key(tx, resource_id, name)
        if old is None and name not in ACCOUNT_KEYS:
            raise not_found(name)
        resources.delete_key(tx, resource_id, name)
        role = Role.OWNER if old is None else old.role
        resources.insert_key(tx, hash_key(key), resource_id, name, context.now(), role)
    logger.info("key regenerated resource=%s name=%s", resource_id, name)
    return key


def revoke(context: Context, resource_id: str, name: str) -> None:
    """Deletes a named key. Raises NotFound, and Conflict for key1 and key2, which a resource always has."""
    if name in ACCOUNT_KEYS:
        raise Conflict(
            "key_not_revocable",
            f"{name} is one of the two keys that a resource has. Regenerate it: the old one opens nothing then.",
        )
    with context.database.writing() as tx:
        if not resources.delete_key(tx, resource_id, name):
            raise not_found(name)
    logger.info("key revoked resource=%s name=%s", resource_id, name)


def not_found(name: str) -> NotFound:
    return NotFound("key_not_found", f"There is no key {name!r} here. `luthier keys list` lists the resource's keys.")


def new_key() -> str:
    """A random key of 256 bits."""
    return secrets.token_hex(32)


def hash_key(key: str) -> str:
    """The sha256 of a key in hex, which is what is stored.

    A plain hash is enough for a random key of 256 bits: a slow one protects only what can be guessed.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def _principal_of_token(context: Context, token: str) -> Principal:
    """The caller whom a token of the OpenID Connect issuer names; the issuer's keys may be fetched for that.

    Raises Unauthenticated for a token that is not accepted or names no resource, Unavailable if the issuer is silent.
    """
    assert context.tokens is not None
    claims = context.tokens.verify(token)
    with context.database.reading() as tx:
        resource = resources.find(tx, claims.account)
    if resource is None:
        raise Unauthenticated(
            "invalid_token",
            "Access denied: the token names no resource of this installation. `luthier resources list` lists them; the "
            "claim that names one is set by LUTHIER_OIDC_RESOURCE_CLAIM.",
        )
    return Principal(resource, f"oidc:{claims.subject}", claims.roles)


def _write_private(path: Path, text: str) -> None:
    """Writes the text as the whole content of a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        os.fchmod(descriptor, 0o600)
        stream.write(text + "\n")
