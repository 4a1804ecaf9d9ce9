"""Files and jobs of a source account, parsed from every vendor's JSON; nothing in it is trusted.

Statuses and methods here are the vendors' words, not core.states.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from luthier.core.errors import UpstreamFailed

JsonObject = Mapping[str, Any]

SUCCEEDED = "succeeded"
ENDED = frozenset({SUCCEEDED, "failed", "cancelled"})
SUPERVISED = "supervised"
METHODS = {
    SUPERVISED: ("n_epochs", "batch_size", "learning_rate_multiplier"),
    "dpo": ("n_epochs", "batch_size", "learning_rate_multiplier", "beta"),
}
"""The training methods of this service, with their hyperparameters."""
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the source; `bytes` is -1 where the source does not say."""

    id: str
    name: str
    bytes: int
    purpose: str
    status: str


@dataclass(frozen=True, slots=True)
class SourceJob:
    """A job of the source. `hyperparameters` holds numbers only: "auto" is resolved again by the target service.

    `created_at` is Unix time in seconds, 0 if unknown; `has_method`: whether it was sent with a `method`. `payload` is
    the whole JSON object as the source returned it, for the archive.
    """

    id: str
    status: str
    model: str
    created_at: int
    fine_tuned_model: str | None
    training_file: str | None
    validation_file: str | None
    result_files: tuple[str, ...]
    method: str
    has_method: bool
    hyperparameters: Mapping[str, float]
    seed: int | None
    suffix: str | None
    metadata: Mapping[str, str]
    payload: JsonObject = field(repr=False)

    @property
    def files(self) -> tuple[str, ...]:
        """Ids of the training and validation file, as far as there are any."""
        return tuple(name for name in (self.training_file, self.validation_file) if name)


def identifier(payload: JsonObject) -> str:
    """The id of an object. Raises UpstreamFailed if it is invalid: an id becomes a file name."""
    return _valid_id(payload.get("id"))


def parse_file(payload: JsonObject) -> SourceFile:
    """A file of the source. A missing field gets a default; raises UpstreamFailed for a bad id."""
    size = payload.get("bytes")
    return SourceFile(
        id=identifier(payload),
        name=_text(payload.get("filename")) or identifier(payload),
        bytes=size if isinstance(size, int) and not isinstance(size, bool) else -1,
        purpose=_text(payload.get("purpose")) or "",
        status=_text(payload.get("status")) or "processed",
    )


def parse_job(payload: JsonObject) -> SourceJob:
    """A job of the source. A missing field gets a default; raises UpstreamFailed for a bad id."""
    method = payload.get("method") if isinstance(payload.get("method"), dict) else None
    metadata = payload.get("metadata")
    seed = payload.get("seed")
    return SourceJob(
        id=identifier(payload),
        status=_text(payload.get("status")) or "",
        model=_text(payload.get("model")) or "",
        created_at=_integer(payload.get("created_at")) or 0,
        fine_tuned_model=_text(payload.get("fine_tuned_model")),
        training_file=_valid_id(payload["training_file"]) if payload.get("training_file") else None,
        validation_file=_valid_id(payload["validation_file"]) if payload.get("validation_file") else None,
        result_files=tuple(_valid_id(name) for name in payload.get("result_files") or ()),
        method=(_text(method.get("type")) if method else None) or SUPERVISED,
        has_method=method is not None,
        hyperparameters=_hyperparameters(payload.get("hyperparameters"), method),
        seed=_integer(seed),
        suffix=_text(payload.get("user_provided_suffix")) or _text(payload.get("suffix")),
        metadata={str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, dict) else {},
        payload=payload,
    )


def _hyperparameters(root: object, method: JsonObject | None) -> dict[str, float]:
    """The numbers of the method, else of the root; "auto", -1 and null are left out (wire-contract.md section 6)."""
    kind = (_text(method.get("type")) if method else None) or SUPERVISED
    own = method.get(kind) if method else None
    chosen = own.get("hyperparameters") if isinstance(own, dict) else None
    numbers: dict[str, float] = {}
    for name in METHODS.get(kind, METHODS[SUPERVISED]):
        for payload in (chosen, root):
            value = payload.get(name) if isinstance(payload, dict) else None
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                numbers[name] = value
                break
    return numbers


def _valid_id(value: object) -> str:
    """The id. Raises UpstreamFailed for what could not be a file name as well."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise UpstreamFailed(
            "source_id_unusable", "The source sent an invalid id: only letters, digits, - _ . are allowed."
        )
    return value


def _text(value: object) -> str | None:
    """The value if it is text that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def _integer(value: object) -> int | None:
    """The value if it is a whole number, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
