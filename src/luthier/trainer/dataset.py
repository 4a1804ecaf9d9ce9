"""The run's files as token sequences; a file with errors ends the run with all of them named."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import assert_never

from luthier.catalog import Ability
from luthier.core.errors import ErrorDetail, InvalidRequest
from luthier.core.states import Method
from luthier.data import validate
from luthier.data.messages import Example
from luthier.data.problem import Problem, Severity
from luthier.data.render import Rendered, Renderer, Unrenderable
from luthier.trainer import token_cache
from luthier.trainer.token_cache import Examples

_LISTED = 20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """One of a run's files. `name` is the job's word for it; `cache` is where its tokens are kept, under `key`."""

    path: Path
    name: str
    min_examples: int
    abilities: frozenset[Ability]
    method: Method
    cache: Path
    key: str

    def rows(self) -> Iterator[tuple[int, tuple[Example, ...]]]:
        """Line and example of each row, read anew; of a preference pair both, the preferred one first."""
        match self.method:
            case Method.SUPERVISED:
                for line, example in validate.examples(_chunks(self.path), self.abilities):
                    yield line, (example,)
            case Method.DPO:
                for line, pair in validate.pairs(_chunks(self.path), self.abilities):
                    yield line, pair.examples()
            case _:
                assert_never(self.method)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The sequences of each example of a file; of a preference pair those of both outputs."""

    sequences: Examples

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.sequences)

    def batch(self, indexes: Sequence[int]) -> list[Rendered]:
        return list(chain.from_iterable(self.sequences[index] for index in indexes))

    @property
    def all(self) -> list[Rendered]:
        return list(chain.from_iterable(self.sequences))

    @property
    def n_tokens(self) -> int:
        return sum(len(sequence.token_ids) for sequence in self.all)


def load(source: Source, renderer: Renderer) -> Examples:
    """A file's examples as tokens, rendered now or at an earlier start; a pair's stand one after the other.

    Raises InvalidRequest that names every problem.
    """
    known = token_cache.load(source.cache, source.key)
    if known is not None:
        return known
    report = validate.check_file(_chunks(source.path), source.abilities, source.min_examples, source.method)
    problems = [problem for problem in report.problems if problem.severity is Severity.ERROR]
    if problems:
        raise _invalid(source.name, problems, report.n_errors)
    found: list[tuple[Rendered, ...]] = []
    for line, examples in source.rows():
        try:
            found += _rendered(examples, renderer)
        except Unrenderable as error:
            place = "messages" if source.method is Method.SUPERVISED else ""
            problems.append(Problem(line, place, error.code, Severity.ERROR, error.message, error.fix))
    if problems:
        raise _invalid(source.name, problems, len(problems))
    token_cache.save(source.cache, source.key, tuple(found))
    return tuple(found)


def _rendered(examples: tuple[Example, ...], renderer: Renderer) -> list[tuple[Rendered, ...]]:
    found = [tuple(_compact(sequence) for sequence in renderer.render(example)) for example in examples]
    if len(found) > len(set(found)):
        raise Unrenderable(
            "equal_outputs",
            "both outputs become the same tokens, so the row says nothing about which is better.",
            "Give an output that is worse, or remove the row.",
        )
    return found


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
