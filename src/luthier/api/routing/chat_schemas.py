"""JSON Schemas of the answers to chats and legacy completions, whole and in chunks, for the OpenAPI document.

These answers are built as plain JSON (`dialects/inference/chat_answers.py`), so no answer type describes them.
"""

from luthier.api.routing import json_schema as js
from luthier.api.routing.operation import Details

Fields = dict[str, js.Schema | js.Maybe]

CHAT_BODY_BYTES = 8 * 1024 * 1024
"""Six bytes for each letter of a context of 256,000 tokens, as JSON spells what is not ASCII."""
RATE_LIMIT_HEADERS = tuple(
    f"x-ratelimit-{figure}-{unit}" for figure in ("limit", "remaining", "reset") for unit in ("requests", "tokens")
)
INFERENCE: Details = {"errors": (404, 503), "max_body_bytes": CHAT_BODY_BYTES}
"""What the routes that call a model declare beside their replies."""
CHAT_EXAMPLE = {"model": "clippy", "messages": [{"role": "user", "content": "What is the largest planet?"}]}

_USAGE = js.object_schema(
    {
        "prompt_tokens": js.INTEGER,
        "completion_tokens": js.INTEGER,
        "total_tokens": js.INTEGER,
        "prompt_tokens_details": js.object_schema({"cached_tokens": js.INTEGER}),
    }
)
_TOKEN: Fields = {"token": js.TEXT, "logprob": js.NUMBER, "bytes": js.or_null(js.listed(js.INTEGER))}
_LOGPROBS = js.or_null(
    js.object_schema(
        {
            "content": js.listed(js.object_schema(_TOKEN | {"top_logprobs": js.listed(js.object_schema(_TOKEN))})),
            "refusal": {"type": "null"},
        }
    )
)
_LEGACY_LOGPROBS = js.or_null(
    js.object_schema(
        {
            "tokens": js.listed(js.TEXT),
            # Null for the first token of an echoed prompt: nothing stands before it.
            "token_logprobs": js.listed(js.or_null(js.NUMBER)),
            "top_logprobs": js.listed(js.or_null(js.mapped(js.NUMBER))),
            "text_offset": js.listed(js.INTEGER),
        }
    )
)
_FUNCTION = js.object_schema({"name": js.TEXT, "arguments": js.TEXT})
_CALL = js.object_schema({"id": js.TEXT, "type": js.const("function"), "function": _FUNCTION})
_PIECE_OF_FUNCTION = js.object_schema({"name": js.Maybe(js.TEXT), "arguments": js.TEXT})
_PIECE_OF_CALL = js.object_schema(
    {
        "index": js.INTEGER,
        "id": js.Maybe(js.TEXT),
        "type": js.Maybe(js.const("function")),
        "function": _PIECE_OF_FUNCTION,
    }
)
_FINISH = js.enum(["stop", "length", "tool_calls", "function_call"])
_LEGACY_FINISH = js.enum(["stop", "length"])


def completion() -> js.Schema:
    """The schema of `chat.completion`, the whole answer to a chat."""
    message = js.object_schema(
        {
            "role": js.const("assistant"),
            "content": js.or_null(js.TEXT),
            "refusal": {"type": "null"},
            "tool_calls": js.Maybe(js.listed(_CALL)),
            "function_call": js.Maybe(_FUNCTION),
        }
    )
    choice = js.object_schema(
        {"index": js.INTEGER, "message": message, "finish_reason": _FINISH, "logprobs": _LOGPROBS}
    )
    return js.object_schema(
        _shared("chat.completion") | {"choices": js.listed(choice), "usage": _USAGE},
        description="A whole answer.",
    )


def chunk() -> js.Schema:
    """The schema of `chat.completion.chunk`: a `delta` for each choice, and `usage` in the last chunk if asked for."""
    delta = js.object_schema(
        {
            "role": js.Maybe(js.const("assistant")),
            "content": js.Maybe(js.TEXT),
            "tool_calls": js.Maybe(js.listed(_PIECE_OF_CALL)),
            "function_call": js.Maybe(_PIECE_OF_FUNCTION),
        }
    )
    choice = js.object_schema(
        {"index": js.INTEGER, "delta": delta, "finish_reason": js.or_null(_FINISH), "logprobs": _LOGPROBS},
    )
    return js.object_schema(
        _shared("chat.completion.chunk") | {"choices": js.listed(choice), "usage": js.Maybe(_USAGE)},
        description="One piece of a streamed answer; the last `data:` line says [DONE].",
    )


def text_completion() -> js.Schema:
    """The schema of `text_completion`, an answer to the legacy API: whole answers and chunks are alike there."""
    choice = js.object_schema(
        {
            "index": js.INTEGER,
            "text": js.TEXT,
            "finish_reason": js.or_null(_LEGACY_FINISH),
            "logprobs": _LEGACY_LOGPROBS,
        }
    )
    return js.object_schema(
        _shared("text_completion") | {"choices": js.listed(choice), "usage": js.Maybe(_USAGE)},
        description="A whole answer; streamed, each piece has this shape too, and the last `data:` line says [DONE].",
    )


def _shared(kind: str) -> Fields:
    """The fields that every answer begins with; `kind` is the text of `object`."""
    return {
        "id": js.TEXT,
        "object": js.const(kind),
        "created": js.UNIX,
        "model": js.TEXT | {"description": "The model that gave the answer, never the alias."},
        "system_fingerprint": js.TEXT,
    }
