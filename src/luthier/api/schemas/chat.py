"""Chat completions as the wire shows them, whole and in pieces."""

from luthier.api.dialects import Dialect
from luthier.api.schemas import json_schema as js

_USAGE = js.thing(
    {
        "prompt_tokens": js.WHOLE,
        "completion_tokens": js.WHOLE,
        "total_tokens": js.WHOLE,
        "prompt_tokens_details": js.Optional(js.mapped(js.or_null(js.WHOLE))),
        "completion_tokens_details": js.Optional(js.mapped(js.or_null(js.WHOLE))),
    }
)
_TOKEN: dict[str, js.Schema | js.Maybe | js.Optional] = {
    "token": js.TEXT,
    "logprob": js.NUMBER,
    "bytes": js.or_null(js.listed(js.WHOLE)),
}
_LOGPROBS = js.thing(
    {
        "content": js.or_null(
            js.listed(js.mapped(js.ANY) | js.thing(_TOKEN | {"top_logprobs": js.listed(js.mapped(js.ANY))}))
        ),
        "refusal": js.Optional(js.listed(js.mapped(js.ANY))),
    }
)
_FUNCTION = js.thing({"name": js.Optional(js.TEXT), "arguments": js.Optional(js.TEXT)})
_CALL = js.thing(
    {
        "index": js.Optional(js.WHOLE),
        "id": js.Optional(js.TEXT),
        "type": js.Optional(js.const("function")),
        "function": js.Optional(_FUNCTION),
    }
)
_FINISH = js.words(["stop", "length", "tool_calls", "content_filter", "function_call"])
_SAID: dict[str, js.Schema | js.Maybe | js.Optional] = {
    "content": js.or_null(js.TEXT),
    "refusal": js.Optional(js.TEXT),
    "tool_calls": js.Optional(js.listed(_CALL)),
    "function_call": js.Optional(_FUNCTION),
    "annotations": js.Optional(js.listed(js.ANY)),
}


def completion(_: Dialect) -> js.Schema:
    choice = js.thing(
        {
            "index": js.WHOLE,
            "message": js.thing({"role": js.const("assistant")} | _SAID),
            "finish_reason": _FINISH,
            "logprobs": js.Optional(_LOGPROBS),
        }
    )
    return js.thing(
        _shared("chat.completion") | {"choices": js.listed(choice), "usage": _USAGE},
        says="A whole answer.",
    )


def chunk(_: Dialect) -> js.Schema:
    choice = js.thing(
        {
            "index": js.WHOLE,
            "delta": js.mapped(js.ANY),
            "finish_reason": js.or_null(_FINISH),
            "logprobs": js.Optional(_LOGPROBS),
        }
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
            "finish_reason": js.or_null(_FINISH),
            "logprobs": js.Optional(js.mapped(js.ANY)),
        }
    )
    return js.thing(_shared("text_completion") | {"choices": js.listed(choice), "usage": js.Optional(_USAGE)})


def _shared(kind: str) -> dict[str, js.Schema | js.Maybe | js.Optional]:
    return {
        "id": js.TEXT,
        "object": js.const(kind),
        "created": js.UNIX,
        "model": js.TEXT | {"description": "The model that gave the answer, never the alias."},
        "system_fingerprint": js.Optional(js.TEXT),
        "service_tier": js.Optional(js.TEXT),
    }
