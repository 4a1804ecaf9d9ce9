"""Whatever arrives, the answer is a sentence with a status below 500."""

import string
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sharing
from control_plane import PATH
from fakes import BASE, KEY
from luthier.api.arm import arm_names
from luthier.core.quotas import Quota
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.tenants import quotas
from luthier.service.tenants.keys import DEFAULT_RESOURCE

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = {
    "/v1/fine_tuning/jobs": ["model", "training_file", "hyperparameters", "method", "seed", "suffix", "metadata"],
    "/openai/v1/chat/completions": ["model", "messages", "temperature", "stop", "stream_options", "max_tokens", "seed"],
    f"{PATH}/name": ["sku", "properties"],
    "/openai/v1/completions": ["model", "prompt", "max_tokens", "n", "best_of", "logprobs", "echo", "stop"],
    "/v1/uploads": ["filename", "purpose", "bytes", "mime_type", "expires_after"],
    "/v1/uploads/UPLOAD/complete": ["part_ids", "md5"],
    "/openai/v1/files/import": ["purpose", "filename", "content_url", "expires_after"],
    "/v1/fine_tuning/checkpoints/MODEL/permissions": ["project_ids"],
    "/openai/v1/fine_tuning/jobs/JOB/checkpoints/MODEL/copy": ["destinationResourceId", "region"],
    "/openai/deployments?api-version=2022-12-01": ["model", "scale_settings"],
    "PATCH /openai/deployments/ours?api-version=2022-12-01": ["model", "scale_settings"],
    f"PATCH {PATH}/ours": ["sku", "tags"],
}
GOOD: dict[str, dict[str, Any]] = {
    "completions": {"model": BASE, "prompt": "hi", "messages": [{"role": "user", "content": "hi"}]},
    "uploads": {"filename": "a", "purpose": "fine-tune", "bytes": 3, "mime_type": "text/jsonl"},
    "import": {"filename": "a", "purpose": "fine-tune", "content_url": "https://nowhere.invalid/a"},
    "copy": {"destinationResourceId": arm_names.id_of(sharing.OTHER), "region": "r"},
    "permissions": {"project_ids": ["violas"]},
    "2022-12-01": {"model": BASE, "scale_settings": {"scale_type": "standard"}},
}
"""By the end of the path what is right, so that each field is met with the others in order."""
FORM_LINES = [
    b"--b",
    b"--b--",
    b"",
    b'Content-Disposition: form-data; name="data"; filename="a"',
    b'Content-Disposition: form-data; name="file"; filename="a"',
    b'Content-Disposition: form-data; name="purpose"',
    b"fine-tune",
    b"Content-Type: a/b",
]
PATHS = [
    "/v1/files/{}",
    "/v1/models/{}",
    "/openai/v1/fine_tuning/jobs/{}/events?after={}&limit={}",
    "/v1/files?limit={}",
    "/v1/files?after={}&purpose={}&order={}",
    "/openai/v1/fine_tuning/jobs?after={}&metadata[{}]={}",
    "/v1/fine_tuning/checkpoints/{}/permissions?project_id={}&after={}",
    "/openai/deployments/{}?api-version=2022-12-01&a={}",
    f"{PATH}?$skipToken={{}}",
]
fuzzed = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def things(url: str, context: Context, supervisor: Supervisor) -> dict[str, str]:
    """What the paths name, in being: a body is looked at behind the question whether there is such a thing."""
    sharing.add_other(context)
    job, model = sharing.train(url, supervisor)
    quotas.set_limits(context, DEFAULT_RESOURCE.id, {Quota.FILES: 10_000})
    quotas.set_limits(context, DEFAULT_RESOURCE.id, {Quota.DEPLOYMENTS: 10_000})
    assert sharing.put(url, DEFAULT_RESOURCE, "ours", BASE).status_code == 201
    supervisor.tick_deployments()
    upload = httpx2.post(f"{url}/v1/uploads", headers={"api-key": KEY}, json=GOOD["uploads"]).json()
    return {"UPLOAD": upload["id"], "MODEL": model, "JOB": job}


@pytest.mark.parametrize("path", FIELDS)
@fuzzed
@given(data=st.data())
def test_any_json_body_is_answered_below_500(url: str, things: dict[str, str], path: str, data: st.DataObject) -> None:
    fields = FIELDS[path]
    good = next((body for end, body in GOOD.items() if path.endswith(end)), {"model": BASE})
    body = {name: good[name] for name in fields if name in good}
    body |= data.draw(st.dictionaries(st.sampled_from([*fields, "unknown"]), json_values, max_size=3))
    method = "PATCH" if path.startswith("PATCH") else "PUT" if path.startswith(PATH) else "POST"
    address = path.removeprefix("PATCH ")
    for name, value in things.items():
        address = address.replace(name, value)
    headers = {"api-key": KEY, "aoai-copy-ft-checkpoints": "preview"}
    answer = httpx2.request(method, url + address, headers=headers, json=body)
    assert answer.status_code < 500, answer.text
    assert answer.status_code not in {403, 404, 405, 415} or "model" in body, answer.text
    if answer.status_code >= 400:
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=b", "multipart/form-data", "text/plain", ""])
@pytest.mark.parametrize("path", ["/v1/files", "/v1/uploads/UPLOAD/parts"])
@fuzzed
@given(lines=st.lists(st.sampled_from(FORM_LINES) | st.binary(max_size=20), max_size=12))
def test_any_form_is_answered_below_500(
    url: str, things: dict[str, str], path: str, kind: str, lines: list[bytes]
) -> None:
    headers = {"api-key": KEY, "content-type": kind}
    address = url + path.replace("UPLOAD", things["UPLOAD"])
    answer = httpx2.post(address, headers=headers, content=b"\r\n".join(lines))
    assert answer.status_code < 500, answer.text


@pytest.mark.parametrize("path", PATHS)
@fuzzed
@given(parts=st.tuples(*[st.text(string.printable + "\u0000é漢😀", max_size=12)] * 3))
def test_any_path_and_query_is_answered_below_500(url: str, path: str, parts: tuple[str, str, str]) -> None:
    quoted = [httpx2.QueryParams({"": part}).__str__().removeprefix("=") for part in parts]
    answer = httpx2.get(url + path.format(*quoted), headers={"api-key": KEY})
    assert answer.status_code < 500, answer.text


@fuzzed
@given(
    key=st.text(string.ascii_letters + string.digits + string.punctuation, max_size=30), version=st.text(max_size=12)
)
def test_any_key_and_version_is_refused_in_words(url: str, key: str, version: str) -> None:
    answer = httpx2.get(f"{url}/openai/files", params={"api-version": version}, headers={"api-key": key})
    assert answer.status_code in {400, 401}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 400, '"NaN"'])
@pytest.mark.parametrize("field", ["temperature", "top_p", "max_tokens", "seed", "presence_penalty", "top_logprobs"])
def test_number_that_is_none_is_refused(url: str, field: str, number: str) -> None:
    body = f'{{"model": "{BASE}", "messages": [{{"role": "user", "content": "hi"}}], "{field}": {number}}}'
    headers = {"api-key": KEY, "content-type": "application/json"}
    answer = httpx2.post(f"{url}/v1/chat/completions", headers=headers, content=body)
    assert answer.status_code == 400, answer.text
    assert field in answer.text or "JSON" in answer.text
