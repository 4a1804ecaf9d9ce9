"""The list of jobs, a job's pages and its buttons, as HTML without script."""

import json
import re

import httpx2
import pytest
from openai import OpenAI

import rows
from fakes import BASE, KEY, ScriptedExecutor
from luthier.api.services import Services
from luthier.core.roles import Role
from luthier.core.states import JobStatus
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.tenants import keys
from portal_visitor import Visitor, sign_in


@pytest.fixture
def sdk(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)


@pytest.fixture
def file(url: str) -> str:
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        return client.files.create(file=("bread & <b>butter</b>.jsonl", rows.good()), purpose="fine-tune").id


def create(url: str, file: str, suffix: str, **more: object) -> str:
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        return client.fine_tuning.jobs.create(training_file=file, model=BASE, suffix=suffix, seed=7, **more).id


def ended(url: str, file: str, supervisor: Supervisor, suffix: str = "done") -> str:
    job_id = create(url, file, suffix)
    for _ in range(8):
        supervisor.tick()
    return job_id


def test_list_shows_each_job_with_escaped_names_and_links(visitor: Visitor, url: str, file: str) -> None:
    job_id = create(url, file, "tickets")
    page = visitor.get("/portal/jobs").text
    assert f'href="/portal/jobs/{job_id}"' in page
    assert "bread &amp; &lt;b&gt;butter&lt;/b&gt;.jsonl" in page
    assert "<b>butter" not in page
    assert "validating files" in page


def test_list_without_jobs_says_what_to_do_first(visitor: Visitor) -> None:
    page = visitor.get("/portal/jobs").text
    assert "No jobs yet" in page
    assert 'href="/portal/jobs/new"' in page


def test_search_finds_by_suffix_id_model_and_file_and_takes_wildcards_as_text(
    visitor: Visitor, url: str, file: str
) -> None:
    first, second = create(url, file, "apples"), create(url, file, "pears")
    for word, found in (("APPLE", {first}), (first, {first}), ("butter", {first, second}), ("135m", {first, second})):
        page = visitor.get("/portal/jobs", params={"q": word}).text
        assert set(re.findall(r'name="job" value="(\S+)"', page)) == found, word
    for word in ("%", "_pple", "nothing like it"):
        assert "No job matches" in visitor.get("/portal/jobs", params={"q": word}).text


def test_filter_and_pages_keep_each_other(visitor: Visitor, url: str, file: str, services: Services) -> None:
    ids = [create(url, file, f"n{number}") for number in range(3)]
    visitor.send_form(f"/portal/jobs/{ids[0]}/cancel")
    page = visitor.get("/portal/jobs?status=cancelled").text
    assert set(re.findall(r'name="job" value="(\S+)"', page)) == {ids[0]}
    assert re.search(r"cancelled <span class=\"count\">1<", page)


def test_poll_of_the_list_is_304_until_something_changes(visitor: Visitor, url: str, file: str) -> None:
    etag = visitor.get("/portal/jobs/rows").headers["etag"]
    assert visitor.get("/portal/jobs/rows", headers={"if-none-match": etag}).status_code == 304
    create(url, file, "new")
    answer = visitor.get("/portal/jobs/rows", headers={"if-none-match": etag})
    assert answer.status_code == 200
    assert "new" in answer.text
    assert "<html" not in answer.text


def test_poll_without_a_session_is_401_and_no_page(url: str) -> None:
    answer = httpx2.get(f"{url}/portal/jobs/rows", headers={"x-portal-fragment": "1"})
    assert answer.status_code == 401


def test_job_page_shows_state_checkpoints_with_the_best_named_and_events(
    visitor: Visitor, url: str, file: str, supervisor: Supervisor
) -> None:
    job_id = ended(url, file, supervisor)
    page = visitor.get(f"/portal/jobs/{job_id}").text
    assert '<span class="badge good">succeeded</span>' in page
    assert '<li class="info">' in page
    assert f'data-job="{job_id}"' in page
    assert re.search(r'href="/portal/models/[^"]+"', page)
    assert "data-ended" in page
    for title in ("Loss", "Mean token accuracy", "Full validation", "Learning rate", "Gradient norm"):
        assert f">{title}</figcaption>" in page


def test_buttons_that_cannot_be_pressed_say_why(visitor: Visitor, url: str, file: str) -> None:
    page = visitor.get(f"/portal/jobs/{create(url, file, 'waiting')}").text
    pause = page[page.index("/pause") :]
    assert "<button" in pause
    assert "disabled" in pause[: pause.index("</form>")]
    assert "only a running job can be paused" in page


def test_role_that_may_only_read_is_offered_nothing_to_change(url: str, file: str, context: Context) -> None:
    job_id = create(url, file, "seen")
    key = keys.create(context, keys.DEFAULT_RESOURCE.id, "user", Role.OPENAI_USER)
    with httpx2.Client(base_url=url) as client:
        answer = client.post("/portal/sign-in", data={"key": key, "next": f"/portal/jobs/{job_id}"})
        assert answer.status_code == 303
        refused = client.get(f"/portal/jobs/{job_id}")
    assert refused.status_code == 403
    assert "An owner of this resource can give you" in refused.text


def test_settings_show_the_request_as_sent_and_what_auto_became_with_the_reason(
    visitor: Visitor, url: str, file: str, supervisor: Supervisor
) -> None:
    job_id = create(url, file, "auto", hyperparameters={"n_epochs": 2})
    for _ in range(8):
        supervisor.tick()
    page = visitor.get(f"/portal/jobs/{job_id}/settings").text
    code = re.search(r"<code>(\{.*?\})</code>", page, re.DOTALL)
    assert code
    sent = json.loads(code[1].replace("&#34;", '"'))
    assert sent["hyperparameters"] == {"n_epochs": 2}
    assert (sent["model"], sent["training_file"], sent["suffix"], sent["seed"]) == (BASE, file, "auto", 7)
    assert re.search(r"batch size</th><td>auto</td><td>\d+</td><td>\S", page)
    assert "The trainer finished." in page


def test_figures_are_a_table_with_pages_and_events_have_those_with_figures(
    visitor: Visitor, url: str, file: str, supervisor: Supervisor
) -> None:
    job_id = ended(url, file, supervisor)
    page = visitor.get(f"/portal/jobs/{job_id}/metrics").text
    assert "train loss" in page
    assert '<th scope="row" class="number">1</th>' in page
    assert "training loss=" not in visitor.get(f"/portal/jobs/{job_id}/events").text
    assert "training loss=" in visitor.get(f"/portal/jobs/{job_id}/events?all=1").text


def test_buttons_do_what_the_api_does_and_refuse_in_its_words(
    visitor: Visitor, url: str, file: str, context: Context, sdk: OpenAI
) -> None:
    job_id = create(url, file, "stopped")
    answer = visitor.send_form(f"/portal/jobs/{job_id}/cancel")
    assert "The job is cancelled." in answer.text
    with sdk as client:
        assert client.fine_tuning.jobs.retrieve(job_id).status == "cancelled"
    again = visitor.send_form(f"/portal/jobs/{job_id}/cancel")
    assert again.status_code == 409
    assert "already" in again.text
    assert visitor.send_form(f"/portal/jobs/{job_id}/delete").url.path == "/portal/jobs"
    assert visitor.get(f"/portal/jobs/{job_id}").status_code == 404


def test_checkpoint_is_deployed_from_the_jobs_page(
    visitor: Visitor, url: str, file: str, supervisor: Supervisor, executor: ScriptedExecutor, context: Context
) -> None:
    job_id = ended(url, file, supervisor)
    model = re.search(r'name="model" value="([^"]+)"', visitor.get(f"/portal/jobs/{job_id}").text)
    assert model
    answer = visitor.send_form(f"/portal/jobs/{job_id}/deploy", model=model[1], name="helper")
    assert answer.url.path == "/portal/deployments"
    refused = visitor.send_form(f"/portal/jobs/{job_id}/deploy", model=model[1], name="bad name!")
    assert refused.status_code == 400


def test_jobs_of_another_resource_are_not_found_in_any_page(
    visitor: Visitor, url: str, file: str, context: Context
) -> None:
    from luthier.service.tenants import resources

    job_id = create(url, file, "mine")
    _, (other_key, _) = resources.create(context, "other", None, None)
    with sign_in(url, other_key) as stranger:
        assert job_id not in stranger.get("/portal/jobs?q=mine").text
        for part in ("", "/state", "/more", "/events", "/settings", "/metrics", "/data"):
            assert stranger.get(f"/portal/jobs/{job_id}{part}").status_code == 404
        assert "There is no job" in stranger.get(f"/portal/compare?job={job_id}").text
        assert stranger.send_form(f"/portal/jobs/{job_id}/cancel").status_code == 404
    assert visitor.get(f"/portal/jobs/{job_id}").status_code == 200


def test_compare_shows_only_what_differs_and_colours_that_stay(
    visitor: Visitor, url: str, file: str, supervisor: Supervisor
) -> None:
    first = create(url, file, "one", hyperparameters={"n_epochs": 1})
    second = create(url, file, "two", hyperparameters={"n_epochs": 3})
    page = visitor.get(f"/portal/compare?job={first}&job={second}").text
    differing = page[page.index("What differs") :]
    assert re.search(r'<th scope="row">epochs</th><td>1</td><td>3</td>', differing)
    assert "base model" not in differing
    assert "base model" in visitor.get(f"/portal/compare?job={first}&job={second}&all=1").text
    color = re.search(rf'data-job="{first}" data-color="(\d)"', page)
    alone = re.search(rf'data-job="{first}" data-color="(\d)"', visitor.get(f"/portal/compare?job={first}").text)
    assert color
    assert alone
    assert color[1] == alone[1]


def test_state_words_of_every_status_have_a_tone() -> None:
    from luthier.portal.web import phrases

    assert {str(status) for status in JobStatus} <= set(map(str, phrases.TONES))


def test_best_checkpoint_of_the_page_is_the_one_of_the_api(
    visitor: Visitor, url: str, file: str, supervisor: Supervisor
) -> None:
    job_id = ended(url, file, supervisor)
    marked = [one["is_best"] for one in visitor.get(f"/luthier/jobs/{job_id}/metrics").json()["checkpoints"]]
    assert visitor.get(f"/portal/jobs/{job_id}").text.count(">best<") == sum(marked)
