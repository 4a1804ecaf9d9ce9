"""Base models: the embedded catalog, and an operator's own file over it."""

from pathlib import Path

import pytest

from luthier import catalog
from luthier.core.training.executor_port import RunNeeds

OWN = """
[aliases]
"GPT-4o" = "my-model"

[[model]]
name = "my-model"
title = "My Model"
parameters = "1B"
licence = "MIT"
released = 1760000000
context_tokens = 2048
learning_rate = 4e-4
lora = { rank = 8, alpha = 16, targets = ["q_proj"] }
source = { kind = "folder", path = "/models/my-model" }
"""


def test_guides_names_lead_to_the_embedded_model() -> None:
    known = catalog.load()
    for name in ("gpt-35-turbo", "gpt-35-turbo-0125", "gpt-4o-mini-2024-07-18", "GPT-4.1-2025-04-14"):
        entry = known.find(name)
        assert entry is not None
        assert entry.name == "smollm2-135m-instruct"
    assert known.find("gpt-9") is None


def test_needs_of_a_run_are_those_of_the_entry_and_of_its_variants(tmp_path: Path) -> None:
    own = tmp_path / "catalog.toml"
    for line, needs in (
        ("", None),
        ('needs = { cpus = 8, gpus = 2, memory_gib = 1.5, labels = { zone = "a" } }', (8, 2, 3 * 2**29, {"zone": "a"})),
        ("needs = { gpus = 0.5 }", (1, 0.5, 0, {})),
    ):
        own.write_text(OWN + line + "\n")
        for name in ("my-model", "my-model-4bit"):
            entry = catalog.load(own).find(name)
            assert entry is not None
            assert (entry.needs and entry.needs.of_run) == (needs and RunNeeds(*needs))


def test_own_entries_and_aliases_win(tmp_path: Path) -> None:
    own = tmp_path / "catalog.toml"
    own.write_text(OWN)
    known = catalog.load(own)
    entry = known.find("gpt-4o")
    assert entry is not None
    assert entry.name == "my-model"
    assert "gpt-4o" in known.aliases_of("my-model")
    assert known.find("smollm2-135m-instruct") is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[aliases]\n"a" = "nobody"\n', "leads to 'nobody'"),
        (OWN.replace('licence = "MIT"\n', ""), "licence"),
        (OWN.replace('kind = "folder"', 'kind = "pickle"'), "pickle"),
        ("[[model]\n", "catalog"),
        (OWN + "needs = { cpus = 0 }\n", "cpus"),
        (OWN.replace('lora = { rank = 8, alpha = 16, targets = ["q_proj"] }\n', ""), "is missing"),
        (OWN.replace("[[model]]", "[[model]]\nchat_template = 'nowhere.jinja'"), "neither one of chatml, plain"),
    ],
)
def test_wrong_file_is_refused_with_its_name_and_the_fault(tmp_path: Path, text: str, words: str) -> None:
    own = tmp_path / "catalog.toml"
    own.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        catalog.load(own)
    assert str(own) in str(caught.value)


EMBEDDING = """
[[model]]
name = "my-encoder"
title = "My Encoder"
parameters = "33M"
licence = "MIT"
released = 1760000000
context_tokens = 512
abilities = ["embeddings"]
source = { kind = "folder", path = "/models/my-encoder" }
"""


def test_embedding_model_needs_no_recipe_and_has_no_variant_in_few_bits(tmp_path: Path) -> None:
    own = tmp_path / "catalog.toml"
    own.write_text(EMBEDDING)
    known = catalog.load(own)
    entry = known.find("my-encoder")
    assert entry is not None
    assert entry.embeds
    assert known.find("my-encoder-4bit") is None
    for name in ("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"):
        embedded = known.find(name)
        assert embedded is not None
        assert (embedded.name, embedded.embeds) == ("all-minilm-l6-v2", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (EMBEDDING.replace('["embeddings"]', '["embeddings", "tools"]'), "an embedding model is not trained"),
        (EMBEDDING + 'lora = { rank = 8, alpha = 16, targets = ["q_proj"] }\n', "an embedding model is not trained"),
        (OWN.replace("learning_rate = 4e-4\n", ""), "learning_rate is missing"),
    ],
)
def test_entry_that_is_neither_trained_nor_an_embedding_model_is_refused(tmp_path: Path, text: str, words: str) -> None:
    own = tmp_path / "catalog.toml"
    own.write_text(text)
    with pytest.raises(ValueError, match=words):
        catalog.load(own)
