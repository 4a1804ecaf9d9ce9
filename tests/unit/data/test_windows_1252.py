"""Windows-1252 is told by evidence: text of the West is recognised, and nothing else is ever taken for it."""

import pytest

from luthier.data.file_types import windows_1252


def is_western(*contents: bytes) -> bool:
    return windows_1252.is_windows_1252([b'{"content": "%s"}' % content for content in contents])


@pytest.mark.parametrize(
    "text",
    [
        "It’s “Unit 1 is in the bay.” – really…",
        "What is the price? It’s £5 — “really” … the résumé of 10°C and the café.",
        "What is it with the “naïve” façade in the Café Zoë? It’s déjà vu.",
        "Which planet is the largest in it? Größer, für 5 €.",
        "C’est 5 € — déjà",
        "Où est garé le véhicule ? Il est à la place n° 4, près de l’entrée.",
        "¿Dónde está el coche? Está en la plaza número 4, señor, como una más.",
        "Wo ist das Auto? „Größer“ und schöner, nicht für mich – ein Ärger.",
        "Var är bilen? Det är på plats 4 och jag tror inte att den är ny.",
        "Onde está o carro? Está com os dados para uma ação em São Paulo.",
        "Hvor er bilen? Det er på plads 4, og jeg tror ikke på det. Æbler.",
        "Dov’è la macchina? Come il sole, non è che una città per noi.",
    ],
)
def test_text_of_the_west_is_recognised(text: str) -> None:
    assert is_western(text.encode("cp1252"))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1250", "Kde je auto? The car of Dvořák is in the street."),
        ("cp1250", "Gdzie jest to auto? Się nie wie. The car is in the bay."),
        ("cp1250", "Hol áll az autó? Az őrült a kertben van, és a fű zöld."),
        ("cp1251", "the and is in of Привет"),
        ("koi8_r", "the and is in of Привет"),
        ("cp1253", "the and is in of Πού βρίσκεται"),
        ("cp1254", "Erdoğan is in the house of the şeker."),
        ("cp1257", "What is in the house of Žąsų gatvė? ėį"),
        ("mac_roman", "Où est garé le véhicule? Il est dans la place, près des maisons pour vous."),
        ("mac_roman", "What is “this” in the house? It’s fine."),
        ("cp850", "Je vais à Paris avec vous dans une voiture"),
        ("cp850", "Größer und schöner ist das nicht."),
        ("cp437", "¿Dónde está? que los una para señor"),
        ("gb18030", "What is this in the house 是 A是B"),
        ("big5", "What is this in the house 第一號車"),
        ("shift_jis", "the is in of こんにちは"),
        ("euc_kr", "the is in of 안녕"),
        ("cp932", "What is in the 駅 of it?"),
        ("cp1251", "the and is in of а"),
    ],
)
def test_text_of_another_code_page_is_never_taken_for_it(encoding: str, text: str) -> None:
    assert not is_western(text.encode(encoding))


@pytest.mark.parametrize(
    "content",
    [
        b"the is in of Jup\xc0\xafiter",
        b"the is in of Jup\xed\xa0\x80iter",
        b"the is in of caf\xc3",
        b"the is in of caf\xc3\xa9 caf\xe9",
        b"the is in of \xff",
        b"the is in of \x81",
        b"\xe9",
    ],
)
def test_broken_bytes_are_never_taken_for_it(content: bytes) -> None:
    assert not is_western(content)


def test_one_line_of_doubt_spoils_a_short_file_and_not_a_long_one() -> None:
    plain, odd = "It’s in the house of the café.".encode("cp1252"), b"of the caf\xc3\xa9"
    assert not is_western(plain, odd)
    assert is_western(*[plain] * 200, odd)
