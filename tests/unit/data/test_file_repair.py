"""Repairs: each fault that can be mended safely is, with its line; what needs judgement stays as it is."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.repair import file_repair
from luthier.data.repair.file_repair import FileRepair
from processor import reference_s

USER, ASSISTANT = {"role": "user", "content": "Hé?"}, {"role": "assistant", "content": "Ho 😀."}
ROW = {"messages": [USER, ASSISTANT]}
OTHER = {"messages": [{**USER, "content": "Na?"}, ASSISTANT]}


def line(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def mend(content: bytes, size: int = 7) -> tuple[list[Any], dict[str, list[int]]]:
    mended = FileRepair()
    lines = list(mended.lines(content[place : place + size] for place in range(0, len(content), size)))
    assert all(text.endswith(b"\n") for text in lines)
    return [json.loads(text) for text in lines], {code: list(at) for code, at in mended.changes.items()}


@pytest.mark.parametrize("size", [1, 3, 5000])
@pytest.mark.parametrize(
    ("content", "rows", "changes"),
    [
        (line(ROW) + b"\n" + line(OTHER), [ROW, OTHER], {}),
        (b"\xef\xbb\xbf" + line(ROW) + b"\n\xef\xbb\xbf" + line(OTHER), [ROW, OTHER], {"byte_order_mark": [2]}),
        (line(ROW) + b"\r\n" + line(OTHER) + b"\r\n", [ROW, OTHER], {"crlf": [1]}),
        (line(ROW) + b"\n\n \n" + line(OTHER), [ROW, OTHER], {"blank_line": [2, 3]}),
        (line(ROW).decode().encode("utf-16"), [ROW], {"utf16": [1]}),
        (line(ROW).decode().encode("utf-16-be"), [ROW], {"utf16": [1]}),
        (line(ROW) + line(OTHER) + b"\n", [ROW, OTHER], {"several_objects": [1]}),
        (line(ROW) + b"\n" + line(json.dumps(OTHER)), [ROW, OTHER], {"encoded_twice": [2]}),
        (line(ROW) + b"\n" + str(OTHER).encode(), [ROW, OTHER], {"python": [2]}),
        (line(ROW) + b"\n" + line(OTHER["messages"]), [ROW, OTHER], {"bare_messages": [2]}),
        (line(ROW) + b"\n" + line([OTHER]), [ROW, OTHER], {"array": [2]}),
        (line(ROW) + b"\n```\n" + line(OTHER) + b"\n```\n", [ROW, OTHER], {"fence": [2, 4]}),
        (line(ROW) + b",\n" + line(OTHER), [ROW, OTHER], {"trailing_comma": [1]}),
        (line(ROW) + b"\n" + line(OTHER) + b"\n" + line(ROW), [ROW, OTHER], {"duplicate": [3]}),
        (json.dumps([ROW, OTHER]).encode(), [ROW, OTHER], {"array": [1]}),
        (json.dumps([ROW, OTHER], indent=2).encode(), [ROW, OTHER], {"array": [1]}),
        (json.dumps(ROW, indent=2).encode() + b"\n" + line(OTHER), [ROW, OTHER], {"spread": [1]}),
    ],
)
def test_file_is_mended_and_says_where(
    content: bytes, rows: list[Any], changes: dict[str, list[int]], size: int
) -> None:
    assert mend(content, size) == (rows, changes)


CALL = {"name": "add", "arguments": "{}"}
FUNCTION = {"name": "add", "parameters": {}}
SILENT = {**ASSISTANT, "weight": 0}
OLD_CALL = {"role": "assistant", "content": None, "function_call": CALL}
NEW_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": CALL}],
}
OLD_ANSWER = {"role": "function", "name": "add", "content": "3"}
NEW_ANSWER = {"role": "tool", "tool_call_id": "call_1", "content": "3"}


@pytest.mark.parametrize(
    ("row", "mended", "code"),
    [
        ({"prompt": USER["content"], "completion": ASSISTANT["content"]}, ROW, "prompt_completion"),
        (
            {"messages": [{**USER, "weight": 0}, SILENT, USER, ASSISTANT]},
            {"messages": [USER, SILENT, USER, ASSISTANT]},
            "weight",
        ),
        ({**ROW, "functions": [FUNCTION]}, {**ROW, "tools": [{"type": "function", "function": FUNCTION}]}, "functions"),
        (
            {"messages": [USER, OLD_CALL, OLD_ANSWER, ASSISTANT]},
            {"messages": [USER, NEW_CALL, NEW_ANSWER, ASSISTANT]},
            "function_call",
        ),
    ],
)
def test_row_of_an_older_form_is_written_as_today(row: Any, mended: Any, code: str) -> None:
    assert mend(line(OTHER) + b"\n" + line(row)) == ([OTHER, mended], {code: [2]})


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b'{"messages": [}',
        b"not json",
        b'{"a": 1}{"b"',
        b"{'a': 1, 'a': 2}",
        b"{'a': {1}}",
        b'"{\\"a\\": 1, \\"a\\": 2}"',
        b'"just a text"',
        b'["a", "b"]',
        b'{"messages": [], "messages": [1]}',
        b'{"messages": [{"role": "user", "content": "a", "weight": NaN}]}',
        b'{"messages": [{"role": "user", "weight": 1, "content": "\\ud800"}]}',
        b'{"messages": 1}',
        b'{"prompt": 1, "completion": "b"}',
        b'{"mesages": []}',
        b'{"messages": [{"role": "function", "content": "3"}, {"role": "assistant", "function_call": {}}]}',
    ],
)
def test_row_that_needs_judgement_stays_byte_for_byte(text: bytes) -> None:
    mended = FileRepair()
    assert list(mended.lines([line(ROW) + b"\n", text + b"\n"])) == [line(ROW) + b"\n", text + b"\n"]
    assert mended.changes == {}


DAMAGED = line(ROW).replace("é".encode(), b"\xc3")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'prompt,completion\na,b\na,"\xff"\n', "CSV.*line 3.*not UTF-8"),
        (b"prompt\tcompletion\na\tb\n\xff\tb\n", "TSV.*line 3.*not UTF-8"),
        (b'{"data": [\n' + line(OTHER) + b",\n" + DAMAGED + b"\n]}", "object that holds the rows.*line 3.*not UTF-8"),
        (b'{"rows": [{"row": ' + DAMAGED + b"}]}", "line 1.*not UTF-8"),
        (str([ROW]).encode().replace("é".encode(), b"\xc3"), "line 1.*not UTF-8"),
        (b"module.exports = " + b'{"data": [' + DAMAGED + b"]};", "line 1.*not UTF-8"),
        (b'{"data": [' + line(ROW)[:-1] + b', "a": 1, "a": 2}]}', "key twice"),
        (b'{"data": [' + line(ROW)[:-1] + b', "a": 1e999}]}', "too large"),
    ],
)
def test_file_that_would_lose_something_is_not_rewritten(content: bytes, why: str) -> None:
    with pytest.raises(file_repair.Unrepairable, match=why):
        list(FileRepair().lines([content]))


def test_damaged_row_of_an_array_stays_byte_for_byte() -> None:
    mended = FileRepair()
    assert list(mended.lines([b"[" + DAMAGED + b", " + line(OTHER) + b"]"])) == [DAMAGED + b"\n", line(OTHER) + b"\n"]


def test_half_of_a_surrogate_pair_stays_as_it_is_written() -> None:
    half = b'{"messages": [{"role": "user", "content": "\\ud800"}]}'
    twice = line({"messages": json.dumps(json.loads(half)["messages"])})
    python = str(json.loads(half)).encode()
    assert list(FileRepair().lines([b'{"data": [' + half + b"]}"])) == [half + b"\n"]
    assert list(FileRepair().lines([twice + b"\n", python + b"\n"])) == [twice + b"\n", python + b"\n"]


@pytest.mark.parametrize("begin", [b"prompt,completion\na,b\n", b"```\n"])
def test_long_line_in_small_chunks_is_read_in_no_more_than_its_length(begin: bytes) -> None:
    began = time.process_time()
    with pytest.raises(file_repair.Unrepairable, match="64 MiB"):
        list(FileRepair().lines([begin + b'"', *[b"x" * 2**16] * 1025]))
    assert time.process_time() - began < 300 * reference_s()


def test_line_that_is_too_long_to_hold_is_not_cut() -> None:
    chunks = [line(ROW) + b"\n", *[b"x" * 2**20] * 65]
    with pytest.raises(file_repair.Unrepairable, match="line 2"):
        list(FileRepair().lines(chunks))


@given(st.lists(st.binary(max_size=40) | st.sampled_from([line(ROW), b"[", b"]", b"\n", b"\xef\xbb\xbf", b"{}"])))
def test_whatever_comes_is_written_in_lines_of_which_none_is_blank(parts: list[bytes]) -> None:
    try:
        lines = list(FileRepair().lines(parts))
    except file_repair.Unrepairable:
        return
    assert all(text.strip() and text.endswith(b"\n") and text.count(b"\n") == 1 for text in lines)


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), unique_by=str))
def test_good_lines_come_back_byte_for_byte(rows: list[dict[str, Any]]) -> None:
    lines = [line({"row": row, "at": place}) + b"\n" for place, row in enumerate(rows)]
    mended = FileRepair()
    assert (list(mended.lines(lines)), mended.changes) == (lines, {})
