"""The playground in a real browser, the engine being a fake: ask, stop, keep and save rows, the request as code."""

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

import browser
from browser import Complaints
from control_plane import put
from fakes import BASE, KEY, EchoEngine
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from tuned_models import tune
from waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Signed = tuple["Page", Complaints]


@pytest.fixture
def tuned(url: str, supervisor: Supervisor) -> str:
    return tune(url, supervisor)


def _open(page: "Page", url: str, *models: str, **query: str) -> None:
    page.goto(f"{url}/portal/playground?{urlencode({'model': models, **query}, doseq=True)}")
    page.wait_for_selector("#tray-count")


def _ask(page: "Page", prompt: str) -> None:
    """Asks by keyboard alone, and waits for the end of every answer."""
    _start(page, prompt)
    page.wait_for_function("() => document.getElementById('send').textContent === 'Ask'")


def _start(page: "Page", prompt: str) -> None:
    page.fill("#prompt", prompt)
    page.press("#prompt", "Control+Enter")


def _answers(page: "Page") -> list[str]:
    return page.locator("[data-answer]").all_text_contents()


def test_models_answer_side_by_side_and_a_reload_shows_it_again(
    chromium: "Browser", url: str, engine: EchoEngine, tuned: str
) -> None:
    with browser.signed_out(chromium) as (page, _):
        browser.sign_in(page, url, f"/portal/playground?{urlencode({'model': [tuned, BASE]}, doseq=True)}")
        _converse(page, engine)


def _converse(page: "Page", engine: EchoEngine) -> None:
    """Two turns, a reload, and a new beginning."""
    engine.script = lambda body: f"<b>{'base' if body['adapter'] == BASE else 'tuned'}</b>\n{len(body['messages'])}"
    _ask(page, "What is <i>one</i>?")
    assert _answers(page) == ["<b>tuned</b>\n2", "<b>base</b>\n2"]
    assert [body["messages"][0]["content"] for body in engine.asked] == ["You are brief."] * 2
    assert page.locator("[data-state]").all_text_contents() == ["done", "done"]
    announced = page.inner_text("#announce")
    assert all(f"Answer {letter} is complete." in announced for letter in "AB")
    figures = page.locator("[data-figures]").first.inner_text()
    for word in ("first token after", "finish reason stop", "3 tokens read, 2 written"):
        assert word in figures
    _ask(page, "And two?")
    assert _answers(page)[1] == "<b>tuned</b>\n4"
    assert [turn["role"] for turn in engine.asked[-1]["messages"]] == ["system", "user", "assistant", "user"]
    assert "one" not in page.url
    page.reload()
    page.wait_for_selector("[data-answer]")
    assert _answers(page) == ["<b>tuned</b>\n2", "<b>tuned</b>\n4", "<b>base</b>\n2", "<b>base</b>\n4"]
    page.click("#clear")
    assert _answers(page) == []


def test_choice_of_models_and_parameters_is_the_address(
    signed_in_page: Signed, url: str, engine: EchoEngine, tuned: str
) -> None:
    page, _ = signed_in_page
    _open(page, url, BASE)
    page.select_option("#model-B", tuned)
    page.wait_for_selector(f'[data-model="{tuned}"]')
    assert page.input_value("#system") == "You are brief."
    page.click("summary:has-text('Parameters')")
    page.fill("#seed", "7")
    page.fill("#schema", '{"type": "array"')
    _try_to_ask(page, "Hi")
    assert "This is no JSON" in page.eval_on_selector("#schema", "element => element.validationMessage")
    assert engine.asked == []
    page.fill("#schema", "")
    _ask(page, "Hi")
    assert [body["seed"] for body in engine.asked] == [7, 7]
    assert "seed=7" in page.url
    assert "model=" + tuned.split(":")[0] in page.url


def _try_to_ask(page: "Page", prompt: str) -> None:
    page.fill("#prompt", prompt)
    page.click("#send")


def test_state_while_waiting_stop_by_escape_and_an_error_in_plain_words(
    signed_in_page: Signed, url: str, engine: EchoEngine, supervisor: Supervisor
) -> None:
    page, complaints = signed_in_page
    put(url, "bot", BASE)
    supervisor.tick_deployments()
    engine.models.clear()
    engine.loads.set()
    engine.holds.set()
    _open(page, url, "bot")
    _start(page, "Wait")
    page.wait_for_selector("[data-state]:text-is('loading the model')")
    engine.loads.clear()
    page.wait_for_selector("[data-state]:text-is('waiting its turn')")
    assert page.is_visible("[data-stop]")
    page.press("#prompt", "Escape")
    page.wait_for_selector("[data-state]:text-is('stopped')")
    until(lambda: not engine.busy, 20)
    engine.holds.clear()
    _ask(page, "too long")
    assert page.inner_text("[data-state]") == "failed"
    problem = page.locator("[data-problem]").last.inner_text()
    assert "9000" in problem
    assert "request id" in problem
    assert page.locator("[data-keep]").last.is_hidden()
    assert [text for text in complaints if "400" not in text] == []
    complaints.clear()


def test_leaving_the_page_ends_its_answers(signed_in_page: Signed, url: str, engine: EchoEngine) -> None:
    page, _ = signed_in_page
    engine.holds.set()
    _open(page, url, BASE)
    _start(page, "Wait")
    until(lambda: engine.busy, 20)
    page.goto(f"{url}/portal/jobs")
    until(lambda: not engine.busy, 20)


def test_rows_are_corrected_kept_and_saved_as_files_to_train_on(
    signed_in_page: Signed, url: str, engine: EchoEngine, context: Context, tuned: str
) -> None:
    page, _ = signed_in_page
    engine.script = lambda body: "Paris" if body["adapter"] == BASE else "Lyon"
    _open(page, url, tuned, BASE)
    _ask(page, "Capital of France?")
    _keep(page, 0, "Paris.")
    page.locator("[data-keep]").nth(1).click()
    page.check("[value=preference]")
    page.select_option("#keep-over", label=f"the answer of A ({tuned})")
    page.click("#keep-dialog [value=keep]")
    page.reload()
    assert "1 training row and 1 preference pair kept" in page.inner_text("#tray-count")
    page.click("[data-save=example]")
    page.wait_for_selector("#tray-saved a:text('further with it')")
    assert "Save 1 preference pair" in page.inner_text("#tray-actions")
    page.click("[data-save=preference]")
    page.wait_for_selector("#tray-saved :text('1 preference pair saved')")
    assert page.inner_text("#tray-count").startswith("None yet")
    prompt = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Capital of France?"}]
    example, pair = (json.loads(content) for content in _files(context)[1:])
    assert example == {"messages": [*prompt, {"role": "assistant", "content": "Paris."}]}
    assert pair == {
        "input": {"messages": prompt},
        "preferred_output": [{"role": "assistant", "content": "Paris"}],
        "non_preferred_output": [{"role": "assistant", "content": "Lyon"}],
    }


def test_next_examples_go_into_a_copy_of_the_file_before_by_default(
    signed_in_page: Signed, url: str, engine: EchoEngine, context: Context, tuned: str
) -> None:
    page, _ = signed_in_page
    engine.says = ["One."]
    _open(page, url, tuned)
    for text in ("One, two.", "One, two, three."):
        _ask(page, "Count.")
        _keep(page, 0, text)
        page.reload()
        page.wait_for_selector("#tray-actions:not([hidden])")
        if text != "One, two.":
            page.wait_for_selector("#tray-target option:checked:not([value=''])", state="attached")
        page.click("[data-save=example]")
        page.wait_for_selector("#tray-saved a:text('further with it')")
    *_, last = _files(context)
    answers = [json.loads(line)["messages"][-1]["content"] for line in last.splitlines()]
    assert answers == ["One, two.", "One, two, three."]


def test_rows_are_added_behind_those_of_a_file(
    signed_in_page: Signed, url: str, engine: EchoEngine, context: Context, tuned: str
) -> None:
    page, _ = signed_in_page
    engine.says = ["One."]
    _open(page, url, tuned)
    _ask(page, "Count.")
    _keep(page, 0, "One, two.")
    page.focus("#tray-target")
    page.wait_for_selector("#tray-target option:nth-child(2)", state="attached")
    page.select_option("#tray-target", index=1)
    page.click("[data-save=example]")
    page.wait_for_selector("#tray-saved a:text('rows.jsonl')")
    old, new = _files(context)
    assert new.startswith(old)
    assert json.loads(new[len(old) :])["messages"][-1]["content"] == "One, two."


def _keep(page: "Page", nth: int, text: str) -> None:
    page.locator("[data-keep]").nth(nth).click()
    page.fill("#keep-text", text)
    page.click("#keep-dialog [value=keep]")
    page.wait_for_selector("#keep-dialog", state="hidden")


def _files(context: Context) -> list[bytes]:
    """The contents of all training files, oldest first."""
    page, _ = files.list_page(context, DEFAULT_RESOURCE.id, "fine-tune", None, 10, True)
    return [b"".join(files.content(context, file)) for file in page]


def test_code_that_is_shown_sends_the_same_request(
    signed_in_page: Signed, url: str, engine: EchoEngine, tuned: str
) -> None:
    page, _ = signed_in_page
    _open(page, url, tuned, temperature="0.3", seed="5", stop="\\n\\n")
    _ask(page, 'Say "it\'s"\\\nü')
    page.click("[data-code]")
    python = page.inner_text("#code-dialog code")
    page.select_option("#code-kind", "curl")
    curl = page.inner_text("#code-dialog code")
    page.select_option("#code-kind", "azure")
    assert "reaches deployments alone" in page.inner_text("#code-dialog code")
    page.click("#code-dialog [value='']")
    environment = os.environ | {"OPENAI_API_KEY": KEY}
    subprocess.run([sys.executable, "-"], input=python, text=True, env=environment, check=True, capture_output=True)
    subprocess.run(["bash"], input=curl, text=True, env=environment, check=True, capture_output=True)
    first, *others = engine.asked
    assert (first["temperature"], first["seed"], first["stop"]) == (0.3, 5, "\n\n")
    assert first["messages"][-1]["content"] == 'Say "it\'s"\\\nü'
    assert others == [first, first]


def test_token_probabilities_are_shown_as_tooltips_and_as_a_table(
    signed_in_page: Signed, url: str, engine: EchoEngine
) -> None:
    page, _ = signed_in_page
    engine.says = ["Hello you"]
    _open(page, url, BASE, logprobs="1")
    _ask(page, "Hi")
    assert _answers(page) == ["Hello you"]
    assert page.locator("[data-answer] span").first.get_attribute("title") == "61 %"
    page.click("[data-tokens] summary")
    assert page.locator("[data-tokens] tbody tr").all_inner_texts() == ['"Hello"\t61 %', '" you"\t61 %']
