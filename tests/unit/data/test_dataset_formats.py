"""Rows in other formats: each is named, converted exactly, or left as it is; and no row of ours is taken for one."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import CASES, CLEAN
from corpus.case import GOOD
from format_samples import ANSWER, CHAT, PAIR, PAIRS, SAMPLES, USER, Sample
from luthier.core.states import Method
from luthier.data.checks import validate
from luthier.data.dataset_formats import known_formats
from luthier.data.dataset_formats.dataset_format import Format, RowKind
from luthier.data.jsonl.line_reader import JsonRow
from luthier.data.problems import problem_groups
from luthier.data.repair import file_repair
from luthier.data.repair.file_repair import FileRepair
from luthier.data.rows import preference, supervised
from repository import DOCS

PAGE = DOCS / "doctor.md"
CONVERTED = [sample for sample in SAMPLES if sample.converted is not None]


def name(sample: Sample) -> str:
    return f"{sample.format}-{SAMPLES.index(sample)}"


def fix(*rows: Any) -> tuple[list[Any], FileRepair]:
    mended = FileRepair()
    return [json.loads(text) for text in mended.lines(json.dumps(row).encode() + b"\n" for row in rows)], mended


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_row_of_another_format_is_named(sample: Sample) -> None:
    found = supervised.recognise_other_format(JsonRow(1, sample.row))
    assert found is not None
    assert found.format.name == sample.format
    assert (found.conversion is None) == (sample.converted is None)
    assert bool(found.refusal) == (sample.converted is None)
    for method in Method:
        report = validate.check_file([json.dumps(sample.row).encode()], None, 1, method)
        (problem,) = report.problems
        assert found.format.title in problem.message
        assert found.format.mapping in problem.fix


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_fix_writes_exactly_what_the_row_says(sample: Sample) -> None:
    rows, mended = fix(sample.row)
    assert rows == [sample.row if sample.converted is None else sample.converted]
    dropped = tuple(
        code.removeprefix(file_repair.DROPPED) for code in mended.changes if code.startswith(file_repair.DROPPED)
    )
    assert dropped == sample.dropped
    assert (sample.format in mended.changes) == (sample.converted is not None)


@pytest.mark.parametrize("sample", CONVERTED, ids=name)
def test_converted_row_is_a_good_one(sample: Sample) -> None:
    assert sample.converted is not None
    row = JsonRow(1, sample.converted)
    parsed = (
        preference.parse_preference(row, None)
        if "input" in sample.converted
        else supervised.parse_supervised(row, None)
    )
    assert parsed.example is not None
    assert {problem.code for problem in parsed.problems} <= {"no_tools_defined"}


def test_every_format_has_a_sample_and_what_is_converted_one_that_is() -> None:
    assert {sample.format for sample in SAMPLES} == {form.name for form in known_formats.FORMATS}
    converted = {sample.format for sample in CONVERTED}
    assert converted == {form.name for form in known_formats.FORMATS if form.kind is not RowKind.OTHER}
    pairs = {sample.format for sample in PAIRS if sample.converted is not None and "input" in sample.converted}
    assert pairs == {form.name for form in known_formats.FORMATS if form.kind is RowKind.PAIRS}


@pytest.mark.parametrize("case", [*CLEAN, *CASES], ids=lambda case: case.id)
def test_no_row_that_is_good_is_taken_for_another_format(case: Any) -> None:
    """Rows of the corpus without an error are ours, whatever warnings they have."""
    report = case.report()
    bad = {problem.line for problem in report.problems if problem.severity == "error"}
    for number, line in enumerate(case.content.split(b"\n"), 1):
        if number in bad or None in bad or not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8-sig"))
        except ValueError:
            continue
        assert known_formats.recognise(value) is None, number


@pytest.mark.parametrize(
    "more",
    [
        {"label": "complaint"},
        {"label": 1},
        {"prompt": "a", "completion": "b"},
        {"prompt": "a", "prompt_id": "b"},
        {"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]},
        {"instruction": "a", "input": "b", "output": "c"},
        {"choices": ["red", "green"]},
        {"label": "complaint", "chosen": "a", "rejected": "b"},
        {"source": "web", "text": "c"},
    ],
)
def test_good_messages_beside_other_keys_stay_messages(more: dict[str, Any]) -> None:
    """A data set often keeps the columns that its messages were made from; what counts are the messages."""
    row = {**CHAT, **more}
    assert supervised.parse_supervised(JsonRow(1, row), None).example is not None
    assert fix(row)[0] == [row]


def test_format_is_named_once_for_the_file() -> None:
    rows = [{"instruction": f"Question {index}?", "output": "Yes."} for index in range(12)]
    report = validate.check_file([b"".join(json.dumps(row).encode() + b"\n" for row in rows)], None)
    (group,) = problem_groups.group_problems(report.problems)
    assert (group.count, group.where) == (12, "lines 1-12")
    assert len({problem.message + problem.fix for problem in report.problems}) == 1


def test_rows_of_several_formats_are_converted_one_by_one() -> None:
    rows = [sample.row for sample in CONVERTED]
    mended, _ = fix(*rows, json.loads(GOOD))
    wanted = [sample.converted for sample in CONVERTED] + [json.loads(GOOD)]
    assert mended == [row for index, row in enumerate(wanted) if row not in wanted[:index]]


def test_labelled_row_is_never_told_to_be_an_answer() -> None:
    for label in (True, False, 1, 0, "false"):
        row = {"prompt": "Best bay?", "completion": "None.", "label": label}
        for method in Method:
            (problem,) = validate.check_file([json.dumps(row).encode()], None, 1, method).problems
            assert problem.code == "labelled_row"
            assert "label false marks answers that are not to be learned" in problem.fix
    bad = {"prompt": "Best bay?", "completion": "None.", "label": False}
    assert fix(bad, {**bad, "label": 0})[0] == [bad, {**bad, "label": 0}]


def test_pair_is_said_to_need_dpo_and_becomes_a_pair_of_ours() -> None:
    row = {"prompt": "Best bay?", "chosen": "Seven.", "rejected": "None."}
    (problem,) = validate.check_file([json.dumps(row).encode()], None, 1).problems
    assert problem.code == "preference_row"
    assert "Make the job with method dpo" in problem.fix
    assert "--method dpo --fix" in problem.fix
    content = json.dumps(fix(row)[0][0]).encode()
    assert validate.check_file([content], None, 1, Method.DPO).problems == ()


def test_empty_prompts_are_said_and_no_answer_contradicts_another() -> None:
    rows = [{"prompt": "", "completion": f"Greeting {index}."} for index in range(3)]
    (group,) = problem_groups.group_problems(
        validate.check_file([b"\n".join(json.dumps(row).encode() for row in rows)], None, 1).problems
    )
    assert "with an empty prompt" in group.first.message
    mended, done = fix(*rows)
    assert mended == [{"messages": [{"role": "assistant", "content": row["completion"]}]} for row in rows]
    assert list(done.changes["empty_prompt"]) == [1, 2, 3]


def test_dropped_keys_are_bounded_and_shown_as_what_they_are() -> None:
    row = {"prompt": "a", "completion": "b", **{f"key{index}": 1 for index in range(150)}}
    _, mended = fix(row)
    named = [code for code in mended.changes if code.startswith(file_repair.DROPPED)]
    assert len(named) == 101
    assert file_repair.DROPPED in named
    assert file_repair.change_text(file_repair.DROPPED + "key1") == "key1 left out, for which messages have no place"


def _row_of_page(form: Format) -> str:
    fixed = {RowKind.PAIRS: "yes, as pairs", RowKind.LABELLED: "rows with label true", RowKind.OTHER: "no"}.get(
        form.kind, "yes"
    )
    return f"| {form.title} | {form.keys} | {form.mapping} | {fixed} | {form.refused} |"


def test_doctor_page_has_the_table_of_formats() -> None:
    page = PAGE.read_text()
    section = page[page.index("## Formats of others") : page.index("## What the reader knows")]
    rows = [row for row in section.splitlines() if re.match(r"\| (?!Format|-)", row)]
    assert rows == [_row_of_page(form) for form in known_formats.FORMATS]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(SAMPLES), st.data())
def test_whatever_a_row_holds_nothing_is_raised(sample: Sample, data: st.DataObject) -> None:
    """Any value of a known row in any other's place: recognised or not, converted or refused, never an exception."""
    text = json.dumps(sample.row)
    row = json.loads(text)
    spots: list[tuple[Any, Any]] = []
    pending: list[Any] = [row]
    while pending:
        value = pending.pop()
        keys = range(len(value)) if isinstance(value, list) else list(value)
        spots += [(value, key) for key in keys]
        pending += [value[key] for key in keys if isinstance(value[key], list | dict) and value[key]]
    holder, key = data.draw(st.sampled_from(spots))
    holder[key] = data.draw(JSON | st.sampled_from(["human", [USER], PAIR, [[]], [{}], {"text": "a"}]))
    found = known_formats.recognise(row)
    assert found is None or (found.conversion is None) == bool(found.refusal)
    for method in Method:
        validate.check_file([json.dumps(row).encode()], None, 1, method)
