"""Text that fits a width: SVG neither wraps nor cuts it. Widths are estimates for the widest of the system fonts."""

_NARROW = frozenset("ijlft.,:;|'!()[]- ")
_WIDE = frozenset("mwMW@%–—…")


def width(text: str, size: float) -> float:
    """An upper estimate of the text's width, in pixels, at that font size."""
    return sum(map(_share, text)) * size


def shorten(text: str, most: float, size: float) -> str:
    """The text, or its beginning and its end around an ellipsis, at most `most` pixels wide: both ends tell names."""
    if width(text, size) <= most:
        return text
    kept = len(text) - 1
    while kept > 1:
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if width(short, size) <= most:
            return short
        kept -= 1
    return "…"


def _share(letter: str) -> float:
    """A letter's width as a share of the font size; of scripts beyond Latin a whole one."""
    if letter in _NARROW:
        return 0.42
    if letter in _WIDE or ord(letter) > 0x24F:
        return 1.0
    return 0.72 if letter.isupper() else 0.65
