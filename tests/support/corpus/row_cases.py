"""Faults of a row: keys, roles, order, weights, contents."""

import json

from corpus.case import ANSWER, GOOD, USER, Case, error, lines, row, turns, warning
from luthier.core.states import Ability

_SYSTEM = {"role": "system", "content": "Be brief."}
_TEXT = {"type": "text", "text": "Jupiter."}
_MANY = 150

_KEYS = (
    row("prompt_and_completion", {"prompt": "Largest planet?", "completion": "Jupiter."}, error("prompt_completion_row")),
    row("preference_pair", {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [ANSWER]},
        error("preference_row")),
    row("preference_pair_spelled_otherwise", {"preferred_completion": [ANSWER], "non_preferred_completion": [ANSWER]},
        error("preference_row")),
    row("labelled_answer", {"prompt": "Largest planet?", "completion": "Jupiter.", "label": False}, error("labelled_row")),
    row("pair_of_another_library", {"prompt": "Largest planet?", "chosen": "Jupiter.", "rejected": "The Moon."},
        error("preference_row")),
    row("instruction_and_output", {"instruction": "Largest planet?", "output": "Jupiter."}, error("other_format")),
    row("text_alone", {"text": "Jupiter is the largest planet."}, error("other_format")),
    turns("answer_in_parts_of_another_api", [USER, {"role": "assistant", "content": [{"type": "output_text", "text": 3}]}],
          error("other_format")),
    turns("answer_in_parts_of_several_apis", [USER, {"role": "assistant", "content": [_TEXT, {"type": "server_tool_use"}]}],
          error("invalid_content_part", "messages[1].content[1].type")),
    turns("answer_in_one_part_that_is_not_read", [USER, {"role": "assistant", "content": [{"type": "video"}]}],
          error("invalid_content_part", "messages[1].content[0].type")),
    row("no_messages", {"source": "web"}, error("missing_messages", "messages")),
    row("empty_object", {}, error("missing_messages", "messages")),
    row("messages_misspelled", {"mesages": [USER, ANSWER]}, error("missing_messages", "messages")),
    row("messages_in_capitals", {"Messages": [USER, ANSWER]}, error("missing_messages", "messages")),
    row("messages_null", {"messages": None}, error("invalid_messages", "messages")),
    row("messages_a_string", {"messages": "Hi"}, error("invalid_messages", "messages")),
    row("messages_a_text_of_json", {"messages": json.dumps([USER, ANSWER])}, error("encoded_twice", "messages")),
    row("messages_a_text_of_python", {"messages": str([USER, ANSWER])}, error("encoded_twice", "messages")),
    row("messages_texts_of_json", {"messages": [json.dumps(USER), json.dumps(ANSWER)]},
        error("encoded_twice", "messages")),
    row("tools_a_text_of_json", {"messages": [USER, ANSWER], "tools": '[{"type": "function"}]'},
        error("encoded_twice", "tools")),
    row("messages_an_object", {"messages": USER}, error("invalid_messages", "messages")),
    turns("messages_empty", [], error("invalid_messages", "messages")),
    turns("unknown_key_of_the_row", [USER, ANSWER], warning("unknown_key", "{1}"), source="web"),
    turns("tools_misspelled", [USER, ANSWER], error("unknown_key", "{1}"), tols=[]),
    turns("unknown_key_of_a_message", [{**USER, "date": 3}, ANSWER], warning("unknown_key", "messages[0]{2}")),
    turns("weight_misspelled", [USER, {**ANSWER, "wieght": 0}], error("unknown_key", "messages[1]{2}")),
    turns("role_in_capitals_beside_role", [USER, {**ANSWER, "Role": "user"}], warning("unknown_key", "messages[1]{2}")),
    turns("unknown_keys_beyond_count", [USER, {**ANSWER, **{f"k{index}": 1 for index in range(_MANY)}}],
          *(warning("unknown_key", f"messages[1]{{{2 + index}}}") for index in range(100)), warning("more_problems")),
    turns("errors_beyond_count", [USER, *[3] * _MANY, ANSWER],
          *(error("invalid_message", f"messages[{1 + index}]") for index in range(100)), error("more_problems")),
)  # fmt: skip

_ROLES = (
    turns("message_a_number", [USER, 3, ANSWER], error("invalid_message", "messages[1]")),
    turns("message_null", [USER, None, ANSWER], error("invalid_message", "messages[1]")),
    turns("message_a_string", [USER, "Jupiter."], error("invalid_message", "messages[1]")),
    turns("role_missing", [{"content": "Hi"}, ANSWER], error("invalid_role", "messages[0].role")),
    turns("role_null", [{"role": None, "content": "Hi"}, ANSWER], error("invalid_role", "messages[0].role")),
    turns("role_a_number", [{"role": 3, "content": "Hi"}, ANSWER], error("invalid_role", "messages[0].role")),
    turns("role_misspelled", [USER, {"role": "asistant", "content": "Hi"}], error("invalid_role", "messages[1].role")),
    turns("role_in_capitals", [{"role": "User", "content": "Hi"}, ANSWER], error("other_format")),
    turns("role_of_others", [{"role": "human", "content": "Hi"}, {"role": "gpt", "content": "Hi"}], error("other_format")),
    turns("role_of_others_beside_a_slip", [{"role": "human", "content": "Hi"}, {"role": "asistant", "content": "Hi"}],
          error("invalid_role", "messages[0].role"), error("invalid_role", "messages[1].role")),
    turns("keys_of_others", [{"from": "human", "value": "Hi"}, ANSWER], warning("unknown_key", "messages[0]{0}"),
          warning("unknown_key", "messages[0]{1}"), error("invalid_role", "messages[0].role")),
    turns("name_a_number", [{**USER, "name": 3}, ANSWER], error("invalid_name", "messages[0].name")),
)  # fmt: skip

_ORDER = (
    turns("no_answer", [_SYSTEM, USER], error("no_assistant_message", "messages")),
    turns("answers_in_a_row", [USER, ANSWER, ANSWER], error("consecutive_assistant_messages", "messages[2].role")),
    turns("three_answers_in_a_row", [USER, ANSWER, ANSWER, ANSWER],
          error("consecutive_assistant_messages", "messages[2].role"),
          error("consecutive_assistant_messages", "messages[3].role")),
    turns("ends_with_the_user", [USER, ANSWER, USER], warning("trailing_turn", "messages[2]")),
    turns("system_in_the_middle", [USER, ANSWER, _SYSTEM, USER, ANSWER], warning("late_system_message", "messages[2].role")),
    turns("developer_last", [USER, ANSWER, {"role": "developer", "content": "Be brief."}],
          warning("late_system_message", "messages[2].role"), warning("trailing_turn", "messages[2]")),
)  # fmt: skip

_WEIGHTS = (
    turns("weight_half", [USER, {**ANSWER, "weight": 0.5}], error("invalid_weight", "messages[1].weight")),
    turns("weight_two", [USER, {**ANSWER, "weight": 2}], error("invalid_weight", "messages[1].weight")),
    turns("weight_true", [USER, {**ANSWER, "weight": True}], error("invalid_weight", "messages[1].weight")),
    turns("weight_a_string", [USER, {**ANSWER, "weight": "1"}], error("invalid_weight", "messages[1].weight")),
    turns("weight_an_array", [USER, {**ANSWER, "weight": [1]}], error("invalid_weight", "messages[1].weight")),
    turns("weight_on_a_user", [{**USER, "weight": 1}, ANSWER], error("misplaced_weight", "messages[0].weight")),
    turns("weight_zero_on_a_system", [{**_SYSTEM, "weight": 0}, USER, ANSWER],
          error("misplaced_weight", "messages[0].weight")),
    turns("all_weights_zero", [USER, {**ANSWER, "weight": 0}], error("nothing_to_learn", "messages")),
)  # fmt: skip

_CONTENTS = (
    turns("content_missing", [{"role": "user"}, ANSWER], error("invalid_content", "messages[0].content")),
    turns("content_null", [{"role": "user", "content": None}, ANSWER], error("invalid_content", "messages[0].content")),
    turns("answer_null", [USER, {"role": "assistant", "content": None}], error("invalid_content", "messages[1].content")),
    turns("content_a_number", [{"role": "user", "content": 3}, ANSWER], error("invalid_content", "messages[0].content")),
    turns("content_an_object", [{"role": "user", "content": _TEXT}, ANSWER], error("invalid_content", "messages[0].content")),
    turns("content_an_empty_array", [{"role": "user", "content": []}, ANSWER],
          error("invalid_content", "messages[0].content")),
    turns("part_a_string", [{"role": "user", "content": ["Hi"]}, ANSWER],
          error("invalid_content_part", "messages[0].content[0]")),
    turns("part_without_type", [{"role": "user", "content": [{"text": "Hi"}]}, ANSWER],
          error("invalid_content_part", "messages[0].content[0]")),
    turns("part_of_unknown_type", [{"role": "user", "content": [_TEXT, {"type": "video"}]}, ANSWER],
          error("invalid_content_part", "messages[0].content[1].type")),
    turns("part_without_text", [{"role": "user", "content": [{"type": "text"}]}, ANSWER],
          error("invalid_content_part", "messages[0].content[0].text")),
    turns("part_with_text_a_number", [{"role": "user", "content": [{"type": "text", "text": 3}]}, ANSWER],
          error("invalid_content_part", "messages[0].content[0].text")),
    turns("part_with_unknown_key", [{"role": "user", "content": [{**_TEXT, "cache_control": {}}]}, ANSWER],
          warning("unknown_key", "messages[0].content[0]{2}")),
    turns("refusal_part_of_a_user", [{"role": "user", "content": [{"type": "refusal", "refusal": "No."}]}, ANSWER],
          error("invalid_content_part", "messages[0].content[0].type")),
    turns("audio_part", [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, ANSWER],
          error("unsupported_content_part", "messages[0].content[0]")),
    turns("file_part", [{"role": "user", "content": [{"type": "file", "file": {}}]}, ANSWER],
          error("unsupported_content_part", "messages[0].content[0]")),
    turns("spoken_answer", [USER, {"role": "assistant", "content": "Hi", "audio": {"id": "a"}}],
          error("audio_not_supported", "messages[1].audio")),
    turns("refusal_a_number", [USER, {"role": "assistant", "refusal": 3}], error("invalid_content", "messages[1].refusal")),
    turns("refusal_beside_content", [USER, {**ANSWER, "refusal": "No."}], warning("ignored_refusal", "messages[1].refusal")),
    turns("refusal_of_a_user", [{**USER, "refusal": "No."}, ANSWER], warning("misplaced_key", "messages[0].refusal")),
    turns("call_id_of_a_user", [{**USER, "tool_call_id": "c"}, ANSWER], warning("misplaced_key", "messages[0].tool_call_id")),
    turns("empty_answer", [USER, {"role": "assistant", "content": ""}], warning("empty_answer", "messages[1].content")),
    turns("answer_of_blanks", [USER, {"role": "assistant", "content": " \n"}], warning("empty_answer", "messages[1].content")),
    turns("answer_of_empty_parts", [USER, {"role": "assistant", "content": [{"type": "text", "text": ""}]}],
          warning("empty_answer", "messages[1].content")),
    turns("everything_at_once", [{"role": "usr"}, {**ANSWER, "weight": 2}, {"role": "user"}, ANSWER, ANSWER],
          error("invalid_role", "messages[0].role"), error("invalid_weight", "messages[1].weight"),
          error("invalid_content", "messages[2].content"), error("consecutive_assistant_messages", "messages[4].role")),
)  # fmt: skip

_ROWS = Case(
    "every_row_faulty",
    lines(*[{"messages": []}] * 3, GOOD),
    tuple(error("invalid_messages", "messages", line) for line in (1, 2, 3)),
)
CASES = (*_KEYS, *_ROLES, *_ORDER, *_WEIGHTS, *_CONTENTS, _ROWS)

CLEAN = (
    turns("all_roles", [_SYSTEM, USER, {**ANSWER, "weight": 0}, {**USER, "name": "Ada"}, {**ANSWER, "weight": 1}]),
    turns("weight_as_a_real", [USER, {**ANSWER, "weight": 1.0}]),
    turns("parts_of_text", [{"role": "user", "content": [_TEXT, _TEXT]}, {"role": "assistant", "content": [_TEXT]}]),
    turns("refusal_as_the_answer", [USER, {"role": "assistant", "content": None, "refusal": "No."}]),
    turns("refusal_part", [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]),
    turns("nulls_for_what_is_absent", [{**USER, "name": None, "weight": None}, {**ANSWER, "tool_calls": None}]),
    turns("greeting_first", [ANSWER, USER, ANSWER]),
    turns("empty_tools", [USER, ANSWER], tools=[], abilities=frozenset()),
    turns("vision_model_without_images", [USER, ANSWER], abilities=frozenset({Ability.VISION})),
)
