"""Whatever arrives, the answer is a sentence with a status below 500."""

import string

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_deployments import PATH

from fakes import BASE, KEY

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = {
    "/v1/fine_tuning/jobs": ["model", "training_file", "hyperparameters", "method", "seed", "suffix", "metadata"],
    "/openai/v1/chat/completions": ["model", "messages", "temperature", "stop", "stream_options", "max_tokens", "seed"],
    f"{PATH}/name": ["sku", "properties"],
}
PATHS = [
    "/v1/files/{}",
    "/v1/models/{}",
    "/openai/v1/fine_tuning/jobs/{}/events?after={}&limit={}",
    "/v1/files?limit={}",
]
fuzzed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("path", FIELDS)
@fuzzed
@given(data=st.data())
def test_any_json_body_is_answered_below_500(url: str, path: str, data: st.DataObject) -> None:
    good = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
    body = {name: good[name] for name in FIELDS[path] if name in good}
    body |= data.draw(st.dictionaries(st.sampled_from(FIELDS[path]), json_values, max_size=3))
    method = "PUT" if path.startswith(PATH) else "POST"
    answer = httpx2.request(method, url + path, headers={"api-key": KEY}, json=body)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["error"]["message"]


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
