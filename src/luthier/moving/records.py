"""What a source tells of a file or a job, as values: every vendor's spelling read, nothing trusted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from luthier.core.errors import UpstreamFailed

Told = Mapping[str, Any]

SUCCEEDED = "succeeded"
ENDED = frozenset({SUCCEEDED, "failed", "cancelled"})
SUPERVISED = "supervised"
METHODS = {
    SUPERVISED: ("n_epochs", "batch_size", "learning_rate_multiplier"),
    "dpo": ("n_epochs", "batch_size", "learning_rate_multiplier", "beta"),
}
"""The methods that can be trained by here, with their hyperparameters."""
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class SourceFile:
    id: str
    name: str
    bytes: int
    purpose: str
    status: str


@dataclass(frozen=True, slots=True)
class SourceJob:
    """`hyperparameters` holds the numbers alone: what is still "auto" there is left to be chosen here.

    `told` is the whole object in the source's own words, for the archive.
    """

    id: str
    status: str
    model: str
    created_at: int
    tuned_model: str | None
    training_file: str | None
    validation_file: str | None
    result_files: tuple[str, ...]
    method: str
    method_told: bool
    hyperparameters: Mapping[str, float]
    seed: int | None
    suffix: str | None
    metadata: Mapping[str, str]
    told: Told = field(repr=False)

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(name for name in (self.training_file, self.validation_file) if name)


def identifier(told: Told) -> str:
    """The id of a told object. Raises UpstreamFailed where it is none: an id becomes a name of files here."""
    return _safe(told.get("id"))


def file_of(told: Told) -> SourceFile:
    size = told.get("bytes")
    return SourceFile(
        id=identifier(told),
        name=_text(told.get("filename")) or identifier(told),
        bytes=size if isinstance(size, int) and not isinstance(size, bool) else -1,
        purpose=_text(told.get("purpose")) or "",
        status=_text(told.get("status")) or "processed",
    )


def job_of(told: Told) -> SourceJob:
    method = told.get("method") if isinstance(told.get("method"), dict) else None
    metadata = told.get("metadata")
    seed = told.get("seed")
    return SourceJob(
        id=identifier(told),
        status=_text(told.get("status")) or "",
        model=_text(told.get("model")) or "",
        created_at=_whole(told.get("created_at")) or 0,
        tuned_model=_text(told.get("fine_tuned_model")),
        training_file=_safe(told["training_file"]) if told.get("training_file") else None,
        validation_file=_safe(told["validation_file"]) if told.get("validation_file") else None,
        result_files=tuple(_safe(name) for name in told.get("result_files") or ()),
        method=(_text(method.get("type")) if method else None) or SUPERVISED,
        method_told=method is not None,
        hyperparameters=_hyperparameters(told.get("hyperparameters"), method),
        seed=_whole(seed),
        suffix=_text(told.get("user_provided_suffix")) or _text(told.get("suffix")),
        metadata={str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, dict) else {},
        told=told,
    )


def _hyperparameters(root: object, method: Told | None) -> dict[str, float]:
    """The numbers of the method, else of the root: "auto", -1 and null are none (contract section 6)."""
    kind = (_text(method.get("type")) if method else None) or SUPERVISED
    own = method.get(kind) if method else None
    chosen = own.get("hyperparameters") if isinstance(own, dict) else None
    found: dict[str, float] = {}
    for name in METHODS.get(kind, METHODS[SUPERVISED]):
        for told in (chosen, root):
            value = told.get(name) if isinstance(told, dict) else None
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                found[name] = value
                break
    return found


def _safe(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise UpstreamFailed("source_id_unusable", "The source tells an id that is none: letters, digits, - _ . alone.")
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
