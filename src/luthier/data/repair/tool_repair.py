"""Repairs tools and calls of a row in the forms that other programs write: they become what the API accepts.

A step of `row_repair`. Only what is certain is changed: a string is read as JSON where it is JSON without a fault, an
id is given where a call is followed by its answer. Every function returns copies, and appends codes of CHANGE_TEXTS to
its argument `changes`, one for each place.
"""

import json
from collections.abc import Callable, Mapping, Sequence

from luthier.data.jsonl import json_reader
from luthier.data.tools import arrow_nulls

CHANGE_TEXTS = {
    "tools_in_text": "tools or calls in a JSON string written as JSON",
    "null_in_tools": "nulls of keys left out (pyarrow, model_dump) removed from tools and messages",
    "empty_arguments": "empty arguments of a call written as {}",
    "arguments_in_json": "arguments of a call written as a JSON string",
    "call_ids": "ids and types given to calls, and the ids to their answers",
}
"""What was done, by its code."""
JsonObject = dict[str, object]


def repair_tools(row: JsonObject, changes: list[str]) -> JsonObject:
    """The row, or preference pair, with its tools and calls repaired; the row itself if nothing was to be done."""
    repaired = _with_tools(row, changes)
    tools = repaired.get("tools")
    schemas = _parameter_schemas(tools if isinstance(tools, list) else [])
    repaired = _map_objects(repaired, "messages", lambda messages: _repair_messages(messages, schemas, changes))
    input_value = repaired.get("input")
    if isinstance(input_value, dict):
        input_value = _with_tools(input_value, changes)
        tools = input_value.get("tools")
        schemas = _parameter_schemas(tools if isinstance(tools, list) else [])
        input_value = _map_objects(
            input_value, "messages", lambda messages: _repair_messages(messages, schemas, changes)
        )
        repaired = {**repaired, "input": input_value}
        for key in ("preferred_output", "non_preferred_output"):
            repaired = _map_objects(repaired, key, lambda messages: _repair_messages(messages, schemas, changes))
    return row if repaired == row else repaired


def _map_objects(value: JsonObject, key: str, change: Callable[[list[JsonObject]], list[JsonObject]]) -> JsonObject:
    """The object with `change` applied to the list of objects at `key`; the object itself if there is no such list."""
    items = value.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return value
    return {**value, key: change(items)}


def _with_tools(value: JsonObject, changes: list[str]) -> JsonObject:
    """The object with each definition in `tools` and `functions` repaired, and decoded from JSON in strings."""
    for key in ("tools", "functions"):
        tools = _decode_string(value.get(key), list, changes)
        if isinstance(tools, list):
            tools = [_decode_string(tool, dict, changes) for tool in tools]
            value = {**value, key: [_repair_tool(tool, changes) if isinstance(tool, dict) else tool for tool in tools]}
    return value


def _repair_tool(tool: JsonObject, changes: list[str]) -> JsonObject:
    """A tool definition, or the function in it, with parameters decoded from a string and pyarrow's nulls removed."""
    function = tool.get("function")
    if isinstance(function, dict):
        return {**_without_nulls(tool, changes), "function": _repair_tool(function, changes)}
    parameters = _decode_string(tool.get("parameters"), dict, changes)
    if not isinstance(parameters, dict):
        return _without_nulls(tool, changes)
    stripped = arrow_nulls.strip_schema(parameters)
    if stripped != parameters:
        changes.append("null_in_tools")
    return {**_without_nulls(tool, changes), "parameters": stripped}


def _repair_messages(
    messages: list[JsonObject], parameters: Mapping[str, Mapping[str, object]], changes: list[str]
) -> list[JsonObject]:
    """The messages with calls, content parts and null keys repaired; `parameters` are schemas by function name."""
    repaired = []
    for message in messages:
        calls = _decode_string(message.get("tool_calls"), list, changes)
        if isinstance(calls, list):
            message = {**message, "tool_calls": [_repair_call(call, parameters, changes) for call in calls]}
        function = message.get("function_call")
        if isinstance(function, dict):
            message = {**message, "function_call": _repair_function(function, parameters, changes)}
        parts = message.get("content")
        if isinstance(parts, list):
            parts = [_without_nulls(part, changes) if isinstance(part, dict) else part for part in parts]
            message = {**message, "content": parts}
        repaired.append(_without_nulls(message, changes, "content"))
    for index, message in enumerate(repaired):
        if isinstance(message.get("tool_calls"), list):
            _give_ids(index, repaired, changes)
    return repaired


def _repair_call(call: object, parameters: Mapping[str, Mapping[str, object]], changes: list[str]) -> object:
    """One entry of `tool_calls` with its function repaired and its type given; what is no call stays as it is."""
    call = _decode_string(call, dict, changes)
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return call
    function = _repair_function(call["function"], parameters, changes)
    if call.get("type") is None:
        changes.append("call_ids")
        call = {**({"id": call["id"]} if "id" in call else {}), **call, "type": "function"}
    return {**_without_nulls(call, changes), "function": function}


def _repair_function(
    function: JsonObject, parameters: Mapping[str, Mapping[str, object]], changes: list[str]
) -> JsonObject:
    """The function of a call with its arguments as a JSON string, as the API has them; "{}" for empty ones.

    Nulls that pyarrow filled into an arguments object are removed by the schema of the function, if `parameters` has
    it.
    """
    arguments = function.get("arguments")
    if "arguments" in function and (arguments is None or arguments in ("", "null") or _is_blank(arguments)):
        changes.append("empty_arguments")
        return {**function, "arguments": "{}"}
    if isinstance(arguments, dict):
        changes.append("arguments_in_json")
        stripped = arrow_nulls.strip_arguments(arguments, parameters.get(str(function.get("name")), {}))
        if stripped != arguments:
            changes.append("null_in_tools")
        return {**function, "arguments": json.dumps(stripped, ensure_ascii=False)}
    inner = _json_in(arguments, str)
    if inner is not None and _json_in(inner, dict) is not None:  # encoded twice
        changes.append("arguments_in_json")
        return {**function, "arguments": inner}
    return function


def _give_ids(index: int, messages: list[JsonObject], changes: list[str]) -> None:
    """Gives the calls of message `index` ids and names them in the tool messages right behind it, where none are named.

    Replaces entries of `messages`. Does nothing where some have ids and some not, where calls and answers differ in
    number, or where it is not certain which answer belongs to which call.
    """
    calls = messages[index]["tool_calls"]
    assert isinstance(calls, list)
    end = index + 1
    while end < len(messages) and messages[end].get("role") == "tool":
        end += 1
    answers = messages[index + 1 : end]
    if not calls or not all(isinstance(call, dict) for call in calls) or len(answers) not in (0, len(calls)):
        return
    ids = [call.get("id") for call in calls]
    call_ids_of_answers = [answer.get("tool_call_id") for answer in answers]
    order = _order(calls, answers)
    if (
        order is None
        or not (_are_all(ids) or _are_none(ids))
        or not (_are_all(call_ids_of_answers) or _are_none(call_ids_of_answers))
    ):
        return
    if (_are_all(ids) and (_are_all(call_ids_of_answers) or not call_ids_of_answers)) or (
        not answers and end < len(messages)
    ):
        return
    if _are_none(ids):
        answer_ids = (
            [call_ids_of_answers[order.index(position)] for position in range(len(calls))]
            if _are_all(call_ids_of_answers) and call_ids_of_answers
            else None
        )
        ids = answer_ids or [f"call_{index}_{position}" for position in range(len(calls))]
    if len(set(map(str, ids))) < len(ids):
        return
    changes.append("call_ids")
    messages[index] = {
        **messages[index],
        "tool_calls": [{"id": id, **{**call, "id": id}} for id, call in zip(ids, calls, strict=True)],
    }
    for position, answer in enumerate(answers):
        messages[index + 1 + position] = {**answer, "tool_call_id": ids[order[position]]}


def _order(calls: Sequence[JsonObject], answers: Sequence[JsonObject]) -> list[int] | None:
    """For each answer the position of its call: by function names where all answers have one, else in their order.

    None if a named answer has no call of that name.
    """
    names = [answer.get("name") for answer in answers]
    if not _are_all(names) or not names:
        return list(range(len(answers)))
    call_names = [_name(call.get("function")) for call in calls]
    order: list[int] = []
    for name in names:
        position = next((at for at, call_name in enumerate(call_names) if call_name == name and at not in order), None)
        if position is None:
            return None
        order.append(position)
    return order


def _name(function: object) -> object:
    return function.get("name") if isinstance(function, dict) else None


def _are_all(values: Sequence[object]) -> bool:
    """Whether every value is a string that is not empty; True for no values."""
    return all(isinstance(value, str) and value for value in values)


def _are_none(values: Sequence[object]) -> bool:
    """Whether every value is None or ""; True for no values."""
    return all(value is None or value == "" for value in values)


def _without_nulls(value: JsonObject, changes: list[str], *but: str) -> JsonObject:
    """A copy without keys whose value is null, but for those in `but`; appends "null_in_tools" if there were any."""
    fields = {key: part for key, part in value.items() if part is not None or key in but}
    if len(fields) < len(value):
        changes.append("null_in_tools")
    return fields


def _parameter_schemas(tools: Sequence[object]) -> dict[str, Mapping[str, object]]:
    """The parameter schemas of tool definitions by function name; tools without one are left out."""
    schemas: dict[str, Mapping[str, object]] = {}
    for tool in tools:
        function = tool["function"] if isinstance(tool, dict) and "function" in tool else None
        if isinstance(function, dict) and isinstance(function.get("parameters"), dict):
            schemas[str(function.get("name"))] = function["parameters"]
    return schemas


def _decode_string(value: object, kind: type, changes: list[str]) -> object:
    """The value inside a string that is JSON of type `kind`; any other value as it is."""
    inner = _json_in(value, kind)
    if inner is None:
        return value
    changes.append("tools_in_text")
    return inner


def _json_in(value: object, kind: type) -> object:
    """The value of type `kind` that a string holds as faultless JSON; None for anything else."""
    if not isinstance(value, str):
        return None
    reading = json_reader.read(value)
    return reading.value if not reading.faults and isinstance(reading.value, kind) else None


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()
