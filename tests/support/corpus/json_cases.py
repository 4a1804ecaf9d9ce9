"""Faults of JSON: what cannot be read on, and what can be read and would lose data."""

import json

from corpus.case import GOOD, Case, broken, error, warning

_TEXT = GOOD.decode()
_OPEN = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": '
_DEEP = '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"


def _weight(id: str, literal: str, code: str, path: str = "messages[1].weight") -> Case:
    return broken(id, _TEXT.replace('"Jupiter."', f'"Jupiter.", "weight": {literal}'), error(code, path))


_UNREADABLE = (
    broken("trailing_comma_in_array", _TEXT.replace("}]", "},]"), error("trailing_comma", "messages")),
    broken("trailing_comma_in_object", _TEXT.replace("}]", ",}]"), error("trailing_comma", "messages[1]")),
    broken("trailing_comma_after_the_row", _TEXT + ",", error("trailing_comma")),
    broken("single_quotes", _TEXT.replace('"', "'"), error("single_quotes")),
    broken("single_quotes_for_a_value", _TEXT.replace('"Jupiter."', "'Jupiter.'"),
           error("single_quotes", "messages[1].content")),
    broken("comment_behind_slashes", _TEXT + " // the first row", error("json_comment")),
    broken("comment_in_the_row", _TEXT.replace("[", "[ /* turns */ "), error("json_comment", "messages[0]")),
    broken("comment_line", "# rows of May", error("json_comment")),
    broken("two_objects", _TEXT + _TEXT, error("several_objects")),
    broken("two_objects_with_blank", _TEXT + " " + _TEXT, error("several_objects")),
    broken("object_and_array", _TEXT + "[]", error("several_objects")),
    broken("word_behind_the_row", _TEXT + " ok", error("invalid_json")),
    broken("bracket_too_many", _TEXT + "}", error("invalid_json")),
    broken("bracket_missing", _TEXT[:-1], error("truncated_json")),
    broken("wrong_bracket", _TEXT[:-2] + "}}", error("invalid_json", "messages")),
    broken("ends_behind_a_colon", '{"messages":', error("truncated_json", "messages")),
    broken("ends_behind_a_key", '{"messages"', error("truncated_json", "messages")),
    broken("ends_behind_a_comma", '{"messages": [],', error("truncated_json")),
    broken("open_string", '{"messages": "Hi', error("truncated_json", "messages")),
    broken("comma_missing", _TEXT.replace("}, {", "} {"), error("invalid_json", "messages")),
    broken("colon_missing", _TEXT.replace('"messages":', '"messages"'), error("invalid_json", "messages")),
    broken("quote_without_backslash", _OPEN + '"the "red" one"}]}', error("invalid_json", "messages[1]")),
    broken("key_without_quotes", '{messages: []}', error("invalid_json")),
    broken("number_as_key", '{1: []}', error("invalid_json")),
    broken("value_missing", '{"messages": }', error("invalid_json", "messages")),
    broken("two_commas", '{"messages": [1,,2]}', error("invalid_json", "messages")),
    broken("none_of_python", _OPEN + "None}]}", error("invalid_json", "messages[1].content")),
    broken("true_of_python", '{"messages": True}', error("invalid_json", "messages")),
    broken("undefined_of_javascript", _OPEN + "undefined}]}", error("invalid_json", "messages[1].content")),
    broken("word_without_quotes", _OPEN + "Hello}]}", error("invalid_json", "messages[1].content")),
    broken("typographic_quotes", '{\u201cmessages\u201d: []}', error("invalid_json")),
    broken("raw_tab_in_a_string", _TEXT.replace("Jup", "Jup\t"), error("invalid_json", "messages[1].content")),
    broken("raw_escape_character", _TEXT.replace("Jup", "Jup\x1b[0m"), error("invalid_json", "messages[1].content")),
    broken("control_character_between", _TEXT.replace(", ", ",\x0b"), error("invalid_json", "messages[0]")),
    broken("unknown_escape", _TEXT.replace("Jup", "Jup\\x41"), error("invalid_json", "messages[1].content")),
    broken("backslash_of_windows", _TEXT.replace("Jup", "C:\\Jup"), error("invalid_json", "messages[1].content")),
    broken("short_unicode_escape", _TEXT.replace("Jup", "Jup\\u12"), error("invalid_json", "messages[1].content")),
    _weight("leading_zero", "01", "invalid_json"),
    _weight("plus_sign", "+1", "invalid_json"),
    _weight("point_first", ".5", "invalid_json"),
    _weight("point_last", "1.", "invalid_json"),
    _weight("hexadecimal", "0x1", "invalid_json"),
    _weight("two_points", "1.0.0", "invalid_json"),
    broken("nested_too_deeply", _DEEP, error("nested_too_deeply", "{0}[0][0][0]")),
    broken("too_many_values", '{"a":[' + "[]," * 400_000 + "[]]}", error("too_many_values", "{0}[199998]")),
    broken("prose", "Once upon a time", error("invalid_json")),
    broken("no_value_at_all", "=", error("invalid_json")),
)  # fmt: skip

_READABLE = (
    broken("array", "[1]", error("not_an_object")),
    broken("string", '"messages"', error("not_an_object")),
    broken("text_of_a_row", json.dumps(_TEXT), error("encoded_twice")),
    broken("text_of_a_python_row", json.dumps(_TEXT.replace('"', "'")), error("encoded_twice")),
    broken("array_of_messages", json.dumps(json.loads(_TEXT)["messages"]), error("not_an_object")),
    broken("number", "3", error("not_an_object")),
    broken("null", "null", error("not_an_object")),
    broken("true", "true", error("not_an_object")),
    broken("key_twice_in_the_row", _TEXT[:-1] + ', "messages": []}', error("duplicate_key", "messages"),
           error("invalid_messages", "messages")),
    broken("key_twice_in_a_message", _TEXT.replace('"role": "user"', '"role": "user", "role": "user"'),
           error("duplicate_key", "messages[0].role")),
    broken("key_twice_by_an_escape", _TEXT.replace('"role": "user"', '"role": "user", "r\\u006fle": "user"'),
           error("duplicate_key", "messages[0].role")),
    broken("unknown_key_twice", _TEXT[:-1] + ', "source": 1, "source": 2}', error("duplicate_key", "{1}"),
           warning("unknown_key", "{1}")),
    broken("two_keys_twice", _TEXT.replace('"content": ', '"content": "", "content": '),
           error("duplicate_key", "messages[0].content"), error("duplicate_key", "messages[1].content")),
    broken("nan_as_weight", _TEXT.replace('"Jupiter."', '"Jupiter.", "weight": NaN'), error("nan", "messages[1].weight")),
    broken("infinity", _TEXT[:-1] + ', "tools": -Infinity}', error("nan", "tools")),
    broken("number_beyond_a_double", _TEXT[:-1] + ', "tools": 1e400}', error("huge_number", "tools")),
    broken("number_of_thousands_of_digits", _TEXT[:-1] + ', "tools": ' + "9" * 10_000 + "}", error("huge_number", "tools")),
    broken("half_a_pair_in_a_value", _TEXT.replace("Jup", "Jup\\ud83d"), error("invalid_text", "messages[1].content")),
    broken("second_half_alone", _TEXT.replace("Jup", "\\uDE00Jup"), error("invalid_text", "messages[1].content")),
    broken("halves_in_the_wrong_order", _TEXT.replace("Jup", "\\ude00\\ud83d"), error("invalid_text", "messages[1].content")),
    broken("several_faults_of_a_row", _TEXT.replace("Jup", "\\ud83d")[:-1] + ', "tools": NaN, "tools": []}',
           error("invalid_text", "messages[1].content"), error("nan", "tools"), error("duplicate_key", "tools")),
)  # fmt: skip

CASES = (*_UNREADABLE, *_READABLE)

CLEAN = (
    broken("whole_pair", _TEXT.replace("Jup", "\\ud83d\\ude00")),
    broken("blanks_between", _TEXT.replace(",", " ,\t").replace(":", " : ") + "  "),
    broken("long_number_in_a_string", _TEXT.replace("Jup", "9" * 5000)),
    broken("words_of_javascript_in_a_string", _TEXT.replace("Jup", "NaN // , } ] ' {")),
    broken("mark_in_a_string", _TEXT.replace("Jup", "\ufeffJup")),
    broken("quotes_in_a_string", _TEXT.replace("Jup", '\\"role\\": \\\\\\"')),
)
