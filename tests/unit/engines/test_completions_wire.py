"""What an OpenAI-compatible completions route is asked, and what its answers, log-probabilities and errors mean."""

import json
from pathlib import Path
from typing import Any

import pytest

import small_models
from luthier.core.engine_ports import Address
from luthier.core.errors import InvalidRequest, Unavailable, UpstreamFailed
from luthier.core.inference.generation import MIN_LOG_PROB, EngineDelta, FinishReason, TokenLogProb, Usage
from luthier.engines.remote import completions
from luthier.engines.remote.completions import Vocabulary

T, IN, END = "token_id:3", "token_id:4", "token_id:2"
SECRET = "the caller's own words"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("base")
    small_models.make_tokenizer(made, "llama", small_models.TEMPLATE)
    return made / "hf"


@pytest.fixture(scope="module")
def known(folder: Path) -> Vocabulary:
    return completions.vocabulary(folder)


@pytest.fixture
def vllm(folder: Path) -> Address:
    return address(folder, is_vllm=True)


@pytest.fixture
def other(folder: Path) -> Address:
    return address(folder, is_vllm=False)


def address(folder: Path, is_vllm: bool) -> Address:
    fields = {"adapter": "ft", "tokenizer": str(folder), "served_name": "adapter-1", "is_vllm": is_vllm}
    return Address("remote:http://127.0.0.1:1/v1", fields, {"Authorization": "Bearer key"}, takes_tokens=True)


ASKED = {
    "prompt": [5, 6],
    "max_tokens": 4,
    "temperature": 0.5,
    "top_p": 0.9,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "stop": ["\n"],
    "seed": 3,
    "logprobs": 2,
    "logit_bias": {"7": -100, 8: 1},
    "cache_scope": "resource",
    "user": "somebody",
}


def test_answer_is_asked_of_any_server_in_openais_fields_alone(other: Address) -> None:
    same = ("prompt", "max_tokens", "temperature", "top_p", "frequency_penalty", "presence_penalty", "stop", "seed")
    assert completions.answer_body(other, ASKED) == {
        **{name: ASKED[name] for name in same},
        "model": "adapter-1",
        "logprobs": 2,
        "logit_bias": {"7": -100, "8": 1},
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_answer_is_asked_of_vllm_unfiltered_with_token_ids_and_a_cache_of_its_own(
    vllm: Address, other: Address
) -> None:
    body = completions.answer_body(vllm, ASKED)
    assert body == {
        **completions.answer_body(other, ASKED),
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "return_tokens_as_token_ids": True,
        "stop_token_ids": [2],
        "cache_salt": "resource",
    }
    assert completions.answer_body(vllm, {"prompt": [5]})["cache_salt"], "vLLM refuses an empty one"


def test_fields_without_a_value_are_left_out(other: Address) -> None:
    body = completions.answer_body(other, {"prompt": [5], "stop": None, "seed": None, "logit_bias": {}})
    assert sorted(body) == ["model", "prompt", "stream", "stream_options"]


def test_no_server_is_asked_for_more_alternatives_than_it_gives(vllm: Address, other: Address) -> None:
    asked = {"prompt": [5], "logprobs": 20}
    assert completions.answer_body(vllm, asked)["logprobs"] == 20
    assert completions.answer_body(other, asked)["logprobs"] == 5


def test_grammar_goes_to_vllm_and_no_other_server_is_asked_for_one(vllm: Address, other: Address) -> None:
    asked = {"prompt": [5], "grammar": 'start: "yes"'}
    assert completions.answer_body(vllm, asked)["structured_outputs"] == {"grammar": 'start: "yes"'}
    with pytest.raises(InvalidRequest, match="cannot hold an answer to a schema") as refusal:
        completions.answer_body(other, asked)
    assert refusal.value.code == "engine_cannot_constrain"


def test_next_token_is_asked_greedily_with_its_alternatives(vllm: Address, other: Address) -> None:
    plain = {"model": "adapter-1", "prompt": [5, 6], "temperature": 0, "max_tokens": 1, "logprobs": 5}
    assert completions.next_token_body(other, (5, 6), 5, "scope") == plain
    body = completions.next_token_body(vllm, (5, 6), 20, "scope")
    assert body.items() >= {**plain, "logprobs": 20, "cache_salt": "scope", "return_tokens_as_token_ids": True}.items()


def line(**chunk: Any) -> str:
    return f"data: {json.dumps(chunk)}"


def test_lines_of_a_stream_are_text_an_end_and_usage(known: Vocabulary) -> None:
    def told(text: str) -> list[EngineDelta | Usage]:
        return list(completions.values(text, known, None))

    assert told(line(choices=[{"text": "Hi", "finish_reason": None, "logprobs": None}], usage=None)) == [
        EngineDelta("Hi", (), None, None)
    ]
    assert told(line(choices=[{"text": "", "finish_reason": "stop"}])) == [EngineDelta("", (), None, FinishReason.STOP)]
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    assert told(line(choices=[], usage=usage)) == [Usage(7, 2, 4)]
    assert told(line(choices=[], usage={**usage, "prompt_tokens_details": None})) == [Usage(7, 2, 0)]
    assert told(line(error=None, choices=[])) == []
    for nothing in ("", ": keep-alive", "event: ping"):
        assert told(nothing) == []


def test_stream_that_ends_for_an_unknown_reason_is_the_servers_failure(known: Vocabulary) -> None:
    with pytest.raises(UpstreamFailed, match="unknown reason"):
        list(completions.values(line(choices=[{"text": "", "finish_reason": "abort"}]), known, None))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 400, "message": SECRET}, InvalidRequest),
        ({"code": 500, "message": SECRET}, UpstreamFailed),
        ({"code": "engine_gone", "message": SECRET}, UpstreamFailed),
        ({"code": None, "message": SECRET}, UpstreamFailed),
        (SECRET, UpstreamFailed),
    ],
)
def test_error_within_a_stream_is_raised_whatever_its_form(error: object, kind: type, known: Vocabulary) -> None:
    with pytest.raises(kind) as raised:
        list(completions.values(line(error=error), known, None))
    assert SECRET not in str(raised.value)


def test_line_that_is_no_json_is_the_servers_failure(known: Vocabulary) -> None:
    with pytest.raises(UpstreamFailed) as raised:
        list(completions.values(f"data: {{{SECRET}", known, None))
    assert SECRET not in str(raised.value)


def test_log_probs_by_token_id_have_the_bytes_of_the_tokenizer(known: Vocabulary) -> None:
    logprobs = {"tokens": [T], "token_logprobs": [-2.0], "top_logprobs": [{T: -2.0, END: -0.5, IN: None}]}
    logprobs["top_logprobs"] = [{T: -2.0, END: -0.5, IN: -3.0}]
    (delta,) = completions.values(line(choices=[{"text": "x", "logprobs": logprobs}]), known, 2)
    assert isinstance(delta, EngineDelta)
    (entry,) = delta.log_probs or ()
    assert bytes(entry.bytes) == known.piece(3) == entry.token.encode()
    assert entry.log_prob == -2.0
    assert [(one.token, one.log_prob) for one in entry.top] == [("<|im_end|>", -0.5), (entry.token, -2.0)]


def test_log_probs_by_text_have_the_bytes_of_the_text(known: Vocabulary) -> None:
    logprobs = {
        "tokens": ["é", "bytes:\\xe6\\x9d"],
        "token_logprobs": [-1.0, -100_000.0],
        "top_logprobs": [{"é": -1.0, "<|im_end|>": -2.0}, None],
    }
    first, second = completions.answer_log_probs(logprobs, known, 5)
    assert first == TokenLogProb("é", [0xC3, 0xA9], -1.0, [entry("é", -1.0), entry("<|im_end|>", -2.0)])
    assert (bytes(second.bytes), second.log_prob, second.top) == (b"\xe6\x9d", MIN_LOG_PROB, [])


def entry(text: str, log_prob: float) -> TokenLogProb:
    return TokenLogProb(text, [*text.encode()], log_prob, [])


def test_log_probs_that_a_server_leaves_out_are_none(known: Vocabulary) -> None:
    (delta,) = completions.values(line(choices=[{"text": "x", "logprobs": None}]), known, 2)
    assert isinstance(delta, EngineDelta)
    assert delta.log_probs == []
    assert completions.entry(3, None, known).log_prob == MIN_LOG_PROB


def test_token_ids_beyond_the_vocabulary_have_no_bytes(known: Vocabulary) -> None:
    assert known.piece("token_id:999999") == known.piece(-1) == b""
    assert known.piece(2) == b"<|im_end|>"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, InvalidRequest, "engine_refused"),
        (422, InvalidRequest, "engine_refused"),
        (401, UpstreamFailed, "engine_failed"),
        (404, UpstreamFailed, "engine_failed"),
        (500, UpstreamFailed, "engine_failed"),
        (429, Unavailable, "engine_busy"),
        (503, Unavailable, "engine_busy"),
    ],
)
def test_error_of_a_server_is_named_and_never_quotes_the_prompt(status: int, kind: type, code: str) -> None:
    error = completions.error_of(status, json.dumps({"error": {"message": SECRET}}).encode())
    assert (type(error), error.code) == (kind, code)
    assert SECRET not in error.message


def test_prompt_that_is_too_long_is_said_to_be() -> None:
    said = b"This model's maximum context length is 2048 tokens. However, you requested 9999."
    error = completions.error_of(400, said)
    assert (type(error), error.code, error.param) == (InvalidRequest, "context_length_exceeded", "messages")
