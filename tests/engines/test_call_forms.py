"""A template that writes calls as Llama 3 does, in our own engine: prompt, grammar and answer are of that form."""

import json
from collections.abc import Iterator

import pytest

import small_models
from luthier.core.engine_ports import Address, ServedModel
from luthier.data.tools.stream_parser import ArgumentsPiece, CallStart, ToolCallParser
from luthier.engines.native.native_engine import NativeEngine
from luthier.service.inference import served_prompts
from luthier.service.inference.generation_requests import ChatRequest, Sampling, Tool, ToolChoice, ToolUse
from native_calls import ask

TEMPLATE = (
    "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('One call at a time.') }}{% endif %}"
    '{% set call = m.tool_calls[0].function %}{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}'
    "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 4}, "days": {"enum": [1, 2]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL = Tool("get_weather", {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}, SCHEMA)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    folder = small_models.make_base(tmp_path_factory.mktemp("model"), "llama", template=TEMPLATE)
    return ServedModel("base", "base", folder, None)


@pytest.fixture(scope="module")
def address(base: ServedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    engine = NativeEngine(tmp_path_factory.mktemp("engines"), context_tokens=2048, sequences=2, threads=1)
    yield engine.ensure(base)
    engine.close()


def asked(base: ServedModel, address: Address, *tools: Tool) -> ChatRequest:
    """A chat with tools as the engine gets it, its prompt in tokens."""
    use = ToolUse(tools, tools, ToolChoice.AUTO) if tools else ToolUse()
    sampling = Sampling({"max_tokens": 200, "temperature": 1.0}, 7)
    request = ChatRequest(({"role": "user", "content": "What is it?"},), sampling, use)
    return served_prompts.render_prompt(base.base_folder, request, address)


def test_prompt_shows_tools_as_the_template_does_and_the_grammar_has_its_form(
    base: ServedModel, address: Address
) -> None:
    request = asked(base, address, TOOL)
    assert request.prompt_ids is not None
    assert request.call_form.before_arguments == ', "parameters": '
    assert request.call_form.separator is None
    text = served_prompts._renderer(base.base_folder)
    assert text is not None
    shown = text.text_of_turns(request.messages, request.shown_tools(True), True, folds_tools=False)
    assert list(request.prompt_ids) == text.token_ids(shown)
    assert '"get_weather"' in shown
    assert '\\"parameters\\"' in str(request.grammar())


def test_call_that_the_model_writes_is_read(base: ServedModel, address: Address) -> None:
    request = asked(base, address, TOOL)
    words = next(line for line in str(request.grammar()).split("\n") if line.startswith("start:"))
    only_calls = str(request.grammar()).replace(words, "start: calls")
    fields = {**request.engine_request(0, True), "grammar": only_calls, "max_tokens": 200}
    prompt = list(fields.pop("prompt"))
    answer = ask(address, prompt, **fields)
    parser = ToolCallParser(request.call_form)
    pieces = [piece for text in answer.pieces for piece in parser.feed(text)] + parser.finish()
    assert pieces[0] == CallStart(0, "get_weather")
    arguments = json.loads("".join(piece.text for piece in pieces if isinstance(piece, ArgumentsPiece)))
    assert set(arguments) == {"city", "days"}
    assert arguments["days"] in (1, 2)
