"""Encodings: what is certain is decoded, what is not is named and left alone, and nothing is ever lost on the way."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.checks import validate
from luthier.data.file_types import text_encoding, transcoding
from luthier.data.repair import file_repair
from luthier.data.repair.file_repair import FileRepair, Unrepairable

WESTERN = "It’s “Unit {}” in the bay, 5 € — the café…"
FOREIGN = {
    "cp1251": "Где стоит машина {}? Машина стоит на месте, спасибо.",
    "koi8_r": "Где стоит машина {}? Машина стоит на месте, спасибо.",
    "gb18030": "{}号车停在哪个车位？停在4车位，请提前。",
    "big5": "第{}號車停在哪個車位？停在四號車位，請提前。",
    "cp932": "{}号車はどこに停まっていますか？車庫です。",
    "cp949": "{}호차는 어디에 있습니까? 4번 자리에 있습니다.",
    "cp1250": "Gdzie stoi wóz numer {}? Wóz stoi na miejscu, proszę się pośpieszyć, żółty łoś.",
    "cp1253": "Πού βρίσκεται το όχημα {}; Στη θέση τέσσερα.",
    "cp1255": "איפה הרכב {} עומד? במקום ארבע.",
    "mac_roman": "Où est garé le véhicule {} ? Il est à la place 4, près de l’entrée.",
}


def row(text: str) -> str:
    turns = [{"role": "user", "content": "Which one?"}, {"role": "assistant", "content": text}]
    return json.dumps({"messages": turns}, ensure_ascii=False)


def file(text: str, encoding: str, n_rows: int = 12) -> bytes:
    return "".join(row(text.format(number)) + "\n" for number in range(n_rows)).encode(encoding)


def mend(content: bytes, encoding: str | None = None, size: int = 1 << 20) -> tuple[str, dict[str, list[int]]]:
    chunks = [content[at : at + size] for at in range(0, len(content), size)]
    mended = FileRepair(encoding or file_repair.detect_encoding(chunks))
    text = b"".join(mended.lines(chunks)).decode()
    return text, {code: list(lines) for code, lines in mended.changes.items()}


@pytest.mark.parametrize("size", [7, 1 << 20])
def test_windows_1252_is_decoded_and_said(size: int) -> None:
    text, changes = mend(file(WESTERN, "cp1252", 3), size=size)
    assert text == file(WESTERN, "utf-8", 3).decode()
    assert changes == {"windows_1252": [1, 2, 3]}


def test_windows_1252_is_the_first_of_equally_likely_ones() -> None:
    lines = [row(f"Unit {number} blaïse, 5 €…").encode("cp1252") for number in range(12)]
    assert text_encoding.likely_encodings(lines)[0] == "cp1252"
    with pytest.raises(Unrepairable, match="--encoding cp1252"):
        mend(b"\n".join(lines))


def test_mixed_file_is_decoded_by_line() -> None:
    content = file(WESTERN, "utf-8", 2) + file(WESTERN.replace("Unit", "Car"), "cp1252", 1)
    text, changes = mend(content)
    assert (text.count("€"), text.count("café…"), changes) == (3, 3, {"utf8_kept": [1, 2], "windows_1252": [3]})
    assert "iconv" not in validate.check_file([content], None).problems[-1].fix, "it would spoil the other lines"


@pytest.mark.parametrize("encoding", FOREIGN)
def test_other_code_page_is_named_among_the_likely_and_left_alone_until_it_is_given(encoding: str) -> None:
    content = file(FOREIGN[encoding], encoding)
    with pytest.raises(Unrepairable, match=rf"(?s)12 lines are not UTF-8.* unknown; it may be .*{encoding}"):
        mend(content)
    fixes = {problem.fix for problem in validate.check_file([content], None).problems}
    assert len(fixes) == 1
    assert encoding in fixes.pop()
    text, changes = mend(content, encoding)
    assert (text, changes) == (file(FOREIGN[encoding], "utf-8").decode(), {"encoding": [*range(1, 13)]})


WORDS = (
    "Dvořák łódź się żółty őrült señor mañana año día où voilà größer schöner naïve città é Привет да 是 号车 第一 "
    "ひ 駅 Žąsų şeker “quoted” it’s – … 5€ Ångström Ærø façade İstanbul Πού שלום 안녕 coração ação"
)


@given(st.sampled_from(sorted(FOREIGN)), st.lists(st.sampled_from(WORDS.split()), min_size=1, max_size=4))
def test_no_repair_ever_writes_another_text(encoding: str, words: list[str]) -> None:
    try:
        content = row(f"What is in the {' '.join(words)} of it?").encode(encoding)
        written, _ = mend(content)
    except (UnicodeEncodeError, Unrepairable):
        return
    assert text_encoding.is_utf8(content) or written == content.decode(encoding) + "\n"


@pytest.mark.parametrize("sign", ["…", "’", "”", "–"])
def test_sign_of_mac_roman_that_reads_as_a_lone_capital_is_not_taken_for_windows_1252(sign: str) -> None:
    with pytest.raises(Unrepairable):
        mend(row(f"What is in the {sign} of it?").encode("mac_roman"))


def test_lone_capital_at_the_beginning_of_a_sentence_is_taken() -> None:
    said = "À quelle place est la voiture {} ? À la place 4, près de l’entrée. À demain."
    assert mend(file(said, "cp1252"))[0] == file(said, "utf-8").decode()


def test_controls_and_lost_characters_are_never_written() -> None:
    for encoding, content in (("latin-1", file(WESTERN, "cp1252")), ("gb18030", row("\ufffd é").encode("gb18030"))):
        with pytest.raises(Unrepairable, match="line 1: read as"):
            mend(content, encoding)


def test_bytes_that_are_not_in_the_named_encoding_are_told_with_their_line() -> None:
    with pytest.raises(Unrepairable, match=r"line 1: byte 0x81 at place .* of the line is not cp1252"):
        mend(row("\u00fc").encode("cp850"), "cp1252")


def test_surrogates_in_three_bytes_each_are_joined_and_a_lone_one_is_left() -> None:
    cesu = (
        row("A😀")
        .encode("utf-16-le")
        .decode("utf-16-le")
        .replace("😀", "\ud83d\ude00")
        .encode("utf-8", "surrogatepass")
    )
    assert mend(cesu) == (row("A😀") + "\n", {"cesu8": [1]})
    with pytest.raises(Unrepairable):
        mend(cesu.replace(b"\xed\xb8\x80", b""))


def test_damaged_utf8_and_a_cut_end_are_no_other_encoding() -> None:
    damaged = row("größer über äußere Öle").encode().replace("Ö".encode(), b"\xc3")
    cut = row("é€").encode()[:-8]
    for content in (damaged + b"\n" + file(WESTERN, "cp1252"), file(WESTERN, "cp1252") + cut):
        mended = FileRepair(file_repair.detect_encoding([content]))
        lines = b"".join(mended.lines([content])).split(b"\n")
        assert lines[0 if content.startswith(damaged) else -2] in (damaged, cut)
        assert len(mended.changes["windows_1252"]) == 12


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-le"])
def test_utf16_and_utf32_are_decoded_strictly(encoding: str) -> None:
    assert mend(file("é😀 {}", encoding, 2), size=3) == (file("é😀 {}", "utf-8", 2).decode(), {"utf16": [1]})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-1],
        lambda content: content.replace("😀".encode("utf-16-le"), "😀".encode("utf-16-le")[:2]),
        lambda content: content + file("é", "utf-8", 4) + b"\n",
    ],
    ids=["odd_end", "half_a_pair", "utf8_behind"],
)
def test_utf16_that_is_broken_is_left_alone(spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(Unrepairable, match="utf-16-le"):
        mend(spoil(file("é😀 {}", "utf-16", 3)))


def test_names_are_those_of_python_and_of_iconv() -> None:
    assert text_encoding.codec_name("GBK") == "gbk"
    assert text_encoding.codec_name("windows-1251") == "cp1251"
    assert text_encoding.iconv_name("cp1251") == "WINDOWS-1251"
    for name in ("gkb", "base64", "rot13", "idna", "unicode_escape"):
        with pytest.raises(text_encoding.UnknownEncoding):
            text_encoding.codec_name(name)
    with pytest.raises(text_encoding.UnknownEncoding, match="gbk"):
        text_encoding.codec_name("gbkk")


@pytest.mark.parametrize("encoding", ["iso2022_jp", "utf-16-le", "cp037"])
def test_encoding_without_ascii_is_that_of_the_whole_file(encoding: str) -> None:
    text = "車" if encoding != "cp037" else "é"
    content = (row(text) + "\n").encode(encoding)
    assert b"".join(transcoding.transcode_lines([content], encoding)).decode() == row(text) + "\n"


def test_file_of_one_encoding_alone_says_so_and_not_that_it_holds_no_rows() -> None:
    report = validate.check_file([file(FOREIGN["cp1251"], "cp1251", 150)], None)
    whole = [problem for problem in report.problems if problem.line is None]
    assert len(whole) == 1
    assert re.search("UTF-8", whole[0].message)
    assert "cp1251" in whole[0].fix
