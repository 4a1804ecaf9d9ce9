"""Preference pairs of other libraries, converted to OpenAI's input, preferred_output and non_preferred_output.

Formats for `known_formats`, of kind PAIRS: rows for jobs of method dpo.
"""

from luthier.data.dataset_formats import delimited_text, instruction_pairs, tool_builder, turn_lists
from luthier.data.dataset_formats.chat_builder import ChatBuilder, JsonObject, NotConvertible, text_of
from luthier.data.dataset_formats.dataset_format import Conversion, Format, RowKind

_KEYS = (
    ("chosen", "rejected"),
    ("accepted", "rejected"),
    ("preferred", "rejected"),
    ("preferred", "dispreferred"),
    ("preferred", "non_preferred"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("preferred_response", "rejected_response"),
    ("preferred_response", "non_preferred_response"),
    ("chosen_message", "rejected_message"),
    ("response_j", "response_k"),
)
_REJECTED = ("rejected_response", "rejected_message", "rejected_messages")
_PROMPTS = ("prompt", "question", "instruction", "query", "input")
_SYSTEM = ("system", "system_prompt")
_OPENAI = (("preferred_output", "non_preferred_output"), ("preferred_completion", "non_preferred_completion"))
_BETTER = ("better_response_id", "safer_response_id")


def _keys(row: JsonObject) -> tuple[str, str] | None:
    """The keys of the better and of the worse output, where both hold text or messages; None for no such pair."""
    for better, worse in _KEYS:
        if all(isinstance(row.get(key), str | list | dict) for key in (better, worse)):
            return better, worse
    return None


def _is_pair(row: JsonObject) -> bool:
    """Whether the row has two outputs under keys that say which is better."""
    return _keys(row) is not None


def _convert_pair(row: JsonObject) -> Conversion:
    """The pair of the two outputs and the prompt beside them or, without one, at the beginning of both.

    Raises NotConvertible.
    """
    keys = _keys(row)
    assert keys is not None
    list_keys = turn_lists.find_turn_keys(row)
    prompt_key = next((key for key in _PROMPTS if not instruction_pairs.is_blank(row.get(key))), None)
    if prompt_key is None and list_keys is not None:
        prompt_key = list_keys[0]
    prompt = None if prompt_key is None else row[prompt_key]
    return _pair(row, prompt, row[keys[0]], row[keys[1]], (*keys, *([prompt_key] if prompt_key else [])))


def _pair(row: JsonObject, prompt: object, better: object, worse: object, read: tuple[str, ...]) -> Conversion:
    """The converted pair of one prompt, which may be None or be repeated at the beginning of both outputs.

    `read` are the row's keys that were read. Raises NotConvertible where there is no prompt, where it is not the
    outputs' own, and where these differ before their last answer.
    """
    notes: list[str] = []
    prompt_chat, preferred, rejected = ChatBuilder(), _output(better, prompt is None), _output(worse, prompt is None)
    if prompt is not None:
        instruction_pairs.add_prompt(prompt_chat, prompt)
    common = _common_prefix(preferred.messages, rejected.messages)
    if common and prompt_chat.messages and not _ends_with(common, prompt_chat.messages):
        raise NotConvertible("its prompt is not what the two outputs begin with")
    prompt_messages = common or prompt_chat.messages
    if not prompt_messages:
        raise NotConvertible("it has no prompt, nor do the two outputs begin alike")
    prompt_chat.messages = list(prompt_messages)
    _add_system(prompt_chat, row, notes)
    prompt_chat.tools = tool_builder.read_tools(row.get("tools"))
    prompt_chat.note_dropped(row, (*read, *_SYSTEM, "tools"))
    outputs = [chat.messages[len(common) :] for chat in (preferred, rejected)]
    for messages in outputs:
        _set_role(messages, notes)
        if any(message["role"] not in ("assistant", "tool") for message in messages):
            raise NotConvertible("the two outputs differ before their last answer")
    dropped = prompt_chat.dropped | preferred.dropped | rejected.dropped
    tools_field = {"tools": prompt_chat.tools} if prompt_chat.tools else {}
    converted: JsonObject = {
        "input": {"messages": prompt_chat.messages, **tools_field},
        "preferred_output": outputs[0],
        "non_preferred_output": outputs[1],
    }
    return Conversion(converted, tuple(dropped), tuple(dict.fromkeys(notes)))


def _output(value: object, has_prompt: bool) -> ChatBuilder:
    """The messages of one output: a text, a message or messages. Raises NotConvertible if it is empty.

    `has_prompt`: a text may hold the prompt too, in marked turns.
    """
    chat = ChatBuilder()
    marked = delimited_text.split_turns(value) if has_prompt and isinstance(value, str) else None
    if marked is not None:
        for role, content in marked:
            chat.add_text(role, content)
    else:
        instruction_pairs.add_answer(chat, value, "output[].")
    if not chat.messages:
        raise NotConvertible("one of its two outputs is empty")
    return chat


def _common_prefix(better: list[JsonObject], worse: list[JsonObject]) -> list[JsonObject]:
    """The messages with which both begin, never the last of either."""
    n = 0
    while n < min(len(better), len(worse)) - 1 and better[n] == worse[n]:
        n += 1
    return better[:n]


def _ends_with(messages: list[JsonObject], prompt: list[JsonObject]) -> bool:
    """Whether the last of the messages are what was asked, blanks around texts aside."""
    tail = messages[-len(prompt) :]
    return [_role_and_text(message) for message in tail] == [_role_and_text(message) for message in prompt]


def _role_and_text(message: JsonObject) -> tuple[object, str]:
    return message["role"], str(message["content"]).strip()


def _set_role(messages: list[JsonObject], notes: list[str]) -> None:
    """Gives an output's only message the assistant's role if it is a user's, and removes weights; changes the list.

    An output is an answer, whatever role it was given. Appends to `notes`.
    """
    if len(messages) == 1 and messages[0]["role"] == "user":
        messages[0] = {**messages[0], "role": "assistant"}
        notes.append("role_of_output")
    for index, message in enumerate(messages):
        if "weight" in message:
            messages[index] = {key: part for key, part in message.items() if key != "weight"}


def _add_system(chat: ChatBuilder, row: JsonObject, notes: list[str]) -> None:
    """Adds the system prompt beside the pair, a text or messages.

    Appends to `notes`; raises NotConvertible if there are two.
    """
    for key in _SYSTEM:
        value = row.get(key)
        if isinstance(value, list) and value and all(isinstance(one, dict) and "content" in one for one in value):
            notes.extend(["system_role"] if any(one.get("role") != "system" for one in value) else [])
            value = "\n\n".join(text_of(one["content"]) for one in value)
        if value is not None:
            chat.add_system(text_of(value))


def _is_answer_and_rejected(row: JsonObject) -> bool:
    """Whether the row has turns, of which the last answer is preferred, and a rejected answer beside them."""
    if not any(isinstance(row.get(key), str | list | dict) for key in _REJECTED):
        return False
    return "chosen" not in row and turn_lists.find_turn_keys(row) is not None


def _convert_answer_and_rejected(row: JsonObject) -> Conversion:
    """The pair of the turns' last answer, with calls and results before it, and the rejected one.

    Raises NotConvertible where the turns do not end with an answer.
    """
    keys = turn_lists.find_turn_keys(row)
    assert keys is not None
    rejected_key = next(key for key in _REJECTED if isinstance(row.get(key), str | list | dict))
    chat = ChatBuilder()
    turn_lists.add_turns(chat, row[keys[0]], keys[1], keys[2], f"{keys[0]}[].")
    start = len(chat.messages)
    while start and chat.messages[start - 1]["role"] in ("assistant", "tool"):
        start -= 1
    other_fields = {key: value for key, value in row.items() if key not in (keys[0], rejected_key)}
    if start == len(chat.messages) or not start:
        raise NotConvertible("its messages do not end with the answer that is preferred")
    return _pair(other_fields, chat.messages[:start], chat.messages[start:], row[rejected_key], ())


def _openai_keys(row: JsonObject) -> tuple[str, str] | None:
    """OpenAI's keys of the two outputs, or those with completion in their place; None without both."""
    return next((keys for keys in _OPENAI if row.keys() >= set(keys)), None)


def _has_text_outputs(row: JsonObject) -> bool:
    """Whether the row is a pair under OpenAI's keys, but with texts or single messages where arrays belong."""
    keys = _openai_keys(row)
    if keys is None:
        return False
    prompt, outputs = row.get("input"), [row[key] for key in keys]
    if not prompt or not all(isinstance(one, str | dict | list) for one in (prompt, *outputs)):
        return False
    if isinstance(prompt, dict) and "role" not in prompt:
        return isinstance(prompt.get("messages"), list) and any(isinstance(one, str | dict) for one in outputs)
    return True


def _convert_text_outputs(row: JsonObject) -> Conversion:
    """The pair with texts and messages put into arrays; other keys of `input` stay. Raises NotConvertible."""
    keys = _openai_keys(row)
    assert keys is not None
    prompt = row["input"]
    other_fields = {key: value for key, value in row.items() if key not in ("input", *keys)}
    if isinstance(prompt, dict) and "messages" in prompt:
        converted = _pair(other_fields, prompt["messages"], row[keys[0]], row[keys[1]], ())
        input_fields = {key: value for key, value in prompt.items() if key != "messages"}
        assert isinstance(converted.row["input"], dict)
        return Conversion(
            {**converted.row, "input": {**converted.row["input"], **input_fields}}, converted.dropped, converted.notes
        )
    return _pair(other_fields, prompt, row[keys[0]], row[keys[1]], ())


def _is_compared(row: JsonObject) -> bool:
    """Whether the row has two responses to a prompt, and the number of the better one."""
    texts = all(isinstance(row.get(key), str) for key in ("prompt", "response_0", "response_1"))
    return texts and any(row.get(key) in (0, 1) for key in _BETTER)


def _convert_compared(row: JsonObject) -> Conversion:
    """The pair by the number of the better response, of the first key that has one. Raises NotConvertible."""
    better = next(row[key] for key in _BETTER if row.get(key) in (0, 1))
    first, second = row["response_0"], row["response_1"]
    preferred, rejected = (second, first) if better == 1 else (first, second)
    return _pair(row, row["prompt"], preferred, rejected, ("prompt", "response_0", "response_1", *_BETTER))


_WRITE = "the prompt is input.messages, the better output preferred_output, the worse one non_preferred_output"

FORMATS = (
    Format(
        "answer_and_rejected",
        "preference pairs of a conversation and a rejected answer (ms-swift, OpenPipe)",
        '`{"messages": [...], "rejected_response": "..."}`, `rejected_messages`, `rejected_message`',
        "the last answer is preferred_output, the rejected one non_preferred_output, what stands before is "
        "input.messages",
        _is_answer_and_rejected,
        _convert_answer_and_rejected,
        RowKind.PAIRS,
        refused="messages that do not end with an answer",
    ),
    Format(
        "chosen_rejected",
        "preference pairs of TRL, Argilla, Anthropic's HH, LLaMA-Factory and Axolotl",
        '`{"prompt", "chosen", "rejected"}`, each a text or messages; the prompt may stand in the outputs; `question`',
        f"{_WRITE}; what chosen and rejected begin with alike is input.messages",
        _is_pair,
        _convert_pair,
        RowKind.PAIRS,
        refused="pairs without a prompt, with another one than the outputs begin with, or that differ before the last "
        "answer",
    ),
    Format(
        "text_outputs",
        "preference pairs with texts where messages are wanted",
        '`{"input", "preferred_output": "...", "non_preferred_output": "..."}`',
        'each text is an array of one message: [{"role": "assistant", "content": TEXT}]',
        _has_text_outputs,
        _convert_text_outputs,
        RowKind.PAIRS,
        refused="pairs without a prompt",
    ),
    Format(
        "compared_responses",
        "two responses of which one is marked as better (PKU-SafeRLHF)",
        '`{"prompt", "response_0", "response_1", "better_response_id"}`',
        _WRITE,
        _is_compared,
        _convert_compared,
        RowKind.PAIRS,
    ),
)
