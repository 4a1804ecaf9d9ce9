"""The portal's story in a real browser: from a bad file to a tuned answer, then continued, compared and cleaned up.

With LUTHIER_SCREENS=FOLDER each page is also kept as a picture there: light and dark, wide and of a phone's width.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import axe
import browser
from luthier import examples
from running import KEY, Running

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.model, pytest.mark.story]
EXAMPLES = Path(examples.__file__).parent
MINUTES_MS = 8 * 60_000
"""How long a run of ten short chats may take on a busy machine; on a quiet one it is half a minute."""
PHONE = {"width": 390, "height": 844}
WIDE = {"width": 1280, "height": 900}


class Visit:
    """A page in the browser, whose every stop is checked by axe and, if asked for, kept as pictures."""

    def __init__(self, page: "Page", url: str) -> None:
        self.page = page
        self.url = url
        self.grave: list[str] = []
        screens = os.environ.get("LUTHIER_SCREENS")
        self._folder = Path(screens) if screens else None

    def look(self, name: str) -> None:
        """Checks the page as it stands: axe in both colours, and that it fits a wide window and a phone."""
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            self.grave += [f"{name} {scheme}: {finding}" for finding in axe.findings(self.page)]
            for width, size in (("wide", WIDE), ("phone", PHONE)):
                self.page.set_viewport_size(size)
                self._take(f"{name}-{scheme}-{width}")
                needed = self.page.evaluate("document.documentElement.scrollWidth")
                self.grave += [f"{name} is {needed} wide on {size['width']}"] if needed > size["width"] else []
            self.page.set_viewport_size(WIDE)
        self.page.emulate_media(color_scheme="light")

    def _take(self, name: str) -> None:
        """Keeps a picture of the whole page, if pictures are asked for."""
        if self._folder is not None:
            self.page.wait_for_timeout(300)
            self.page.screenshot(path=self._folder / f"{name}.jpeg", type="jpeg", quality=60, full_page=True)

    def open(self, path: str, name: str) -> None:
        """Goes to a page of the portal and looks at it."""
        self.page.goto(f"{self.url}/portal{path}")
        self.look(name)


@pytest.fixture
def visit(service: Running) -> Iterator[Visit]:
    """Signed out; any error of a script, any violation of the policy and any grave finding of axe fails the story."""
    with browser.chromium() as chromium, browser.signed_out(chromium, viewport=WIDE) as (page, complaints):
        made = Visit(page, service.url)
        yield made
        assert made.grave == []
        assert complaints == []


def bad_rows() -> bytes:
    """The ten chats of the example: one with a trailing comma, one as Python writes it."""
    lines = (EXAMPLES / "clippy-training.jsonl").read_text().splitlines()
    lines[2] = lines[2].rstrip("}") + ",}"
    lines[5] = repr(json.loads(lines[5]))
    return ("\n".join(lines) + "\n").encode()


def start_first_job(visit: Visit) -> str:
    """From an empty service and a bad file to a started job; returns the path of its page."""
    page = visit.page
    page.get_by_role("link", name="New job").first.click()
    upload = page.locator("[data-upload=training_file] input[type=file]")
    upload.set_input_files({"name": "clippy.jsonl", "mimeType": "application/jsonl", "buffer": bad_rows()})
    page.locator("#report").get_by_text("line 3", exact=False).first.wait_for()
    page.locator("#report").get_by_text("line 6", exact=False).first.wait_for()
    start = page.get_by_role("button", name="Start the job")
    assert start.is_disabled()
    assert page.locator("#why-not").inner_text()
    visit.look("new-job-with-faults")
    page.get_by_role("button", name="Use the mended copy").click()
    page.locator("#report .good").first.wait_for()
    validation = page.locator("[data-upload=validation_file] input[type=file]")
    validation.set_input_files(EXAMPLES / "clippy-validation.jsonl")
    page.locator("#report").get_by_text("clippy-validation.jsonl").wait_for()
    page.get_by_label("Epochs", exact=True).fill("3")
    page.get_by_label("Suffix").fill("story")
    page.locator("#summary").get_by_text("Trained tokens").wait_for()
    visit.look("new-job")
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(r"/portal/jobs/ftjob-"))
    return re.sub(r"\?.*", "", page.url).removeprefix(f"{visit.url}/portal")


def watch(visit: Visit) -> None:
    """The job's page until the job has succeeded, without a reload; three charts, both curves in those of two."""
    page = visit.page
    page.evaluate("window.stayed = true")
    page.locator("figure[data-chart=loss] canvas").wait_for(timeout=MINUTES_MS)
    page.locator("main .badge.good", has_text="succeeded").first.wait_for(timeout=MINUTES_MS)
    assert page.evaluate("window.stayed")
    for kind, labels in (
        ("loss", {"training", "validation"}),
        ("accuracy", {"training", "validation"}),
        ("full", {"loss", "token accuracy"}),
    ):
        figure = page.locator(f"figure[data-chart={kind}]")
        figure.locator("canvas").wait_for()
        legend = figure.locator(".legend li")
        for text in legend.all_inner_texts():
            assert re.search(r"\d", text), text
        assert {re.sub(r"[\d.\-–e]+$", "", text).strip() for text in legend.all_inner_texts()} == labels
    figure = page.locator("figure[data-chart=loss]")
    figure.get_by_text("Show as table").click()
    assert figure.locator("tbody tr").count() >= 3
    figure.get_by_text("Show as table").click()
    page.get_by_label("Smoothing").fill("0.6")
    page.get_by_label("Axis").select_option("tokens")
    assert "smooth=0.6" in page.url
    assert "x=tokens" in page.url
    assert page.locator(".badge", has_text="best").count() == 1


def deploy_and_chat(visit: Visit, job: str) -> None:
    """The newest checkpoint behind a name; then one prompt for it and its base, side by side."""
    page = visit.page
    page.locator("summary", has_text="Deploy").first.click()
    page.get_by_label("Name of the deployment").first.fill("clippy-story")
    page.get_by_role("button", name="Deploy", exact=True).first.click()
    page.wait_for_url(re.compile("/portal/deployments"))
    page.locator("main .badge.good", has_text=re.compile("succeeded", re.I)).first.wait_for(timeout=MINUTES_MS)
    visit.look("deployments")
    visit.open("/deployments/clippy-story", "deployment")
    page.goto(
        f"{visit.url}/portal/playground?model=clippy-story&model=smollm2-135m-instruct&max_tokens=24&temperature=0"
    )
    page.get_by_label("Prompt").fill("How do I bake bread?")
    page.keyboard.press("Control+Enter")
    for column in (0, 1):
        page.locator(".pg-column").nth(column).get_by_text(re.compile("token", re.I)).first.wait_for(timeout=MINUTES_MS)
    assert all(page.locator(".pg-answer").all_inner_texts())
    visit.look("playground")


def continue_and_compare(visit: Visit, job: str) -> str:
    """A second job from the first one's model; both in one comparison. Returns the second one's path."""
    page = visit.page
    page.goto(f"{visit.url}/portal{job}")
    page.get_by_role("link", name="Continue from here").click()
    mended = page.locator("#training_file option", has_text="clippy-mended").get_attribute("value")
    page.select_option("#training_file", mended)
    page.get_by_label("Epochs", exact=True).fill("1")
    page.get_by_label("Suffix").fill("onward")
    page.locator("#summary").get_by_text("Trained tokens").wait_for()
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile(r"/portal/jobs/ftjob-"))
    second = re.sub(r"\?.*", "", page.url).removeprefix(f"{visit.url}/portal")
    page.locator("main .badge.good", has_text="succeeded").first.wait_for(timeout=MINUTES_MS)
    page.goto(f"{visit.url}/portal/jobs")
    visit.look("jobs")
    for box in page.locator("tbody input[type=checkbox]").all():
        box.check()
    page.get_by_role("button", name="Compare the chosen jobs").click()
    page.locator("figure[data-column=train_loss] canvas").wait_for()
    assert page.locator("figure[data-column=train_loss] .legend li").count() == 2
    page.get_by_role("rowheader", name="epochs", exact=True).wait_for()
    visit.look("compare")
    return second


def clean_up(visit: Visit, jobs: list[str]) -> None:
    """Deployment, jobs and files go, each after a question."""
    page = visit.page

    def delete(path: str) -> None:
        page.goto(f"{visit.url}/portal{path}")
        page.locator("summary", has_text="Delete").first.click()
        page.locator(".confirm button", has_text="Delete").first.click()
        page.locator("p.callout.good[role=status]").wait_for()

    delete("/deployments/clippy-story")
    for job in reversed(jobs):
        delete(job)
    page.goto(f"{visit.url}/portal/jobs")
    page.get_by_text("No jobs yet").wait_for()
    page.goto(f"{visit.url}/portal/files")
    for link in [one.get_attribute("href") for one in page.locator("tbody a[href*='/files/file-']").all()]:
        assert link is not None
        delete(link.removeprefix("/portal"))


def test_person_gets_from_a_bad_file_to_a_tuned_answer_continues_compares_and_cleans_up(visit: Visit) -> None:
    page = visit.page
    page.goto(visit.url)
    visit.look("sign-in")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{visit.url}/portal/jobs")
    visit.look("jobs-empty")
    job = start_first_job(visit)
    watch(visit)
    visit.look("job")
    for part in ("events", "settings", "data", "metrics"):
        visit.open(f"{job}/{part}", f"job-{part}")
    visit.open("/models", "models")
    page.locator("tbody a[href*='.ft-']").first.click()
    visit.look("model")
    visit.open("/files", "files")
    page.locator("tbody a", has_text="clippy-mended").first.click()
    page.get_by_text("As the model reads it").wait_for()
    visit.look("file")
    for part in ("settings", "settings/audit"):
        visit.open(f"/{part}", part.replace("/", "-"))
    page.goto(f"{visit.url}/portal{job}")
    deploy_and_chat(visit, job)
    second = continue_and_compare(visit, job)
    clean_up(visit, [job, second])
