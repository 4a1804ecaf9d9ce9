"""Converts messages to the dictionaries that chat templates take; used for training and for serving alike."""

from collections.abc import Mapping, Sequence

from luthier.data.rows.supervised import Message, Role
from luthier.data.tools.prompt_format import TemplateMessage

UNPARSED_KEY = "arguments"
"""The key that holds a text which is no JSON object, for templates that expect an object."""


def template_message(message: Message) -> dict[str, object]:
    """A message as chat templates take it: arguments of calls as objects, absent fields left out.

    A developer's message becomes a system message, for templates know no developer.
    """
    role = Role.SYSTEM if message.role is Role.DEVELOPER else message.role
    value: dict[str, object] = {"role": role.value, "content": message.content}
    if message.tool_calls:
        value["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        value["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        value["name"] = message.name
    return value


def wrap_unparsed_arguments(message: TemplateMessage) -> TemplateMessage:
    """The message with call arguments that are a string put into an object under UNPARSED_KEY.

    Templates expect an object. The message itself where no call has such arguments.
    """
    calls = message.get("tool_calls") or ()
    assert isinstance(calls, Sequence)
    if not any(isinstance(call["function"]["arguments"], str) for call in calls):
        return message
    return {**message, "tool_calls": [{**call, "function": _with_object(call["function"])} for call in calls]}


def _with_object(function: Mapping[str, object]) -> Mapping[str, object]:
    """The function of a call, its arguments put under UNPARSED_KEY if they are a string; itself otherwise."""
    arguments = function["arguments"]
    return {**function, "arguments": {UNPARSED_KEY: arguments}} if isinstance(arguments, str) else function
