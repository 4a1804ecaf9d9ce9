"""Rows that are records of OpenAI's other APIs: batch lines, logged requests, evals, items of the Responses API.

Formats for `known_formats`; every `_convert_...` raises NotConvertible where the answer is missing or not certain.
"""

from luthier.data.dataset_formats import instruction_pairs, tool_builder
from luthier.data.dataset_formats.chat_builder import ChatBuilder, JsonObject, NotConvertible, role_of, text_of
from luthier.data.dataset_formats.dataset_format import Conversion, Format, RowKind, to_conversion
from luthier.data.dataset_formats.vendor_apis import add_parts, messages_of, parts_of

_REQUESTS = ("body", "request", "modelInput")
_RESPONSES_PARTS = frozenset(("input_text", "output_text"))
_ANSWERS = ("response", "modelOutput", "completion")


def _request(row: JsonObject) -> tuple[str, JsonObject] | None:
    """The key of the chat request that a row holds, and the request; None if there is none with messages."""
    for key in _REQUESTS:
        value = row.get(key)
        if isinstance(value, dict) and isinstance(value.get("messages"), list):
            return key, value
    return None


def _convert_request(row: JsonObject) -> Conversion:
    """The request's messages and the answer logged beside it. Raises NotConvertible without an answer."""
    key_and_request = _request(row)
    assert key_and_request is not None
    key, request = key_and_request
    chat = ChatBuilder()
    instruction_pairs.add_messages(chat, request["messages"], f"{key}.messages[].")
    chat.add_system(text_of(request.get("system")))
    chat.tools = tool_builder.read_tools(request.get("tools", request.get("functions")))
    answer_key = next((one for one in _ANSWERS if isinstance(row.get(one), dict)), None)
    if answer_key is not None:
        _add_response(chat, row[answer_key], f"{answer_key}.")
    if not chat.messages or chat.messages[-1]["role"] != "assistant":
        raise NotConvertible("the request has no answer; answers of a batch are in its output file, by custom_id")
    chat.note_dropped(request, ("messages", "system", "tools", "functions"), f"{key}.")
    chat.note_dropped(row, (key, *([answer_key] if answer_key else [])))
    return to_conversion(chat)


def _add_response(chat: ChatBuilder, response: object, where: str) -> None:
    """Adds the answer of a logged chat completion. Raises NotConvertible unless it has exactly one choice."""
    inner = response.get("body", response) if isinstance(response, dict) else response
    choices = inner.get("choices") if isinstance(inner, dict) else None
    if isinstance(inner, dict) and choices is None and "content" in inner:
        instruction_pairs.add_messages(chat, {"role": "assistant", "content": inner["content"]}, where)
        return
    first = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        raise NotConvertible("its response has not exactly one choice with a message")
    instruction_pairs.add_messages(chat, message, f"{where}choices[].message.")


def _is_batch_output(row: JsonObject) -> bool:
    """Whether the row is a line of a batch's output file: an answer by its custom_id."""
    response = row.get("response")
    return "custom_id" in row and isinstance(response, dict) and "body" in response


def _refuse_output(row: JsonObject) -> Conversion:
    """Always raises NotConvertible: the request is in another file."""
    raise NotConvertible("it has the answer without the request, which is in the batch's input file, by custom_id")


def _is_evals(row: JsonObject) -> bool:
    """Whether the row has `ideal`, and `input` as a text or messages."""
    prompt = row.get("input")
    is_message_list = isinstance(prompt, list) and bool(prompt) and all(isinstance(one, dict) for one in prompt)
    return "ideal" in row and (isinstance(prompt, str) or is_message_list)


def _convert_evals(row: JsonObject) -> Conversion:
    """The input, and the ideal answer as the assistant's. Raises NotConvertible for several ideal answers."""
    ideal = row["ideal"]
    if isinstance(ideal, list) and len(ideal) == 1:
        ideal = ideal[0]
    if not isinstance(ideal, str):
        raise NotConvertible("it has several ideal answers, and nothing says which is to be learned")
    chat = ChatBuilder()
    instruction_pairs.add_prompt(chat, row["input"], "input[].")
    chat.add_text("assistant", ideal)
    chat.note_dropped(row, ("input", "ideal"))
    return to_conversion(chat)


def _items(value: object) -> list[JsonObject] | None:
    """The items of the Responses API that a value is: messages, calls and results; None for anything else."""
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        return None
    return value if all(role_of(one.get("role")) or isinstance(one.get("type"), str) for one in value) else None


def _is_responses(row: JsonObject) -> bool:
    """Whether the row has `input` (a text or items) and `output` items of the Responses API, and no messages."""
    has_input = isinstance(row.get("input"), str) or _items(row.get("input")) is not None
    return "messages" not in row and has_input and _items(row.get("output")) is not None


def _convert_responses(row: JsonObject) -> Conversion:
    """The items of input and output in our form, the instructions first, as system. Raises NotConvertible."""
    chat = ChatBuilder()
    prompt = row["input"]
    if isinstance(prompt, str):
        chat.add_text("user", prompt)
    for key in ("input", "output"):
        for item in _items(row[key]) or []:
            _add_item(chat, item, f"{key}[].")
    chat.add_system(text_of(row.get("instructions")))
    chat.tools = tool_builder.read_tools(row.get("tools"))
    chat.note_dropped(row, ("input", "output", "instructions", "tools"))
    return to_conversion(chat)


def _add_item(chat: ChatBuilder, item: JsonObject, where: str) -> None:
    """Adds one item: a message, a call or its result; reasoning is dropped. Raises NotConvertible for any other."""
    match item.get("type", "message"):
        case "message":
            role = role_of(item.get("role"))
            if role not in ("system", "developer", "user", "assistant"):
                raise NotConvertible("a message has a role that is not known")
            add_parts(chat, role, item.get("content"), lambda *_: False)
        case "function_call":
            chat.add_call(item.get("name"), item.get("arguments"), item.get("call_id"))
        case "function_call_output":
            chat.add_tool_result(item.get("output"), item.get("call_id"))
        case "reasoning":
            chat.note_dropped(item, ("type", "id"), where)
        case _:
            raise NotConvertible("it holds items of tools that only OpenAI runs")


def _is_log(row: JsonObject) -> bool:
    """Whether the row has messages that end with a user's or a tool's, and `choices` that answer them."""
    choices = row.get("choices")
    messages = row.get("messages")
    if not isinstance(choices, list) or not isinstance(messages, list) or not messages:
        return False
    last = messages[-1]
    return isinstance(last, dict) and last.get("role") in ("user", "tool")


def _convert_log(row: JsonObject) -> Conversion:
    """The messages, and the one choice as the last of them. Raises NotConvertible for several choices."""
    chat = ChatBuilder()
    instruction_pairs.add_messages(chat, row["messages"], "messages[].")
    _add_response(chat, {"choices": row["choices"]}, "")
    chat.tools = tool_builder.read_tools(row.get("tools"))
    chat.note_dropped(row, ("messages", "choices", "tools"))
    return to_conversion(chat)


def _is_records(row: JsonObject) -> bool:
    """Whether the row is a record of Argilla."""
    return isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), list | dict)


def _refuse_records(row: JsonObject) -> Conversion:
    """Always raises NotConvertible: one annotator's answer has to be chosen."""
    raise NotConvertible("its annotators' answers are to be chosen first")


def _is_responses_parts(row: JsonObject) -> bool:
    """Whether the messages have parts of the types input_text or output_text."""
    return any(part.get("type") in _RESPONSES_PARTS for part in parts_of(row) if isinstance(part.get("type"), str))


def _convert_responses_parts(row: JsonObject) -> Conversion:
    """The row with its messages' parts joined as text, all else kept. Raises NotConvertible for other parts."""
    dropped: dict[str, None] = {}
    messages: list[JsonObject] = []
    for message in messages_of(row) or []:
        content = message.get("content")
        if isinstance(content, list):
            message = {**message, "content": text_of(content)}
            for part in content:
                others = part.items() if isinstance(part, dict) else ()
                dropped |= {
                    f"messages[].content[].{key}": None
                    for key, value in others
                    if key not in ("type", "text") and value not in (None, "", [], {})
                }
        messages.append(message)
    return Conversion({**row, "messages": messages}, tuple(dropped))


FORMATS = (
    Format(
        "responses_parts",
        "messages with the parts of OpenAI's Responses API",
        '`{"messages": [{"role", "content": [{"type": "input_text"}]}]}`, `output_text`',
        "input_text and output_text are content",
        _is_responses_parts,
        _convert_responses_parts,
        refused="images and files",
    ),
    Format(
        "batch",
        "OpenAI's batch lines, logged requests, Bedrock's batch records",
        '`{"custom_id", "body": {"messages": [...]}}`, `request` and `response`, `modelInput` and `modelOutput`',
        "body.messages is messages, body.tools tools, and the message of the response is the answer",
        lambda row: "messages" not in row and _request(row) is not None,
        _convert_request,
        refused="requests without an answer, responses of several choices",
    ),
    Format(
        "batch_output",
        "answers of OpenAI's batches",
        '`{"custom_id", "response": {"body": {...}}}`',
        "response.body.choices[0].message is the answer to the request of the same custom_id in the batch's input file",
        _is_batch_output,
        _refuse_output,
        RowKind.OTHER,
        refused="all: the request is in another file",
    ),
    Format(
        "logged_chat",
        "logged chat completions (request and answer in one object)",
        '`{"messages": [...], "choices": [{"message"}]}`',
        "choices[0].message is the last message",
        _is_log,
        _convert_log,
        refused="several choices",
    ),
    Format(
        "evals",
        "OpenAI's evals",
        '`{"input": [...], "ideal": "..."}`',
        "input is what is asked, ideal the answer",
        _is_evals,
        _convert_evals,
        refused="several ideal answers",
    ),
    Format(
        "responses",
        "OpenAI's Responses API",
        '`{"instructions", "input": [...], "output": [...]}`',
        "items of type message are messages, function_call is a tool call, function_call_output a message with role "
        "tool; instructions are a system message",
        _is_responses,
        _convert_responses,
        refused="images, files, items of hosted tools",
    ),
    Format(
        "argilla_records",
        "Argilla's records",
        '`{"fields": {...}, "responses": [...]}`',
        "fields hold what is asked, responses what each annotator gave: choose one, and write it as an assistant "
        "message",
        _is_records,
        _refuse_records,
        RowKind.OTHER,
        refused="all: nothing says which annotator's answer is to be learned",
    ),
)
