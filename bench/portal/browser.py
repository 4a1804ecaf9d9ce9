"""What a page takes in Chromium: first paint, transferred bytes; and the service's memory after many tabs."""

import time
from collections.abc import Sequence

import psutil
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from running import KEY

CHROMIUM = "/usr/bin/chromium"
MAX_PAINT_MS = 1000
MAX_BYTES = 200_000
MAX_GROWTH = 0.05
AT_ONCE = 10
_TIMES = """() => ({
  paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null,
  bytes: [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .reduce((sum, entry) => sum + entry.transferSize, 0),
})"""


def _signed_in(browser: Browser, url: str) -> BrowserContext:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{url}/portal/sign-in")
    page.fill("#key", KEY)
    page.click("text=Sign in >> nth=-1")
    page.wait_for_url("**/portal/jobs")
    page.close()
    return context


def measure_first_paint(url: str, paths: Sequence[str]) -> list[str]:
    """Opens each page with an empty cache; prints a table and returns a sentence for each that misses a bar."""
    missed = []
    print("\n| page | first paint ms | transferred kB |\n|---|---|---|")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for path in paths:
            if path.endswith(("/state", "/more")):
                continue
            context = _signed_in(browser, url)
            context.clear_cookies(name="luthier_theme")
            page = context.new_page()
            client = context.new_cdp_session(page)
            client.send("Network.setCacheDisabled", {"cacheDisabled": True})
            page.goto(url + path, wait_until="networkidle")
            seen = page.evaluate(_TIMES)
            print(f"| {path[:60]} | {seen['paint']:.0f} | {seen['bytes'] / 1000:.0f} |")
            missed += [f"{path}: first paint {seen['paint']:.0f} ms"] if seen["paint"] > MAX_PAINT_MS else []
            missed += [f"{path}: {seen['bytes']} bytes"] if seen["bytes"] > MAX_BYTES else []
            context.close()
        browser.close()
    return missed


def measure_tabs(url: str, job_id: str, pid: int, tabs: int) -> list[str]:
    """Opens and closes tabs on the job's page; the service's memory must be where it was after the first few."""
    process = psutil.Process(pid)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = _signed_in(browser, url)
        _open_and_close(context, f"{url}/portal/jobs/{job_id}", 2 * AT_ONCE)
        before = process.memory_info().rss
        _open_and_close(context, f"{url}/portal/jobs/{job_id}", tabs)
        time.sleep(2)
        after = process.memory_info().rss
        browser.close()
    growth = (after - before) / before
    print(f"\n{tabs} tabs: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after ({100 * growth:+.1f}%)")
    return [f"{tabs} tabs: memory grew by {100 * growth:.1f}%"] if growth > MAX_GROWTH else []


def _open_and_close(context: BrowserContext, address: str, tabs: int) -> None:
    for _ in range(0, tabs, AT_ONCE):
        pages = [context.new_page() for _ in range(AT_ONCE)]
        for page in pages:
            page.goto(address)
        pages[-1].wait_for_selector("figure[data-chart=loss] canvas")
        for page in pages:
            page.close()
