"""A URL taken apart, and every form of one refused that could be read in two ways."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from luthier.core.errors import InvalidRequest
from luthier.url_fetch import address_policy

MAX_URL_CHARACTERS = 8192
URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#\\]*)(?P<target>[^#\\]*)(#.*)?")
_AUTHORITY = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(:(?P<port>[0-9]{1,5}))?")
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart. `path` includes the query and keeps every byte as it came: a signature may stand over it.

    `host` is in lower case, an IPv6 address without its brackets.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """Host, and the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str, schemes: Collection[str]) -> Target:
    """Takes a URL apart. Raises InvalidRequest for one that could be read in two ways, or of another scheme.

    Never repeats the URL, whose query may be a credential. `schemes` are in lower case.
    """
    if len(url) > MAX_URL_CHARACTERS or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise refused(
            "invalid_url",
            f"The URL must be 1 to {MAX_URL_CHARACTERS} printable ASCII characters; percent-encode all others.",
        )
    parts = URL.fullmatch(url)
    if parts is None:
        raise refused("invalid_url", "The URL is not of the form https://host/path.")
    scheme = parts["scheme"].lower()
    if scheme not in schemes:
        hint = " LUTHIER_IMPORT_HTTP=true allows http." if scheme == "http" else ""
        raise refused("url_not_allowed", f"The URL's scheme must be https.{hint}")
    if "@" in parts["authority"]:
        raise refused("url_not_allowed", "The URL holds a user name or password before the host; leave it out.")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    port = int((authority and authority["port"]) or _PORTS[scheme])
    if authority is None or not 0 < port < 65536:
        raise refused("invalid_url", "The URL's host and port are not of the form host, host:port or [IPv6]:port.")
    host = (authority["v6"] or authority["name"]).lower().rstrip(".")
    if address_policy.literal(host) is None and (authority["v6"] or not host or address_policy.ends_in_number(host)):
        raise refused("url_not_allowed", "The URL's host is no name, and no address in its plain form.")
    path = parts["target"] if parts["target"].startswith("/") else "/" + parts["target"]
    return Target(scheme, host, port, path)


def refused(code: str, message: str) -> InvalidRequest:
    """The error about the `content_url` of a file that is to be imported."""
    return InvalidRequest(code, message, "content_url")
