"""Chat and legacy completions as the wire shows them, whole and in pieces."""

from luthier.api.dialects import Dialect
from luthier.api.schemas import json_schema as js

Fields = dict[str, js.Schema | js.Maybe | js.Optional]

_USAGE = js.thing(
    {
        "prompt_tokens": js.WHOLE,
        "completion_tokens": js.WHOLE,
        "total_tokens": js.WHOLE,
        "prompt_tokens_details": js.thing({"cached_tokens": js.WHOLE}),
    }
)
_TOKEN: Fields = {"token": js.TEXT, "logprob": js.NUMBER, "bytes": js.or_null(js.listed(js.WHOLE))}
_LOGPROBS = js.or_null(
    js.thing(
        {
            "content": js.listed(js.thing(_TOKEN | {"top_logprobs": js.listed(js.thing(_TOKEN))})),
            "refusal": {"type": "null"},
        }
    )
)
_LEGACY_LOGPROBS = js.or_null(
    js.thing(
        {
            "tokens": js.listed(js.TEXT),
            "token_logprobs": js.listed(js.NUMBER),
            "top_logprobs": js.listed(js.mapped(js.NUMBER)),
            "text_offset": js.listed(js.WHOLE),
        }
    )
)
_FUNCTION = js.thing({"name": js.TEXT, "arguments": js.TEXT})
_CALL = js.thing({"id": js.TEXT, "type": js.const("function"), "function": _FUNCTION})
_PIECE_OF_FUNCTION = js.thing({"name": js.Optional(js.TEXT), "arguments": js.TEXT})
_PIECE_OF_CALL = js.thing(
    {
        "index": js.WHOLE,
        "id": js.Optional(js.TEXT),
        "type": js.Optional(js.const("function")),
        "function": _PIECE_OF_FUNCTION,
    }
)
_FINISH = js.words(["stop", "length", "tool_calls", "function_call"])
_LEGACY_FINISH = js.words(["stop", "length"])


def completion(_: Dialect) -> js.Schema:
    message = js.thing(
        {
            "role": js.const("assistant"),
            "content": js.or_null(js.TEXT),
            "refusal": {"type": "null"},
            "tool_calls": js.Optional(js.listed(_CALL)),
            "function_call": js.Optional(_FUNCTION),
        }
    )
    choice = js.thing({"index": js.WHOLE, "message": message, "finish_reason": _FINISH, "logprobs": _LOGPROBS})
    return js.thing(
        _shared("chat.completion") | {"choices": js.listed(choice), "usage": _USAGE},
        says="A whole answer.",
    )


def chunk(_: Dialect) -> js.Schema:
    delta = js.thing(
        {
            "role": js.Optional(js.const("assistant")),
            "content": js.Optional(js.TEXT),
            "tool_calls": js.Optional(js.listed(_PIECE_OF_CALL)),
            "function_call": js.Optional(_PIECE_OF_FUNCTION),
        }
    )
    choice = js.thing(
        {"index": js.WHOLE, "delta": delta, "finish_reason": js.or_null(_FINISH), "logprobs": _LOGPROBS},
    )
    return js.thing(
        _shared("chat.completion.chunk") | {"choices": js.listed(choice), "usage": js.Optional(_USAGE)},
        says="One piece of a streamed answer; the last `data:` line says [DONE].",
    )


def text_completion(_: Dialect) -> js.Schema:
    choice = js.thing(
        {
            "index": js.WHOLE,
            "text": js.TEXT,
            "finish_reason": js.or_null(_LEGACY_FINISH),
            "logprobs": _LEGACY_LOGPROBS,
        }
    )
    return js.thing(
        _shared("text_completion") | {"choices": js.listed(choice), "usage": js.Optional(_USAGE)},
        says="A whole answer; streamed, each piece has this shape too, and the last `data:` line says [DONE].",
    )


def _shared(kind: str) -> Fields:
    return {
        "id": js.TEXT,
        "object": js.const(kind),
        "created": js.UNIX,
        "model": js.TEXT | {"description": "The model that gave the answer, never the alias."},
        "system_fingerprint": js.TEXT,
    }
