"""Tables in text (CSV and its kin): whether a text is one, and its rows as objects by the names of the columns.

`file_type` names them, `data/repair/repairable_rows.py` reads their rows.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_DELIMITERS = "\t;,|"
_MAX_FIELD_CHARACTERS = 64 * 1024 * 1024
_MIN_REGULAR_SHARE = 0.9
_NAMES = frozenset(
    """
    messages prompt completion question answer instruction input output response query system user assistant text role
    content chosen rejected tools conversation conversations preferred_output non_preferred_output human context id
    """.split()  # noqa: SIM905
)
_QUESTION_ANSWER = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("query", "answer"),
    ("user", "assistant"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("input", "output"),
    ("human", "assistant"),
)
"""What a person asks and what is answered: two columns that say the same as prompt and completion."""
_ROW_COLUMNS = (
    {"prompt", "completion"},
    {"prompt", "chosen", "rejected"},
    {"input", "preferred_output", "non_preferred_output"},
    {"instruction", "input", "output"},
    {"question", "answer"},
    {"system", "user", "assistant"},
)
"""Names of columns that are keys of rows, beside other columns."""


@dataclass(frozen=True, slots=True)
class Table:
    """How a table is written. `header` has the names of the columns, None where the first line is a record already."""

    delimiter: str
    n_columns: int
    header: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """The table in words, as in "It looks like ..."."""
        kind = {"\t": "TSV", ",": "CSV", ";": "CSV with semicolons", "|": "with bars between"}[self.delimiter]
        return f"a table ({kind})" + ("" if self.header else " without names of columns")

    @property
    def keys(self) -> tuple[str, ...] | None:
        """A training row's key for each column, "" for a column to leave out; None where they are no row's keys."""
        if self.header is None:
            return None
        names = tuple(name.strip().lower() for name in self.header)
        if names[0] in ("", "unnamed: 0"):  # the numbers of rows that pandas writes first
            inner_keys = Table(self.delimiter, self.n_columns - 1, self.header[1:]).keys if names[1:] else None
            return None if inner_keys is None else ("", *inner_keys)
        words = tuple("".join(re.findall(r"^[a-z_]+", name)) for name in names)
        if words in _QUESTION_ANSWER:
            return "prompt", "completion"
        are_row_keys = "messages" in names or any(several <= set(names) for several in _ROW_COLUMNS)
        return names if are_row_keys and len(set(names)) == len(names) and all(names) else None


def sniff(text: str, is_complete: bool) -> Table | None:
    """The table that a text is, or begins; None for all else. `is_complete`: the text does not continue."""
    for delimiter in _DELIMITERS:
        records = _records(text, delimiter)
        if not is_complete:
            del records[-1:]
        records = [record for record in records if any(record)]
        if table := _table(records, delimiter, text):
            return table
    return _single_column(text)


def _records(text: str, delimiter: str) -> list[list[str]]:
    """The CSV records of a text, up to the first that is malformed."""
    records: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        try:
            records.append(next(reader))
        except (StopIteration, csv.Error):
            return records


def _table(records: list[list[str]], delimiter: str, text: str) -> Table | None:
    """The table of records with two columns or more; None where they are too irregular, or look like prose."""
    if not records or (n_columns := len(records[0])) < 2:
        return None
    if len(records) == 1 and not all(_is_name(cell) for cell in records[0]):
        return None
    n_regular = sum(len(record) == n_columns for record in records)
    if n_regular < max(2, len(records) * _MIN_REGULAR_SHARE) and len(records) > 1:
        return None
    # In prose a blank follows a comma; between the cells of a table none does.
    if delimiter in ",;" and '"' not in text and text.count(f"{delimiter} ") * 2 > text.count(delimiter):
        return None
    return Table(delimiter, n_columns, tuple(records[0]) if _is_header(records) else None)


def _single_column(text: str) -> Table | None:
    """The table of a single column with a known name and a quoted cell; None for any other text."""
    records = _records(text, ",")
    first, *other_records = records or [[]]
    if len(first) == 1 and _is_name(first[0]) and other_records and all(len(record) <= 1 for record in other_records):
        second = text.partition("\n")[2].lstrip()
        if second.startswith('"'):
            return Table(",", 1, (first[0],))
    return None


def _is_name(cell: str) -> bool:
    """Whether a cell is a column name that training data has."""
    return cell.strip().lower() in _NAMES


def _is_header(records: list[list[str]]) -> bool:
    """Whether the first record names the columns: by a known name, or with short, different words before others."""
    cells = [cell.strip() for cell in records[0]]
    if any(_is_name(cell) for cell in cells):
        return True
    return (
        len(set(cells)) == len(cells)
        and all(
            0 < len(cell) <= 40
            and not cell.endswith((".", "?", "!", ":"))
            and not cell[0].isdigit()
            and cell[0] not in "[{"
            for cell in cells
        )
        and len(records) > 1
    )


def read_rows(lines: Iterable[str], table: Table, keys: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yields the records below the header as objects, with the number of each one's first line, from 1.

    Empty cells are left out, blank lines too. Raises csv.Error for a malformed record, or one with another number of
    cells. Sets the csv module's limit of a cell's size for the whole process.
    """
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    reader = csv.reader(lines, delimiter=table.delimiter, strict=True)
    begins = 1
    for number, record in enumerate(reader):
        line, begins = begins, reader.line_num + 1
        if number == 0 or not any(record):
            continue
        if len(record) != len(keys):
            raise csv.Error(f"line {line} has {len(record)} cells instead of {len(keys)}")
        yield line, {key: cell for key, cell in zip(keys, record, strict=True) if key and cell}
