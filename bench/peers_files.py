"""The files that `make peers-check` gives to each validator: those of the corpus with an error, and those without."""

from dataclasses import dataclass
from pathlib import Path

from corpus import encoding_cases, image_cases, json_cases, preference_cases, row_cases, tool_cases
from corpus.case import Case
from luthier.core.quotas import MAX_FILE_BYTES
from luthier.core.states import Method
from luthier.data.problems.problem import Severity


@dataclass(frozen=True, slots=True)
class File:
    """A file, the part of the corpus that it is of, and the lines that have its errors."""

    case: Case
    part: str
    lines: frozenset[int]


def _file(part: str, case: Case) -> File:
    errors = [line for _, line, _, severity in case.expected if severity is Severity.ERROR]
    return File(case, part, frozenset(line for line in errors if line is not None))


def _is_plain(case: Case) -> bool:
    """Whether a file needs no base model's abilities and no other bound than the usual ones to be judged."""
    return case.abilities is None and case.min_examples == 1 and case.max_bytes == MAX_FILE_BYTES


PARTS = ("bytes", "JSON", "rows", "tools", "images", "pairs")
_OF_PARTS = dict(
    zip(PARTS, (encoding_cases, json_cases, row_cases, tool_cases, image_cases, preference_cases), strict=True)
)
FAULTY = tuple(
    _file(part, case)
    for part, module in _OF_PARTS.items()
    for case in module.CASES
    if _is_plain(case) and any(severity is Severity.ERROR for _, _, _, severity in case.expected)
)
RIGHT = tuple(
    _file(part, case)
    for part, module in _OF_PARTS.items()
    for case in module.CLEAN
    if _is_plain(case) and not case.expected
)


def write(folder: Path) -> None:
    for index, file in enumerate((*FAULTY, *RIGHT)):
        kind = "dpo" if file.case.method is Method.DPO else "chat"
        (folder / f"{index:03}-{kind}.jsonl").write_bytes(file.case.content)
