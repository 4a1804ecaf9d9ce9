"""Faults of images: their place, spelling, URL, bytes and number. Each image is a header that we write ourselves."""

import base64
import struct
from typing import Any

from corpus.case import ANSWER, USER, Case, Found, error, turns, warning
from luthier.core.states import Ability

_BLIND = warning("image_not_supported", "messages[0].content[0]")
"""What every image brings as long as no base model is named: it could not be trained on."""
_IMAGE = "messages[0].content[0].image_url"
_URL = f"{_IMAGE}.url"


def png(width: int = 32, height: int = 32, colour: int = 2, before: bytes = b"") -> bytes:
    """A PNG up to its pixels, with other chunks before them."""
    header = struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, colour, 0, 0, 0) + bytes(4)
    return b"\x89PNG\r\n\x1a\n" + header + before + struct.pack(">I4s", 0, b"IDAT") + bytes(4)


def jpeg(width: int = 32, height: int = 32, components: int = 3) -> bytes:
    """A JPEG up to its frame header, with an application segment and fill bytes before it."""
    return b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, components) + bytes(9)


def webp(kind: bytes, content: bytes) -> bytes:
    """A WEBP file of one chunk."""
    chunk = kind + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def extended(flags: int, width: int = 32, height: int = 32) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", bytes([flags, 0, 0, 0]) + size)


LOSSY = webp(b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 32, 32))
LOSSLESS = webp(b"VP8L", b"\x2f" + struct.pack("<I", 31 | 31 << 14 | 1 << 28))


def url(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()


def part(address: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": address, **more}}


def _shown(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": list(parts)}, ANSWER]


def _faulty(id: str, content: Any, *expected: Found) -> Case:
    return turns(f"image_{id}", _shown(content), *expected, _BLIND)


def _bytes(id: str, content: bytes, code: str, kind: str = "png") -> Case:
    return _faulty(id, part(url(content, kind)), error(code, _URL))


_WEB = "https://example.org/a.png"

_FORMS = (
    _faulty("of_another_api", {"type": "input_image", "image_url": _WEB},
            error("invalid_image", "messages[0].content[0].type")),
    _faulty("of_a_third_api", {"type": "image", "source": {}}, error("invalid_image", "messages[0].content[0].type")),
    _faulty("url_alone", {"type": "image_url", "image_url": _WEB}, error("invalid_image", _IMAGE)),
    _faulty("missing", {"type": "image_url"}, error("invalid_image", _IMAGE)),
    _faulty("without_url", {"type": "image_url", "image_url": {"detail": "low"}}, error("invalid_image", _URL)),
    _faulty("with_url_null", part(None), error("invalid_image", _URL)),
    _faulty("with_unknown_key", part(_WEB, size=3), warning("unknown_key", f"{_IMAGE}{{1}}")),
    _faulty("with_key_beside", {**part(_WEB), "detail": "low"}, warning("unknown_key", "messages[0].content[0].detail")),
    _faulty("detail_unknown", part(_WEB, detail="medium"), error("invalid_image_detail", f"{_IMAGE}.detail")),
    _faulty("detail_misspelled", part(_WEB, detail="hihg"), error("invalid_image_detail", f"{_IMAGE}.detail")),
    _faulty("detail_a_number", part(_WEB, detail=1), error("invalid_image_detail", f"{_IMAGE}.detail")),
    _faulty("in_a_file", part("file:///tmp/a.png"), error("invalid_image_url", _URL)),
    _faulty("on_a_path", part("a.png"), error("invalid_image_url", _URL)),
    _faulty("without_host", part("https:///a.png"), error("invalid_image_url", _URL)),
    _faulty("with_blank", part("https://example.org/a b.png"), error("invalid_image_url", _URL)),
    _faulty("with_broken_host", part("https://[::1/a.png"), error("invalid_image_url", _URL)),
    _faulty("as_bare_base64", part(base64.b64encode(png()).decode()), error("invalid_image_url", _URL)),
)  # fmt: skip

_CONTENTS = (
    _faulty("data_without_base64", part("data:image/png,abc"), error("invalid_data_url", _URL)),
    _faulty("data_without_comma", part("data:image/png;base64"), error("invalid_data_url", _URL)),
    _faulty("data_that_is_no_base64", part("data:image/png;base64,@@@@"), error("invalid_data_url", _URL)),
    _faulty("data_with_line_breaks", part(url(png())[:40] + "\n" + url(png())[40:]), error("invalid_data_url", _URL)),
    _faulty("data_cut", part(url(png())[:-3]), error("invalid_data_url", _URL)),
    _bytes("gif", b"GIF89a" + bytes(20), "image_format", "gif"),
    _bytes("bmp", b"BM" + bytes(40), "image_format", "bmp"),
    _bytes("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_format", "svg+xml"),
    _bytes("empty", b"", "image_format"),
    _bytes("png_said_to_be_jpeg", png(), "image_type_differs", "jpeg"),
    _faulty("without_media_type", part(url(png()).replace("image/png", "")), error("image_type_differs", _URL)),
    _bytes("png_cut", png()[:20], "broken_image"),
    _bytes("png_without_pixels", png()[:33], "broken_image"),
    _bytes("png_of_no_size", png(0), "broken_image"),
    _bytes("png_of_unknown_colour", png(colour=5), "broken_image"),
    _bytes("jpeg_cut", jpeg()[:9], "broken_image", "jpeg"),
    _bytes("jpeg_without_frame", b"\xff\xd8\xff\xe0\0\x04ab\0\0\0\0", "broken_image", "jpeg"),
    _bytes("webp_cut", LOSSY[:25], "broken_image", "webp"),
    _bytes("webp_of_unknown_chunk", webp(b"ALPH", bytes(20)), "broken_image", "webp"),
    _bytes("lossy_without_start_code", webp(b"VP8 ", bytes(20)), "broken_image", "webp"),
    _bytes("lossless_without_signature", webp(b"VP8L", bytes(20)), "broken_image", "webp"),
    _bytes("png_animated", png(before=struct.pack(">I4sII", 8, b"acTL", 2, 0) + bytes(4)), "animated_image"),
    _bytes("webp_animated", extended(0x02), "animated_image", "webp"),
    _bytes("png_bomb", png(65_535, 65_535), "image_too_many_pixels"),
    _bytes("jpeg_bomb", jpeg(65_535, 65_535), "image_too_many_pixels", "jpeg"),
    _bytes("webp_bomb", extended(0, 1 << 24, 1 << 24), "image_too_many_pixels", "webp"),
    _bytes("too_large", png() + bytes(10 * 2**20), "image_too_large"),
    _faulty("grey", part(url(png(colour=0))), warning("image_colours", _URL)),
    _faulty("with_palette", part(url(png(colour=3))), warning("image_colours", _URL)),
    _faulty("cmyk", part(url(jpeg(components=4), "jpeg")), warning("image_colours", _URL)),
)  # fmt: skip

_EACH = tuple(warning("image_not_supported", f"messages[0].content[{index}]") for index in range(65))
_PLACES = (
    turns("image_of_the_assistant", [USER, {"role": "assistant", "content": [{"type": "text", "text": "A"}, part(_WEB)]}],
          error("misplaced_image", "messages[1].content[1]"), warning("image_not_supported", "messages[1].content[1]")),
    turns("image_of_the_system", [{"role": "system", "content": [part(_WEB)]}, USER, ANSWER],
          error("misplaced_image", "messages[0].content[0]"), _BLIND),
    turns("images_too_many", _shown(*[part(_WEB)] * 65), *_EACH, error("too_many_images", "messages")),
    turns("image_for_a_blind_base", _shown(part(_WEB)), error("image_not_supported", "messages[0].content[0]"),
          abilities=frozenset({Ability.TOOLS})),
    turns("image_for_a_seeing_base", _shown(part(_WEB)), error("image_not_supported", "messages[0].content[0]"),
          abilities=frozenset({Ability.VISION})),
)  # fmt: skip

CASES = (*_FORMS, *_CONTENTS, *_PLACES)

_RIGHT = (
    part(_WEB, detail="high"),
    part("http://example.org:8080/a?b=c#d", detail=None),
    part(url(png(), "PNG")),
    part(url(png(colour=6))),
    part(url(jpeg(), "jpg")),
    part(url(LOSSY, "webp")),
    part(url(LOSSLESS, "webp")),
    part(url(extended(0x10), "webp"), detail="auto"),
)
CLEAN = tuple(turns(f"image_right_{index}", _shown(one), _BLIND) for index, one in enumerate(_RIGHT))
"""Images with nothing wrong but that no base model can be trained on them yet."""
