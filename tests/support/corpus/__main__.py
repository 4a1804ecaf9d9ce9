"""python -m corpus: every finding of every file as a user reads it, to be read by eye."""

from corpus import CASES

for case in CASES:
    print(f"{case.id}:")
    for problem in case.report().problems[:5]:
        print(f"    {problem.severity} {problem.code}: {problem.sentence()}")
