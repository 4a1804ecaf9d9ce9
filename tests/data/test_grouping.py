"""Line numbers in few words, problems of one kind together."""

import pytest

from luthier.data import grouping
from luthier.data.problem import Problem, Severity


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([], ""),
        ([4], "4"),
        ([1, 2], "1-2"),
        ([1, 2, 3, 7, 9, 10], "1-3, 7, 9-10"),
        (list(range(1, 40, 2)), "1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23 and 8 more"),
    ],
)
def test_ranges_join_neighbours_and_count_what_is_left(numbers: list[int], words: str) -> None:
    assert grouping.ranges(numbers) == words


def test_groups_put_errors_first_and_keep_the_order_of_first_lines() -> None:
    def problem(line: int | None, code: str, severity: Severity) -> Problem:
        return Problem(line, "", code, severity, "", "")

    warned, erred = Severity.WARNING, Severity.ERROR
    problems = [problem(2, "w", warned), problem(3, "b", erred), problem(3, "b", erred), problem(4, "a", erred)]
    made = grouping.groups([*problems, problem(None, "few", erred), problem(9, "b", erred)])
    assert [(group.first.code, group.lines, group.count) for group in made] == [
        ("b", (3, 9), 3),
        ("a", (4,), 1),
        ("few", (), 1),
        ("w", (2,), 1),
    ]
    assert [group.where for group in made] == ["lines 3, 9", "line 4", "the file", "line 2"]
