"""Lines and rows from chunks of bytes, however they are cut."""

import json

from hypothesis import given
from hypothesis import strategies as st

from luthier.data.jsonl import line_reader
from luthier.data.jsonl.line_reader import JsonRow
from luthier.data.problems.problem import Problem


def test_lines_bom_crlf_blank_and_missing_end_are_read() -> None:
    content = b'\xef\xbb\xbf{"a":1}\r\n\n  \r\n{"b":2}'
    assert [(line.number, line.content) for line in line_reader.read_lines([content])] == [
        (1, b'{"a":1}'),
        (4, b'{"b":2}'),
    ]


@given(st.lists(st.dictionaries(st.text(), st.text())), st.integers(1, 7))
def test_rows_chunked_anywhere_are_the_same(values: list[dict[str, str]], size: int) -> None:
    content = b"".join(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in values)
    chunks = [content[start : start + size] for start in range(0, len(content), size)]
    assert list(line_reader.read_rows(chunks)) == [JsonRow(number, value) for number, value in enumerate(values, 1)]


def test_rows_broken_lines_become_problems_with_line_and_column() -> None:
    rows = list(line_reader.read_rows([b'{"a":1}\n{"a" 1}\n\xff\n[1]\n"x"\n']))
    problems = [row for row in rows if isinstance(row, Problem)]
    assert [(problem.line, problem.code) for problem in problems] == [
        (2, "invalid_json"),
        (3, "invalid_utf8"),
        (4, "not_an_object"),
        (5, "not_an_object"),
    ]
    assert "column 6" in problems[0].message


def test_rows_deep_nesting_and_huge_numbers_are_problems_not_crashes() -> None:
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    huge = b'{"a":' + b"9" * 10_000 + b"}\n"
    first, second = line_reader.read_rows([deep, huge])
    assert isinstance(first, Problem)
    assert first.code == "nested_too_deeply"
    assert isinstance(second, JsonRow)
    assert [problem.code for problem in second.problems] == ["huge_number"]


def test_lines_endless_line_is_cut_and_reported() -> None:
    chunks = [b"x" * (1 << 20)] * 70 + [b'\n{"a":1}\n']
    problem, row = line_reader.read_rows(chunks)
    assert isinstance(problem, Problem)
    assert problem.code == "line_too_long"
    assert row == JsonRow(2, {"a": 1})
