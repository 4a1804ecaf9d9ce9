"""The format, size and colours of an image from its header: no pixel is decoded, so there is no decompression bomb."""

import struct
from dataclasses import dataclass
from enum import StrEnum

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}
_JPEG_COLOURS = {1: "grey", 3: "RGB", 4: "CMYK"}
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = {0x01, *range(0xD0, 0xD9)}
_MAX_CHUNKS = 10_000


class ImageFormat(StrEnum):
    """The formats that images in training rows may have."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image says of itself: width and height in pixels, and whether it has several frames.

    `colours` are in the words of Pillow and the vendors' pages; "RGB" and "RGBA" are the ones that hosted services
    take.
    """

    format: ImageFormat
    width: int
    height: int
    colours: str
    animated: bool = False


class BrokenImage(Exception):
    """The bytes begin as an image of a known format, and its header is cut off or makes no sense."""


def read_header(content: bytes) -> ImageHeader | None:
    """The header of a PNG, JPEG or WEBP image; None for any other kind of bytes.

    Raises BrokenImage if the bytes begin as one of these and the header is cut off or makes no sense.
    """
    try:
        if content.startswith(_PNG):
            return _png(content)
        if content.startswith(b"\xff\xd8\xff"):
            return _jpeg(content)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _webp(content)
    except (struct.error, IndexError):
        raise BrokenImage from None
    return None


def _png(content: bytes) -> ImageHeader:
    """PNG specification, 11.2.2 (IHDR) and 11.3.6.1 (acTL, which makes it animated and precedes the pixels).

    Raises BrokenImage, or struct.error where the bytes end too soon.
    """
    length, kind, width, height, _, colour = struct.unpack_from(">I4sIIBB", content, 8)
    if kind != b"IHDR" or length != 13 or colour not in _PNG_COLOURS or not width or not height:
        raise BrokenImage
    at = 8 + 12 + length
    animated = False
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind in (b"IDAT", b"acTL", b"IEND"):
            animated = kind == b"acTL"
            break
        at += 12 + length
    return ImageHeader(ImageFormat.PNG, width, height, _PNG_COLOURS[colour], animated)


def _jpeg(content: bytes) -> ImageHeader:
    """ITU T.81, B.2: segments up to the frame header, which holds the size.

    Raises BrokenImage, or IndexError or struct.error where the bytes end too soon.
    """
    at = 2
    for _ in range(_MAX_CHUNKS):
        if content[at] != 0xFF:
            raise BrokenImage
        while content[at] == 0xFF:  # fill bytes
            at += 1
        marker = content[at]
        at += 1
        if marker in _JPEG_FRAMES:
            height, width, n_components = struct.unpack_from(">HHB", content, at + 3)
            if not width or not height or n_components not in _JPEG_COLOURS:
                raise BrokenImage
            return ImageHeader(ImageFormat.JPEG, width, height, _JPEG_COLOURS[n_components])
        if marker not in _JPEG_BARE:
            (length,) = struct.unpack_from(">H", content, at)
            at += length
    raise BrokenImage


def _webp(content: bytes) -> ImageHeader:
    """RFC 9649: the first chunk is VP8 (lossy), VP8L (lossless) or VP8X (extended, with the animation flag).

    Raises BrokenImage, or IndexError or struct.error where the bytes end too soon.
    """
    kind = content[12:16]
    if kind == b"VP8X":
        flags = content[20]
        width = 1 + int.from_bytes(content[24:27], "little")
        height = 1 + int.from_bytes(content[27:30], "little")
        if len(content) < 30:
            raise BrokenImage
        return ImageHeader(ImageFormat.WEBP, width, height, "RGBA" if flags & 0x10 else "RGB", bool(flags & 0x02))
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", content, 20)
        if signature != 0x2F:
            raise BrokenImage
        colours = "RGBA" if bits & 1 << 28 else "RGB"
        return ImageHeader(ImageFormat.WEBP, 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), colours)
    if kind == b"VP8 ":
        start, width, height = struct.unpack_from("<3sHH", content, 23)
        if start != b"\x9d\x01\x2a" or not width & 0x3FFF or not height & 0x3FFF:
            raise BrokenImage
        return ImageHeader(ImageFormat.WEBP, width & 0x3FFF, height & 0x3FFF, "RGB")
    raise BrokenImage
