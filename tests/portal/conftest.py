"""The portal over the fixtures' service: a real server whose supervisor the test drives, and a signed-in visitor."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import browser
from asgi_switch import Switch
from fakes import BASE, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.portal import portal_app
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from portal_visitor import Visitor, sign_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


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


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """One for a module: while it is open, asyncio takes a loop to be running, and other tests start their own."""
    with browser.chromium() as made:
        yield made


@pytest.fixture
def signed_in_page(chromium: "Browser", url: str) -> Iterator[tuple["Page", browser.Complaints]]:
    """A real browser's page, signed in, and its complaints: any that a test leaves in the list fails it."""
    with browser.signed_in(chromium, url) as made:
        yield made


@pytest.fixture
def tokenizer(context: Context, base_folder: Path) -> None:
    """Gives the fixtures' base model its real files, so that its tokens can be counted and its rows shown."""
    (context.base_folder(BASE) / "hf").symlink_to(base_folder / "hf", target_is_directory=True)
