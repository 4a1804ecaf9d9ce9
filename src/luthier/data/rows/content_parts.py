"""The content of a message where it is an array of parts, of text, refusals and images; every fault of it.

chat_message.py reads content that is a string itself.
"""

from collections.abc import Mapping, Set

from luthier.core.states import Ability
from luthier.data.jsonl.line_reader import json_type
from luthier.data.problems.problem_collector import ProblemCollector
from luthier.data.rows import images

_TEXT_SHAPE = 'Write {"type": "text", "text": "..."}.'
_FOREIGN_PARTS = {
    **dict.fromkeys(
        ("input_text", "output_text"), 'The Responses API\'s parts have the type text here: write "type": "text".'
    ),
    "tool_use": "Anthropic's tool_use is an entry of tool_calls here, with the input as JSON in a string.",
    "tool_result": "Anthropic's tool_result is a message here, with role tool and the tool_call_id of its call.",
    **dict.fromkeys(("thinking", "reasoning"), "Remove it: reasoning is no part of the answer here."),
}
"""Types of other APIs, and their equivalents here."""
_UNSUPPORTED_PARTS = frozenset(("input_audio", "file"))


def read_parts(
    parts: list[object], role: str, path: str, abilities: Set[Ability] | None, collector: ProblemCollector
) -> str:
    """The texts of the parts of a message of this role, joined; images and faulty parts add nothing.

    Reports each fault, an empty array too, to `collector`. `abilities` are the base model's, None for no model yet.
    """
    if not parts:
        fix = "Give a string, or an array of parts of type text."
        collector.error(path, "invalid_content", "content is an empty array.", fix)
    return "".join(_part(part, role, f"{path}[{index}]", abilities, collector) for index, part in enumerate(parts))


def _part(part: object, role: str, path: str, abilities: Set[Ability] | None, collector: ProblemCollector) -> str:
    """The text of one part; "" for an image, and after reporting a part that cannot be read."""
    if not isinstance(part, dict):
        message = f"a JSON {json_type(part)} is used where a content part is needed."
        collector.error(path, "invalid_content_part", message, _TEXT_SHAPE)
        return ""
    match part.get("type"):
        case "text":
            return _text(part, "text", path, collector)
        case "refusal" if role == "assistant":
            return _text(part, "refusal", path, collector)
        case str() as kind if kind in images.IMAGE_TYPES:
            _image(part, role, path, abilities, collector)
        case str() as kind if kind in _UNSUPPORTED_PARTS:
            message = "the part is audio or a file, which no base model here can read."
            collector.error(path, "unsupported_content_part", message, "Remove it, or write out what it says as text.")
        case str() as kind:
            message = f"the part is of a type that messages of role {role} do not have."
            collector.error(f"{path}.type", "invalid_content_part", message, _FOREIGN_PARTS.get(kind, _TEXT_SHAPE))
        case _:
            fix = 'Add "type": "text".' if isinstance(part.get("text"), str) else _TEXT_SHAPE
            collector.error(path, "invalid_content_part", "the part has no type in a string.", fix)
    return ""


def _text(part: Mapping[str, object], key: str, path: str, collector: ProblemCollector) -> str:
    """The text under `key`, "text" or "refusal"; "" after reporting that there is none. Unknown keys are reported."""
    collector.check_keys(part, ("type", key), path)
    text = part.get(key)
    if isinstance(text, str):
        return text
    message = f"the part has no {key} in a string."
    collector.error(f"{path}.{key}", "invalid_content_part", message, f'Write {{"type": "{key}", "{key}": "..."}}.')
    return ""


def _image(
    part: Mapping[str, object], role: str, path: str, abilities: Set[Ability] | None, collector: ProblemCollector
) -> None:
    """Reports an image outside of a user message, its faults, and that it cannot be trained on."""
    if role != "user":
        message = f"an image is in a message of role {role}; only user messages can hold images."
        collector.error(path, "misplaced_image", message, "Move it to the user's message.")
    images.check_image(part, path, collector)
    images.report_image(path, abilities, collector)
