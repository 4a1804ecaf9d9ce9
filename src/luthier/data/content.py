"""The content of a message: a string, or parts of text, refusals and images; every fault of it."""

from collections.abc import Mapping, Set

from luthier.catalog import Ability
from luthier.data import images
from luthier.data.finder import Finder
from luthier.data.jsonl import json_type

_TEXT_SHAPE = 'Write {"type": "text", "text": "..."}.'
_UNREAD = frozenset(("input_audio", "file"))


def read_parts(parts: list[object], role: str, path: str, abilities: Set[Ability] | None, finder: Finder) -> str:
    """The text of an array of parts, joined; "" for what is no text."""
    if not parts:
        fix = "Give a string, or an array of parts of type text."
        finder.error(path, "invalid_content", "content is an empty array.", fix)
    return "".join(_part(part, role, f"{path}[{index}]", abilities, finder) for index, part in enumerate(parts))


def _part(part: object, role: str, path: str, abilities: Set[Ability] | None, finder: Finder) -> str:
    if not isinstance(part, dict):
        message = f"a JSON {json_type(part)} stands where a part of the content is needed."
        finder.error(path, "invalid_content_part", message, _TEXT_SHAPE)
        return ""
    match part.get("type"):
        case "text":
            return _text(part, "text", path, finder)
        case "refusal" if role == "assistant":
            return _text(part, "refusal", path, finder)
        case str() as kind if kind in images.KINDS:
            _image(part, role, path, abilities, finder)
        case str() as kind if kind in _UNREAD:
            message = "the part is audio or a file, which no base model here can read."
            finder.error(path, "unsupported_content_part", message, "Remove it, or write out what it says as text.")
        case str():
            message = f"the part is of a type that messages of role {role} do not have."
            finder.error(f"{path}.type", "invalid_content_part", message, _TEXT_SHAPE)
        case _:
            finder.error(path, "invalid_content_part", "the part has no type in a string.", _TEXT_SHAPE)
    return ""


def _text(part: Mapping[str, object], key: str, path: str, finder: Finder) -> str:
    finder.check_keys(part, ("type", key), path)
    text = part.get(key)
    if isinstance(text, str):
        return text
    message = f"the part has no {key} in a string."
    finder.error(f"{path}.{key}", "invalid_content_part", message, f'Write {{"type": "{key}", "{key}": "..."}}.')
    return ""


def _image(part: Mapping[str, object], role: str, path: str, abilities: Set[Ability] | None, finder: Finder) -> None:
    if role != "user":
        message = f"an image stands in a message of role {role}; only users show images."
        finder.error(path, "misplaced_image", message, "Move it to the user's message.")
    images.check(part, path, finder)
    fix = "Remove the image parts, or choose a base model with vision (`luthier models list` shows abilities)."
    if abilities is None:
        message = "no base model can be trained on images yet, so a job with this row will fail."
        finder.warning(path, "image_not_supported", message, "Keep the row for later, or remove its image parts.")
    elif Ability.VISION in abilities:
        message = "training on images is not possible yet, even where the base model can see."
        finder.error(path, "image_not_supported", message, fix)
    else:
        message = "the row holds an image, and this base model cannot see."
        finder.error(path, "image_not_supported", message, fix)
