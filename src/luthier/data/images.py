"""An image in a user's message: its URL, its bytes if the row holds them, its detail (contract section 11.2)."""

import binascii
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from luthier.data import image_header
from luthier.data.finder import Finder
from luthier.data.jsonl import json_type

MAX_IMAGES = 64
"""In one row. Another sentence of the same page says 10; the larger bound loses nobody's data."""
MAX_IMAGE_BYTES = 10 * 1024 * 1024
MAX_PIXELS = 50_000_000
"""Our own bound. 50 megapixels unfold to 150 MB; the vendors scale all images down to 2048 pixels a side."""
KINDS = frozenset(("image_url", "image", "input_image"))
"""Types of a part that mean an image; only the first is the wire's."""

_PART_KEYS = ("type", "image_url")
_KEYS = ("url", "detail")
_DETAILS = ("auto", "low", "high")
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.=+-]+)*?(?P<base64>;base64)?,", re.IGNORECASE)
_TYPES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/webp": "webp"}
_SHAPE = 'Write {"type": "image_url", "image_url": {"url": "https://... or data:image/png;base64,..."}}.'


def check(part: Mapping[str, object], path: str, finder: Finder) -> None:
    """Tells the finder every fault of a part whose type is one of KINDS. Nothing is fetched, no pixel is decoded."""
    if part["type"] != "image_url":
        finder.error(f"{path}.type", "invalid_image", "an image is spelled in another API's way.", _SHAPE)
        return
    finder.check_keys(part, _PART_KEYS, path)
    image = part.get("image_url")
    place = f"{path}.image_url"
    if not isinstance(image, dict):
        finder.error(place, "invalid_image", f"image_url is a JSON {json_type(image)}, not an object.", _SHAPE)
        return
    finder.check_keys(image, _KEYS, place)
    detail = image.get("detail")
    if detail is not None and detail not in _DETAILS:
        near = finder.nearest(detail, _DETAILS) if isinstance(detail, str) else None
        hint = f" Did you mean {near}?" if near else ""
        message = f"detail is none of the words that exist.{hint}"
        finder.error(f"{place}.detail", "invalid_image_detail", message, f"Use one of: {', '.join(_DETAILS)}.")
    url = image.get("url")
    if not isinstance(url, str):
        finder.error(f"{place}.url", "invalid_image", "the image has no url in a string.", _SHAPE)
    elif url[:5].lower() == "data:":
        _check_data(url, f"{place}.url", finder)
    else:
        _check_web(url, f"{place}.url", finder)


def _check_web(url: str, path: str, finder: Finder) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = None, None
    if parts is None or parts.scheme not in ("http", "https") or not host or re.search(r"\s", url):
        fix = "Give a URL that begins with https://, or the image itself as data:image/png;base64,..."
        finder.error(path, "invalid_image_url", "the URL is neither a web address nor a data URL.", fix)


def _check_data(url: str, path: str, finder: Finder) -> None:
    head = _DATA_URL.match(url[:256])
    if head is None or not head["base64"]:
        fix = "Write data:image/png;base64, and then the image's bytes in Base64."
        finder.error(path, "invalid_data_url", "the data URL has not the form that images need.", fix)
        return
    n_bytes = (len(url) - head.end()) * 3 // 4
    if n_bytes > MAX_IMAGE_BYTES + 2:
        message = f"the image has about {n_bytes:,} bytes; at most {MAX_IMAGE_BYTES:,} are taken."
        finder.error(path, "image_too_large", message, "Make it smaller, or save it with stronger compression.")
        return
    try:
        content = binascii.a2b_base64(url[head.end() :].encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        message = "what stands behind the comma of the data URL is no Base64."
        finder.error(path, "invalid_data_url", message, "Encode the image's bytes anew, without line breaks.")
        return
    _check_content(content, (head["type"] or "").lower(), path, finder)


def _check_content(content: bytes, media_type: str, path: str, finder: Finder) -> None:
    try:
        header = image_header.read(content)
    except image_header.Broken:
        finder.error(path, "broken_image", "the image's header is cut off or damaged.", "Export the image again.")
        return
    if header is None:
        finder.error(path, "image_format", "the image is no PNG, JPEG or WEBP.", "Convert it to one of these.")
        return
    if _TYPES.get(media_type) != header.format:
        message = f"the data URL does not say image/{header.format}, which the image is."
        finder.error(path, "image_type_differs", message, f"Write data:image/{header.format};base64, before the bytes.")
    if header.animated:
        finder.error(path, "animated_image", "the image is animated.", "Give one picture of it.")
    if header.width * header.height > MAX_PIXELS:
        size = f"{header.width} x {header.height}"
        message = f"the image has {size} pixels; at most {MAX_PIXELS // 10**6} million are taken."
        finder.error(path, "image_too_many_pixels", message, "Scale it down: models see at most 2048 pixels a side.")
    if header.colours not in ("RGB", "RGBA"):
        message = f"the image's colours are {header.colours}; hosted services take RGB and RGBA alone."
        finder.warning(path, "image_colours", message, "Convert it to RGB.")
