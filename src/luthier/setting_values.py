"""Values of single settings: each function returns the value, or raises ValueError with what it must be.

The message never repeats the value: it may be a secret.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from pydantic import SecretStr

_ADDRESS = re.compile(r"([^\s:]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})")


def postgresql(value: SecretStr | None) -> SecretStr | None:
    """Raises ValueError for a URL of anything but PostgreSQL."""
    if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a URL that begins with postgresql://; without one the database is a SQLite file")
    return value


def base_address(value: str | None) -> str | None:
    """Raises ValueError for what is no http:// or https:// address of a host and a port."""
    if value is None:
        return None
    parts = urlsplit(value)
    try:
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number, or too large
        is_usable = False
    if not is_usable or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be an address like http://10.0.0.5:8100: scheme, host and port, and nothing else")
    return value.rstrip("/")


def public_address(value: str | None) -> str | None:
    """Raises ValueError for what is no http:// or https:// address, or holds a credential: users are shown it."""
    parts = None if value is None else urlsplit(value)
    if parts is not None and (parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc):
        raise ValueError("must be an http:// or https:// address without user and password")
    return value


def listen_address(value: str | None) -> str | None:
    """Raises ValueError for anything but a host and a port."""
    if value is not None and (not (match := _ADDRESS.fullmatch(value)) or int(match[2]) > 65535):
        raise ValueError("must be an address and a port, such as 127.0.0.1:9100 or [::1]:9100")
    return value


def networks(value: str) -> str:
    """Raises ValueError for a list with anything but addresses, networks and `*`."""
    for address in filter(None, map(str.strip, value.split(","))):
        if address != "*":
            try:
                ipaddress.ip_network(address)
            except ValueError:
                raise ValueError("must be addresses or networks separated by commas, or *") from None
    return value
