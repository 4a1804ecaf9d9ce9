"""Address and API key of the service that the commands call, from LUTHIER_* variables and the data folder. Nothing is
sent from here.
"""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from luthier.cli.screen import fail

DEFAULT_URL = "http://127.0.0.1:8000"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
"""By a wildcard address: the loopback address that reaches a service listening on it."""
URL_VARIABLE = "LUTHIER_URL"
KEY_VARIABLE = "LUTHIER_API_KEY"
_VENDOR_KEYS = ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY")
_BASE_PATH = re.compile(r"(/openai)?(/v1)?/*$")
_SENDABLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, and in words where it was found, for the message if the service refuses it."""

    text: str = field(repr=False)
    source: str


def url() -> str:
    """The root of the service's address, by LUTHIER_URL or the default. Ends the command for one that
    is not http(s).
    """
    return normalized(os.environ.get(URL_VARIABLE) or DEFAULT_URL)


def normalized(address: str) -> str:
    """The root of a service's address, whichever base URL was given: /v1, /openai and /openai/v1 are removed. Ends the
    command with exit code 1 for a text that is not the address of a service.
    """
    root = _BASE_PATH.sub("", address.strip().rstrip("/"))
    if not _is_root(root):
        fail(f"{address!r} is not the address of a service. {URL_VARIABLE} is like {DEFAULT_URL} (http or https).")
    return root


def find_key() -> Key:
    """The API key that the commands send. Ends the command with exit code 1 if there is none, or if no header can carry
    it.
    """
    key = stored_key()
    if key is None:
        fail(
            f"No API key: set {KEY_VARIABLE} to one of the service; on its own machine {_key_file()} holds the first."
            + vendor_key_hint(),
            code="no_key",
        )
    if not _SENDABLE.fullmatch(key.text):
        fail(f"The key of {key.source} cannot be sent: it must be of visible ASCII characters, without spaces.")
    return key


def stored_key() -> Key | None:
    """The key of LUTHIER_API_KEY, else of the data folder's key file, unchecked; None if there is neither."""
    if text := os.environ.get(KEY_VARIABLE, "").strip():
        return Key(text, KEY_VARIABLE)
    path = _key_file()
    return Key(path.read_text("utf-8", "replace").strip(), f"the file {path}") if path.exists() else None


def vendor_key_hint() -> str:
    """A sentence on vendors' keys that are set, since they are never sent; empty if none is."""
    names = [name for name in _VENDOR_KEYS if os.environ.get(name)]
    if not names:
        return ""
    whose = "is a vendor's" if len(names) == 1 else "are vendors'"
    return f" {' and '.join(names)} {whose}, and never sent here."


def last_address() -> str | None:
    """The address at which the service of this machine's data folder was last started, from its lock file; None if that
    cannot be read or names none.
    """
    from luthier.settings import Settings

    try:
        lock = json.loads((Settings().data_dir / "luthier.lock").read_text("utf-8"))
        return str(lock["address"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_root(root: str) -> bool:
    """Whether the text is an http(s) URL with a host, a valid port and no query."""
    try:
        parts = urlsplit(root)
        has_valid_port = parts.port is None or parts.port >= 0  # the property raises ValueError for any other
    except ValueError:
        return False
    is_http = parts.scheme in ("http", "https") and bool(parts.hostname)
    return is_http and has_valid_port and not (parts.query or parts.fragment)


def _key_file() -> Path:
    """The path at which the settings have the file of the first key, whether it exists or not."""
    from luthier.settings import Settings

    return Settings().key_file
