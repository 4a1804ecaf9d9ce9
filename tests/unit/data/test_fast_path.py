"""Rows that are plainly right, and careful reading: the same rows, the same examples, the same problems."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus import CASES, CLEAN
from corpus.case import ANSWER, GOOD, USER, Case
from luthier.core.states import Ability
from luthier.data.jsonl import line_reader
from luthier.data.jsonl.line_reader import Line
from luthier.data.problems.problem import Problem
from luthier.data.rows import fast_path, supervised

Told = tuple[int, bytes, object, tuple[Problem, ...]]
"""Line, bytes, example, problems."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", " ", "\n", "\u2003", 'say "no"', "back\\slash", '\\"', "\U0001f600", "}\n{", "\x7f", "\ufeff"]
)
anything = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.lists(texts, max_size=2)
arguments = st.sampled_from(
    [
        '{"city": "Ulm"}',
        "{}",
        '{"city": 3}',
        '{"city": "Ulm", "city": "Bonn"}',
        "[]",
        '{"city": "\\ud83d"}',
        "{",
        '{"a":1e999}',
    ]
)
tool = st.sampled_from(
    [
        {"type": "function", "function": {"name": "f", "parameters": {"properties": {"city": {"type": "string"}}}}},
        {"type": "function", "function": {"name": "g"}},
        {"type": "function", "function": {"name": "not a name"}},
        {"function": {"name": "g"}},
        {"type": "function", "function": {"name": "f", "description": 'a "tool"', "strict": None, "parameters": None}},
    ]
)
call = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["c1", "c2", ""]),
        "type": st.sampled_from(["function"] * 5 + ["web"]),
        "function": st.fixed_dictionaries({"name": st.sampled_from(["f", "f", "g", "h"]), "arguments": arguments}),
    }
)
user = st.fixed_dictionaries({"role": st.sampled_from(["user", "user", "system", "developer"]), "content": texts})
assistant = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": texts | st.none()},
    optional={"weight": st.sampled_from([0, 1, 1, 1.0, True, None]), "tool_calls": st.lists(call, max_size=2)},
)
result = st.fixed_dictionaries(
    {"role": st.just("tool"), "tool_call_id": st.sampled_from(["c1", "c2"]), "content": texts}
)
odd = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "function", "usr"])},
    optional=dict.fromkeys(("content", "name", "weight", "refusal", "tool_call_id", "tool_calls", "x"), anything),
)


small = anything | st.sampled_from([[], {}, "", " ", "web", True, False, 0, 1, {"a": [1]}, ['"'], "\\", 1e300])
ROW_KEYS = ["source", "system", "images", "weight", "label", 'a "key"', "loss_mask", "rejected"]
MESSAGE_KEYS = [
    *("date", "name", "train", "masked", "reasoning_content", "annotations", "audio", "image", "Content"),
    *("weight", "tool_calls", "tool_call_id", "function_call", "refusal", "wieght", "thinking"),
]


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """Turns that mostly follow one another as they should."""
    turns: list[Any] = []
    for _ in range(draw(st.integers(0, 3))):
        turns += [draw(user), draw(assistant)]
        turns += draw(st.lists(result, max_size=2)) if "tool_calls" in turns[-1] else []
    if draw(st.integers(0, 5)) == 0:
        turns.insert(draw(st.integers(0, len(turns))), draw(odd | user | assistant | anything))
    value = {"messages": turns, **draw(st.fixed_dictionaries({}, optional={"parallel_tool_calls": st.booleans()}))}
    if draw(st.booleans()):
        value["tools"] = draw(st.lists(tool, max_size=2))
    if draw(st.integers(0, 9)) == 0:
        value[draw(st.sampled_from(["functions", "source", "mesages"]))] = draw(anything)
    if draw(st.integers(0, 2)) == 0:
        value[draw(st.sampled_from(ROW_KEYS))] = draw(small)
    if turns and isinstance(turns[-1], dict) and draw(st.integers(0, 1)) == 0:
        for place in {0, len(turns) - 1} if isinstance(turns[0], dict) else {len(turns) - 1}:
            turns[place] = {**draw(st.dictionaries(st.sampled_from(MESSAGE_KEYS), small, max_size=2)), **turns[place]}
    return value


@st.composite
def spelled(draw: st.DrawFn) -> bytes:
    """A row as JSON, in one of the ways in which programs write it, at times with a fault that only shows there."""
    value = draw(rows())
    separators = draw(st.sampled_from([(", ", ": "), (",", ":"), (" ,\t", " : ")]))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), separators=separators, sort_keys=draw(st.booleans()))
    fault = draw(st.integers(0, 12))
    if fault == 0:
        text = text.replace('"role"', '"content": "", "role"', 1)
    elif fault == 1:
        text = text.replace('"messages"', '"\\u006dessages"', 1)
    elif fault == 2:
        text = text[:-1] + ', "messages": []}'
    elif fault == 3:
        text = draw(
            st.sampled_from(["[]", " ", "", "\ufeff" + text, text * 2, text + "\r" + text, text[:-1], text + ","])
        )
    elif fault == 4:
        place = draw(st.integers(0, len(text)))
        text = (
            text[:place]
            + draw(st.sampled_from(["\\ud800", "\\udc00", "\\", '"', "\x00", "\t", "NaN", "}\n{"]))
            + text[place:]
        )
    content = text.encode()
    if fault == 5:
        place = draw(st.integers(0, len(content)))
        content = content[:place] + draw(st.sampled_from([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80"])) + content[place:]
    return content


files = st.tuples(st.lists(spelled(), max_size=6), st.sampled_from([b"\n", b"\n", b"\r\n"]), st.booleans()).map(
    lambda parts: parts[1].join(parts[0]) + (parts[1] if parts[2] else b"")
)
abilities = st.sampled_from([None, frozenset(), frozenset({Ability.TOOLS})])


def carefully(line: Line, having: frozenset[Ability] | None) -> Told:
    row = line_reader.parse_line(line)
    if isinstance(row, Problem):
        return line.number, line.content, None, (row,)
    parsed = supervised.parse_supervised(row, having)
    return line.number, line.content, parsed.example, parsed.problems


def sifted(chunks: list[bytes], having: frozenset[Ability] | None) -> Iterator[Told]:
    for part in fast_path.scan(chunks, having):
        if isinstance(part, Line):
            yield carefully(part, having)
        else:
            warned = dict(part.warned)
            for index, (number, content, told) in enumerate(part.examples()):
                yield number, content, told, tuple(problem.at(number) for problem in warned.get(index, ()))


@settings(max_examples=300, deadline=None)
@given(content=files, having=abilities, cut=st.integers(0, 400))
@example(content=GOOD + GOOD + b"\n\n" + GOOD, having=None, cut=0)
@example(content=GOOD + b"\r" + GOOD + b"\n\n", having=None, cut=0)
@example(content=GOOD[:-1] + b"\n}\n" + GOOD, having=None, cut=3)
def test_sift_tells_what_careful_reading_tells(content: bytes, having: frozenset[Ability] | None, cut: int) -> None:
    expected = [carefully(line, having) for line in line_reader.read_lines([content])]
    assert list(sifted([content], having)) == expected
    assert list(sifted([content[:cut], content[cut:]], having)) == expected


@pytest.mark.parametrize("case", [*CASES, *CLEAN], ids=lambda case: case.id)
def test_sift_tells_what_careful_reading_tells_of_the_corpus(case: Case) -> None:
    expected = [carefully(line, case.abilities) for line in line_reader.read_lines([case.content])]
    assert list(sifted([case.content], case.abilities)) == expected


CALLING = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"city": "Ulm"}'}}]},
        {"role": "tool", "tool_call_id": "c", "content": "Sunny."},
        {"role": "assistant", "content": 'They say "sunny" \\ \U0001f31e.', "weight": 1},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"city": {}}}}}],
    "parallel_tool_calls": True,
}  # fmt: skip


def test_sift_takes_good_rows_together_and_only_those() -> None:
    calling = json.dumps(CALLING).encode()
    good, bad = [GOOD, calling, json.dumps(CALLING, ensure_ascii=False).encode()], b'{"messages": []}'
    assert [len(part) for part in fast_path.scan([b"\n".join([*good, b""])], None)] == [3]
    parts = list(fast_path.scan([b"\n".join([*good, bad, *good])], None))
    assert [part.number if isinstance(part, Line) else (part.first, len(part)) for part in parts] == [
        (1, 3), 4, (5, 2), (7, 1)
    ]  # fmt: skip
    assert all(isinstance(part, Line) for part in fast_path.scan([calling], frozenset()))


@pytest.mark.parametrize(
    ("row", "codes"),
    [
        ({"messages": [USER, ANSWER], "id": 0}, ["unknown_key"]),
        ({"id": 0, "source": "web", "messages": [USER, ANSWER], "tags": {"a": [1, "x"]}}, ["unknown_key"] * 3),
        ({"messages": [{**USER, "date": "2024-05-01"}, {"id": "m0", **ANSWER}]}, ["unknown_key"] * 2),
        ({"messages": [USER, {**ANSWER, "reasoning_content": 'So "it" goes.'}]}, ["reasoning_not_learned"]),
        ({"messages": [USER, {**ANSWER, "annotations": [], "refusal": None, "tool_calls": None}]}, []),
        ({"messages": [{**USER, "weight": None, "tool_calls": None}, {**ANSWER, "weight": None}], "images": None}, []),
        ({"messages": [{**USER, "name": "Ines"}, ANSWER]}, []),
        ({"messages": [USER, ANSWER, USER]}, ["trailing_turn"]),
        ({"messages": [USER, {**ANSWER, "content": ""}, USER, ANSWER]}, ["empty_answer"]),
        ({"messages": [USER, ANSWER, {"role": "system", "content": "Hi"}, USER, ANSWER]}, ["late_system_message"]),
    ],
)
def test_sift_rows_of_one_shape_are_taken_together_with_their_warnings(row: dict[str, Any], codes: list[str]) -> None:
    lines = [json.dumps({**row, **({"id": number} if "id" in row else {})}).encode() for number in range(20)]
    (part,) = fast_path.scan([b"\n".join([*lines, b""])], None)
    assert isinstance(part, fast_path.PlainRows)
    assert len(part) == 20
    assert [[one.code for one in dict(part.warned).get(index, ())] for index in range(20)] == [codes] * 20


def test_sift_of_more_shapes_than_are_kept_still_tells_what_careful_reading_tells() -> None:
    lines = [json.dumps({"messages": [USER, ANSWER], f"k{number}": 1}).encode() for number in range(4200)]
    content = b"\n".join(lines)
    assert list(sifted([content], None)) == [carefully(line, None) for line in line_reader.read_lines([content])]


def test_sift_row_longer_than_a_block_and_a_chunk_is_taken() -> None:
    long = GOOD.replace(b"Jupiter", b"Jupiter " * 100_000)
    content = b"\n".join([GOOD, long, GOOD])
    chunks = [content[place : place + 65_536] for place in range(0, len(content), 65_536)]
    assert [(part.first, len(part)) for part in fast_path.scan(chunks, None) if not isinstance(part, Line)] == [
        (1, 1), (2, 1), (3, 1)
    ]  # fmt: skip
