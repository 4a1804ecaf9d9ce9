"""Signatures of Standard Webhooks, version 1: HMAC-SHA256 over id, time and body; the form of a secret."""

import base64
import hashlib
import hmac
from collections.abc import Iterable

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32


def secret_text(secret: bytes) -> str:
    """A secret as its owner gets it. Always with its prefix: libraries differ in how they read one without."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def secret_hint(secret: bytes) -> str:
    """By which an owner tells secrets apart: the last four characters."""
    return f"{SECRET_PREFIX}...{secret_text(secret)[-4:]}"


def signature(secrets: Iterable[bytes], delivery_id: str, timestamp: int, body: str) -> str:
    """The header webhook-signature: one signature for each secret, of which the receiver needs to know one.

    `timestamp` is of the attempt, in seconds since 1970: receivers refuse what is older than five minutes.
    """
    signed = f"{delivery_id}.{timestamp}.{body}".encode()
    digests = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
