"""Why a JSON text cannot be parsed any further: one fault in plain words, with its fix.

json_reader.py finds the position; this module words it, for rows of a file and for bodies of the API.
"""

import re
from dataclasses import dataclass
from enum import Enum


class Expected(Enum):
    """What the grammar of JSON expects at a position; the values are its words in messages."""

    VALUE = "a value"
    ELEMENT = "a value (after a comma)"
    KEY = "a key in double quotes"
    NEXT_KEY = "a key in double quotes (after a comma)"
    COLON = "a colon behind the key"
    COMMA = "a comma or the closing bracket"
    END = "the end of the line"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a JSON text: its column in characters from 1, and its path in the value.

    `code` is for programs; `message` and `fix` are sentences for people, and show nothing of the text.
    """

    column: int
    path: str
    code: str
    message: str
    fix: str

    @property
    def sentence(self) -> str:
        return f"at column {self.column}, {self.message}"


_WORD = re.compile(r"[A-Za-z_$][\w$]*")
_NUMBER_LIKE = re.compile(r"[+-]?\.?[0-9][\w.+-]*|[+-]\w*|\.\w*")
_FOREIGN_WORDS = {"none": "null", "nil": "null", "undefined": "null", "true": "true", "false": "false", "null": "null"}
_TYPOGRAPHIC = "\u201c\u201d\u201e\u201f\u2018\u2019\u00ab\u00bb\u2033"

FaultText = tuple[str, str, str]
"""Code, message, fix."""


def explain(text: str, at: int, expected: Expected, path: str) -> Fault:
    """The fault of a text that does not have what is expected at index `at`; `path` is its place in the value.

    A comma in front of a closing bracket is reported at the comma.
    """
    if expected in (Expected.ELEMENT, Expected.NEXT_KEY) and text[at : at + 1] in ("]", "}"):
        comma = text.rindex(",", 0, at)
        return Fault(
            comma + 1,
            path,
            "trailing_comma",
            "there is a comma before a closing bracket, where JSON allows none.",
            "Remove the comma.",
        )
    return Fault(at + 1, path, *_fault_text(text, at, expected))


def explain_string(text: str, start: int, at: int, message: str, path: str) -> Fault:
    """The fault of a string whose opening quote is at index `start`.

    `at` and `message` are what json.scanstring raised: where it stopped, and why.
    """
    if message.startswith("Unterminated"):
        return Fault(start + 1, path, *_truncated("the string that begins here is never closed"))
    if "escape" in message:
        escape = text.rindex("\\", start, at + 1)
        return Fault(
            escape + 1,
            path,
            "invalid_json",
            "a backslash begins no escape that JSON knows.",
            r"Write \\ for a backslash, \" for a quote, \n for a line break, or \u with four hexadecimal digits.",
        )
    return Fault(at + 1, path, *_control(text[at]))


def _fault_text(text: str, at: int, expected: Expected) -> FaultText:
    """The fault at index `at`: what is wrong in any place first, then what the grammar expects here."""
    character = text[at : at + 1]
    if not character:
        return _truncated(f"the JSON ends where {expected.value} is expected")
    if character == "\ufeff":
        message = "a byte order mark is in the middle of the file, as after joining two files."
        return "bom_inside", message, "Remove the character U+FEFF."
    if character in "/#":
        return "json_comment", "there is a comment here, and JSON has none.", "Remove the comment."
    if expected is Expected.END:
        return _behind_the_value(text, at)
    if character == "'":
        return (
            "single_quotes",
            "JSON needs a double quote here, not a single one.",
            'Write "..." for each string.',
        )
    if character in _TYPOGRAPHIC:
        return (
            "invalid_json",
            "a typographic quote is used where JSON needs a plain one.",
            'Write "...".',
        )
    if character < " " or character == "\x7f":
        return _control(character)
    if expected in (Expected.VALUE, Expected.ELEMENT):
        return _no_value(text, at)
    if expected in (Expected.KEY, Expected.NEXT_KEY):
        if _WORD.match(text, at):
            return "invalid_json", "a key has no quotes.", "Put each key in double quotes."
        return "invalid_json", "a key in double quotes is expected here.", 'Write "key": value.'
    if expected is Expected.COLON:
        return "invalid_json", "there is no colon between a key and its value.", 'Write "key": value.'
    return _no_comma(character)


def _no_comma(character: str) -> FaultText:
    """The fault of a character that stands where a comma or a closing bracket is expected."""
    if character in '"{[-' or character.isalnum():
        message = (
            "a comma is missing, or the quotes before it are wrong: one is missing, or one inside has no backslash."
        )
        return "invalid_json", message, r"Write the comma, the missing quote, or \" for a quote inside a string."
    if character in "]}":
        return "invalid_json", "the closing bracket is not the one that was opened.", "Close [ with ] and { with }."
    return (
        "invalid_json",
        f"{Expected.COMMA.value} is expected here.",
        "Check what comes before it.",
    )


def _no_value(text: str, at: int) -> FaultText:
    """The fault of text that begins no value: a Markdown fence, a malformed number, a bare or foreign word."""
    if text.startswith(("```", "~~~"), at):
        return "invalid_json", "there is a Markdown code fence here.", "Remove the line."
    if number := _NUMBER_LIKE.match(text, at):
        message = "the number is not valid JSON."
        digits = number.group().lstrip("+-")
        if digits[:1] == "0" and digits[1:2].isdigit():
            return "invalid_json", message, "Remove the leading zero, or put the number in quotes."
        return "invalid_json", message, "Write digits with at most one point and one exponent: 0.5, -3, 1e6."
    if word := _WORD.match(text, at):
        json_word = _FOREIGN_WORDS.get(word.group().lower())
        if json_word:
            message = "a constant of another language is used where JSON has its own."
            return "invalid_json", message, f"Write {json_word}, in small letters and without quotes."
        return "invalid_json", "a word has no quotes.", "Put text in double quotes."
    return "invalid_json", "a value is expected here.", "Give the value, or remove the key."


def _behind_the_value(text: str, at: int) -> FaultText:
    """The fault of text at `at`, behind the one value that a line may hold."""
    before = text[:at].rstrip(" \t")
    character = text[at]
    if before.endswith("\r") or "\r" in before[len(before.rstrip()) :]:
        message = "the lines end in a carriage return only, so that many rows are one line."
        return "lone_carriage_return", message, "End each line with a line feed (\\n)."
    if character in "{[":
        return (
            "several_objects",
            "a second JSON value begins on the same line.",
            "Put each object on a line of its own; luthier check OLD --fix NEW does it where both are whole.",
        )
    if character == ",":
        message = "there is a comma after the object, as between the elements of an array."
        return "trailing_comma", message, "Remove it: lines of JSONL have nothing between them."
    if character in "]}":
        return "invalid_json", "a bracket is closed that was never opened.", "Remove it, or open it."
    return "invalid_json", "there is something after the end of the object.", "Put nothing else on the line."


def _control(character: str) -> FaultText:
    """The fault of a raw control character; NUL has a code of its own, since it is a sign of a failed write."""
    if character == "\0":
        message = "there is a NUL byte in the line; a program or disk that failed often leaves these."
        return "nul_byte", message, "Remove the NUL bytes, or write the file again."
    message = f"there is a raw control character (U+{ord(character):04X}) in the line."
    return "invalid_json", message, r"Write it as an escape: \t for a tab, \n for a line break, \u00xx for others."


def _truncated(message: str) -> FaultText:
    """The fault of a text that ends too early; `message` comes without its full stop."""
    return "truncated_json", f"{message}.", "Complete it; if the file was cut off, write it again."
