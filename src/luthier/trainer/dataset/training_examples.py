"""The run's files as token sequences; a file with errors ends the run with all of them named."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from luthier import manifest
from luthier.atomic_io import read_chunks
from luthier.core.errors import ErrorDetail, InvalidRequest
from luthier.core.states import Ability, Method
from luthier.data.checks import validate
from luthier.data.problems.problem import Problem, Severity
from luthier.data.rendering.renderer import Rendered, Renderer, Unrenderable
from luthier.data.rows.preference import Preference
from luthier.data.rows.supervised import Example
from luthier.trainer.dataset import token_cache
from luthier.trainer.dataset.probe_prompts import PromptSelection
from luthier.trainer.dataset.token_cache import Examples, TokenizedFile

_LISTED = 20


@dataclass(frozen=True, slots=True)
class Source:
    """One of a run's files. `name` is the job's word for it; `cache` is the path of its cached tokens.

    `cache_key` is the key of the cache for file contents with the given sha256. `abilities` are the base model's.
    """

    path: Path
    name: str
    min_examples: int
    abilities: frozenset[Ability]
    method: Method
    cache: Path
    cache_key: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Dataset:
    """The sequences of each example of a file; of a preference pair those of both outputs."""

    sequences: Examples

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.sequences)

    def batch(self, indexes: Sequence[int]) -> list[Rendered]:
        """The sequences of the examples with these indexes, in one list."""
        return list(chain.from_iterable(self.sequences[index] for index in indexes))

    @property
    def all(self) -> list[Rendered]:
        """The sequences of all examples, in one list."""
        return list(chain.from_iterable(self.sequences))

    @property
    def n_tokens(self) -> int:
        """The tokens of all sequences; a prefix that several share counts in each."""
        return sum(len(sequence.token_ids) for sequence in self.all)


def load(source: Source, renderer: Renderer, *, stores: bool = True) -> tuple[TokenizedFile, str]:
    """A file's examples as tokens, and the sha256 of its bytes. Both examples of a preference pair follow each other.

    The file is read once: to be hashed if its tokens are in the cache, else to be hashed, checked and rendered in the
    same pass, and the cache is written if `stores` is true. (Twice, if there is a cache of other contents.) Raises
    InvalidRequest, for the job's owner, that lists the first problems and counts all.
    """
    if source.cache.exists():
        sha256 = manifest.sha256_of(source.path)
        cached = token_cache.load(source.cache, source.cache_key(sha256))
        if cached is not None:
            return cached, sha256
    digest = hashlib.sha256()
    rendering = _Rendering(renderer, PromptSelection(renderer), source.method)
    report = validate.check_file(
        _hashed_chunks(source.path, digest.update), source.abilities, source.min_examples, source.method, [rendering]
    )
    errors = [problem for problem in report.problems if problem.severity is Severity.ERROR]
    if errors:
        raise _invalid(source.name, errors, report.n_errors)
    if rendering.problems:
        raise _invalid(source.name, rendering.problems, len(rendering.problems))
    tokenized = TokenizedFile(
        tuple(rendering.examples), tuple(rendering.line_numbers), tuple(rendering.selection.prompts)
    )
    sha256 = digest.hexdigest()
    if stores:
        token_cache.save(source.cache, source.cache_key(sha256), tokenized)
    return tokenized, sha256


@dataclass(frozen=True, slots=True)
class _Rendering:
    """A RowObserver (data/checks/validate.py) that renders the rows as the check comes to them.

    Its own problems count only in a file whose rows have no errors, so they are collected here.
    """

    renderer: Renderer
    selection: PromptSelection
    method: Method
    examples: list[tuple[Rendered, ...]] = field(default_factory=list)
    line_numbers: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, line: int, raw: bytes, example: Example | Preference) -> Iterable[Problem]:
        """Adds the row's sequences to the lists, or a Problem if it cannot be rendered; the answer is always empty."""
        examples = example.examples() if isinstance(example, Preference) else (example,)
        try:
            self.examples.extend(_rendered(examples, self.renderer))
        except Unrenderable as error:
            path = "messages" if self.method is Method.SUPERVISED else ""
            self.problems.append(Problem(line, path, error.code, Severity.ERROR, error.message, error.fix))
        else:
            self.line_numbers.append(line)
            self.selection.add_example(examples[0])
        return ()

    def finish(self) -> Iterable[Problem]:
        """Reports nothing: rendering has no problems that show only over all rows."""
        return ()


def _rendered(examples: tuple[Example, ...], renderer: Renderer) -> list[tuple[Rendered, ...]]:
    """The sequences of each example of a row. Raises Unrenderable, also if both outputs are the same tokens."""
    rendered = [tuple(_interned(sequence) for sequence in renderer.render(example)) for example in examples]
    if len(rendered) > len(set(rendered)):
        raise Unrenderable(
            "equal_outputs",
            "both outputs become the same tokens, so the row says nothing about which is better.",
            "Give an output that is worse, or remove the row.",
        )
    return rendered


def _interned(sequence: Rendered) -> Rendered:
    """The sequence with equal token ids as one Python object, to save memory."""
    return replace(sequence, token_ids=token_cache.interned(sequence.token_ids))


def _invalid(name: str, problems: list[Problem], count: int) -> InvalidRequest:
    """One error for the user: the code of the only problem, or that of the file, and the first problems in words.

    `count` is the number of all problems, of which `problems` may list fewer.
    """
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


def _hashed_chunks(path: Path, update: Callable[[bytes], object]) -> Iterator[bytes]:
    """Yields the file's bytes in chunks, each given to `update` first."""
    for chunk in read_chunks(path):
        update(chunk)
        yield chunk
