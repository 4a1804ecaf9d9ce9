"""The run's files as token sequences; a file with errors ends the run with all of them named."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from luthier.catalog import Ability
from luthier.core.errors import ErrorDetail, InvalidRequest
from luthier.data import validate
from luthier.data.messages import Example
from luthier.data.problem import Problem, Severity
from luthier.data.render import Rendered, Renderer, Unrenderable
from luthier.trainer import token_cache

_LISTED = 20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """One of a run's files. `name` is the job's word for it; `cache` is where its tokens are kept, under `key`."""

    path: Path
    name: str
    min_examples: int
    abilities: frozenset[Ability]
    cache: Path
    key: str

    def examples(self) -> Iterator[Example]:
        """The rows, read anew."""
        return (example for _, example in validate.examples(_chunks(self.path), self.abilities))


@dataclass(frozen=True, slots=True)
class Dataset:
    """The sequences of each example of a file."""

    sequences: tuple[tuple[Rendered, ...], ...]

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.sequences)

    def batch(self, indexes: list[int]) -> list[Rendered]:
        return list(chain.from_iterable(self.sequences[index] for index in indexes))

    @property
    def all(self) -> list[Rendered]:
        return list(chain.from_iterable(self.sequences))

    @property
    def n_tokens(self) -> int:
        return sum(len(sequence.token_ids) for sequence in self.all)


def load(source: Source, renderer: Renderer) -> Dataset:
    """A file's rows as tokens, rendered now or at an earlier start. Raises InvalidRequest that names every problem."""
    known = token_cache.load(source.cache, source.key)
    if known is not None:
        return Dataset(known)
    report = validate.check_file(_chunks(source.path), source.abilities, source.min_examples)
    problems = [problem for problem in report.problems if problem.severity is Severity.ERROR]
    if problems:
        raise _invalid(source.name, problems, report.n_errors)
    sequences: list[tuple[Rendered, ...]] = []
    for line, example in validate.examples(_chunks(source.path), source.abilities):
        try:
            sequences.append(tuple(_compact(sequence) for sequence in renderer.render(example)))
        except Unrenderable as error:
            problems.append(Problem(line, "messages", error.code, Severity.ERROR, error.message, error.fix))
    if problems:
        raise _invalid(source.name, problems, len(problems))
    token_cache.save(source.cache, source.key, tuple(sequences))
    return Dataset(tuple(sequences))


def _compact(sequence: Rendered) -> Rendered:
    return replace(sequence, token_ids=token_cache.compact(sequence.token_ids))


def _invalid(name: str, problems: list[Problem], count: int) -> InvalidRequest:
    """One error for the user: the code of the only problem, or that of the file, and the first problems in words."""
    codes = {problem.code for problem in problems}
    code = codes.pop() if len(codes) == 1 else f"invalid_{name}"
    listed = " ".join(problem.sentence() for problem in problems[:_LISTED])
    more = f" And {count - _LISTED} more." if count > _LISTED else ""
    words = name.replace("_", " ")
    noun = "problem" if count == 1 else "problems"
    return InvalidRequest(
        code,
        f"The {words} has {count} {noun}. {listed}{more}",
        param=name,
        details=[ErrorDetail(problem.code, problem.sentence(), problem.path) for problem in problems[:_LISTED]],
    )


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
