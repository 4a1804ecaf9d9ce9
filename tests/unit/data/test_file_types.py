"""Files that are no JSON lines: each is named, its command works on that very file, and --fix gives its rows."""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from luthier.data.checks import validate
from luthier.data.repair.file_repair import FileRepair, Unrepairable

TURNS = [
    [{"role": "user", "content": f"Bay of {n}, é?"}, {"role": "assistant", "content": f'It\'s "{n}"; ok.'}]
    for n in range(3)
]
ROWS: list[dict[str, Any]] = [{"messages": turns} for turns in TURNS]
PAIRS = [(str(one[0]["content"]), str(one[1]["content"])) for one in TURNS]
LINES = [json.dumps(one) for one in ROWS]


def indented(value: object) -> str:
    return json.dumps(value, indent=2)


def csv_of(*header: str, rows: Iterable[Iterable[str]], mark: str = ",") -> str:
    cells = [list(header), *rows] if header else list(rows)
    return "".join(mark.join('"' + cell.replace('"', '""') + '"' for cell in line) + "\r\n" for line in cells)


MENDED = {
    "array": (json.dumps(ROWS), "one JSON array"),
    "array_indented": (indented(ROWS), "one JSON array"),
    "array_with_a_comma": ("[\n" + "".join(f"{one},\n" for one in LINES) + "]\n", "a comma before its ] on line 5"),
    "array_without_end": ("[\n" + ",\n".join(LINES) + "\n", "whose ] is missing behind line 4"),
    "array_on_one_line_with_a_comma": (json.dumps(ROWS)[:-1] + ",]", "a comma before its ] on line 1"),
    "array_on_one_line_without_end": (json.dumps(ROWS)[:-1], "whose ] is missing behind line 1"),
    "array_opened_by_the_first_row": ("[" + ",\n".join(LINES) + "]\n", "one JSON array"),
    "array_of_texts": (json.dumps(LINES), "array of strings, each of them JSON"),
    "array_of_arrays": (json.dumps(TURNS), "array of arrays of messages"),
    "pandas_values": (json.dumps([[one] for one in TURNS]), "array of arrays of messages"),
    "arrays_on_lines": ("\n".join(map(json.dumps, TURNS)), "arrays of messages, one on each line"),
    "arrays_of_rows_on_lines": ("\n".join(json.dumps([one]) for one in ROWS), "arrays of rows, one on each line"),
    "indented_objects": ("\n".join(map(indented, ROWS)), "spread over several lines"),
    "objects_on_end": ("".join(LINES), "objects on end"),
    "wrapped": (json.dumps({"data": ROWS}), "holds the rows in an array"),
    "wrapped_indented": (indented({"n": 3, "train": ROWS}), "holds the rows in an array"),
    "wrapped_on_lines": ('{"data": [\n' + ",\n".join(LINES) + "\n]}\n", "holds the rows in an array"),
    "wrapped_at_a_key_of_ones_own": (json.dumps({"secret": ROWS, "n": 3}), "holds the rows in an array"),
    "wrapped_deep": (json.dumps({"result": {"mine": {"rows": ROWS}}, "ok": True}), "holds the rows in an array"),
    "viewer": (json.dumps({"rows": [{"row_idx": 0, "row": one, "truncated_cells": []} for one in ROWS]}), "viewer"),
    "pandas_columns": (json.dumps({"messages": {str(n): one for n, one in enumerate(TURNS)}}), "wrote as columns"),
    "pandas_index": (json.dumps({str(n): one for n, one in enumerate(ROWS)}), "wrote as index"),
    "pandas_split": (json.dumps({"columns": ["messages"], "data": [[one] for one in TURNS]}), "as split"),
    "pandas_table": (
        json.dumps({"schema": {"fields": []}, "data": [{"index": n, **one} for n, one in enumerate(ROWS)]}),
        "wrote as table",
    ),
    "columns_of_a_dataset": (json.dumps({"messages": TURNS}), "column by column"),
    "encoded_twice": ("\n".join(map(json.dumps, LINES)), "encoded twice"),
    "python_lines": ("\n".join(map(str, ROWS)), "lines of Python dicts"),
    "python_list": (str(ROWS), "a list that Python printed"),
    "fence": ("```json\n" + "\n".join(LINES) + "\n```\n", "Markdown fence"),
    "module": ("export default " + indented(ROWS) + ";\n", "a module of JavaScript"),
    "module_const": ("const rows = [\n" + ",\n".join(LINES) + "\n];\n", "a module of JavaScript"),
    "utf16": ("\ufeff" + "\n".join(LINES), "text in UTF-16"),
}  # fmt: skip
TABLES = {
    "csv_messages": (csv_of("messages", rows=[[json.dumps(one)] for one in TURNS]), "a table (CSV)"),
    "csv_messages_and_more": (csv_of("id", "messages", rows=[["", json.dumps(one)] for one in TURNS]), "a table (CSV)"),
    "csv_python": (csv_of("messages", rows=[[str(one)] for one in TURNS]), "a table (CSV)"),
    "csv": (csv_of("prompt", "completion", rows=PAIRS), "a table (CSV)"),
    "csv_other_names": (csv_of("Question (EN)", "Answer / reply", rows=PAIRS), "a table (CSV)"),
    "csv_of_pandas": (csv_of("", "prompt", "completion", rows=[("0", *pair) for pair in PAIRS]), "a table (CSV)"),
    "tsv": (csv_of("prompt", "completion", rows=PAIRS, mark="\t"), "a table (TSV)"),
    "semicolons": (csv_of("Prompt", "Completion", rows=PAIRS, mark=";"), "CSV with semicolons"),
    "csv_with_a_mark": ("\ufeff" + csv_of("prompt", "completion", rows=PAIRS), "a table (CSV)"),
}
LEFT = {
    "csv_without_names": (csv_of(rows=PAIRS), "without names of columns", "prompt and completion"),
    "csv_of_unknown_names": (csv_of("a", "b", rows=PAIRS), "a table (CSV)", "Name its columns"),
    "lfs": ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "Git LFS pointer", "git lfs pull"),
    "html": ("<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "an HTML page", "download it again"),
    "xml_error": ('<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "error message in XML", "again"),
    "notebook": (json.dumps({"cells": [], "nbformat": 4}), "Jupyter notebook", "JSONL"),
    "error_answer": (json.dumps({"error": {"message": "no"}}), "error message of a service", "again"),
    "two_arrays": (json.dumps({"train": ROWS, "test": ROWS}), "several arrays", "jq -c '.train[]' OLD > NEW"),
    "viewer_cut": (json.dumps({"rows": [{"row": ROWS[0], "truncated_cells": ["messages"]}]}), "viewer", "cut off"),
    "program": ("import json\n\nprint(1)\n", "a program", "Run it"),
    "markdown_table": ("| prompt | completion |\n|---|---|\n| a | b |\n", "Markdown table", "messages"),
}  # fmt: skip


def encode(text: str) -> bytes:
    return text.encode("utf-16-le" if text.startswith('\ufeff{"') else "utf-8")


def problem_of(content: bytes) -> Any:
    report = validate.check_file([content], None, 1)
    assert [one.code for one in report.problems] == ["not_jsonl"], report.problems
    return report.problems[0]


def run(fix: str, content: bytes, folder: Path) -> list[Any]:
    """What the command that a fix names makes of the file."""
    found = re.search(r"\b(?:jq|iconv|python3|sed|gzip|unzip)\b.*? > NEW", fix)
    assert found, fix
    for tool in re.findall(r"^(?:jq|iconv|sed|gzip|unzip)\b|(?<=\| )jq(?= -c '\.\[\]' > NEW)", found.group()):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed on this machine")
    (folder / "OLD").write_bytes(content)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-ec", found.group()], cwd=folder, env={**os.environ, "PATH": path}, check=True, timeout=60)
    return [json.loads(line) for line in (folder / "NEW").read_text("utf-8-sig").splitlines()]


@pytest.mark.parametrize("size", [11, 1 << 20])
@pytest.mark.parametrize("name", [*MENDED, *TABLES])
def test_fix_takes_the_rows_out(name: str, size: int) -> None:
    content = encode((MENDED | TABLES)[name][0])
    mended = FileRepair()
    lines = list(mended.lines(content[at : at + size] for at in range(0, len(content), size)))
    assert [json.loads(line) for line in lines] == ROWS
    assert mended.changes


@pytest.mark.parametrize("name", MENDED)
def test_kind_is_named_and_its_command_works_on_that_very_file(name: str, tmp_path: Path) -> None:
    text, words = MENDED[name]
    problem = problem_of(encode(text))
    assert words in problem.message
    assert "luthier check OLD --fix NEW" in problem.fix
    if "remove the comma" in problem.fix or "write the ]" in problem.fix:
        text = re.sub(r",\s*\]\s*$", "]", text) if "comma" in problem.fix else text + "]"
    assert run(problem.fix, encode(text), tmp_path) == ROWS


@pytest.mark.parametrize("name", TABLES)
def test_table_is_named_and_its_command_gives_its_cells(name: str, tmp_path: Path) -> None:
    text, words = TABLES[name]
    problem = problem_of(encode(text))
    assert words in problem.message
    cells = [list(row.values()) for row in run(problem.fix, encode(text), tmp_path)]
    assert [row[-1] for row in cells] in (
        [answer for _, answer in PAIRS],
        *([str(f(one)) for one in TURNS] for f in (json.dumps, str)),
    )


@pytest.mark.parametrize("name", LEFT)
def test_kind_that_is_not_mended_is_named_and_says_what_to_do(name: str) -> None:
    text, words, advice = LEFT[name]
    problem = problem_of(text.encode())
    assert words in problem.message
    assert advice in problem.fix
    with pytest.raises(Unrepairable) as caught:
        list(FileRepair().lines([text.encode()]))
    assert words.removeprefix("a table (CSV)") in str(caught.value)


def zipped(*names: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in names:
            archive.writestr(name, "\n".join(LINES))
    return held.getvalue()


@pytest.mark.parametrize(
    ("content", "words", "advice"),
    [
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel file", "CSV"),
        (zipped("mimetypeapplication/vnd.oasis.opendocument.spreadsheet"), "spreadsheet (ODS)", "CSV"),
        (zipped("[Content_Types].xml", "word/document.xml"), "a Word file", "plain text"),
        (b"PAR1" + bytes(50), "a Parquet file", "read_parquet"),
        (b"ARROW1\0\0" + bytes(50), "an Arrow file", "read_feather"),
        (b"\xff\xff\xff\xff\x10\0\0\0" + bytes(50), "an Arrow stream", "from_file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), "an old Excel or Word file", "CSV"),
    ],
)
def test_binary_kind_is_named_with_its_way_out(content: bytes, words: str, advice: str) -> None:
    problem = problem_of(content)
    assert words in problem.message
    assert advice in problem.fix


@pytest.mark.parametrize("content", [gzip.compress("\n".join(LINES).encode()), zipped("rows.jsonl")])
def test_packed_file_is_unpacked_by_the_command(content: bytes, tmp_path: Path) -> None:
    assert run(problem_of(content).fix, content, tmp_path) == ROWS


def test_yaml_is_named_and_its_command_works(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    for content in (yaml.safe_dump(ROWS), yaml.safe_dump_all(ROWS), "---\n" + yaml.safe_dump(ROWS)):
        problem = problem_of(content.encode())
        assert "YAML" in problem.message
        assert run(problem.fix, content.encode(), tmp_path) == ROWS


@pytest.mark.parametrize(("asks", "answers"), [("Q", "A"), ("Human", "Assistant")])
def test_text_of_two_speakers_loses_no_exchange(asks: str, answers: str, tmp_path: Path) -> None:
    content = "".join(f"{asks}: {one}\n{answers}: {two}\n\n" for one, two in PAIRS).encode()
    problem = problem_of(content)
    assert "speakers" in problem.message
    assert run(problem.fix, content, tmp_path) == ROWS


def test_text_of_more_speakers_is_no_yaml() -> None:
    problem = problem_of(b"System: Be brief.\nQ: a\nA: b\n\nSystem: Be kind.\nQ: c\nA: d\n")
    assert "speakers" in problem.message
    assert "yaml" not in problem.fix


@pytest.mark.parametrize(
    "text",
    [
        LINES[0],
        json.dumps({"messages": TURNS[0], "data": ROWS}),
        json.dumps({"conversations": [{"from": "human", "value": "a"}]}),
        json.dumps({"input": {"messages": TURNS[0][:1]}, "preferred_output": TURNS[0][1:], "non_preferred_output": []}),
        json.dumps({"contents": [{"role": "user", "parts": [{"text": "a"}]}], "systemInstruction": {"text": "b"}}),
        json.dumps({"system": [{"text": "a"}], "messages": TURNS[0]}),
        json.dumps({"input": [{"role": "user", "content": "a"}], "ideal": "b"}),
        json.dumps({"data": ["a", "b"], "id": "1"}),
        json.dumps({"prompt": TURNS[0][:1], "completion": TURNS[0][1:]}),
        LINES[0] + "\n{\n" + LINES[1],
        '{"messages": [\n' + "\n".join(LINES),
        "Once upon a time, there was a row.\nIt was long, and it was good.\nIt had words, too.\n",
    ],
)
def test_rows_and_prose_are_no_other_kind(text: str) -> None:
    assert "not_jsonl" not in {problem.code for problem in validate.check_file([text.encode()], None, 1).problems}
