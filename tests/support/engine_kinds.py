"""Both kinds of engine, for tests that hold for either: `pytest.fixture(params=KINDS)`, then `open_engine`."""

from pathlib import Path

from luthier.engines.llamacpp.engine import LlamaCppEngine
from luthier.engines.native.native_engine import NativeEngine

KINDS = ("native", "llamacpp")
AnyEngine = NativeEngine | LlamaCppEngine


def open_engine(kind: str, folder: Path, context_tokens: int, at_once: int) -> AnyEngine:
    """An engine that answers so many requests at once."""
    if kind == "native":
        return NativeEngine(folder, context_tokens=context_tokens, sequences=at_once)
    return LlamaCppEngine(folder, context_tokens=context_tokens, slots=at_once)
