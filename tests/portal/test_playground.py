"""The playground's page without script: what may be chosen, where its system message is from, what the URL chooses."""

import json

import httpx2

import rows
from control_plane import put
from fakes import BASE
from luthier.core.roles import Role
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.tenants import keys, sessions
from portal_visitor import Visitor
from tuned_models import tune


def test_every_name_that_chats_is_offered_in_its_group(visitor: Visitor, url: str, supervisor: Supervisor) -> None:
    tuned = tune(url, supervisor)
    put(url, "support-bot", tuned)
    supervisor.tick_deployments()
    page = visitor.get("/portal/playground").text
    for group, name in (("Deployments", "support-bot"), ("Fine-tuned", tuned), ("Base models", BASE)):
        assert page.index(f'<optgroup label="{group}') < page.index(f'<option value="{name}"')
    assert f'value="{tuned}:ckpt-step-2"' in page
    assert "all-minilm-l6-v2" not in page
    for name in ("support-bot", tuned, f"{tuned}:ckpt-step-2", BASE):
        body = {"model": name, "messages": [{"role": "user", "content": "Hi"}]}
        answer = visitor.post("/v1/chat/completions", json=body, headers={"x-csrf-token": visitor.csrf})
        assert answer.status_code == 200


def test_newest_tuned_model_stands_beside_its_base_until_somebody_chooses(
    visitor: Visitor, url: str, supervisor: Supervisor
) -> None:
    assert f'data-model="{BASE}"' in visitor.get("/portal/playground").text
    tuned = tune(url, supervisor)
    page = visitor.get("/portal/playground").text
    assert page.index(f'data-model="{tuned}"') < page.index(f'data-model="{BASE}"')
    page = visitor.get("/portal/playground", params={"model": ["", BASE, "gone"], "temperature": "0.5"}).text
    assert page.count("data-model=") == 1
    assert "There is no model <code>gone</code>" in page
    assert 'value="0.5"' in page


def test_system_message_is_that_of_the_training_rows_with_its_source(
    visitor: Visitor, url: str, supervisor: Supervisor
) -> None:
    tuned = tune(url, supervisor)
    page = visitor.get("/portal/playground", params={"model": [BASE, tuned]}).text
    assert ">You are brief.</textarea>" in page
    assert "rows.jsonl</a>" in page
    assert "You are brief." not in visitor.get("/portal/playground", params={"model": BASE}).text


def test_system_message_of_preference_pairs_is_that_of_their_input(
    visitor: Visitor, url: str, supervisor: Supervisor
) -> None:
    tuned = tune(url, supervisor, rows.pairs(), "dpo")
    assert ">You are brief.</textarea>" in visitor.get("/portal/playground", params={"model": tuned}).text


def test_no_system_message_without_one_in_the_rows_nor_without_the_file(
    context: Context, visitor: Visitor, url: str, supervisor: Supervisor
) -> None:
    bare = [{"messages": json.loads(line)["messages"][1:]} for line in rows.good().splitlines()]
    tuned = tune(url, supervisor, "\n".join(map(json.dumps, bare)).encode())
    none = "No chosen model was trained on rows that begin with a system message"
    assert none in visitor.get("/portal/playground", params={"model": tuned}).text
    other = tune(url, supervisor)
    (file, *_), _ = files.list_page(context, keys.DEFAULT_RESOURCE.id, "fine-tune", None, 1, False)
    files.delete(context, file.resource_id, file.id)
    assert none in visitor.get("/portal/playground", params={"model": [tuned, other]}).text


def test_parameter_that_the_api_would_refuse_is_left_out(visitor: Visitor) -> None:
    query = {"temperature": "9", "top_p": "nan", "max_tokens": "x", "seed": "1.5", "stop": "<b>"}
    page = visitor.get("/portal/playground", params=query).text
    for value in ('value="9"', 'value="nan"', 'value="x"', 'value="1.5"', "<b>"):
        assert value not in page


def test_role_without_files_sees_no_rows_and_cannot_save(context: Context, url: str, supervisor: Supervisor) -> None:
    tuned = tune(url, supervisor)
    key = keys.create(context, keys.DEFAULT_RESOURCE.id, "caller", Role.OPENAI_USER)
    token = sessions.create(context, keys.authenticate(context, [key]), key)
    page = httpx2.get(f"{url}/portal/playground?model={tuned}", cookies={"luthier_session": token})
    assert page.status_code == 200
    assert "You are brief." not in page.text
    assert "Your role may not upload files" in page.text


def test_page_without_any_model_says_what_to_do(context: Context, visitor: Visitor) -> None:
    (context.models_folder / BASE / "prepared.json").unlink()
    answer: httpx2.Response = visitor.get("/portal/playground")
    assert "luthier models pull" in answer.text
    assert "playground.js" not in answer.text
