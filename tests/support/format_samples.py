"""A row or more of every format that is recognised, and what it becomes; all texts are made for this."""

import json
from dataclasses import dataclass, field
from typing import Any

SYSTEM = {"role": "system", "content": "You answer for the depot."}
USER = {"role": "user", "content": "Which bay is unit 4 parked in?"}
ANSWER = {"role": "assistant", "content": "Unit 4 is parked in bay 7."}
WORSE = {"role": "assistant", "content": "No idea."}
ASKED, SAID, ILL, RULE = (message["content"] for message in (USER, ANSWER, WORSE, SYSTEM))
SCHEMA = {"type": "object", "properties": {"unit": {"type": "integer"}}, "required": ["unit"]}
FUNCTION = {"name": "bay_of", "description": "The bay of a unit.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
BARE = {"type": "function", "function": {"name": "bay_of", "parameters": SCHEMA}}
ARGUMENTS = {"unit": 4}
CHAT = {"messages": [USER, ANSWER]}
RULED = {"messages": [SYSTEM, USER, ANSWER]}
PAIR = {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [WORSE]}


def called(id: str = "call_1", result: str = '{"bay": 7}', tools: Any = TOOL, system: bool = False) -> dict[str, Any]:
    """The row in which the tool is called and answers."""
    function = {"name": "bay_of", "arguments": json.dumps(ARGUMENTS)}
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": id, "type": "function", "function": function}]}
    answer = {"role": "tool", "tool_call_id": id, "content": result}
    row = {"messages": [*([SYSTEM] if system else []), USER, call, answer, ANSWER]}
    return row | ({"tools": [tools]} if tools else {})


@dataclass(frozen=True, slots=True)
class Sample:
    """A row, the name of its format, and the row that --fix writes: None where it stays as it is."""

    format: str
    row: dict[str, Any]
    converted: dict[str, Any] | None
    dropped: tuple[str, ...] = field(default=())


def _messages(*turns: tuple[str, str], role: str = "role", text: str = "content") -> list[dict[str, str]]:
    return [{role: word, text: said} for word, said in turns]


_SHAREGPT = _messages(("human", ASKED), ("gpt", SAID), role="from", text="value")
_LANGCHAIN_CALL = {"name": "bay_of", "args": ARGUMENTS, "id": "call_1", "type": "tool_call"}
_HH = "\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: {}\n\nAssistant: {}"
_HH_INPUT = _messages(("user", "Hello"), ("assistant", "Hi."), ("user", ASKED))
_JSON_CALL = json.dumps({"name": "bay_of", "arguments": ARGUMENTS})
_LOOSE = {"name": "bay_of", "arguments": ARGUMENTS}

VENDORS = (
    Sample("gemini", {"systemInstruction": {"role": "system", "parts": [{"text": RULE}]}, "contents": [
        {"role": "user", "parts": [{"text": ASKED}]}, {"role": "model", "parts": [{"text": SAID}]}]}, RULED),
    Sample("gemini", {"contents": [
        {"role": "user", "parts": [{"text": ASKED}]},
        {"role": "model", "parts": [{"functionCall": {"name": "bay_of", "args": ARGUMENTS}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "bay_of", "response": {"bay": 7}}}]},
        {"role": "model", "parts": [{"text": SAID}]}],
        "tools": [{"functionDeclarations": [{**FUNCTION, "parameters": {**SCHEMA, "type": "OBJECT"}}]}],
        "generationConfig": {"temperature": 0}}, called(), ("generationConfig",)),
    Sample("gemini", {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": "gs://a"}}]}]}, None),
    Sample("converse", {"schemaVersion": "bedrock-conversation-2024", "system": [{"text": RULE}], "messages": [
        {"role": "user", "content": [{"text": ASKED}]}, {"role": "assistant", "content": [{"text": SAID}]}]},
        RULED),
    Sample("converse", {"messages": [
        {"role": "user", "content": [{"text": ASKED}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t1", "name": "bay_of", "input": ARGUMENTS}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"json": {"bay": 7}}]}}]},
        {"role": "assistant", "content": [{"text": SAID}]}],
        "toolConfig": {"tools": [{"toolSpec": {"name": "bay_of", "inputSchema": {"json": SCHEMA}}}]}},
        called("t1", tools=BARE)),
    Sample("anthropic", {"system": RULE, "messages": [
        USER,
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "I look.", "signature": "s"},
                                          {"type": "tool_use", "id": "toolu_1", "name": "bay_of", "input": ARGUMENTS}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "7"}]},
        {"role": "assistant", "content": [{"type": "text", "text": SAID}]}],
        "tools": [{"name": "bay_of", "input_schema": SCHEMA}]},
        called("toolu_1", "7", BARE, system=True), ("messages[].content[].thinking",)),
    Sample("anthropic", {"system": [{"type": "text", "text": RULE}], **CHAT}, RULED),
    Sample("anthropic", {"messages": [
        {"role": "user", "content": [{"type": "image", "source": {}}, {"type": "text", "text": ASKED}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "bay_of", "input": {}}]}]}, None),
    Sample("responses_parts", {"messages": [
        {"role": "user", "content": [{"type": "input_text", "text": ASKED}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": SAID, "annotations": []}]}]}, CHAT),
    Sample("cohere", {"messages": _messages(("System", RULE), ("User", ASKED), ("Chatbot", SAID))}, RULED),
)  # fmt: skip

RECORDS = (
    Sample("batch", {"custom_id": "r0", "body": {"model": "gpt-4o-mini", "messages": [SYSTEM, USER, ANSWER]}}, RULED,
           ("body.model", "custom_id")),
    Sample("batch", {"request": {"messages": [USER], "tools": [TOOL]},
                     "response": {"choices": [{"index": 0, "message": ANSWER}]}}, {**CHAT, "tools": [TOOL]}),
    Sample("batch", {"modelInput": {"system": RULE, "messages": [USER]},
                     "modelOutput": {"content": [{"type": "text", "text": SAID}]}}, RULED),
    Sample("batch", {"custom_id": "r0", "body": {"messages": [USER]}}, None),
    Sample("batch_output", {"custom_id": "r0", "response": {"body": {"choices": [{"message": ANSWER}]}}}, None),
    Sample("logged_chat", {"messages": [USER], "choices": [{"message": ANSWER}]}, CHAT),
    Sample("logged_chat", {"messages": [USER, ANSWER, USER], "choices": [{"message": ANSWER}]},
           {"messages": [USER, ANSWER, USER, ANSWER]}),
    Sample("logged_chat", {"messages": [USER], "choices": [{"message": ANSWER}, {"message": WORSE}]}, None),
    Sample("evals", {"input": [SYSTEM, USER], "ideal": SAID}, RULED),
    Sample("evals", {"input": ASKED, "ideal": [SAID], "id": 3}, CHAT, ("id",)),
    Sample("evals", {"input": ASKED, "ideal": [SAID, ILL]}, None),
    Sample("responses", {"instructions": RULE, "input": ASKED, "output": [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": SAID}]}]}, RULED),
    Sample("responses", {"input": [{"role": "user", "content": ASKED}], "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "c1", "name": "bay_of", "arguments": json.dumps(ARGUMENTS)},
        {"type": "function_call_output", "call_id": "c1", "output": '{"bay": 7}'},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": SAID}]}],
        "tools": [{"type": "function", **FUNCTION}]}, called("c1"), ("output[].summary",)),
    Sample("responses", {"input": ASKED, "output": [{"type": "web_search_call", "id": "ws_1"}]}, None),
    Sample("argilla_records", {"fields": {"prompt": ASKED}, "responses": [{"values": {"answer": SAID}}]}, None),
    Sample("langsmith", {"inputs": {"question": ASKED}, "outputs": {"answer": SAID}}, CHAT),
    Sample("langsmith", {"inputs": {"messages": [[
        {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "HumanMessage"],
         "kwargs": {"content": ASKED}}]]},
        "outputs": {"generations": [[{"message": {
            "lc": 1, "type": "constructor", "id": ["langchain", "AIMessage"], "kwargs": {"content": SAID}}}]]},
        "id": "r"}, CHAT, ("id",)),
    Sample("langsmith", {"inputs": {"a": 1, "b": 2}, "outputs": {"answer": SAID}}, None),
    Sample("langchain", {"messages": [{"type": "human", "data": {"content": ASKED, "additional_kwargs": {}}},
                                      {"type": "ai", "data": {"content": SAID}}]}, CHAT),
    Sample("langchain", {"messages": [
        {"type": "system", "content": RULE}, {"type": "human", "content": ASKED},
        {"type": "ai", "content": "", "tool_calls": [_LANGCHAIN_CALL], "id": "run-1"},
        {"type": "tool", "content": '{"bay": 7}', "tool_call_id": "call_1"}, {"type": "ai", "content": SAID}]},
        called(tools=None, system=True)),
    Sample("llama_index", {"messages": [
        {"role": "user", "additional_kwargs": {}, "blocks": [{"block_type": "text", "text": ASKED}]},
        {"role": "assistant", "additional_kwargs": {}, "blocks": [{"block_type": "text", "text": SAID}]}]}, CHAT),
    Sample("llama_index", {"messages": [{"role": "user", "blocks": [{"block_type": "image", "url": "a"}]}]}, None),
    Sample("loose_calls", {"messages": [
        USER, {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": _LOOSE}]},
        {"role": "tool", "name": "bay_of", "content": '{"bay": 7}'}, ANSWER], "tools": [TOOL]}, called()),
    Sample("loose_calls", {"messages": [
        USER, {"role": "assistant", "content": "", "tool_calls": [{"id": "D681PevKs", "function": _LOOSE}]},
        {"role": "tool", "tool_call_id": "D681PevKs", "content": '{"bay": 7}'}, ANSWER], "tools": [TOOL]},
        called("D681PevKs")),
)  # fmt: skip

LISTS = (
    Sample("sharegpt", {"conversations": _SHAREGPT, "system": RULE, "id": "a1"}, RULED, ("id",)),
    Sample("sharegpt", {"conversations": [
        *_SHAREGPT[:1], {"from": "function_call", "value": _JSON_CALL}, {"from": "observation", "value": '{"bay": 7}'},
        *_SHAREGPT[1:]], "tools": json.dumps([FUNCTION])}, called()),
    Sample("sharegpt", {"items": [*_SHAREGPT[:1], {"from": "gpt", "value": SAID, "train": False}, *_SHAREGPT]},
           {"messages": [USER, {**ANSWER, "weight": 0}, USER, ANSWER]}),
    Sample("sharegpt", {"conversations": [*_SHAREGPT, {"from": "observation", "value": "7"}]}, None),
    Sample("sharegpt", {"conversations": _SHAREGPT, "images": ["a.png"]}, None),
    Sample("conversation", {"conversations": [USER, ANSWER]}, CHAT),
    Sample("conversation", {"dialog": [SYSTEM, USER, ANSWER], "source": "web"}, RULED, ("source",)),
    Sample("authors", {"context": RULE, "messages": _messages(("user", ASKED), ("bot", SAID), role="author")}, RULED),
    Sample("authors", {"examples": [{"input": "a"}],
                       "messages": _messages(("user", ASKED), ("bot", SAID), role="author")}, None),
    Sample("roles", {"messages": [
        {"role": "human", "content": ASKED}, {"role": "function_call", "content": _JSON_CALL},
        {"role": "ipython", "content": '{"bay": 7}'}, {**ANSWER, "role": "gpt"}], "tools": [TOOL]}, called()),
    Sample("roles", {"messages": [USER, {"role": "function_call", "content": "{}"}, ANSWER]}, None),
    Sample("ultrachat", {"id": "7", "data": [ASKED, SAID]}, CHAT, ("id",)),
    Sample("marked_text", {"text": f"### Human: {ASKED}### Not a mark\n### Assistant: {SAID}"},
           {"messages": [{**USER, "content": f"{ASKED}### Not a mark"}, ANSWER]}),
    Sample("marked_text", {"text": f"### Human: {ASKED}### Assistant: {SAID}### Human: {ASKED}\n### Assistant: {SAID}"},
           {"messages": [USER, ANSWER, USER, ANSWER]}),
    Sample("marked_text", {"text": f"### User: {ASKED}### Assistant: {SAID}### User: {ASKED}\n### Assistant\n{SAID}"},
           {"messages": [USER, ANSWER, USER, ANSWER]}),
    Sample("plain_text", {"text": "Rows of guanaco: ### Human: a### Assistant: b"}, None),
    Sample("marked_text", {"text": f"Below is a task.\n\n### Instruction:\n{ASKED}\n\n### Input:\nBe short.\n\n"
                                   f"### Response:\n{SAID}", "id": 1},
           {"messages": [{"role": "system", "content": "Below is a task."},
                         {**USER, "content": f"{ASKED}\n\nBe short."}, ANSWER]}, ("id",)),
    Sample("marked_text", {"text": f"<|im_start|>system\n{RULE}<|im_end|>\n<|im_start|>user\n{ASKED}<|im_end|>\n"
                                   f"<|im_start|>assistant\n{SAID}<|im_end|>\n"}, RULED),
    Sample("marked_text", {"text": f"<s>[INST] <<SYS>>\n{RULE}\n<</SYS>>\n\n{ASKED} [/INST] {SAID} </s>"}, RULED),
    Sample("marked_text", {"text": _HH.format(ASKED, SAID)}, {"messages": [*_HH_INPUT, ANSWER]}),
    Sample("plain_text", {"text": "The depot has nine bays."}, None),
    Sample("segments", {"segments": [{"label": False, "text": "<s>"}, {"label": True, "text": "Hi"}]}, None),
)  # fmt: skip

QUESTIONS = (
    Sample("prompt_completion", {"id": 0, "prompt": ASKED, "completion": SAID, "tag": "crm"}, CHAT, ("id", "tag")),
    Sample("prompt_completion", {"prompt": [SYSTEM, USER], "completion": [ANSWER]}, RULED),
    Sample("prompt_completion", {"prompt": _HH.format(ASKED, ""), "completion": SAID},
           {"messages": [*_HH_INPUT, ANSWER]}),
    Sample("prompt_completion", {"prompt": ["a", "b"], "completion": ["c"]}, None),
    Sample("completion_alone", {"prompt": "", "completion": SAID}, {"messages": [ANSWER]}),
    Sample("alpaca", {"instruction": ASKED, "input": "", "output": SAID}, CHAT),
    Sample("alpaca", {"instruction": "Answer.", "context": ASKED, "response": SAID, "category": "qa", "system": RULE},
           {"messages": [SYSTEM, {**USER, "content": f"Answer.\n\n{ASKED}"}, ANSWER]}, ("category",)),
    Sample("alpaca", {"instruction": ASKED, "input": "", "output": SAID, "history": [["Hello", "Hi."]]},
           {"messages": [*_HH_INPUT, ANSWER]}),
    Sample("alpaca", {"instruction": ASKED, "output": SAID, "history": ["Hello"]}, None),
    Sample("question_answer", {"question": ASKED, "answer": SAID}, CHAT),
    Sample("question_answer", {"Question": ASKED, "Answer": SAID}, CHAT),
    Sample("question_answer", {"system": RULE, "query": ASKED, "response": SAID}, RULED),
    Sample("question_answer", {"id": "f", "system_prompt": RULE, "question": ASKED, "response": SAID}, RULED, ("id",)),
    Sample("question_answer", {"input_text": ASKED, "output_text": SAID}, CHAT),
    Sample("question_answer", {"prompt": ASKED, "response": SAID}, CHAT),
    Sample("question_answer", {"user": ASKED, "assistant": SAID, "source": "web"}, CHAT, ("source",)),
    Sample("question_answer", {"question": ASKED, "prompt": "Another?", "answer": SAID}, None),
    Sample("alpaca", {"instruction": "Be brief.", "query": ASKED, "response": SAID}, None),
    Sample("prompt_completion", {"prompt": "Write\n### Instruction:\n### Response:\n around it.", "completion": SAID},
           {"messages": [{**USER, "content": "Write\n### Instruction:\n### Response:\n around it."}, ANSWER]}),
    Sample("several_answers", {"instruction": ASKED, "completions": [{"response": SAID}, {"response": ILL}]}, None),
    Sample("prompt_alone", {"prompt": [USER], "reward_model": {"ground_truth": "7"}}, None),
)  # fmt: skip

PAIRS = (
    Sample("chosen_rejected", {"prompt": ASKED, "chosen": SAID, "rejected": ILL}, PAIR),
    Sample("chosen_rejected", {"prompt": [USER], "chosen": [ANSWER], "rejected": [WORSE], "id": 3}, PAIR, ("id",)),
    Sample("chosen_rejected", {"chosen": [USER, ANSWER], "rejected": [USER, WORSE]}, PAIR),
    Sample("chosen_rejected", {"prompt": ASKED, "chosen": [USER, ANSWER], "rejected": [USER, WORSE], "margin": 9.5},
           PAIR, ("margin",)),
    Sample("chosen_rejected", {"system": RULE, "question": ASKED, "chosen": SAID, "rejected": ILL},
           {**PAIR, "input": {"messages": [SYSTEM, USER]}}),
    Sample("chosen_rejected", {"system": [{**SYSTEM, "role": "user"}], "prompt": [USER], "chosen": [ANSWER],
                               "rejected": [{**WORSE, "role": "user"}]},
           {**PAIR, "input": {"messages": [SYSTEM, USER]}}),
    Sample("chosen_rejected", {"chosen": _HH.format(ASKED, SAID), "rejected": _HH.format(ASKED, ILL)},
           {**PAIR, "input": {"messages": _HH_INPUT}}),
    Sample("chosen_rejected", {"conversations": _SHAREGPT[:1], "chosen": {"from": "gpt", "value": SAID},
                               "rejected": {"from": "gpt", "value": ILL}}, PAIR),
    Sample("chosen_rejected", {"instruction": ASKED, "chosen_response": SAID, "rejected_response": ILL}, PAIR),
    Sample("chosen_rejected", {"prompt": "Which?", "chosen": [USER, ANSWER], "rejected": [USER, WORSE]}, None),
    Sample("chosen_rejected", {"chosen": SAID, "rejected": ILL}, None),
    Sample("chosen_rejected", {"prompt": ASKED, "chosen": _HH.format("a", "b"), "rejected": ILL},
           {**PAIR, "preferred_output": [{**ANSWER, "content": _HH.format("a", "b")}]}),
    Sample("answer_and_rejected", {**CHAT, "rejected_response": ILL}, PAIR),
    Sample("answer_and_rejected", {**CHAT, "rejected_message": WORSE, "tools": [TOOL]},
           {**PAIR, "input": {"messages": [USER], "tools": [TOOL]}}),
    Sample("text_outputs", {**PAIR, "preferred_output": SAID, "non_preferred_output": ILL}, PAIR),
    Sample("text_outputs", {"input": ASKED, "preferred_output": [ANSWER], "non_preferred_output": WORSE}, PAIR),
    Sample("compared_responses", {"prompt": ASKED, "response_0": ILL, "response_1": SAID, "better_response_id": 1},
           PAIR),
    Sample("kto", {"prompt": ASKED, "completion": SAID, "label": True}, CHAT),
    Sample("kto", {"prompt": [USER], "completion": [WORSE], "label": False}, None),
    Sample("kto", {"conversations": _SHAREGPT, "kto_tag": True}, CHAT),
    Sample("kto", {**CHAT, "label": True}, CHAT),
    Sample("kto", {**CHAT, "label": False}, None),
)  # fmt: skip

SAMPLES = (*VENDORS, *RECORDS, *LISTS, *QUESTIONS, *PAIRS)
