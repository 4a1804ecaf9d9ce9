"""The careful JSON reader: it takes what JSON is, finds what Python's lets pass, and says where each fault stands."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import image_cases
from luthier.data.checks import validate
from luthier.data.jsonl import json_reader
from luthier.data.jsonl.json_reader import ParsedJson
from luthier.data.rows import image_header
from processor import reference_s

words = st.text(max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
pieces = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", ",", ":", '"a"', '"role"', "1", "-0.5e3", "01", "NaN", "true", "null", "None", "'a'", "//",
         '"\\ud800"', '"\\u00e9"', '"\\x"', '"', "\\", " ", "\t", "\r", "\n", "\x00", "\ufeff", "\u201c", "1e400"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@given(values)
def test_read_takes_any_value_however_it_is_written(value: object) -> None:
    for text in (
        json.dumps(value),
        json.dumps(value, ensure_ascii=False, indent=1),
        json.dumps(value, separators=(",", ":")),
    ):
        assert json_reader.read(text) == ParsedJson(value)
        assert json_reader._StrictReader(text).read() == ParsedJson(value)


@settings(max_examples=500)
@given(pieces | st.text(max_size=30))
def test_read_finds_a_fault_in_all_that_is_no_json_and_never_raises(text: str) -> None:
    reading = json_reader.read(text)
    assert reading == json_reader._StrictReader(text).read()
    assert reading.complete or (reading.faults and reading.value is None)
    assert all(1 <= fault.column <= len(text) + 1 for fault in reading.faults)
    try:
        value = json.loads(text)
    except ValueError:
        assert reading.faults
        return
    assert reading.complete or reading.faults[-1].code in ("nan", "huge_number")
    assert reading.faults or json.dumps(reading.value) == json.dumps(value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a":', "at column 6, the JSON ends where a value is expected."),
        ("[1,", "at column 4, the JSON ends where a value (after a comma) is expected."),
        ('{"a"', "at column 5, the JSON ends where a colon behind the key is expected."),
    ],
)
def test_read_cut_text_says_what_is_expected_where_it_ends(text: str, sentence: str) -> None:
    assert json_reader.read(text).faults[-1].sentence == sentence


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | pieces.map(str.encode))
def test_check_file_takes_any_bytes(content: bytes) -> None:
    report = validate.check_file([content], None, 0)
    assert all(problem.line is None or 1 <= problem.line <= content.count(b"\n") + 1 for problem in report.problems)


@given(
    st.binary(max_size=80),
    st.sampled_from([image_cases.png(), image_cases.jpeg(), image_cases.LOSSY, image_cases.extended(2)]),
)
def test_image_header_takes_any_bytes(content: bytes, image: bytes) -> None:
    for damaged in (content, image[: len(content)] + content, content[:12] + image[12:], image[:20] + content):
        try:
            header = image_header.read_header(damaged)
        except image_header.BrokenImage:
            continue
        assert header is None or (header.width > 0 and header.height > 0)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        '{"a":' * 300_000,
        '{"a": ' + "9" * 2_000_000 + "}",
        '{"a": 0.' + "9" * 2_000_000 + "}",
        '{"a": -' + "1" * 2_000_000 + "x}",
        '{"a": "' + "\\" * 2_000_001 + '"}',
        '{"a": "' + "\\ud800" * 300_000 + '"}',
        "{" + ",".join(f'"k{index % 1000}": 1' for index in range(150_000)) + "}",
        '"' + "a" * 5_000_000,
        " " * 5_000_000,
        "[" + "NaN," * 150_000 + "1]",
    ],
    ids=lambda text: f"{text[:8]}...{len(text)}",
)
def test_read_hostile_text_takes_no_longer_than_its_length(text: str) -> None:
    began = time.process_time()
    json_reader.read(text)
    assert time.process_time() - began < 300 * reference_s()


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": f"usr{index}", "content": "a"} for index in range(40_000)]},
        {"messages": [{"role": "user", "content": "a", **{f"contnt{index}": 1 for index in range(100_000)}}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}] * 60_000}]},
        {"messages": [{"role": "assistant", "tool_calls": [{}] * 60_000}], "tools": [{}] * 60_000},
    ],
    ids=("roles", "keys", "parts", "calls"),
)
def test_check_file_row_with_very_many_faults_tells_the_first_and_takes_no_longer(row: dict[str, object]) -> None:
    began = time.process_time()
    report = validate.check_file([json.dumps(row).encode()], None, 0)
    assert time.process_time() - began < 300 * reference_s()
    assert 1 <= report.n_errors <= 101
    assert "more_problems" in {problem.code for problem in report.problems}
