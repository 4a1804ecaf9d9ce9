"""The portal over the fixtures' service: a real server whose supervisor the test drives, and a signed-in visitor."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_switch import Switch
from fakes import BASE, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.portal import portal_app
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from portal_visitor import Visitor, sign_in


@pytest.fixture
def services(context: Context, serving: Serving, grammars: GrammarChecker) -> Services:
    return Services(context, serving, lambda: None, grammars=grammars, calls=engine_calls())


@pytest.fixture
def url(switch: tuple[Switch, str], services: Services) -> str:
    made, address = switch
    made.app = server.build(services, None, portal_app.build(services))
    return address


@pytest.fixture
def visitor(url: str) -> Iterator[Visitor]:
    with sign_in(url) as made:
        yield made


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Hugging Face layout with a tokenizer, a chat template and the dimensions of a small Llama."""
    import tiny  # which needs torch, so only tests that count tokens wait for it

    folder = tiny.tokenizer_folder(tmp_path_factory.mktemp("tiny"))
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": tiny.VOCABULARY, "model_type": "llama"}
    (folder / "config.json").write_text(json.dumps(sizes | more))
    return folder


@pytest.fixture
def tokenizer(context: Context, tiny_tokenizer: Path) -> None:
    """Gives the fixtures' base model a tokenizer, so that its tokens can be counted and its rows shown."""
    shutil.copytree(tiny_tokenizer, context.base_folder(BASE) / "hf")
