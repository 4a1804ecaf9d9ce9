"""The rows of a faultless file as examples or pairs with their lines, for tests and benchmarks that go on from them."""

from collections.abc import Iterator, Set

from luthier.core.states import Ability, Method
from luthier.data.checks import validate
from luthier.data.jsonl import line_reader
from luthier.data.problems.problem import Problem
from luthier.data.rows.preference import Preference
from luthier.data.rows.supervised import Example


def read_examples(content: bytes, abilities: Set[Ability] = frozenset()) -> Iterator[tuple[int, Example]]:
    """Yields line number and example of each supervised row. Raises ValueError at the first row with an error."""
    for line, example in _parsed_rows(content, abilities, Method.SUPERVISED):
        assert isinstance(example, Example)
        yield line, example


def read_pairs(content: bytes, abilities: Set[Ability] = frozenset()) -> Iterator[tuple[int, Preference]]:
    """Yields line number and pair of each preference row. Raises ValueError at the first row with an error."""
    for line, pair in _parsed_rows(content, abilities, Method.DPO):
        assert isinstance(pair, Preference)
        yield line, pair


def _parsed_rows(content: bytes, abilities: Set[Ability], method: Method) -> Iterator[tuple[int, Example | Preference]]:
    for row in line_reader.read_rows([content]):
        if isinstance(row, Problem):
            raise ValueError(row)
        parsed = validate.parse_row(row, abilities, method)
        if parsed.example is None:
            raise ValueError(parsed.problems)
        yield row.line, parsed.example
