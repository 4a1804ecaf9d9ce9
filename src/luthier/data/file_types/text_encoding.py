"""Detects the encoding of a file's text as far as that is certain, names likely ones, and decodes lines.

Asked by validation for its advice, and by `luthier check --fix`, which decodes only what is certain or named.
"""

import codecs
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from encodings.aliases import aliases

import charset_normalizer

from luthier.data.file_types import windows_1252
from luthier.data.jsonl import line_reader
from luthier.data.jsonl.line_reader import Line

WINDOWS_1252 = "cp1252"
CESU_8 = "cesu-8"
"""No codec of Python's: surrogate pairs in three bytes each, as Java writes them."""
_MAX_SAMPLE_BYTES = 1 << 18
_MAX_DETECTED_BYTES = 1 << 15
_LIKELY_SHOWN = 3
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BOM_LESS = (
    (re.compile(rb"(?:[^\0]\0\0\0){1,2}"), "utf-32-le"),
    (re.compile(rb"(?:\0\0\0[^\0]){1,2}"), "utf-32-be"),
    (re.compile(rb"(?:[^\0]\0){2}"), "utf-16-le"),
    (re.compile(rb"(?:\0[^\0]){2}"), "utf-16-be"),
)
_DETECTED = """
    cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 gb18030 big5 cp932 euc_jp cp949 koi8_r tis_620
    cp850 cp852 cp866 mac_roman iso8859_2
    """.split()  # noqa: SIM905
"""Those that files are found in; an exotic one would only be named by mistake."""
_NON_TEXT_CODECS = frozenset(
    ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem", "utf_7")
)
"""Codecs of Python that are no encodings of files."""
_RUN = re.compile(rb"[\x80-\xff]+")
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ICONV = {"mac_roman": "MACINTOSH"}
CONTROLS = re.compile("[\x80-\x9f\ufffd]")
"""C1 control characters, which no text has, and the sign of a character that was lost."""


class UnknownEncoding(Exception):
    """A name that a user gave and no encoding has; the message names encodings that are close to it."""


class Undecodable(Exception):
    """Bytes that are not in an encoding, or whose characters no text has; the message says where."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the lines that are not UTF-8 are in: `certain` by Python's name, or `likely` ones, the likeliest first.

    `damaged` means that they are UTF-8 with broken sequences in them, which no encoding repairs.
    """

    certain: str | None = None
    likely: tuple[str, ...] = ()
    damaged: bool = False


class EncodingSurvey:
    """Collects the lines of a file that are not UTF-8, to detect the encoding of all of them together.

    `n_lines` counts them, `first` is the number of the first, None while there is none. `has_utf8`: other lines are
    UTF-8 beyond ASCII, so that the file is in two encodings. Keeps a sample of less than 512 KiB.
    """

    def __init__(self) -> None:
        self.n_lines = 0
        self.first: int | None = None
        self.has_utf8 = False
        self._sample: list[bytes] = []
        self._n_bytes = 0
        self._all_cesu = True
        self._all_damaged = True

    def add_line(self, line: Line, is_utf8: bool) -> None:
        """Takes any line of the file; `is_utf8` says whether it decodes as UTF-8."""
        if not is_utf8:
            self.add_non_utf8(line)
        elif not self.has_utf8:
            self.has_utf8 = not line.content.isascii()

    def add_non_utf8(self, line: Line) -> None:
        """Counts a line that is not UTF-8, and samples it unless it is damaged UTF-8."""
        self.n_lines += 1
        self.first = self.first or line.number
        self._all_cesu = self._all_cesu and from_surrogates(line.content) is not None
        damaged = is_damaged(line.content)
        self._all_damaged = self._all_damaged and damaged
        if not damaged and self._n_bytes < _MAX_SAMPLE_BYTES:
            self._sample.append(line.content[:_MAX_SAMPLE_BYTES])
            self._n_bytes += len(line.content)

    def verdict(self) -> Verdict:
        """The judgement of all lines taken; without meaning while `n_lines` is 0. Takes some milliseconds."""
        if self._all_cesu:
            return Verdict(CESU_8)
        if self._all_damaged:
            return Verdict(damaged=True)
        if windows_1252.is_windows_1252(self._sample):
            return Verdict(WINDOWS_1252)
        return Verdict(likely=likely_encodings(self._sample))


def survey_encoding(chunks: Iterable[bytes]) -> EncodingSurvey:
    """Surveys a whole file.

    A last line that ends inside a character counts as cut off, and is left out, as lines too long.
    """
    result = EncodingSurvey()
    for line in line_reader.read_lines(chunks):
        if line.complete and not _is_cut_off(line):
            result.add_line(line, is_utf8(line.content))
    return result


def is_other_encoding(line: Line) -> bool:
    """Whether a line that is not UTF-8 may be in another encoding, rather than damaged or cut-off UTF-8."""
    return not is_damaged(line.content) and not _is_cut_off(line)


def _is_cut_off(line: Line) -> bool:
    """Whether a last line without line end stops inside a UTF-8 character."""
    try:
        line.content.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and not line.ended
    return False


def detect_utf16_or_32(start: bytes) -> tuple[str, int] | None:
    """UTF-16 or UTF-32 by a file's first bytes: Python's name, and how many bytes of byte-order mark to skip.

    None for all else.
    """
    for mark, name in _BOMS:
        if start.startswith(mark):
            return name, len(mark)
    # Without a mark: ASCII text, as JSON's own characters are, shows which of two or four bytes are zero.
    for pattern, name in _BOM_LESS:
        if pattern.match(start):
            return name, 0
    return None


def codec_name(name: str) -> str:
    """Python's own name of an encoding that a user names. Raises UnknownEncoding, for codecs that are no text too."""
    if name.lower().replace("_", "-") == CESU_8:
        return CESU_8
    try:
        codec = codecs.lookup(name).name
        b"a".decode(codec, "ignore")  # a codec of something else than text is refused here
    except (LookupError, ValueError):
        codec = ""
    if not codec or codec.replace("-", "_") in _NON_TEXT_CODECS:
        names = sorted({*aliases, *aliases.values()})
        near = difflib.get_close_matches(name.lower().replace("-", "_"), names, 3)
        hint = f" Close to it: {', '.join(near)}." if near else ""
        raise UnknownEncoding(f"no encoding has the name {name!r}.{hint}")
    return codec


def likely_encodings(lines: Iterable[bytes]) -> tuple[str, ...]:
    """Encodings in which all lines decode, the likeliest first, three at most; judged by the JSON strings in them.

    Of those that the detector finds equally good, Windows-1252 is first: no other is found in as many files.
    """
    lines = list(lines)
    strings = [text for line in lines for text in _STRING.findall(line) if not text.isascii()]
    dense = b" ".join(dict.fromkeys(strings or lines))[:_MAX_DETECTED_BYTES]
    matches: list[charset_normalizer.CharsetMatch] = []
    for match in charset_normalizer.from_bytes(dense, cp_isolation=_DETECTED):
        if all(_decodes(line, match.encoding) for line in lines):
            matches.append(match)
    best = [one.encoding for one in matches if (one.chaos, one.coherence) == (matches[0].chaos, matches[0].coherence)]
    names = [one.encoding for one in matches[:_LIKELY_SHOWN]]
    if WINDOWS_1252 in best[:_LIKELY_SHOWN]:
        names.remove(WINDOWS_1252)
        names.insert(0, WINDOWS_1252)
    return tuple(names)


def iconv_name(encoding: str) -> str:
    """The name by which iconv knows one of Python's encodings."""
    if re.fullmatch(r"cp125\d", encoding):
        return f"WINDOWS-{encoding[2:]}"
    return _ICONV.get(encoding, re.sub(r"^ISO(?=\d)", "ISO-", encoding.upper().replace("_", "-")))


def is_utf8(content: bytes) -> bool:
    """Whether bytes decode as UTF-8, as ASCII does."""
    if content.isascii():
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode_line(content: bytes, encoding: str) -> str:
    """The text of a line. Raises Undecodable, also where C1 control characters or U+FFFD would come out."""
    if encoding == CESU_8:
        joined = from_surrogates(content)
        if joined is None:
            raise Undecodable("a byte that is not UTF-8")
        return joined
    try:
        text = content.decode(encoding)
    except (UnicodeDecodeError, UnicodeError) as error:
        at = error.start if isinstance(error, UnicodeDecodeError) else 0
        raise Undecodable(f"byte 0x{content[at]:02x} at place {at + 1} of the line is not {encoding}") from None
    if odd := CONTROLS.search(text):
        raise Undecodable(
            f"read as {encoding} it has the control character U+{ord(odd.group()):04X}, which no text has"
        )
    return text


def _decodes(content: bytes, encoding: str) -> bool:
    """Whether `decode_line` accepts the bytes."""
    try:
        decode_line(content, encoding)
    except Undecodable:
        return False
    return True


def from_surrogates(content: bytes) -> str | None:
    """The text of CESU-8, which writes characters beyond U+FFFF as pairs of surrogates; None for other bytes."""
    try:
        text = content.decode("utf-8", "surrogatepass")
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeError:
        return None


def is_damaged(content: bytes) -> bool:
    """Whether a line is UTF-8 for the most part, some sequences broken: then it is in no other encoding."""
    runs = [is_utf8(run) for run in _RUN.findall(content)]
    return runs.count(True) >= 2 and runs.count(True) >= 3 * runs.count(False)
