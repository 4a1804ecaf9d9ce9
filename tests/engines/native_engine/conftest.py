"""Our own engine is compiled where it runs: without a C++ compiler there is nothing to test."""

import pytest

from luthier.engines.native import library


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    if library.load() is None:
        pytest.skip("needs a C++ compiler")
