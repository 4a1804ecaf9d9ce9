"""Rows with a question and its answer under two keys: prompt and completion, Alpaca, question and answer, ...

Formats for `known_formats`; other formats use `add_prompt`, `add_messages` and `add_answer` for what they hold.
"""

from luthier.data.dataset_formats import delimited_text, tool_builder
from luthier.data.dataset_formats.chat_builder import (
    ChatBuilder,
    JsonObject,
    NotConvertible,
    add_turn,
    role_of,
    text_of,
)
from luthier.data.dataset_formats.dataset_format import Conversion, Format, RowKind, to_conversion

_SYSTEM = ("system", "system_prompt", "systemPrompt", "preamble")
_HISTORY = "history"
_ALPACA_ANSWERS = ("output", "response", "completion", "answer")
_ALPACA_INPUTS = ("input", "context")
_QUESTIONS = ("question", "query", "prompt", "instruction", "input", "user_input", "request")
_ANSWERS = ("answer", "response", "output", "completion", "reply")
_KEY_PAIRS = (
    ("user", "assistant"),
    ("user", "bot"),
    ("human", "assistant"),
    ("human", "gpt"),
    ("human", "bot"),
    ("input_text", "output_text"),
    ("text_input", "output"),
    ("inputs", "targets"),
    ("source", "target"),
    ("content", "summary"),
    ("q", "a"),
)
"""Keys that mean this only together: each by itself is often another column."""
_ANSWER_LIST_KEYS = ("responses", "completions", "answers", "outputs", "generations")


def has_prompt_and_completion(row: JsonObject) -> bool:
    return "prompt" in row and "completion" in row and "messages" not in row


def is_blank(value: object) -> bool:
    """Whether a value says nothing: None, [] or a string of blanks."""
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def add_prompt(chat: ChatBuilder, value: object, where: str = "prompt[].") -> None:
    """Adds what is asked: a text, a text with marked turns that ends where the answer begins, or messages.

    Raises NotConvertible.
    """
    if isinstance(value, str):
        marked = delimited_text.split_turns(value)
        if not marked or not (marked[-1] == ("assistant", "") or value.rstrip().endswith("[/INST]")):
            chat.add_text("user", value)
        else:
            delimited_text.add_marked_turns(chat, marked)
    else:
        add_messages(chat, value, where)


def add_messages(chat: ChatBuilder, value: object, where: str) -> None:
    """Adds a message, or a list of them, in our form or with from and value. Raises NotConvertible for others."""
    items = [value] if isinstance(value, dict) else value
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise NotConvertible("its texts are neither strings nor lists of messages")
    for item in items:
        role_key = "from" if "from" in item and "role" not in item else "role"
        add_turn(chat, item, role_key, "value" if "value" in item and "content" not in item else "content", where)


def add_answer(chat: ChatBuilder, value: object, where: str) -> None:
    """Adds an answer: a text, or messages. Raises NotConvertible."""
    if isinstance(value, str):
        chat.add_text("assistant", value)
    else:
        add_messages(chat, value, where)


def convert_prompt_completion(row: JsonObject, also_read: tuple[str, ...] = ()) -> Conversion:
    """Prompt and completion, each a text or messages; an empty prompt leaves only the answer. Raises NotConvertible.

    `also_read` are keys that the caller has read, and are not noted as dropped.
    """
    chat = ChatBuilder()
    empty = is_blank(row["prompt"])
    if not empty:
        add_prompt(chat, row["prompt"])
    add_answer(chat, row["completion"], "completion[].")
    _add_system_and_tools(chat, row)
    chat.note_dropped(row, ("prompt", "completion", *_SYSTEM, "tools", *also_read))
    return to_conversion(chat, *(["empty_prompt"] if empty else []))


def _add_system_and_tools(chat: ChatBuilder, row: JsonObject) -> None:
    """Adds the system prompt and the tools beside the question. Raises NotConvertible."""
    for key in _SYSTEM:
        if row.get(key) is not None:
            chat.add_system(text_of(row[key]))
    chat.tools = tool_builder.read_tools(row.get("tools"))


def _is_completion_only(row: JsonObject) -> bool:
    return has_prompt_and_completion(row) and is_blank(row["prompt"])


def _alpaca_keys(row: JsonObject) -> tuple[str, str | None] | None:
    """The keys of the answer and of a further input (or None) beside `instruction`; None for no Alpaca row."""
    answer = next((key for key in _ALPACA_ANSWERS if isinstance(row.get(key), str)), None)
    if answer is None or not isinstance(row.get("instruction"), str):
        return None
    return answer, next((key for key in _ALPACA_INPUTS if isinstance(row.get(key), str) and key != answer), None)


def _convert_alpaca(row: JsonObject) -> Conversion:
    """History, the instruction with its input below it, and the answer.

    Raises NotConvertible if a question is beside it.
    """
    keys = _alpaca_keys(row)
    assert keys is not None
    answer, input_key = keys
    if any(not is_blank(row.get(key)) for key in ("question", "query")):
        raise NotConvertible("it has an instruction and a question, and nothing says how they go together")
    chat = ChatBuilder()
    _add_history(chat, row.get(_HISTORY))
    instruction, extra_input = row["instruction"], row[input_key] if input_key else ""
    assert isinstance(instruction, str)
    assert isinstance(extra_input, str)
    chat.add_text("user", "\n\n".join(text for text in (instruction, extra_input) if text.strip()))
    chat.add_text("assistant", text_of(row[answer]))
    _add_system_and_tools(chat, row)
    chat.note_dropped(row, ("instruction", answer, _HISTORY, *_SYSTEM, "tools", *([input_key] if input_key else [])))
    return to_conversion(chat)


def _add_history(chat: ChatBuilder, value: object) -> None:
    """Adds earlier turns: pairs of question and answer, or messages. Raises NotConvertible for other forms."""
    for pair in value if isinstance(value, list) else []:
        if isinstance(pair, dict) and role_of(pair.get("role")):
            add_turn(chat, pair, "role", "content", "history[].")
        elif isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair):
            chat.add_text("user", pair[0])
            chat.add_text("assistant", pair[1])
        else:
            raise NotConvertible("its history is no list of pairs of question and answer")


def _question_keys(row: JsonObject) -> tuple[str, str] | None:
    """The keys of question and answer as the row spells them; None for a row without both, or with messages."""
    if "messages" in row:
        return None
    texts = _texts(row)
    question = next((texts[key] for key in _QUESTIONS if key in texts), None)
    answer = next((texts[key] for key in _ANSWERS if key in texts), None)
    if question is not None and answer is not None:
        return question, answer
    return next(((texts[one], texts[other]) for one, other in _KEY_PAIRS if one in texts and other in texts), None)


def _texts(row: JsonObject) -> dict[str, str]:
    """The row's keys that hold a string, be it empty, by their lower case."""
    return {key.lower(): key for key, value in row.items() if isinstance(value, str) and len(key) < 20}


def _convert_question(row: JsonObject) -> Conversion:
    """History, the question below its context, and the answer.

    Raises NotConvertible where several texts may be the question or the answer.
    """
    keys = _question_keys(row)
    assert keys is not None
    question, answer = keys
    texts = _texts(row)
    filled_keys = {lower for lower, key in texts.items() if not is_blank(row[key])}
    if any(len(filled_keys & set(words)) > 1 for words in (_QUESTIONS, _ANSWERS)):
        raise NotConvertible("it has several texts that may be the question or the answer")
    chat = ChatBuilder()
    _add_history(chat, row.get(_HISTORY))
    context = row.get("context")
    prompt = row[question]
    assert isinstance(prompt, str)
    if isinstance(context, str) and context.strip() and question != "context":
        prompt = f"{context}\n\n{prompt}"
    add_prompt(chat, prompt)
    chat.add_text("assistant", text_of(row[answer]))
    _add_system_and_tools(chat, row)
    read_keys = (question, answer, _HISTORY, *_SYSTEM, "tools", *(["context"] if isinstance(context, str) else []))
    chat.note_dropped(row, read_keys)
    return to_conversion(chat)


def _has_several_answers(row: JsonObject) -> bool:
    """Whether the row has a question as a text and a list of answers."""
    has_question = any(isinstance(row.get(key), str) for key in (*_QUESTIONS, "inputs"))
    return "messages" not in row and has_question and any(isinstance(row.get(key), list) for key in _ANSWER_LIST_KEYS)


def _refuse_several(row: JsonObject) -> Conversion:
    """Always raises NotConvertible: one of the answers has to be chosen."""
    raise NotConvertible("it has several answers, and nothing says which is to be learned")


def _is_prompt_only(row: JsonObject) -> bool:
    """Whether the row has a prompt, as text or messages, and no answer."""
    value = row.get("prompt")
    asks = isinstance(value, str) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))
    return asks and not row.keys() & {"messages", "completion"}


def _refuse_prompt(row: JsonObject) -> Conversion:
    """Always raises NotConvertible: there is nothing to learn."""
    raise NotConvertible("it has no answer to learn")


FORMATS = (
    Format(
        "completion_alone",
        "prompt and completion with an empty prompt",
        '`{"prompt": "", "completion": "..."}`',
        "the completion is an assistant message with no user message before it: it is learned as what the model says "
        "first, unasked; a base model whose chat template cannot begin so refuses it until a system message comes "
        "first",
        _is_completion_only,
        convert_prompt_completion,
    ),
    Format(
        "prompt_completion",
        "prompt and completion (OpenAI's old models, TRL, Cohere's generations, Bedrock Titan, SageMaker, Together)",
        '`{"prompt", "completion"}`, each a text or a list of messages',
        'prompt is a user message, completion the assistant\'s: {"messages": [{"role": "user", "content": PROMPT}, '
        '{"role": "assistant", "content": COMPLETION}]}; lists of messages are joined; other keys go',
        has_prompt_and_completion,
        convert_prompt_completion,
        refused="lists of strings: what they divide is not known",
    ),
    Format(
        "alpaca",
        "Alpaca, Dolly (LLaMA-Factory, SageMaker JumpStart)",
        '`{"instruction", "input", "output"}`; also `context`, `response`',
        "instruction, and input below it, are a user message; output is the assistant's; system and history come "
        "before",
        lambda row: "messages" not in row and _alpaca_keys(row) is not None,
        _convert_alpaca,
        refused="a history that is no list of pairs; a question beside the instruction",
    ),
    Format(
        "question_answer",
        "question and answer (ms-swift's query and response, OpenOrca, Vertex, watsonx, Databricks)",
        '`{"question", "answer"}`; also `query`, `prompt`, `input`, `input_text`; `response`, `output`, `output_text`',
        "the question is a user message, below its context; the answer is the assistant's; system and history come "
        "before",
        lambda row: _question_keys(row) is not None,
        _convert_question,
        refused="a history that is no list of pairs; several texts that may be the question or the answer",
    ),
    Format(
        "several_answers",
        "several answers to one prompt (UltraFeedback, ranking sets)",
        '`{"prompt", "responses": [...]}`, `completions`, `answers`',
        "keep the answer that is to be learned, or write the best and the worst as a pair for method dpo",
        _has_several_answers,
        _refuse_several,
        RowKind.OTHER,
        refused="all: nothing says which answer is to be learned",
    ),
    Format(
        "prompt_alone",
        "prompts without answers (GRPO and other reinforcement learning)",
        '`{"prompt": [...]}` alone',
        "a job learns from answers: add them as assistant messages",
        _is_prompt_only,
        _refuse_prompt,
        RowKind.OTHER,
        refused="all: there is no answer",
    ),
)
