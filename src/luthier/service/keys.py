"""Keys and the resources that they open: the first start, and who is calling."""

import hashlib
import logging
import os
import secrets
from functools import partial
from pathlib import Path

from luthier.core.errors import Unauthenticated
from luthier.core.models import Principal, Resource
from luthier.service.context import Context
from luthier.store import resources

logger = logging.getLogger(__name__)

DEFAULT_RESOURCE = Resource(
    id="default", subscription="00000000-0000-0000-0000-000000000000", resource_group="luthier", account="luthier"
)
FIRST_KEY_NAME = "first"


def prepare_default(context: Context, key_file: Path, given_key: str | None) -> str:
    """Makes sure that the default resource and its first key exist; returns the key.

    The key is `given_key`, else the one in `key_file`, else a new random one of 256 bits. The file is readable by its
    owner alone; the database holds only the hash.
    """
    key = given_key or (key_file.read_text("ascii").strip() if key_file.exists() else secrets.token_hex(32))
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
    """Who is calling, by the first of the presented keys that opens a resource. Raises Unauthenticated.

    Older SDKs send the key twice, as `api-key` and as bearer token: one right key is enough (contract section 2.1).
    """
    for key in presented:
        sha256 = hash_key(key)
        principal = context.database.remembered(("key", sha256), partial(resources.principal_of_key, sha256=sha256))
        if principal is not None:
            return principal
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


def hash_key(key: str) -> str:
    """A plain sha256 is enough for a random key of 256 bits: a slow hash protects only what can be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        os.fchmod(descriptor, 0o600)
        stream.write(text + "\n")
