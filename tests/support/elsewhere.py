"""The words of an import's tests: the service that is the source, a run of an import, who watches it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from luthier.account_import.import_plan import Plan
from luthier.account_import.importer import Outcome
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context

KEY_THERE = "another-key-fedcba9876543210"


@dataclass
class There:
    """A Luthier that is the source. `asked` is every request that it got, as method and path."""

    url: str
    context: Context
    supervisor: Supervisor
    asked: list[tuple[str, str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)


class Watched:
    """Hears of an import's steps and keeps them."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def begin(self, what: str, n_bytes: int | None) -> None:
        self.steps.append(what)

    def progress(self, n_bytes: int) -> None:
        pass

    def done(self) -> None:
        pass


RunImport = Callable[..., tuple[Plan, Outcome]]
