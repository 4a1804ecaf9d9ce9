"""JSON Schemas of responses, their items and their events, for the OpenAPI document.

These answers are built as plain JSON (`dialects/inference/response_answers.py`), so no answer type describes them.
"""

from luthier.api.routing import json_schema as js
from luthier.core.inference.stored_responses import ResponseStatus

EXAMPLE = {"model": "clippy", "input": "What is the largest planet?"}

_ITEM_STATUS = js.enum(["in_progress", "completed", "incomplete"])
_TOKEN: dict[str, js.Schema | js.Maybe] = {"token": js.TEXT, "logprob": js.NUMBER, "bytes": js.listed(js.INTEGER)}
_LOG_PROBS = js.listed(js.object_schema({**_TOKEN, "top_logprobs": js.listed(js.object_schema(_TOKEN))}))
_TEXT_PART = js.object_schema(
    {
        "type": js.const("output_text"),
        "text": js.TEXT,
        "annotations": js.listed(js.ANY),
        "logprobs": js.Maybe(_LOG_PROBS),
    }
)
_REFUSAL_PART = js.object_schema({"type": js.const("refusal"), "refusal": js.TEXT})
_ANSWER = js.object_schema(
    {
        "id": js.TEXT,
        "type": js.const("message"),
        "role": js.const("assistant"),
        "status": _ITEM_STATUS,
        "content": js.listed(js.either(_TEXT_PART, _REFUSAL_PART)),
    }
)
_QUESTION = js.object_schema(
    {
        "id": js.TEXT,
        "type": js.const("message"),
        "role": js.enum(["user", "system", "developer"]),
        "status": _ITEM_STATUS,
        "content": js.listed(
            js.either(js.object_schema({"type": js.const("input_text"), "text": js.TEXT}), _REFUSAL_PART)
        ),
    }
)
_CALL = js.object_schema(
    {
        "id": js.TEXT,
        "type": js.const("function_call"),
        "call_id": js.TEXT,
        "name": js.TEXT,
        "arguments": js.TEXT,
        "status": _ITEM_STATUS,
    }
)
_CALL_OUTPUT = js.object_schema(
    {
        "id": js.TEXT,
        "type": js.const("function_call_output"),
        "call_id": js.TEXT,
        "output": js.TEXT,
        "status": _ITEM_STATUS,
    }
)
_USAGE = js.object_schema(
    {
        "input_tokens": js.INTEGER,
        "input_tokens_details": js.object_schema({"cached_tokens": js.INTEGER, "cache_write_tokens": js.INTEGER}),
        "output_tokens": js.INTEGER,
        "output_tokens_details": js.object_schema({"reasoning_tokens": js.INTEGER}),
        "total_tokens": js.INTEGER,
    }
)
_FORMAT = js.object_schema(
    {
        "type": js.enum(["text", "json_object", "json_schema"]),
        "name": js.Maybe(js.TEXT),
        "description": js.Maybe(js.or_null(js.TEXT)),
        "strict": js.Maybe({"type": "boolean"}),
        "schema": js.Maybe(js.mapped(js.ANY)),
    }
)
_TOOL = js.object_schema(
    {
        "type": js.const("function"),
        "name": js.TEXT,
        "description": js.or_null(js.TEXT),
        "parameters": js.or_null(js.mapped(js.ANY)),
        "strict": js.or_null({"type": "boolean"}),
    }
)
_BOOLEAN: js.Schema = {"type": "boolean"}


def response() -> js.Schema:
    """The schema of `response`: what was asked of a model, and the items that it answered."""
    return js.object_schema(
        {
            "id": js.TEXT,
            "object": js.const("response"),
            "created_at": js.UNIX,
            "completed_at": js.or_null(js.UNIX),
            "status": js.enum(ResponseStatus),
            "error": js.or_null(js.object_schema({"code": js.TEXT, "message": js.TEXT})),
            "incomplete_details": js.or_null(js.object_schema({"reason": js.const("max_output_tokens")})),
            "model": js.TEXT | {"description": "The model that gave the answer, never the alias."},
            "output": js.listed(js.either(_ANSWER, _CALL)),
            "usage": js.or_null(_USAGE),
            "background": _BOOLEAN,
            "instructions": js.or_null(js.TEXT),
            "max_output_tokens": js.or_null(js.INTEGER),
            "max_tool_calls": js.or_null(js.INTEGER),
            "metadata": js.mapped(js.TEXT),
            "parallel_tool_calls": _BOOLEAN,
            "previous_response_id": js.or_null(js.TEXT),
            "prompt_cache_key": js.or_null(js.TEXT),
            "reasoning": js.object_schema({"effort": {"type": "null"}, "summary": {"type": "null"}}),
            "safety_identifier": js.or_null(js.TEXT),
            "service_tier": js.const("default"),
            "store": _BOOLEAN,
            "temperature": js.NUMBER,
            "text": js.object_schema({"format": _FORMAT, "verbosity": js.const("medium")}),
            "tool_choice": js.either(js.TEXT, js.mapped(js.ANY)),
            "tools": js.listed(_TOOL),
            "top_logprobs": js.INTEGER,
            "top_p": js.NUMBER,
            "truncation": js.const("disabled"),
            "user": js.or_null(js.TEXT),
        },
        description="A response.",
    )


def input_items() -> js.Schema:
    """The schema of a page of a response's input."""
    return js.object_schema(
        {
            "object": js.const("list"),
            "data": js.listed(js.either(_QUESTION, _ANSWER, _CALL, _CALL_OUTPUT)),
            "first_id": js.or_null(js.TEXT),
            "last_id": js.or_null(js.TEXT),
            "has_more": _BOOLEAN,
        },
        description="One page of what the model was given.",
    )


def token_count() -> js.Schema:
    """The schema of a count of a prompt's tokens."""
    return js.object_schema({"object": js.const("response.input_tokens"), "input_tokens": js.INTEGER})


def event() -> js.Schema:
    """The schema of every event of a streamed response: its type says which of the fields it has."""
    return js.object_schema(
        {
            "type": js.TEXT,
            "sequence_number": js.INTEGER,
            "response": js.Maybe(response()),
            "item_id": js.Maybe(js.TEXT),
            "output_index": js.Maybe(js.INTEGER),
            "content_index": js.Maybe(js.INTEGER),
            "item": js.Maybe(js.either(_ANSWER, _CALL)),
            "part": js.Maybe(_TEXT_PART),
            "delta": js.Maybe(js.TEXT),
            "text": js.Maybe(js.TEXT),
            "logprobs": js.Maybe(_LOG_PROBS),
            "name": js.Maybe(js.TEXT),
            "arguments": js.Maybe(js.TEXT),
            "code": js.Maybe(js.TEXT),
            "message": js.Maybe(js.TEXT),
            "param": js.Maybe(js.or_null(js.TEXT)),
        },
        description="One event of a streamed response; the last is `response.completed`, `.incomplete` or `.failed`.",
    )
