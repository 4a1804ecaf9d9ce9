"""Where the repository keeps what tests read."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
DOCS = ROOT / "docs"
CLIPPY = TESTS / "support" / "clippy.jsonl"
"""The guide's ten training examples."""
CLIPPY_VALIDATION = ROOT / "src" / "luthier" / "examples" / "clippy-validation.jsonl"
MODELS = ROOT / ".cache" / "models"
SPEC_FOLDER = Path(os.environ.get("LUTHIER_SPEC_DIR", ROOT.parent / "shared" / "spec"))
"""The published OpenAPI files, which are not part of the repository."""
