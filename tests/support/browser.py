"""A real browser for stories of the portal: Chromium by Playwright; what it complains of fails the test."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from fakes import KEY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 60_000
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
def signed_out(browser: "Browser", **options: Any) -> Iterator[tuple["Page", Complaints]]:
    """A page of a new context of the browser; `options` are the context's.

    Fails at the end if the browser complained; a test takes out of the list what it expects.
    """
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(PATIENCE_MS)
    page, complaints = context.new_page(), Complaints()
    complaints.watch(page)
    yield page, complaints
    context.close()
    assert complaints == []


@contextmanager
def signed_in(browser: "Browser", url: str, **options: Any) -> Iterator[tuple["Page", Complaints]]:
    """As `signed_out`, with a session of the key's: its cookie is put there, which takes no page."""
    with signed_out(browser, **options) as (page, complaints):
        answer = httpx2.post(f"{url}/portal/sign-in", data={"key": KEY})
        page.context.add_cookies([{"name": name, "value": value, "url": url} for name, value in answer.cookies.items()])
        yield page, complaints


def sign_in(page: "Page", url: str, next_path: str) -> None:
    """Enters the key in the form, which leads to the page at `next_path`."""
    page.goto(f"{url}{next_path}")
    page.fill("#key", KEY)
    page.press("#key", "Enter")
    page.wait_for_url(f"{url}{next_path}")
