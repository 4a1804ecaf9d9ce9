"""All repairs of one row: older forms of calls and weights here, others in `key_repair` and `tool_repair`."""

from luthier.data.repair import key_repair, tool_repair

CHANGE_TEXTS = {
    "weight": "weight removed from a message that is not the assistant's",
    "functions": "functions turned into tools",
    "function_call": "function_call and its answer turned into tool calls",
    **key_repair.CHANGE_TEXTS,
    **tool_repair.CHANGE_TEXTS,
}
"""What was done, by its code."""
JsonObject = dict[str, object]


def repair_row(row: JsonObject) -> tuple[JsonObject, list[str]]:
    """The repaired row, and the codes of CHANGE_TEXTS for what was done; the same row and [] if it was nothing.

    Never changes its argument and never raises for what a row holds.
    """
    changes: list[str] = []
    functions = row.get("functions")
    if isinstance(functions, list) and "tools" not in row and all(isinstance(one, dict) for one in functions):
        changes.append("functions")
        tools = [{"type": "function", "function": one} for one in functions]
        row = {
            ("tools" if key == "functions" else key): tools if key == "functions" else part for key, part in row.items()
        }
    row = key_repair.repair_keys(row, changes)
    messages = row.get("messages")
    if isinstance(messages, list) and all(isinstance(message, dict) for message in messages):
        repaired = _without_weights(messages, changes)
        repaired = _with_calls(repaired, changes)
        if repaired != messages:
            row = {**row, "messages": repaired}
    return tool_repair.repair_tools(row, changes), changes


def _without_weights(messages: list[JsonObject], changes: list[str]) -> list[JsonObject]:
    """The messages, `weight` removed from those of other roles than assistant, which are never learned.

    Appends to `changes`.
    """
    result = []
    for message in messages:
        if "weight" in message and message.get("role") in ("system", "developer", "user", "tool", "function"):
            changes.append("weight")
            message = {key: part for key, part in message.items() if key != "weight"}
        result.append(message)
    return result


def _with_calls(messages: list[JsonObject], changes: list[str]) -> list[JsonObject]:
    """Messages with `function_call` and role function rewritten as `tool_calls` and role tool, with ids by position.

    Only where each function's answer follows its call at once, and no message has `tool_calls` yet; else the same list.
    Appends to `changes`.
    """
    calls = [index for index, message in enumerate(messages) if isinstance(message.get("function_call"), dict)]
    answers = [index for index, message in enumerate(messages) if message.get("role") == "function"]
    if not calls or any("tool_calls" in message for message in messages):
        return messages
    if any(index - 1 not in calls for index in answers):
        return messages
    changes.append("function_call")
    result: list[JsonObject] = []
    for index, message in enumerate(messages):
        if index in calls:
            call = {"id": f"call_{index}", "type": "function", "function": message["function_call"]}
            message = {key: part for key, part in message.items() if key != "function_call"} | {"tool_calls": [call]}
        elif index in answers:
            fields = {key: part for key, part in message.items() if key not in ("role", "name")}
            message = {"role": "tool", "tool_call_id": f"call_{index - 1}", **fields}
        result.append(message)
    return result
