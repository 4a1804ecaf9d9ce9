"""An answer's text as it is given out: stop strings, characters of several tokens, and what is held back."""

import itertools
import random
from collections.abc import Sequence

import pytest

from luthier.engines.native.steps.answer_text import AnswerText, LogProbEntry, Piece


def entry(number: int) -> LogProbEntry:
    return number, b"", -float(number), []


def run(tokens: Sequence[bytes], stops: Sequence[str] = ()) -> tuple[list[Piece], Piece | None]:
    """What each token gives out, and what the end of the answer does; None if a stop string ended it."""
    text = AnswerText(stops)
    pieces = []
    for number, data in enumerate(tokens):
        pieces.append(text.feed(data, entry(number)))
        if pieces[-1].is_stopped:
            return pieces, None
    return pieces, text.finish()


def texts(tokens: Sequence[bytes], stops: Sequence[str] = ()) -> list[str]:
    pieces, rest = run(tokens, stops)
    return [piece.text for piece in [*pieces, *([rest] if rest else [])]]


def test_text_without_stop_strings_is_given_out_token_by_token() -> None:
    assert texts([b"Hel", b"lo", b"", b" you"]) == ["Hel", "lo", "", " you", ""]


def test_stop_string_over_token_borders_is_not_given_out() -> None:
    assert texts([b"one", b" ST", b"O", b"P two"], ["STOP"]) == ["one", " ", "", ""]


def test_stop_string_within_a_token_cuts_it() -> None:
    pieces, rest = run([b"a<end>b"], ["<end>"])
    assert [(piece.text, piece.is_stopped) for piece in pieces] == [("a", True)]
    assert rest is None


def test_what_began_like_a_stop_string_is_given_out_when_it_goes_on_otherwise() -> None:
    assert texts([b"a", b"<e", b"n", b"x>"], ["<end>"]) == ["a", "", "", "<enx>", ""]


def test_stop_string_that_begins_within_held_text_is_found() -> None:
    assert texts([b"aa", b"ab"], ["aab"]) == ["", "a"]
    assert texts([b"xaba", b"ba", b"c!"], ["ababac"]) == ["x", "", ""]
    assert texts([b"abab", b"abac"], ["ababac"]) == ["", "ab"]


def test_of_several_stop_strings_the_one_that_comes_first_ends_the_answer() -> None:
    assert texts([b"one two three"], ["three", "two"]) == ["one "]
    assert texts([b"ab", b"cd"], ["bcd", "abcx"]) == ["", "a"]
    assert texts([b"ab", b"cy"], ["abcx", "cy"]) == ["", "ab"]


def test_overlapping_beginnings_of_stop_strings_are_held_back_together() -> None:
    assert texts([b"a", b"b", b"c", b"z"], ["abcd", "bce"]) == ["", "", "", "abcz", ""]
    assert texts([b"a", b"b", b"c", b"e"], ["abcd", "bce"]) == ["", "", "", "a"]


def test_empty_stop_string_stops_nothing() -> None:
    assert texts([b"a", b"b"], [""]) == ["a", "b", ""]


def test_end_of_an_answer_gives_out_what_was_held_back() -> None:
    pieces, rest = run([b"wait for\n", b"\n"], ["\n\nQ:"])
    assert [piece.text for piece in pieces] == ["wait for", ""]
    assert rest is not None
    assert (rest.text, rest.is_stopped) == ("\n\n", False)
    assert [number for number, *_ in rest.log_probs] == [1]


@pytest.mark.parametrize("character", ["ü", "東", "🙂"])
def test_character_over_several_tokens_is_given_out_when_it_is_whole(character: str) -> None:
    tokens = [bytes([byte]) for byte in character.encode()]
    assert texts(tokens) == [*[""] * (len(tokens) - 1), character, ""]


def test_stop_string_of_a_character_over_several_tokens_is_found() -> None:
    assert texts([b"x\xe6", b"\x9d", b"\xb1y"], ["東"]) == ["x", "", ""]


def test_invalid_bytes_are_replacement_characters() -> None:
    assert texts([b"a\xff", b"b", b"\xe6", b"c"]) == ["a�", "b", "", "�c", ""]


def test_end_within_a_character_gives_out_a_replacement_character() -> None:
    assert texts([b"a", b"\xe6\x9d"]) == ["a", "", "�"]


def test_log_probabilities_come_with_the_text_of_their_tokens() -> None:
    pieces, rest = run([b"a", b"<e", b"n", b"x>", b"\xe6", b"\x9d\xb1", b"<"], ["<end>"])
    numbers = [[number for number, *_ in piece.log_probs] for piece in pieces]
    assert numbers == [[0], [], [], [1, 2, 3], [], [4, 5], []]
    assert rest is not None
    assert [number for number, *_ in rest.log_probs] == [6]


def test_log_probabilities_of_a_stop_string_are_not_given_out() -> None:
    pieces, _ = run([b"a", b"b<", b"end", b">c"], ["<end>"])
    assert [[number for number, *_ in piece.log_probs] for piece in pieces] == [[0], [1], [], []]


def test_tokens_without_text_keep_their_log_probabilities_to_the_end() -> None:
    text = AnswerText(())
    given = [text.feed(data, entry(number)) for number, data in enumerate([b"", b"a", b""])]
    numbers = [number for piece in [*given, text.finish()] for number, *_ in piece.log_probs]
    assert numbers == [0, 1, 2]


@pytest.mark.parametrize("seed", range(30))
def test_text_and_log_probabilities_are_whole_however_the_text_is_cut(seed: int) -> None:
    random_ = random.Random(seed)
    whole = "".join(random_.choices("aab<ü東", k=40))
    stops = ["".join(random_.choices("ab<ü", k=random_.randint(1, 5))) for _ in range(random_.randint(0, 3))]
    data = whole.encode()
    cuts = sorted(random_.choices(range(len(data) + 1), k=15))
    tokens = [data[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(data)])]
    pieces, rest = run(tokens, stops)
    given = "".join(texts(tokens, stops))
    end = first_stop(tokens, stops)
    numbers = [number for piece in [*pieces, *([rest] if rest else [])] for number, *_ in piece.log_probs]
    assert numbers == list(range(len(numbers)))
    if end is None:
        assert given == whole
        assert len(numbers) == len(tokens)
    else:
        assert rest is None
        assert given == whole[:end]


def first_stop(tokens: Sequence[bytes], stops: Sequence[str]) -> int | None:
    """Where the text is cut: with the first token that completes a stop string, at the first that there is."""
    for n in range(1, len(tokens) + 1):
        text = b"".join(tokens[:n]).decode(errors="ignore")
        places = [text.find(stop) for stop in stops if stop in text]
        if places:
            return min(places)
    return None
