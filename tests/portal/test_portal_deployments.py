"""The pages of deployments: state, engine, parity and traffic; made, tried again, deleted; code that calls one."""

import re
from html import unescape

import pytest

from fakes import BASE, EchoEngine, failing_parity
from luthier.api.services import Services
from luthier.core.quotas import Quota
from luthier.core.roles import Role
from luthier.portal.views.models import call_samples
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models import deployments
from luthier.service.models.serving import Serving
from luthier.service.tenants import keys, quotas
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from luthier.service.tenants.rate_limits import RateLimits
from portal_visitor import Visitor, sign_in

OWN = DEFAULT_RESOURCE.id


@pytest.fixture
def services(services: Services) -> Services:
    """With a rate limit: a unit of capacity is a hundred tokens per minute, and so one request."""
    return Services(
        services.context,
        services.serving,
        lambda: None,
        RateLimits(100),
        grammars=services.grammars,
        calls=services.calls,
    )


@pytest.fixture
def made(visitor: Visitor, supervisor: Supervisor) -> str:
    """The name of a deployment that answers."""
    visitor.send_form("/portal/deployments", name="bot", model=BASE, sku="Standard", capacity="2")
    supervisor.tick_deployments()
    return "bot"


def chat(visitor: Visitor, model: str, text: str = "hi") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return visitor.post("/v1/chat/completions", json=body, headers={"x-csrf-token": visitor.csrf}).status_code


def test_deployment_is_made_by_the_form_and_shows_engine_parity_limit_and_traffic(
    visitor: Visitor, supervisor: Supervisor
) -> None:
    assert "No deployments yet" in visitor.get("/portal/deployments").text
    form = visitor.get(f"/portal/deployments/new?model={BASE}").text
    assert f'value="{BASE}"' in form
    assert "100 tokens and 1 request per minute" in form
    page = visitor.send_form("/portal/deployments", name="bot", model=BASE, sku="Standard", capacity="2")
    assert page.url.path == "/portal/deployments/bot"
    assert "Creating" in page.text
    assert "not checked yet" in page.text
    supervisor.tick_deployments()
    assert chat(visitor, "bot") == 200
    live = visitor.get("/portal/deployments/bot/live").text
    assert "Succeeded" in live
    assert "native: loaded" in live
    assert "answers as trained" in live
    assert "at most 0.0010 nats, on average 0.0001, at 8 positions; 0.05 allowed" in live
    assert "200 tokens and 1 request per minute" in live
    assert re.search(r"<dt>Calls</dt><dd>1</dd>", live)
    assert re.search(r"<dt>Output tokens</dt><dd>2</dd>", live)
    rows = visitor.get("/portal/deployments/rows").text
    assert "native: loaded" in rows
    assert "never deleted by itself" in rows, "a base model's deployment is not deleted by itself"


def test_calls_beyond_the_rate_limit_and_failed_ones_are_counted(visitor: Visitor, made: str) -> None:
    assert chat(visitor, made, "too long") == 400
    assert chat(visitor, made) == 429
    live = visitor.get(f"/portal/deployments/{made}/live").text
    assert "<dt>Failed</dt><dd>1</dd>" in live
    assert "<dt>Refused by the rate limit</dt><dd>1</dd>" in live


def test_form_shows_each_fault_at_its_field_and_keeps_what_was_entered(
    visitor: Visitor, made: str, context: Context
) -> None:
    for field, value, problem in (
        ("name", "no name", "A deployment&#39;s name has 1 to 64"),
        ("name", "bot", "There already is a deployment bot"),
        ("model", "nothing-like-it", "There is no model"),
        ("model", "", "Choose a model"),
        ("capacity", "many", "The capacity is a whole number"),
        ("capacity", "0", "it must be from 1"),
        ("sku", "Wrong", "sku.name must be one of"),
    ):
        sent = {"name": "other", "model": BASE, "sku": "Standard", "capacity": "1"} | {field: value}
        answer = visitor.send_form("/portal/deployments", **sent)
        assert answer.status_code == 400, (field, value)
        found = re.search(rf'id="{field}-problem">([^<]*)', answer.text)
        assert found, answer.text
        assert problem in found[1]
        assert 'aria-invalid="true"' in answer.text
    quotas.set_limits(context, OWN, {Quota.DEPLOYMENTS: 1})
    full = visitor.send_form("/portal/deployments", name="other", model=BASE, sku="Standard", capacity="1")
    assert full.status_code == 409
    assert "Quota exceeded" in full.text


def test_failed_deployment_shows_its_error_what_to_do_and_can_be_tried_again(
    visitor: Visitor, context: Context, engine: EchoEngine, supervisor: Supervisor
) -> None:
    failing = Serving(context, engine, failing_parity)
    visitor.send_form("/portal/deployments", name="bot", model=BASE, sku="Developer", capacity="1")
    deployments.create_waiting(context, failing)
    html = visitor.get("/portal/deployments/bot").text
    assert "differs by 2.5 nats where 0.05 are allowed." in html
    assert "What to do" in html
    assert "differs from its training" in html
    assert "It does not answer now." in html
    assert "why, and what to do" in visitor.get("/portal/deployments").text
    again = visitor.send_form("/portal/deployments/bot/retry")
    assert "Creating" in again.text
    supervisor.tick_deployments()
    assert "Succeeded" in visitor.get("/portal/deployments/bot").text


def test_developer_deployment_says_when_it_is_deleted_and_deletion_is_asked_for_first(
    visitor: Visitor, supervisor: Supervisor
) -> None:
    visitor.send_form("/portal/deployments", name="bot", model=BASE, sku="Developer", capacity="1")
    supervisor.tick_deployments()
    page = visitor.get("/portal/deployments/bot").text
    assert "called or not" in page
    assert '<details class="confirm">' in page
    gone = visitor.send_form("/portal/deployments/bot/delete")
    assert "The deployment is deleted." in gone.text
    assert visitor.get("/portal/deployments/bot").status_code == 404
    assert visitor.send_form("/portal/deployments/bot/delete").status_code == 404


def test_code_on_the_page_is_python_that_calls_this_service(visitor: Visitor, made: str, url: str) -> None:
    html = visitor.get(f"/portal/deployments/{made}").text
    for title, code in call_samples.samples(url, made, embeds=False):
        assert code in unescape(html), title
        if title.startswith("Python"):
            compile(code, title, "exec")
    assert f"{url}/v1/chat/completions" in html
    for title, code in call_samples.samples(url, "vectors", embeds=True):
        assert "embeddings" in code
        if title.startswith("Python"):
            compile(code, title, "exec")


def test_reader_sees_deployments_and_is_offered_no_change(
    visitor: Visitor, made: str, context: Context, url: str
) -> None:
    key = keys.create(context, OWN, "user", Role.OPENAI_USER)
    with sign_in(url, key) as reader:
        html = reader.get(f"/portal/deployments/{made}").text
        assert "Delete…" not in html
        assert "New deployment" not in reader.get("/portal/deployments").text
        assert reader.get("/portal/deployments/new").status_code == 403
        assert reader.send_form(f"/portal/deployments/{made}/delete").status_code == 403


def test_list_is_searched_and_paged_by_name(visitor: Visitor, context: Context) -> None:
    quotas.set_limits(context, OWN, {Quota.DEPLOYMENTS: 100})
    for number in range(52):
        wanted = deployments.DeploymentRequest(f"d{number:02d}", BASE, None, "Standard", 1)
        deployments.put(context, OWN, wanted)
    first = visitor.get("/portal/deployments").text
    assert "/portal/deployments/d49" in first
    assert "/portal/deployments/d50" not in first
    assert "/portal/deployments/d51" in visitor.get("/portal/deployments?q=&after=d49").text
    found = visitor.get("/portal/deployments?q=D51").text
    assert "/portal/deployments/d51" in found
    assert "/portal/deployments/d50" not in found


def test_audit_line_of_a_new_deployment_names_it(visitor: Visitor, made: str, context: Context) -> None:
    assert f'"id":"{made}"' in context.audit_file.read_text().splitlines()[-1]
