"""Whether bytes are certainly Windows-1252: each byte beyond ASCII has to make sense in its context.

For `text_encoding`. The code pages of Windows, DOS and the Mac give the same bytes other characters. So a letter counts
only if the text is in a language that has it (detected by its commonest words), or if every Latin code page of Windows
has it at that byte; a quote, a dash or a sign only in its usual context. One doubtful byte in a hundred is tolerated,
none in a short text.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LANGUAGES = (
    ("the and is in to it of which what you are with this that how for from", ""),
    ("der die das und ist nicht ein eine ich wie auf mit zu wo wer von im", "äöüßÄÖÜ"),
    ("le les des est une dans que qui pour vous avec sur pas nous il au", "àâæçèéêëîïôœùûüÿÀÂÇÈÉÊËÎÏÔŒÙÛÜ"),
    ("que los las del una por para como el esta donde cuando", "áéíñóúüÁÉÍÑÓÚÜ"),
    ("che il di non per una sono della nel dove come quando", "àèéìíîòóùúÀÈÉÌÒÙ"),
    ("que uma para com os dos em por onde como quando", "àáâãçéêíóôõúüÀÁÂÃÇÉÊÍÓÔÕÚ"),
    ("het een niet met voor dat zijn waar hoe", "áéèêëíïóöúüÉËÏ"),
    ("och det som en att inte var hur jag ett", "åäöéÅÄÖÉ"),
    ("og det er til ikke som hvor hvordan jeg hva hvad", "æøåéóÆØÅÉ"),
    ("ja on ei se mutta tai joka kuin missä", "äöåÄÖÅ"),
)
"""Common words of a language in ASCII, and its letters beyond."""
_WORDS_NEEDED = 3
_ELISIONS = {
    _LANGUAGES[0][0]: re.compile(r"[a-z]’(?:s|t|re|ve|ll|d|m)\b"),
    _LANGUAGES[2][0]: re.compile(r"\b(?:[cdjlmnst]|qu)’(?=[aeiouyhéèêâàîôû])"),
}
"""What an apostrophe leaves of a word, as in it's and c'est: as good as two words of the language."""
_SHARED_LETTERS = frozenset("äéóöüßÄÉÓÖÜ")
"""These have the same byte in Windows-1250, -1252, -1254 and -1257."""
_LOANWORDS = frozenset(
    """
    naïve naïveté naïf façade garçon soupçon curaçao voilà déjà crème brûlée pâté château rôle fête tête crêpe crêpes
    maître hôtel noël zoë chloë brontë jalapeño jalapeños piñata señor señora señorita niño niña smörgåsbord ångström
    """.split()  # noqa: SIM905
)
"""Words that English text has with letters that are not English: as a whole they make sense in no other code page."""
_SPANISH, _FRENCH, _ITALIAN = "ñ", "œ", "ì"
_CONTRACTED = frozenset(("s", "t", "re", "ve", "ll", "d", "m", "em", "er", "clock"))
_ELIDED = frozenset(
    [
        "c",
        "d",
        "j",
        "l",
        "m",
        "n",
        "s",
        "t",
        "qu",
        "o",
        "all",
        "dell",
        "dall",
        "nell",
        "sull",
        "un",
        "quest",
        "quell",
        "dov",
        "com",
        "lorsqu",
        "puisqu",
        "jusqu",
    ]
)
_TOLERATED = 0.01
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)")
_WORD = re.compile(r"[a-z]+")
_UNITS = frozenset(("m", "km", "cm", "mm", "dm", "ft", "in", "x", "y", "r", "n", "s"))
_SENTENCE_START = re.compile(r"""(?:^|[.!?:;"“«¿¡(])\s*$""")
_LONE_LETTERS = frozenset("àèéòóôåöæøíúüÀÈÉÒÓÔÅÖ")


@dataclass(frozen=True, slots=True)
class _Occurrence:
    """One character beyond ASCII with its context: a character on each side, and the letters that touch it.

    `left` and `right` are "" at an end of the line.
    """

    character: str
    left: str
    right: str
    word_left: str
    word_right: str
    before: str
    """The characters before it, thirty at most."""

    @property
    def begins_sentence(self) -> bool:
        """Whether it is the first of a sentence, by the characters before it."""
        return _SENTENCE_START.search(self.before) is not None

    @property
    def word(self) -> str:
        return f"{self.word_left}{self.character}{self.word_right}".lower()

    @property
    def between_letters(self) -> bool:
        return self.left.isalpha() and self.right.isalpha()

    @property
    def opens(self) -> bool:
        """Whether it stands where an opening quote does: not behind a letter or digit, and right before text."""
        return not self.left.isalnum() and (self.right.isalnum() or (self.right != "" and self.right in "¿¡“‘…$(-[<."))

    @property
    def closes(self) -> bool:
        """Whether it stands where a closing quote does: not behind a blank, and not before a letter or digit."""
        return not self.left.isspace() and not self.right.isalnum()

    def elides(self, letters: frozenset[str]) -> bool:
        """Whether an apostrophe here leaves a piece of a word as it does in the languages of these letters."""
        if self.word_right.lower() in _CONTRACTED:
            return True
        is_piece = self.word_left.lower() in _ELIDED
        return is_piece and (len(self.word_right) > 1 or (_FRENCH in letters or _ITALIAN in letters))

    @property
    def joins(self) -> bool:
        """Whether it stands between words of three letters or more, or beside none: not inside a word."""
        short = min(len(self.word_left), len(self.word_right))
        return not self.between_letters or short >= 3


def is_windows_1252(lines: Iterable[bytes]) -> bool:
    """Whether all these lines of JSON, none of them UTF-8, are certainly Windows-1252.

    False where none of the languages is recognised, or too many characters make no sense.
    """
    try:
        texts = [_ESCAPE.sub(" ", line.decode("cp1252")) for line in lines]
    except UnicodeDecodeError:
        return False
    letters = _letters_of_languages(texts)
    if letters is None:
        return False
    n_occurrences = n_doubtful = 0
    for text in texts:
        for occurrence in _occurrences(text):
            n_occurrences += 1
            n_doubtful += not _makes_sense(occurrence, letters)
    return n_occurrences > 0 and n_doubtful <= n_occurrences * _TOLERATED


def _letters_of_languages(texts: Iterable[str]) -> frozenset[str] | None:
    """The letters of the languages that the texts are in, by common words; None where none is recognised."""
    texts = [text.lower() for text in texts]
    words = {word for text in texts for word in _WORD.findall(text)}
    letter_sets = []
    for common, letters in _LANGUAGES:
        elision = _ELISIONS.get(common)
        n_elided = 2 if elision is not None and any(elision.search(text) for text in texts) else 0
        if len(words & set(common.split())) + n_elided >= _WORDS_NEEDED:
            letter_sets.append(letters)
    return _SHARED_LETTERS.union(*letter_sets) if letter_sets else None


def _occurrences(text: str) -> Iterator[_Occurrence]:
    """Yields each character beyond ASCII with up to thirty characters of context on each side."""
    for match in re.finditer(r"[^\x00-\x7f]", text):
        at = match.start()
        before, behind = text[max(0, at - 30) : at], text[at + 1 : at + 31]
        left, right = re.search(r"[^\W\d_]*$", before), re.match(r"[^\W\d_]*", behind)
        assert left is not None
        assert right is not None
        yield _Occurrence(match.group(), before[-1:], behind[:1], left.group(), right.group(), before)


def _makes_sense(occurrence: _Occurrence, letters: frozenset[str]) -> bool:
    """Whether the character is plausible where it stands: a letter of the languages in a fitting word, or a usual sign.

    `letters` are those of the text's languages. ª, º and µ are letters to Unicode and signs here.
    """
    if (
        occurrence.character.isalpha()
        and unicodedata.category(occurrence.character) != "Lo"
        and occurrence.character != "µ"
    ):
        is_known = occurrence.character in letters or occurrence.word in _LOANWORDS
        return is_known and _fits_word(occurrence)
    return _sign_makes_sense(occurrence, letters)


def _fits_word(occurrence: _Occurrence) -> bool:
    """Whether a letter has its neighbours' case, and the word letters of ASCII too; or it is a word by itself."""
    if (occurrence.character.isupper() and occurrence.left.islower()) or (
        occurrence.character.islower() and occurrence.right.isupper()
    ):
        return False
    around = occurrence.word_left + occurrence.word_right
    if not around:
        # Bytes of other encodings' signs are capitals here: an ellipsis of Mac OS Roman reads É.
        is_in_place = occurrence.character.islower() or occurrence.begins_sentence
        return occurrence.character in _LONE_LETTERS and is_in_place
    touching = [one for one in (occurrence.word_left[-2:] + occurrence.word_right[:2]) if not one.isascii()]
    return len(touching) < 2 and any(one.isascii() for one in around)


def _sign_makes_sense(occurrence: _Occurrence, letters: frozenset[str]) -> bool:
    """Whether a sign stands where texts of these languages have it; False for signs that are not known here."""
    left, right = occurrence.left, occurrence.right
    match occurrence.character:
        case "’":
            return (
                occurrence.elides(letters)
                if occurrence.between_letters
                else left.isalnum() or right.isalnum() or occurrence.closes
            )
        case "‘" | "‚" | "„" | "«" | "‹":
            return occurrence.opens or (occurrence.character in "«‹" and not occurrence.between_letters)
        case "“":
            return occurrence.opens or (occurrence.closes and "ß" in letters and "Ä" in letters)
        case "”" | "»" | "›":
            return occurrence.closes or (occurrence.character in "»›" and not occurrence.between_letters)
        case "–" | "—":
            return occurrence.joins and not (left.isalpha() and right.isspace())
        case "…":
            return not (left.isspace() and right.isspace() and _FRENCH in letters)
        case "€" | "£" | "¥":
            return not left.isalpha() and not right.isalpha() and (left.isdigit() or right.isdigit() or left.isspace())
        case "•" | "·":
            return not left.isalnum() and not right.isalnum()
        case "™" | "®" | "©":
            return not right.isalpha()
        case "\xa0" | "\xad":
            return occurrence.joins
        case "¿" | "¡":
            return _SPANISH in letters and not left.isalnum() and right.isalpha()
        case "°" | "º" | "ª":
            return (left.isdigit() or left.isspace() or occurrence.word_left in ("n", "N")) and (
                not right.isalpha() or right in "CF"
            )
        case "²" | "³":
            return (left.isdigit() or left == ")" or occurrence.word_left in _UNITS) and not right.isalpha()
        case "½" | "¼" | "¾" | "×" | "÷" | "±" | "§" | "µ":
            return not left.isalpha() and (not right.isalpha() or occurrence.character == "µ")
        case "‰":
            return (left.isdigit() or left.isspace()) and not right.isalnum()
    return False
