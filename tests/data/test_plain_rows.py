"""Rows that are plainly right, and careful reading: the same rows, the same examples, the same problems."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.data.corpus import CASES, CLEAN
from tests.data.corpus.case import GOOD, Case

from luthier.catalog import Ability
from luthier.data import jsonl, messages, plain_rows
from luthier.data.jsonl import Line
from luthier.data.problem import Problem

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
    row = jsonl.parse(line)
    if isinstance(row, Problem):
        return line.number, line.content, None, (row,)
    parsed = messages.parse(row, having)
    return line.number, line.content, parsed.example, parsed.problems


def sifted(chunks: list[bytes], having: frozenset[Ability] | None) -> Iterator[Told]:
    for part in plain_rows.sift(chunks, having):
        if isinstance(part, Line):
            yield carefully(part, having)
        else:
            yield from ((number, content, told, ()) for number, content, told in part.examples())


@settings(max_examples=300, deadline=None)
@given(content=files, having=abilities, cut=st.integers(0, 400))
@example(content=GOOD + GOOD + b"\n\n" + GOOD, having=None, cut=0)
@example(content=GOOD + b"\r" + GOOD + b"\n\n", having=None, cut=0)
@example(content=GOOD[:-1] + b"\n}\n" + GOOD, having=None, cut=3)
def test_sift_tells_what_careful_reading_tells(content: bytes, having: frozenset[Ability] | None, cut: int) -> None:
    expected = [carefully(line, having) for line in jsonl.lines([content])]
    assert list(sifted([content], having)) == expected
    assert list(sifted([content[:cut], content[cut:]], having)) == expected


@pytest.mark.parametrize("case", [*CASES, *CLEAN], ids=lambda case: case.id)
def test_sift_tells_what_careful_reading_tells_of_the_corpus(case: Case) -> None:
    expected = [carefully(line, case.abilities) for line in jsonl.lines([case.content])]
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
    assert [len(part) for part in plain_rows.sift([b"\n".join([*good, b""])], None)] == [3]  # type: ignore[arg-type]
    parts = list(plain_rows.sift([b"\n".join([*good, bad, *good])], None))
    assert [part.number if isinstance(part, Line) else (part.first, len(part)) for part in parts] == [
        (1, 3), 4, (5, 2), (7, 1)
    ]  # fmt: skip
    assert all(isinstance(part, Line) for part in plain_rows.sift([calling], frozenset()))


def test_sift_row_longer_than_a_block_and_a_chunk_is_taken() -> None:
    long = GOOD.replace(b"Jupiter", b"Jupiter " * 100_000)
    content = b"\n".join([GOOD, long, GOOD])
    chunks = [content[place : place + 65_536] for place in range(0, len(content), 65_536)]
    assert [(part.first, len(part)) for part in plain_rows.sift(chunks, None) if not isinstance(part, Line)] == [
        (1, 1), (2, 1), (3, 1)
    ]  # fmt: skip
