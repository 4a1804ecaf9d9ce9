"""Why a body is not valid JSON, with line and column, by the JSON reader that checks training files.

`json_body.parse` asks once Python's decoder has failed, which says less.
"""

from luthier.core.errors import InvalidRequest
from luthier.data.jsonl import json_reader
from luthier.data.jsonl.json_faults import Fault

_BODY_MESSAGES = {
    "several_objects": "a second JSON value begins. Send one JSON object.",
    "trailing_comma": "there is a comma where JSON allows none. Remove it.",
    "lone_carriage_return": "something follows the end of the object. Send one JSON object.",
}
"""Messages for faults whose usual message is about the lines of a file."""


def json_error(body: bytes) -> InvalidRequest:
    """The 400 for a body that Python's decoder rejects: where it is not UTF-8, or line and column of the fault."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _refusal(
            f"byte {body[error.start]:#04x} at offset {error.start} is not UTF-8. Send the body as UTF-8, without a "
            "part in another encoding"
        )
    reading = json_reader.read(text)
    if not text.strip():
        return _refusal("it is empty. Send a JSON object")
    if reading.complete and not reading.faults:
        return _refusal("it has a number of too many digits. Write a smaller number, or put it in quotes")
    fault = reading.faults[-1]
    before = text[: fault.column - 1]
    line, column = before.count("\n") + 1, fault.column - 1 - before.rfind("\n")
    return _refusal(f"at line {line}, column {column}, {_message(fault)}")


def _message(fault: Fault) -> str:
    """What the fault is and how to correct it, in words for a body instead of a line of a file."""
    fix = "Complete it." if fault.code == "truncated_json" else fault.fix
    return _BODY_MESSAGES.get(fault.code, f"{fault.message} {fix}").replace("in the line", "here").rstrip(".")


def _refusal(reason: str) -> InvalidRequest:
    return InvalidRequest("invalid_json", f"The body is not valid JSON: {reason}.")
