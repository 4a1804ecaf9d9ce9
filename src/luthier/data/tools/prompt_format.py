"""Tools as plain text, for a base model whose own chat template knows none: one form for training and for serving.

The definitions close the system turn, a call is a `<tool_call>` block in the assistant's turn, a result a
`<tool_response>` block in a user's turn: the form of Hermes, in which most open models with tools were trained.
"""

import json
from collections.abc import Mapping, Sequence

OPEN, CLOSE = "<tool_call>", "</tool_call>"
HEAD = OPEN + '\n{"name": '
BEFORE_ARGUMENTS = ', "arguments": '
TAIL = "}\n" + CLOSE
"""A call is HEAD, the name as JSON, BEFORE_ARGUMENTS, the arguments as JSON, TAIL."""


_INSTRUCTIONS = """You can call functions. Their signatures stand between the tags, one on each line:
<tools>
{tools}
</tools>
To call functions, answer with nothing but one such block for each call:
<tool_call>
{{"name": "name of the function", "arguments": {{"name of the argument": "its value"}}}}
</tool_call>
What a function returns stands in a <tool_response> block of the next turn."""

TemplateMessage = Mapping[str, object]
"""A message as chat templates take it (`template_messages.template_message`): the arguments of calls are decoded; in
the history of a chat they may be a text that is no JSON object."""


def fold_tools(messages: Sequence[TemplateMessage], tools: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """A new list of messages with tools, calls and results as text: no other roles than system, user and assistant.

    Results that follow one another share a user turn, for templates want user and assistant to alternate.
    """
    folded: list[dict[str, object]] = []
    in_results = False
    for message in messages:
        content = str(message.get("content") or "")
        match message["role"]:
            case "tool" | "function":
                block = f"<tool_response>\n{content}\n</tool_response>"
                if in_results:
                    folded[-1]["content"] = f"{folded[-1]['content']}\n{block}"
                else:
                    folded.append({"role": "user", "content": block})
                in_results = True
                continue
            case "assistant":
                calls = message.get("tool_calls") or ()
                assert isinstance(calls, Sequence)
                parts = [content] if content else []
                folded.append(
                    {"role": "assistant", "content": "\n".join(parts + [_call_block(call) for call in calls])}
                )
            case role:
                folded.append({"role": role, "content": content})
        in_results = False
    if tools:
        _add_definitions(folded, tools)
    return folded


def call_text(name: str, arguments: str) -> str:
    """A call as the model writes it; `arguments` is JSON text, taken as it is."""
    return f"{HEAD}{_json(name)}{BEFORE_ARGUMENTS}{arguments}{TAIL}"


def _call_block(call: Mapping[str, Mapping[str, object]]) -> str:
    """The text of one entry of `tool_calls`; arguments that are a string are taken as JSON already."""
    function = call["function"]
    arguments = function["arguments"]
    return call_text(str(function["name"]), arguments if isinstance(arguments, str) else _json(arguments))


def _add_definitions(folded: list[dict[str, object]], tools: Sequence[Mapping[str, object]]) -> None:
    """Adds the tools to the system message of `folded`, or puts one first; changes the list."""
    text = _INSTRUCTIONS.format(tools="\n".join(_json(tool) for tool in tools))
    if folded and folded[0]["role"] == "system":
        before = folded[0]["content"]
        folded[0] = {"role": "system", "content": f"{before}\n\n{text}" if before else text}
    else:
        folded.insert(0, {"role": "system", "content": text})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
