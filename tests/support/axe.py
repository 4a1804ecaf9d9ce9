"""axe-core over a page: the rules of accessibility that a program can check."""

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

GRAVE = ("serious", "critical")
_RUN = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations.map((one) => ({
  id: one.id, impact: one.impact, help: one.help, nodes: one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)),
}))"""


def findings(page: "Page") -> list[str]:
    """The serious and critical findings of the page as it is now, one line each."""
    source = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
    page.evaluate(source)  # by the debugger, for which the page's policy does not hold
    found = page.evaluate(_RUN)
    return [f"{one['impact']} {one['id']}: {one['help']} {one['nodes']}" for one in found if one["impact"] in GRAVE]
