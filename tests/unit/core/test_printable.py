"""What a terminal would obey is spelled out, and means the same to JSON."""

import json

import pytest

from luthier.process import printable


@pytest.mark.parametrize(
    "obeyed",
    ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x00", "\x08\x08", "\r", "\x7f", "\u202egpj.exe", "\u2066", "\ud800"],
)
def test_what_a_terminal_obeys_is_spelled_out_and_read_back_by_json(obeyed: str) -> None:
    shown = printable.escape_text(f"a{obeyed}b")
    assert obeyed[0] not in shown
    assert f"\\u{ord(obeyed[0]):04x}" in shown
    assert (
        json.loads(printable.escape_text(json.dumps({"name": f"a{obeyed}b"}, ensure_ascii=False)))["name"]
        == f"a{obeyed}b"
    )


def test_words_of_every_script_stay_as_they_are() -> None:
    words = "naïve Zürich 日本語 שלום 👩‍👩‍👧 [bold]\n\tindented"
    assert printable.escape_text(words) == words
    assert printable.escape_line("a\tb\nc") == "a\\u0009b\\u000ac"
