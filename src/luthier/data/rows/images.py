"""An image in a user's message: its URL, its bytes if the row holds them, its detail (wire-contract.md 11.2)."""

import binascii
import re
from collections.abc import Mapping, Set
from urllib.parse import urlsplit

from luthier.core.states import Ability
from luthier.data.jsonl.line_reader import json_type
from luthier.data.problems.problem_collector import ProblemCollector
from luthier.data.rows import image_header

MAX_IMAGES = 64
"""In one row. Another sentence of the same page says 10; the larger bound loses nobody's data."""
MAX_IMAGE_BYTES = 10 * 1024 * 1024
MAX_PIXELS = 50_000_000
"""Our own bound. 50 megapixels unfold to 150 MB; the vendors scale all images down to 2048 pixels a side."""
IMAGE_TYPES = frozenset(("image_url", "image", "input_image"))
"""Types of a part that mean an image; only the first is the wire's."""

_PART_KEYS = ("type", "image_url")
_IMAGE_KEYS = ("url", "detail")
_DETAILS = ("auto", "low", "high")
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.=+-]+)*?(?P<base64>;base64)?,", re.IGNORECASE)
_TYPES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/webp": "webp"}
_SHAPE = 'Write {"type": "image_url", "image_url": {"url": "https://... or data:image/png;base64,..."}}.'


def check_image(part: Mapping[str, object], path: str, collector: ProblemCollector) -> None:
    """Reports every fault of a part whose type is one of IMAGE_TYPES. Nothing is fetched, no pixel is decoded.

    An image that holds its bytes is decoded from Base64 in memory, and its header is read.
    """
    if part["type"] != "image_url":
        collector.error(f"{path}.type", "invalid_image", "the image is in the form of another API.", _SHAPE)
        return
    collector.check_keys(part, _PART_KEYS, path)
    image = part.get("image_url")
    image_path = f"{path}.image_url"
    if not isinstance(image, dict):
        collector.error(image_path, "invalid_image", f"image_url is a JSON {json_type(image)}, not an object.", _SHAPE)
        return
    collector.check_keys(image, _IMAGE_KEYS, image_path)
    detail = image.get("detail")
    if detail is not None and detail not in _DETAILS:
        suggestion = collector.nearest_word(detail, _DETAILS) if isinstance(detail, str) else None
        hint = f" Did you mean {suggestion}?" if suggestion else ""
        message = f"the detail is unknown.{hint}"
        collector.error(f"{image_path}.detail", "invalid_image_detail", message, f"Use one of: {', '.join(_DETAILS)}.")
    url = image.get("url")
    if not isinstance(url, str):
        collector.error(f"{image_path}.url", "invalid_image", "the image has no url in a string.", _SHAPE)
    elif url[:5].lower() == "data:":
        _check_data(url, f"{image_path}.url", collector)
    else:
        _check_web(url, f"{image_path}.url", collector)


def report_image(path: str, abilities: Set[Ability] | None, collector: ProblemCollector) -> None:
    """Reports that no job can be trained on an image at `path` in the wire's form.

    An error, but a warning where there is no base model yet (`abilities` is None).
    """
    if abilities is None:
        message = "no base model can be trained on images yet, so a job with this row will fail."
        collector.warning(path, "image_not_supported", message, "Keep the row for later, or remove its image parts.")
        return
    if Ability.VISION in abilities:
        message = "training on images is not possible yet, even where the base model can see."
    else:
        message = "the row holds an image, and this base model cannot see."
    fix = "Remove the image parts, or choose a base model with vision (`luthier models list` shows abilities)."
    collector.error(path, "image_not_supported", message, fix)


def report_key(key: str, path: str, collector: ProblemCollector) -> None:
    """Reports as an error images or videos under a key of a row or message, which no base model is shown."""
    message = f"{key} is not shown to the model, so it would learn to answer about what it cannot see."
    fix = "Leave the row out, or remove the key together with what the text says about it, <image> included."
    collector.error(path, "image_not_supported", message, fix)


def _check_web(url: str, path: str, collector: ProblemCollector) -> None:
    """Reports a URL that is not http or https with a host, or that holds blanks; nothing is requested."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = None, None
    if parts is None or parts.scheme not in ("http", "https") or not host or re.search(r"\s", url):
        fix = "Give a URL that begins with https://, or the image itself as data:image/png;base64,..."
        collector.error(path, "invalid_image_url", "the URL is neither a web address nor a data URL.", fix)


def _check_data(url: str, path: str, collector: ProblemCollector) -> None:
    """Reports a data URL without Base64, one of more than MAX_IMAGE_BYTES, and the faults of the image in it."""
    head = _DATA_URL.match(url[:256])
    if head is None or not head["base64"]:
        fix = "Write data:image/png;base64, and then the image's bytes in Base64."
        collector.error(path, "invalid_data_url", "the data URL has not the form that images need.", fix)
        return
    n_bytes = (len(url) - head.end()) * 3 // 4
    if n_bytes > MAX_IMAGE_BYTES + 2:
        message = f"the image has about {n_bytes:,} bytes; at most {MAX_IMAGE_BYTES:,} are allowed."
        collector.error(path, "image_too_large", message, "Make it smaller, or save it with stronger compression.")
        return
    try:
        content = binascii.a2b_base64(url[head.end() :].encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        message = "what follows the comma of the data URL is not Base64."
        collector.error(path, "invalid_data_url", message, "Encode the image's bytes anew, without line breaks.")
        return
    _check_content(content, (head["type"] or "").lower(), path, collector)


def _check_content(content: bytes, media_type: str, path: str, collector: ProblemCollector) -> None:
    """Reports what is wrong with an image by its header: format, type in the data URL, animation, size, colours.

    `media_type` is what the data URL says, "" if nothing. Colours other than RGB and RGBA are only a warning.
    """
    try:
        header = image_header.read_header(content)
    except image_header.BrokenImage:
        collector.error(path, "broken_image", "the image's header is cut off or damaged.", "Export the image again.")
        return
    if header is None:
        collector.error(path, "image_format", "the image is not a PNG, JPEG or WEBP.", "Convert it to one of these.")
        return
    if _TYPES.get(media_type) != header.format:
        message = f"the data URL does not say image/{header.format}, which the image is."
        collector.error(
            path, "image_type_differs", message, f"Write data:image/{header.format};base64, before the bytes."
        )
    if header.animated:
        collector.error(path, "animated_image", "the image is animated.", "Give one picture of it.")
    if header.width * header.height > MAX_PIXELS:
        size = f"{header.width} x {header.height}"
        message = f"the image has {size} pixels; at most {MAX_PIXELS // 10**6} million are allowed."
        collector.error(path, "image_too_many_pixels", message, "Scale it down: models see at most 2048 pixels a side.")
    if header.colours not in ("RGB", "RGBA"):
        message = f"the image's colours are {header.colours}; hosted services accept only RGB and RGBA."
        collector.warning(path, "image_colours", message, "Convert it to RGB.")
