"""The pages of models: lists with search, one model with its lineage, its exports, and its deletion."""

import re
from datetime import timedelta
from html import unescape
from xml.etree import ElementTree

import httpx2
import pytest

import rows
import sharing
from fake_exports import CONTENT, FakeExporter
from fakes import BASE, KEY
from luthier.core.exports import ExportFormat
from luthier.core.roles import Role
from luthier.core.states import DeploymentState
from luthier.portal.views.models import fitting_text, lineage_picture, lineage_steps
from luthier.portal.views.models.lineage_steps import Thing
from luthier.service.background.export_worker import ExportWorker
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.exports import exports
from luthier.service.models import deployments
from luthier.service.models.deployments import DeploymentRequest
from luthier.service.tenants import keys
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from portal_visitor import Visitor, sign_in

OWN = DEFAULT_RESOURCE.id


def make_model(visitor: Visitor, supervisor: Supervisor, model: str = BASE, suffix: str = "first") -> str:
    """A finished job's model, made with the session as the pages' script would."""
    head = {"x-csrf-token": visitor.csrf}
    form = {"files": {"file": ("shop.jsonl", rows.good())}, "data": {"purpose": "fine-tune"}}
    file = visitor.post("/v1/files", headers=head, **form).json()["id"]
    body = {"model": model, "training_file": file, "suffix": suffix}
    job = visitor.post("/v1/fine_tuning/jobs", headers=head, json=body).json()["id"]
    for _ in range(5):
        supervisor.tick()
    name: str = visitor.get(f"/v1/fine_tuning/jobs/{job}").json()["fine_tuned_model"]
    return name


def deploy(context: Context, supervisor: Supervisor, model: str, name: str) -> None:
    deployments.put(context, OWN, DeploymentRequest(name, model, None, "Standard", 1))
    supervisor.tick_deployments()


@pytest.fixture
def model(visitor: Visitor, supervisor: Supervisor) -> str:
    return make_model(visitor, supervisor)


def picture_of(html: str) -> ElementTree.Element:
    """The page's picture, which must be well-formed."""
    found = re.search(r"<svg.*?</svg>", html, re.S)
    assert found, html
    return ElementTree.fromstring(found[0])


def test_models_are_listed_with_what_they_can_and_how_to_pull_what_is_missing(visitor: Visitor) -> None:
    html = visitor.get("/portal/models").text
    assert "SmolLM2-135M-Instruct" in html
    assert "Apache-2.0" in html
    assert "gpt-4o-mini" in html
    assert "luthier models pull smollm2-360m-instruct" in html
    assert f"luthier models pull {BASE}<" not in html, "it is on this machine"
    assert "No fine-tuned models yet" in html


def test_tuned_models_are_filtered_searched_and_link_to_what_they_came_from(visitor: Visitor, model: str) -> None:
    html = visitor.get("/portal/models").text
    assert f"/portal/models/{model}" in html
    assert ":ckpt-step-" not in html
    assert "training loss 0.1" in html
    assert f"/portal/playground?model={model}" in html
    assert f"/portal/jobs/new?from={model}" in html
    assert ":ckpt-step-2" in visitor.get("/portal/models?show=checkpoints").text
    assert "No model matches" in visitor.get("/portal/models?q=nothing-like-it").text
    assert model in visitor.get("/portal/models?q=FIRST").text


def test_model_shows_its_lineage_as_a_picture_of_links_and_as_a_list(
    visitor: Visitor, model: str, context: Context, supervisor: Supervisor
) -> None:
    deploy(context, supervisor, model, "shop-bot")
    child = make_model(visitor, supervisor, model, "second")
    html = visitor.get(f"/portal/models/{model}").text
    picture = picture_of(html)
    links = {one.attrib["href"] for one in picture.iter("{http://www.w3.org/2000/svg}a")}
    assert {f"/portal/models/{BASE}", f"/portal/models/{model}", "/portal/deployments/shop-bot"} <= links
    assert f"/portal/models/{child}" in links
    assert any(link.startswith("/portal/files/file-") for link in links)
    assert sum(link.startswith("/portal/jobs/ftjob-") for link in links) == 2
    assert "style=" not in html
    listed = unescape(html[html.index("Lineage as a list") :])
    assert all(link.removeprefix("/portal") in listed for link in links)
    assert "continued from" in listed
    childs = ElementTree.tostring(picture_of(visitor.get(f"/portal/models/{child}").text), "unicode")
    assert f'href="/portal/models/{model}"' in childs
    assert "shop.jsonl" in html


def test_base_model_and_alias_and_checkpoint_have_pages(visitor: Visitor, model: str) -> None:
    assert "No job has begun" not in visitor.get(f"/portal/models/{BASE}").text
    assert "is an alias" in visitor.get("/portal/models/gpt-4o-mini").text
    missing = visitor.get("/portal/models/smollm2-360m-instruct").text
    assert "luthier models pull smollm2-360m-instruct" in missing
    assert missing.count("The base weights are not on this machine.") >= 2, "disabled buttons say why"
    assert visitor.get(f"/portal/models/{model}:ckpt-step-2").status_code == 200
    assert visitor.get("/portal/models/nothing").status_code == 404


def test_deployed_model_cannot_be_deleted_and_the_button_says_why(
    visitor: Visitor, model: str, context: Context, supervisor: Supervisor
) -> None:
    deploy(context, supervisor, model, "shop-bot")
    assert "Deployed as shop-bot: delete the deployment first." in visitor.get(f"/portal/models/{model}").text
    refused = visitor.send_form(f"/portal/models/{model}/delete")
    assert refused.status_code == 409
    assert "shop-bot" in refused.text
    assert visitor.send_form("/portal/deployments/shop-bot/delete").status_code == 200
    gone = visitor.send_form(f"/portal/models/{model}/delete")
    assert "The model is deleted." in gone.text
    assert visitor.get(f"/portal/models/{model}").status_code == 404


def test_export_is_made_followed_downloaded_and_deleted(visitor: Visitor, model: str, context: Context) -> None:
    worker = ExportWorker(context, FakeExporter(), timedelta(hours=24))
    made = visitor.send_form(f"/portal/models/{model}/exports", form="gguf q8_0")
    assert "The export is being made" in made.text
    live = f"/portal/models/{model}/exports"
    assert "data-ended" not in visitor.get(live).text
    worker.tick()
    html = visitor.get(live).text
    assert "data-ended" in html
    assert "64 positions" in html
    for path, content in re.findall(r'href="(/luthier/exports/[^"]+/files/([^"]+))"', html):
        assert visitor.get(path).content == CONTENT[content]
    [export] = exports.list_all(context, OWN)
    assert export.format is ExportFormat.GGUF
    assert "No export yet" in visitor.send_form(f"/portal/exports/{export.id}/delete").text
    assert visitor.send_form(f"/portal/models/{model}/exports", form="gguf q9").status_code == 400


def test_reader_is_offered_no_change(visitor: Visitor, model: str, context: Context, url: str) -> None:
    key = keys.create(context, OWN, "user", Role.OPENAI_USER)
    with sign_in(url, key) as reader:
        html = reader.get(f"/portal/models/{model}").text
        assert "<form" in html, "the theme's and the sign-out's"
        assert "Delete…" not in html
        assert "Make an export" not in html
        assert "Continue from here" not in html
        assert "Playground" in html


def test_page_of_a_shared_model_says_that_it_is_another_resources(url: str, context: Context, model: str) -> None:
    sharing.add_other(context)
    head = {"authorization": f"Bearer {KEY}"}
    body = {"project_ids": [sharing.OTHER.account]}
    granted = httpx2.post(f"{url}/v1/fine_tuning/checkpoints/{model}/permissions", headers=head, json=body)
    assert granted.status_code == 200, granted.text
    with sign_in(url, sharing.OTHER_KEY) as other:
        assert "From other resources" in other.get("/portal/models").text
        html = other.get(f"/portal/models/{model}").text
        assert "only the one that trained it" in html
        assert "shop.jsonl" not in html
        picture_of(html)


def test_text_in_a_box_fits_and_keeps_both_ends() -> None:
    for text in ("short", "smollm2-135m-instruct · a-very-long-suffix-of-a-model", "W" * 60, "训练" * 40):
        short = fitting_text.shorten(text, 194, 13)
        assert fitting_text.width(short, 13) <= 194
        assert short[0] == text[0]
        assert short[-1] == text[-1]


def test_boxes_of_a_big_lineage_do_not_overlap_and_stay_in_the_picture() -> None:
    def thing(kind: str, name: str) -> Thing:
        return Thing(kind, name, "note", f"/{name}", model=name)

    deployed = [thing("deployment", f"d{number}") for number in range(4)]
    steps = [
        lineage_steps.TuningStep(
            [thing("data", "a"), thing("data", "b")],
            thing("job", f"j{number}"),
            f"m{number - 1}-0" if number else "base",
            [(thing("model", f"m{number}-{one}"), deployed if one == 1 else ()) for one in range(number + 1)],
        )
        for number in range(5)
    ]
    origin = thing("model", "base")
    more = Thing("more", "+3 more jobs", "continue from here", "/jobs")
    picture = lineage_picture.draw(lineage_steps.Steps(origin, (), steps, more))
    taken: set[tuple[int, int]] = set()
    for box in picture.boxes:
        assert 0 <= box.x <= picture.width - lineage_picture.BOX_WIDTH
        assert 0 <= box.y <= picture.height - lineage_picture.BOX_HEIGHT
        places = {(box.x, y) for y in range(box.y, box.y + lineage_picture.BOX_HEIGHT)}
        assert not places & taken, box
        taken |= places
    assert len(picture.arrows) == 5 * 2 + 15 + 4 * 4 + 5


def test_model_of_a_creating_deployment_is_told_as_such(visitor: Visitor, model: str, context: Context) -> None:
    deployments.put(context, OWN, DeploymentRequest("soon", model, None, "Standard", 1))
    assert deployments.get(context, OWN, "soon").state is DeploymentState.CREATING
    assert "deployment, creating" in visitor.get(f"/portal/models/{model}").text
