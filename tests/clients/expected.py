"""What is known not to hold, by name: routes that Luthier has not yet, and faults of clients that no server can mend.

Each entry is held both ways: an operation that fails without standing here is a surprise, and so is one that stands
here and works.
"""

from dataclasses import dataclass
from fnmatch import fnmatch

OK = "ok"
ABSENT = "not in this client"


@dataclass(frozen=True, slots=True)
class Exception_:
    """Patterns of client, scope and operation; a piece of the outcome that is expected; why."""

    client: str
    scope: str
    operation: str
    outcome: str
    why: str


MISSING: list[Exception_] = []

QUIRKS: list[Exception_] = []


def known(client: str, scope: str, operation: str) -> Exception_ | None:
    for entry in [*MISSING, *QUIRKS]:
        if fnmatch(client, entry.client) and fnmatch(scope, entry.scope) and fnmatch(operation, entry.operation):
            return entry
    return None


def surprises(client: str, outcomes: dict[str, dict[str, str]]) -> list[str]:
    """Every operation whose outcome is not the expected one."""
    found = []
    for scope, operations in outcomes.items():
        for operation, outcome in operations.items():
            entry = known(client, scope, operation)
            if entry is None and outcome not in (OK, ABSENT):
                found.append(f"{scope}: {operation}: {outcome}")
            elif entry is not None and outcome in (OK, ABSENT):
                found.append(f"{scope}: {operation}: works now; take it out of expected.py ({entry.why})")
            elif entry is not None and entry.outcome not in outcome:
                found.append(f"{scope}: {operation}: not as expected.py says: {outcome}")
    return found
