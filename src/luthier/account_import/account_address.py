"""Address and dialect of the source account, from the URL that a user has at hand."""

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import SplitResult, parse_qs, urlsplit

from luthier.core.errors import InvalidRequest

SOURCE_KEY_VARIABLE = "LUTHIER_SOURCE_API_KEY"
_OPENAI_HOST = "api.openai.com"
_AZURE_HOSTS = tuple(
    f".{service}.{cloud}"
    for service in ("openai", "cognitiveservices", "services.ai")
    for cloud in ("azure.com", "azure.us", "azure.cn")
)
_UNDATED = ("v1", "preview", "latest")


class SourceDialect(StrEnum):
    """Whose API the source speaks: OpenAI's, Azure's dated versions (api-version), or Azure's v1."""

    OPENAI = "OpenAI"
    AZURE = "Azure"
    AZURE_V1 = "Azure v1"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the source account is. `base_url` is for the SDK: for dated Azure the resource's root, else the whole path.

    `host` includes a port that was given; `api_version` is None where none is sent. `key_variables` are the environment
    variables that may hold the key: a vendor's own variable only for its own hosts, so that no vendor's key is sent to
    anybody else.
    """

    dialect: SourceDialect
    base_url: str
    host: str
    api_version: str | None
    key_variables: tuple[str, ...]


def parse(url: str, api_version: str | None = None) -> Address:
    """Parses an account's address; `api_version` wins over the URL's. Raises InvalidRequest that shows valid ones."""
    parts = _split(url)
    version = api_version or next(iter(parse_qs(parts.query).get("api-version", [])), None)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    dialect, base_url = _dialect(origin, path, version, is_azure=_is_azure(parts.hostname or ""))
    variables = [SOURCE_KEY_VARIABLE]
    if _is_azure(parts.hostname or ""):
        variables.append("AZURE_OPENAI_API_KEY")
    elif parts.hostname == _OPENAI_HOST or (parts.hostname or "").endswith(f".{_OPENAI_HOST}"):
        variables.append("OPENAI_API_KEY")
    return Address(dialect, base_url, parts.netloc.lower(), version, tuple(variables))


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, to compare whether two addresses are the same server.

    Raises InvalidRequest for what is no http(s) URL. The port is the scheme's own where none is given.
    """
    parts = _split(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _split(url: str) -> SplitResult:
    """The URL's parts. Raises InvalidRequest for what is no http(s) URL, and for one with a user name or password."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise _unreadable(url) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise _unreadable(url)
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("key_in_address", "Leave the key out of the address; give it by --api-key.", "from")
    return parts


def _dialect(origin: str, path: str, version: str | None, *, is_azure: bool) -> tuple[SourceDialect, str]:
    """Dialect and SDK base URL, by host, path and api-version. Raises InvalidRequest where they do not go together."""
    dated = version is not None and version not in _UNDATED
    if path.lower().endswith("/openai/v1"):
        if dated:
            raise InvalidRequest(
                "api_version_does_not_fit",
                f"A dated --api-version belongs to {origin}/ without /openai/v1; leave one of the two out.",
                "api_version",
            )
        return SourceDialect.AZURE_V1, f"{origin}{path}"
    root = path[: -len("/openai")] if path.lower().endswith("/openai") else path
    if is_azure or root != path or (version is not None and not path):
        if is_azure and root and root == path:
            raise InvalidRequest("invalid_source", f"For an Azure resource give only its endpoint: {origin}/", "from")
        if dated:
            return SourceDialect.AZURE, f"{origin}{root}"
        return SourceDialect.AZURE_V1, f"{origin}{root}/openai/v1"
    if version is not None:
        raise InvalidRequest(
            "api_version_does_not_fit", "--api-version belongs to Azure's dialects; leave it out here.", "api_version"
        )
    return SourceDialect.OPENAI, f"{origin}{path or '/v1'}"


def _is_azure(host: str) -> bool:
    """Whether the host is one of Azure's own, in any of its clouds."""
    return host.endswith(_AZURE_HOSTS)


def _unreadable(url: str) -> InvalidRequest:
    """The error for an address that is none; it shows the URL without its query, which may be a secret."""
    return InvalidRequest(
        "invalid_source",
        f"{url.split('?')[0]!r} is not the address of an account. Give https://api.openai.com/v1, "
        "https://NAME.openai.azure.com/, or the address of another Luthier.",
        "from",
    )
