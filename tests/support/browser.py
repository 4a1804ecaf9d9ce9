"""A real browser for stories of the portal: Chromium by Playwright; what it complains of fails the test."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fakes import KEY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 20_000
"""How long a wait may take on a busy machine; on a quiet one each takes some milliseconds."""


@contextmanager
def chromium() -> Iterator["Browser"]:
    """The browser, headless. Skips the test where Playwright or Chromium is missing."""
    sync_api: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


class Complaints(list[str]):
    """What the browser said against the pages: errors of scripts, of the console, and violations of the policy."""

    def watch(self, page: "Page") -> None:
        page.on("pageerror", lambda error: self.append(f"script: {error}"))
        page.on("console", self._hear)

    def _hear(self, message: "ConsoleMessage") -> None:
        """A violation of the policy is an error of the console; an answer of 4xx is too, unless a test expects it."""
        if message.type == "error":
            self.append(f"console: {message.text}")


@contextmanager
def signed_in(browser: "Browser", url: str, **options: Any) -> Iterator[tuple["Page", Complaints]]:
    """A page of a new context of the browser whose visitor has signed in; `options` are the context's.

    Fails at the end if the browser complained; a test takes out of the list what it expects.
    """
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints = Complaints()
    complaints.watch(page)
    page.goto(f"{url}/portal/sign-in")
    page.fill("#key", KEY)
    page.click("button.primary")
    page.wait_for_url("**/portal/jobs*")
    yield page, complaints
    context.close()
    assert complaints == []
