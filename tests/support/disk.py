"""A disk that is full, for any user on any machine: a limit on how far a file of this process may grow."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """While it holds, no file of this process grows past `n_bytes`.

    A context and not a fixture: a fixture's limit still holds when pytest writes the test's dot, and where the output
    of the run goes to a file that is already longer, that write fails and ends the whole run without a word.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
