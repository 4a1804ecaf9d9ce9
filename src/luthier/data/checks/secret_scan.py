"""Keys, passwords and e-mail addresses in rows: a model learns them by heart and may write them for anyone.

Keys are recognised by the detectors of the detect-secrets package whose formats leave no doubt; its guesses by entropy
and by the word "password" are left out, for rows are full of both. What was found is never repeated in a message.
"""

import re
import string
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Protocol

from luthier.data.checks.row_text import RowText
from luthier.data.problems.problem import Problem, Severity

_KEY_LIKE = b"x" * 20
"""Every key of these formats has a run of 20 characters of the key alphabet: hardly a line of prose has one."""
_ALPHABET = (string.ascii_letters + string.digits + "+/=-").encode()
_TRANSLATED = bytes(ord("x") if byte in _ALPHABET else ord(" ") for byte in range(256))
_MODULES = (
    "aws",
    "azure_storage_key",
    "basic_auth",
    "github_token",
    "gitlab_token",
    "jwt",
    "npm",
    "openai",
    "private_key",
    "pypi_token",
    "sendgrid",
    "slack",
    "square_oauth",
    "stripe",
)
_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.([A-Za-z]{2,24})\b")
_RESERVED = re.compile(r"@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|example|test|invalid|localhost)\b", re.IGNORECASE)
"""Names that RFC 2606 keeps for examples: nobody's address."""


class _Detector(Protocol):
    """What is used of a plugin of detect-secrets."""

    @property
    def secret_type(self) -> str: ...

    def analyze_string(self, string: str) -> Iterable[str]: ...


def problems(line: int, raw: bytes, view: RowText) -> list[Problem]:
    """A warning for each kind of secret, and one for e-mail addresses, in each text of a row.

    `raw` is its line, for a quick look first: most rows end there.
    """
    has_at = b"@" in raw
    if not has_at and not _is_key_like(raw):
        return []
    problems_found: list[Problem] = []
    for path, message in view.messages_with_paths():
        texts = {"content": message.content, "tool_calls": str([call.arguments for call in message.tool_calls])}
        for name, text in texts.items():
            if "@" in text or _is_key_like(text.encode("utf-8", "replace")):
                problems_found += [_secret_problem(line, f"{path}.{name}", kind) for kind in _secret_types(text)]
            if has_at and _has_address(text):
                problems_found.append(_address_problem(line, f"{path}.{name}"))
    return problems_found


def _is_key_like(text: bytes) -> bool:
    """Whether a text has so long a run of the key alphabet that it may hold a key."""
    return len(text) >= len(_KEY_LIKE) and _KEY_LIKE in text.translate(_TRANSLATED)


def _secret_types(text: str) -> Iterator[str]:
    """The library's names of the secrets in a text."""
    for detector in _detectors():
        if any(True for _ in detector.analyze_string(text)):
            yield detector.secret_type


def _has_address(text: str) -> bool:
    """Whether a text has an e-mail address other than those at names reserved for examples."""
    return "@" in text and any(not _RESERVED.search(match.group()) for match in _ADDRESS.finditer(text))


@cache
def _detectors() -> tuple[_Detector, ...]:
    """The detectors of _MODULES, loaded once a process.

    Imported lazily: the package imports an HTTP client that nothing here uses.
    """
    import importlib

    from detect_secrets.plugins.base import BasePlugin

    detectors: list[_Detector] = []
    for name in _MODULES:
        module = importlib.import_module(f"detect_secrets.plugins.{name}")
        kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, BasePlugin)]
        detectors += [kind() for kind in kinds if kind.__module__ == module.__name__]
    return tuple(detectors)


def _secret_problem(line: int, path: str, kind: str) -> Problem:
    """The warning of a secret; `kind` is the library's name of it."""
    return Problem(
        line,
        path,
        "secret",
        Severity.WARNING,
        f"the text holds what looks like a secret ({kind}); the model may memorize and reproduce it.",
        "Replace it by a made-up one, and take the real one out of use if others have seen this file.",
    )


def _address_problem(line: int, path: str) -> Problem:
    """The warning of an e-mail address at `path`, which it does not repeat."""
    return Problem(
        line,
        path,
        "email_address",
        Severity.WARNING,
        "the text holds an e-mail address, which the model may memorize and reproduce.",
        "Replace it by one at example.com, unless the model is to know it.",
    )
