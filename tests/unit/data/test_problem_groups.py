"""Line numbers in few words, problems of one kind together."""

import pytest

from luthier.data.problems import problem_groups
from luthier.data.problems.problem import Problem, Severity


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
    assert problem_groups.format_lines(numbers) == words


def test_groups_put_errors_first_and_keep_the_order_of_first_lines() -> None:
    def problem(line: int | None, code: str, severity: Severity) -> Problem:
        return Problem(line, "", code, severity, "", "")

    warned, erred = Severity.WARNING, Severity.ERROR
    problems = [problem(2, "w", warned), problem(3, "b", erred), problem(3, "b", erred), problem(4, "a", erred)]
    made = problem_groups.group_problems([*problems, problem(None, "few", erred), problem(9, "b", erred)])
    assert [(group.first.code, group.spans, group.count) for group in made] == [
        ("b", ((3, 3), (9, 9)), 3),
        ("a", ((4, 4),), 1),
        ("few", (), 1),
        ("w", ((2, 2),), 1),
    ]
    assert [group.where for group in made] == ["lines 3, 9", "line 4", "the file", "line 2"]


def test_sentences_of_one_code_are_apart_their_numbers_are_not_and_further_ones_are_cut_with_a_count() -> None:
    def problem(line: int, message: str, key: str | None = None) -> Problem:
        return Problem(line, "", "json", Severity.ERROR, message, "", key)

    same = [problem(1, "at column 3, a comma."), problem(2, "at column 1,200, a comma."), problem(3, "a quote.")]
    assert [(group.spans, group.count) for group in problem_groups.group_problems(same)] == [
        (((1, 2),), 2),
        (((3, 3),), 1),
    ]
    many = [problem(line, f"the word {chr(96 + line)}.") for line in range(1, 21)]
    made = problem_groups.group_problems(many)
    assert [group.count for group in made] == [1] * problem_groups.MAX_SENTENCES + [20 - problem_groups.MAX_SENTENCES]
    assert (made[-1].n_sentences, made[-1].where) == (12, "lines 9-20")
    assert made[-1].sentence() == "Lines 9-20 (12 in all): 12 different ones, the first: the word i."


def test_groups_of_any_number_of_lines_keep_few_of_them_and_count_all() -> None:
    gathered = problem_groups.ProblemGrouping()
    problem = Problem(0, "", "w", Severity.WARNING, "a word.", "")
    for line in range(1, 100_001, 2):
        gathered.add(problem, line)
        gathered.add(problem, line)
    gathered.add(problem, 3)
    (group,) = gathered.groups()
    assert (group.first.line, group.n_lines, group.count) == (1, 50_000, 100_001)
    assert len(group.spans) <= 1000
    assert group.where == "lines 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23 and 49,988 more"


def test_groups_name_the_keys_and_how_often() -> None:
    keys = ["id", "id", *[f"k{number}" for number in range(25)]]
    problems = [Problem(n, "", "unknown_key", Severity.WARNING, "a key.", "", key) for n, key in enumerate(keys, 1)]
    (group,) = problem_groups.group_problems(problems)
    assert (list(group.keys.items())[:2], group.more_keys) == ([("id", 2), ("k0", 1)], 26 - problem_groups.MAX_KEYS)
    assert "k0" not in group.sentence()
