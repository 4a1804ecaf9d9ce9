"""One row in an older or a slightly wrong form -> the same row as it is to be written today."""

WORDS = {
    "weight": "weight removed from a message that is not the assistant's",
    "prompt_completion": "prompt and completion turned into messages",
    "functions": "functions turned into tools",
    "function_call": "function_call and its answer turned into tool calls",
}
"""What was done, by its code."""
Value = dict[str, object]


def mend(row: Value) -> tuple[Value, list[str]]:
    """The row, and the codes of what was done to it; the row itself where there was nothing."""
    done: list[str] = []
    if set(row) == {"prompt", "completion"} and all(isinstance(text, str) for text in row.values()):
        done.append("prompt_completion")
        user, assistant = (
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["completion"]},
        )
        return {"messages": [user, assistant]}, done
    functions = row.get("functions")
    if isinstance(functions, list) and "tools" not in row and all(isinstance(one, dict) for one in functions):
        done.append("functions")
        tools = [{"type": "function", "function": one} for one in functions]
        row = {
            ("tools" if key == "functions" else key): tools if key == "functions" else part for key, part in row.items()
        }
    messages = row.get("messages")
    if isinstance(messages, list) and all(isinstance(message, dict) for message in messages):
        mended = _without_weights(messages, done)
        mended = _with_calls(mended, done)
        if mended != messages:
            row = {**row, "messages": mended}
    return row, done


def _without_weights(messages: list[Value], done: list[str]) -> list[Value]:
    """Weight says what is learned, and of others' messages nothing is."""
    kept = []
    for message in messages:
        if "weight" in message and message.get("role") in ("system", "developer", "user", "tool", "function"):
            done.append("weight")
            message = {key: part for key, part in message.items() if key != "weight"}
        kept.append(message)
    return kept


def _with_calls(messages: list[Value], done: list[str]) -> list[Value]:
    """Calls in the spelling of tools; only where each answer of a function follows its call at once."""
    calls = [index for index, message in enumerate(messages) if isinstance(message.get("function_call"), dict)]
    answers = [index for index, message in enumerate(messages) if message.get("role") == "function"]
    if not calls or any("tool_calls" in message for message in messages):
        return messages
    if any(index - 1 not in calls for index in answers):
        return messages
    done.append("function_call")
    made: list[Value] = []
    for index, message in enumerate(messages):
        if index in calls:
            call = {"id": f"call_{index}", "type": "function", "function": message["function_call"]}
            message = {key: part for key, part in message.items() if key != "function_call"} | {"tool_calls": [call]}
        elif index in answers:
            kept = {key: part for key, part in message.items() if key not in ("role", "name")}
            message = {"role": "tool", "tool_call_id": f"call_{index - 1}", **kept}
        made.append(message)
    return made
