"""Keys: the first start, who is calling, and keys made, regenerated and revoked. A key's text is shown once."""

import hashlib
import logging
import os
import re
import secrets
from functools import partial
from pathlib import Path

from luthier.core.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from luthier.core.models import ApiKey, Principal, Resource
from luthier.core.roles import Role
from luthier.service.context import Context
from luthier.store import resources

logger = logging.getLogger(__name__)

DEFAULT_RESOURCE = Resource(
    id="default", subscription="00000000-0000-0000-0000-000000000000", resource_group="luthier", account="luthier"
)
FIRST_KEY_NAME = "key1"
ACCOUNT_KEYS = (FIRST_KEY_NAME, "key2")
"""The two keys that every Azure resource has: while one is regenerated, callers go on with the other."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def prepare_default(context: Context, key_file: Path, given_key: str | None) -> str:
    """Makes sure that the default resource and its key1 exist; returns the key.

    The key is `given_key`, else the one in `key_file`, else a new random one of 256 bits. The file is readable by its
    owner alone; the database holds only the hash.
    """
    key = given_key or (key_file.read_text("ascii").strip() if key_file.exists() else new_key())
    if not key_file.exists() or key_file.read_text("ascii").strip() != key:
        _write_private(key_file, key)
    with context.database.writing() as tx:
        if resources.get(tx, DEFAULT_RESOURCE.id) is None:
            resources.insert_resource(tx, DEFAULT_RESOURCE, context.now())
            logger.info("resource made id=%s", DEFAULT_RESOURCE.id)
        if resources.principal_of_key(tx, hash_key(key)) is None:
            resources.delete_key(tx, DEFAULT_RESOURCE.id, FIRST_KEY_NAME)
            resources.insert_key(tx, hash_key(key), DEFAULT_RESOURCE.id, FIRST_KEY_NAME, context.now())
            logger.info("key made resource=%s name=%s", DEFAULT_RESOURCE.id, FIRST_KEY_NAME)
    return key


def authenticate(context: Context, presented: list[str]) -> Principal:
    """Who is calling, by the first of the presented keys or tokens that opens a resource.

    Older SDKs send the key twice, as `api-key` and as bearer token: one right key is enough (contract section 2.1).
    Raises Unauthenticated, and Unavailable where a token's issuer does not answer.
    """
    for key in presented:
        sha256 = hash_key(key)
        principal = context.database.remembered(("key", sha256), partial(resources.principal_of_key, sha256=sha256))
        if principal is not None:
            return principal
    if context.tokens is not None:
        for token in presented:
            if token.count(".") == 2:
                return _of_token(context, token)
    if presented:
        raise Unauthenticated(
            "invalid_api_key",
            "Access denied: this API key opens no resource here. Use the key that `luthier serve` prints at its start "
            "(it lies in the file api-key of the data folder), and check that the endpoint is the right one.",
        )
    raise Unauthenticated(
        "missing_api_key",
        "Access denied: the request carries no API key. Send it in the header `api-key: KEY` or "
        "`Authorization: Bearer KEY`; `luthier serve` prints the key at its start.",
    )


def recall(context: Context, presented: list[str]) -> Principal | None:
    """What `authenticate` would say, if the first key has been seen since the last change of anything; never blocks."""
    found: Principal | None = context.database.recalled(("key", hash_key(presented[0]))) if presented else None
    return found


def list_all(context: Context, resource_id: str) -> list[ApiKey]:
    with context.database.reading() as tx:
        return resources.list_keys(tx, resource_id)


def create(context: Context, resource_id: str, name: str, role: Role) -> str:
    """Makes a further key with a role; returns its text, which nobody can see again. Raises Conflict."""
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
            raise Conflict("key_name_taken", f"There is a key {name} already. Regenerate it, or choose another name.")
        resources.insert_key(tx, hash_key(key), resource_id, name, context.now(), role)
    logger.info("key made resource=%s name=%s role=%s", resource_id, name, role)
    return key


def regenerate(context: Context, resource_id: str, name: str) -> str:
    """Puts a new key in the place of the old one, which opens nothing from then on; returns the new key's text."""
    key = new_key()
    if (resource_id, name) == (DEFAULT_RESOURCE.id, FIRST_KEY_NAME):
        # The file first: a crash in between leaves the old key until the next start, which puts in what the file says.
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
    """Takes a named key away. Raises Conflict for key1 and key2, which a resource always has."""
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
    """A plain sha256 is enough for a random key of 256 bits: a slow hash protects only what can be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()


def _of_token(context: Context, token: str) -> Principal:
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
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        os.fchmod(descriptor, 0o600)
        stream.write(text + "\n")
