"""Format: how rows of another vendor or trainer look, what they mean here, and how they are converted.

Each module of this folder lists some in its FORMATS: `_is_...` recognises a row, `_convert_...` makes it one of ours,
`_refuse_...` says why it cannot be converted. `known_formats` tries them all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from luthier.data.dataset_formats.chat_builder import ChatBuilder, JsonObject

__all__ = ["Conversion", "Format", "JsonObject", "RowKind", "to_conversion"]


class RowKind(StrEnum):
    """What a job can learn from the rows of a format; it decides what the user is advised to do."""

    ANSWERS = "answers"
    PAIRS = "pairs"
    LABELLED = "labelled"
    """Answers of which some are marked as bad."""
    OTHER = "other"
    """Nothing that a job here learns from."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A row in our form, the keys that were dropped (as `messages[].key`), and other changes by codes of NOTES."""

    row: JsonObject
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


NOTES = {
    "empty_prompt": "prompt that is empty left out: the answer has no user message before it",
    "role_of_output": "role of the only message of an output set to assistant",
    "system_role": "text under the key system given the role system",
}


@dataclass(frozen=True, slots=True)
class Format:
    """One format. The texts are those of docs/doctor.md and of the messages; none holds text of a row.

    `recognise` never raises and accepts no row that is valid as it is; `convert` returns a new row, or raises
    NotConvertible.
    """

    name: str
    title: str
    """Who writes rows so."""
    keys: str
    """What such a row looks like, in backquotes where it is code."""
    mapping: str
    """What its keys mean here; a sentence without its end."""
    recognise: Callable[[JsonObject], bool]
    convert: Callable[[JsonObject], Conversion]
    kind: RowKind = RowKind.ANSWERS
    refused: str = ""
    """What is not converted and why, beyond parts that are no text."""


def to_conversion(chat: ChatBuilder, *notes: str) -> Conversion:
    """What a builder gathered, as a converted row. Raises NotConvertible where no message is the assistant's."""
    return Conversion(chat.row(), tuple(chat.dropped), notes)
