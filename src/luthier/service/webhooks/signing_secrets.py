"""Signing secrets at rest: sealed by AES-256-GCM, whose key is a file of the data folder and never in the database.

A secret must be usable, so it cannot be hashed like a key; a copy of the database alone opens none
(docs/decisions/0017-webhooks-outbox.md).
"""

import base64
import hmac
import os
import secrets
import threading
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from luthier import atomic_io
from luthier.core.errors import Unavailable
from luthier.core.webhooks import signatures
from luthier.service.context import Context

_KEY_BYTES = 32
_NONCE_BYTES = 12
_creating = threading.Lock()


def new_secret() -> bytes:
    return secrets.token_bytes(signatures.SECRET_BYTES)


def seal(context: Context, endpoint_id: str, secret: bytes) -> str:
    """The secret as it is stored; only `unseal` with the same endpoint's id opens it. Makes the key at the first use.

    Raises NoSpace, and Unavailable for a key's file that holds something else.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(_key_or_new(context.webhook_key_file)).encrypt(nonce, secret, endpoint_id.encode())
    return base64.b64encode(nonce + sealed).decode()


def unseal(context: Context, endpoint_id: str, sealed: str) -> bytes:
    """The secret. Raises Unavailable if the key's file is gone, or another one than it was sealed with."""
    data = base64.b64decode(sealed)
    try:
        key = _parsed(context.webhook_key_file.read_bytes())
        return AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], endpoint_id.encode())
    except (FileNotFoundError, ValueError, InvalidTag) as error:
        text = (
            f"The signing secret of {endpoint_id} cannot be opened: {context.webhook_key_file.name} in the data folder "
            "is missing or another one. Restore it from a backup, or rotate the secret."
        )
        raise Unavailable("webhook_secret_unreadable", text) from error


def derived_key(context: Context, purpose: str) -> bytes:
    """A key of 256 bits for another purpose, the same in every process of the data folder and after a restart.

    Raises as `seal`.
    """
    return hmac.digest(_key_or_new(context.webhook_key_file), purpose.encode(), "sha256")


def _key_or_new(path: Path) -> bytes:
    """The key of the file, which is created for its owner alone if it is missing.

    Of two processes that create it at once, both use the file that came first.
    """
    with _creating:
        if not path.exists():
            with atomic_io.disk_full_as_no_space(path):
                temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
                    stream.flush()
                    os.fsync(descriptor)
                with suppress(FileExistsError):
                    os.link(temporary, path)
                temporary.unlink()
                atomic_io.fsync_path(path.parent)
        try:
            return _parsed(path.read_bytes())
        except ValueError as error:
            text = f"{path.name} in the data folder does not hold a key. Restore it from a backup, or move it away."
            raise Unavailable("webhook_key_unreadable", text) from error


def _parsed(text: bytes) -> bytes:
    """The key in a file's text. Raises ValueError for anything else."""
    key = base64.b64decode(text.strip(), validate=True)
    if len(key) != _KEY_BYTES:
        raise ValueError("not a key")
    return key
