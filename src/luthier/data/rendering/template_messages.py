"""Messages in the form that every chat template takes."""

from collections.abc import Mapping, Sequence

from luthier.data.tools.prompt_format import TemplateMessage

UNPARSED_KEY = "arguments"
"""The key that holds a text which is no JSON object, for templates that expect an object."""


def wrap_unparsed_arguments(message: TemplateMessage) -> TemplateMessage:
    """The message with call arguments that are no JSON object put under one key, since templates expect an object."""
    calls = message.get("tool_calls") or ()
    assert isinstance(calls, Sequence)
    if not any(isinstance(call["function"]["arguments"], str) for call in calls):
        return message
    return {**message, "tool_calls": [{**call, "function": _with_object(call["function"])} for call in calls]}


def _with_object(function: Mapping[str, object]) -> Mapping[str, object]:
    arguments = function["arguments"]
    return {**function, "arguments": {UNPARSED_KEY: arguments}} if isinstance(arguments, str) else function
