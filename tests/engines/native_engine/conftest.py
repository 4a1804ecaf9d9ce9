"""Our own engine is compiled where it runs: without a C++ compiler there is nothing to test."""

import pytest

from luthier.engines.native.decoder import library
from luthier.process import cpp_library


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    if cpp_library.compiler() is None:
        pytest.skip("needs a C++ compiler")
    assert library.load() is not None, "the compiler does not build the decoder"
