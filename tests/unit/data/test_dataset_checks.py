"""What only shows when rows are seen together: each planted fault is found, and what is close to one is left alone."""

import json
from typing import Any

import pytest

from luthier.core.states import Ability, Method
from luthier.data.checks import secret_scan, system_prompts, validate
from luthier.data.checks.dataset_checks import DatasetChecks
from luthier.data.checks.duplicates import PromptIndex
from luthier.data.problems import problem_tally

WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "inlet",
    "jetty",
    "kayak",
    "larch",
    "maple",
    "north",
    "ocean",
    "pearl",
    "quartz",
]


def row(question: str, answer: str, system: str | None = None, **more: Any) -> dict[str, Any]:
    first = [] if system is None else [{"role": "system", "content": system}]
    user, assistant = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
    return {"messages": [*first, user, assistant], **more}


def plain(count: int, system: str | None = None) -> list[dict[str, Any]]:
    return [row(f"What about {WORDS[n % 17]} number {n}?", f"{WORDS[n % 13]} it is.", system) for n in range(count)]


def check(rows: list[dict[str, Any]], training: PromptIndex | None = None) -> tuple[validate.Report, DatasetChecks]:
    whole = DatasetChecks(training)
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    return validate.check_file([content], frozenset({Ability.TOOLS}), 1, observers=[whole]), whole


def found(rows: list[dict[str, Any]], training: PromptIndex | None = None) -> list[tuple[int | None, str]]:
    report, _ = check(rows, training)
    assert report.n_errors == 0
    return [(problem.line, problem.code) for problem in report.problems]


def message_of(rows: list[dict[str, Any]]) -> str:
    (problem,) = check(rows)[0].problems
    return problem.sentence()


def test_same_row_again_names_the_first_line() -> None:
    rows = [*plain(12), row("Again?", "Yes."), row("Again?", "Yes."), row("Again?", "Yes.")]
    assert found(rows) == [(14, "duplicate_example"), (15, "duplicate_example")]
    assert "same as line 13" in message_of(rows[:14])


def test_other_answer_to_the_same_prompt_is_a_contradiction_and_its_repeat_a_duplicate() -> None:
    rows = [row("Tea?", "Yes."), *plain(10), row("Tea?", "No."), row("Tea?", "No.")]
    assert found(rows) == [(12, "contradictory_answer"), (13, "duplicate_example")]


def test_same_question_under_another_system_prompt_or_with_other_tools_is_another_prompt() -> None:
    tool = {"type": "function", "function": {"name": "brew", "parameters": {}}}
    assert found([row("Tea?", "Yes."), row("Tea?", "No.", "Be a cat."), row("Tea?", "No.", tools=[tool])]) == []


def test_same_opening_of_longer_conversations_is_no_repeat() -> None:
    def talk(last: str) -> dict[str, Any]:
        turns = ("user", "Hi"), ("assistant", "Hello"), ("user", last), ("assistant", f"About {last}.")
        return {"messages": [{"role": role, "content": text} for role, text in turns]}

    assert found([talk(word) for word in WORDS]) == []


def test_validation_row_that_is_trained_on_is_told_with_its_training_line() -> None:
    _, training = check([*plain(10), row("Tea?", "Yes."), row("Milk?", "Yes.")])
    rows = [row("Tea?", "Yes."), row("Milk?", "No."), row("Sugar?", "No.")]
    assert found(rows, training.prompts) == [(1, "leaked_example"), (2, "leaked_prompt")]
    report, _ = check(rows, training.prompts)
    assert ["line 11" in report.problems[0].message, "line 12" in report.problems[1].message] == [True, True]


SYSTEM = "You are a patient clerk who answers letters."


@pytest.mark.parametrize(
    "odd", [SYSTEM + " ", SYSTEM.replace("patient", "patinet"), SYSTEM.replace("Y", "y"), SYSTEM[:-1]]
)
def test_system_prompt_that_is_off_by_a_little_is_found(odd: str) -> None:
    rows = [*plain(20, SYSTEM), row("Else?", "No.", odd), row("More?", "No.", odd)]
    assert found(rows) == [(21, "odd_system_prompt")]
    assert "of this row and of 1 more" in message_of(rows)
    assert "20 others, the first of them line 1" in message_of(rows)


@pytest.mark.parametrize("other", ["You are a stern judge who reads letters.", None, "", SYSTEM + " Be brief."])
def test_system_prompt_of_its_own_is_left_alone(other: str | None) -> None:
    assert found([*plain(20, SYSTEM), row("Else?", "No.", other)]) == []


def test_two_system_prompts_in_like_use_are_meant() -> None:
    rows = [*plain(20, SYSTEM), *(row(f"Else {n}?", f"No {n}.", SYSTEM[:-1] + "!") for n in range(10))]
    assert found(rows) == []


def test_short_system_prompts_that_differ_in_a_letter_are_meant() -> None:
    assert found([*plain(20, "Grade: A"), row("Else?", "No.", "Grade: B")]) == []


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [
        ("", "", 0),
        ("abc", "abc", 0),
        ("abc", "abd", 1),
        ("abc", "ab", 1),
        ("abc", "xabc", 1),
        ("abcdef", "badcef", 3),
        ("kitten", "sitting", 3),
        ("aXbYc", "abc", 2),
        ("abc", "", 3),
        ("abcdef", "ghijkl", None),
    ],
)
def test_distance_counts_the_edits_up_to_three(one: str, other: str, edits: int | None) -> None:
    assert system_prompts.edit_distance(one, other, 3) == edits
    assert system_prompts.edit_distance(other, one, 3) == edits


def test_row_that_outweighs_the_file_is_told() -> None:
    rows = [*plain(30), row("Tell me all.", "word " * 3000)]
    assert found(rows) == [(31, "uneven_lengths")]
    assert "15,012 characters" in message_of(rows)
    assert found([*plain(30), row("Tell me all.", "word " * 300)]) == []  # long, and still small
    assert found([*plain(300), *(row(f"Tell {n}.", f"word {n} " * 900) for n in range(20))]) == []  # one of many such


def test_few_answers_in_another_script_are_told_with_their_lines() -> None:
    rows = [*plain(60), row("Capital?", "Это город Москва."), row("Sea?", "Чёрное море.")]
    assert found(rows) == [(61, "other_script")]
    assert "2 answers (lines 61, 62) are written in Cyrillic letters" in message_of(rows)


@pytest.mark.parametrize(
    "answer",
    [
        "Café, naïveté, Łódź and smørrebrød.",
        "The angle α is 30° → β = 60°.",
        "Yes 👍👍👍👍",
        "12 + 30 = 42",
        "Straße: “gut”",
    ],
)
def test_latin_answers_with_other_signs_are_no_strays(answer: str) -> None:
    assert found([*plain(60), row("Well?", answer)]) == []


def test_file_in_two_scripts_and_one_in_japanese_are_meant() -> None:
    assert found([*plain(60), *(row(f"Слово {n}?", f"Это слово {n}.") for n in range(10))]) == []
    kana, kanji = "ひらがなとカタカナです", "漢字漢字漢字"
    assert found([row(f"{n}?", f"{kana if n % 30 else kanji}{n}") for n in range(60)]) == []


KEYS = {
    "AWS Access Key": "AKIA" + "J7QXEMPLARTEST42",
    "GitHub Token": "ghp_" + "a1B2c3D4e5F6" * 3,
    "Private Key": "-----BEGIN RSA PRIVATE KEY-----\\nMIIEowIBAAKCAQEA7v5",
    "Slack Token": "xoxb-" + "123456789012-1234567890123-abcdefghijklmnopqrstuvwx",
    "Stripe Access Key": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "Basic Auth Credentials": "https://clerk:hunter2secret@intranet.host/path",
    "OpenAI Token": "sk-" + "Ab3" * 7 + "T3BlbkFJ" + "Ab3" * 7,
}


@pytest.mark.parametrize("kind", KEYS)
def test_secret_is_told_by_its_kind_and_never_repeated(kind: str) -> None:
    rows = [*plain(12), row("What is the key?", f"It is {KEYS[kind]} today.")]
    report, _ = check(rows)
    told = [problem for problem in report.problems if problem.code == "secret"]
    assert [(problem.line, problem.path) for problem in told] == [(13, "messages[1].content")]
    assert kind in told[0].message
    assert KEYS[kind][8:] not in told[0].sentence()


@pytest.mark.parametrize(
    "text",
    [
        "The key is under the mat, and the password is sesame.",
        "AKIA is the prefix of such keys.",
        "0123456789abcdef0123456789abcdef01234567 is the commit.",
        "id 123e4567-e89b-12d3-a456-426614174000",
        "See https://en.wikipedia.org/wiki/Donaudampfschifffahrtsgesellschaftskapitaen?x=1",
        "x" * 200,
        "call_SuperLongIdentifier0123456789",
    ],
)
def test_text_that_only_resembles_a_secret_is_left_alone(text: str) -> None:
    assert found([*plain(12), row("What?", text)]) == []


def test_address_is_told_and_one_for_examples_is_not() -> None:
    rows = [*plain(12), row("Whom do I ask?", "Write to jo.doe@firm.co.uk."), row("And mail to me@home.de?", "Yes.")]
    report, _ = check(rows)
    assert [(one.line, one.path, one.code) for one in report.problems] == [
        (13, "messages[1].content", "email_address"),
        (14, "messages[0].content", "email_address"),
    ]
    assert "firm" not in report.problems[0].sentence()
    for text in ("jo@example.com", "a@b.example", "x @ y.com", "@handle", "5@3", "user@localhost", "matrix A@B.T"):
        assert found([*plain(12), row("Whom?", f"Ask {text}, please")]) == [], text


def test_secret_in_the_arguments_of_a_call_is_found() -> None:
    arguments = json.dumps({"k": KEYS["GitHub Token"]})
    call = {"id": "c", "type": "function", "function": {"name": "put", "arguments": arguments}}
    turns = [{"role": "user", "content": "Put it."}, {"role": "assistant", "tool_calls": [call]}]
    tools = [{"type": "function", "function": {"name": "put"}}]
    assert found([*plain(12), {"messages": turns, "tools": tools}]) == [(13, "secret")]


def test_detectors_are_all_there() -> None:
    assert len(secret_scan._detectors()) == len(secret_scan._MODULES)


def test_statistics_are_those_of_the_rows() -> None:
    _, whole = check([row("ab", "cdef", "sys"), row("abc", "d"), row("", "Это да")])
    told = whole.statistics()
    assert (told.messages, told.rows_with_system, told.rows_with_tools) == (7, 1, 0)
    assert (told.characters.total, told.characters.longest, told.characters.longest_line) == (19, 9, 1)
    assert (told.answer_characters.total, told.answer_characters.median) == (11, 4)
    assert told.scripts == {"latin": 2, "cyrillic": 1}


def test_rows_are_counted_as_bad_warned_or_good_and_errors_are_listed_behind_many_warnings() -> None:
    rows = [json.dumps(row("Tea?", "Yes.")).encode()] * 1200 + [b"{", json.dumps(row("Milk?", "Yes.")).encode()]
    report = validate.check_file([b"\n".join(rows)], frozenset(), 1, observers=[DatasetChecks()])
    assert (report.n_rows, report.bad_rows, report.warned_rows) == (1202, 1, 1199)
    assert report.n_warnings == 1199
    assert [problem.line for problem in report.problems if problem.code == "truncated_json"] == [1201]


@pytest.mark.parametrize(("shown", "words"), [(None, "most base models"), (False, "this base model"), (True, "")])
def test_names_that_a_template_does_not_show_are_told(shown: bool | None, words: str) -> None:
    messages = [{"role": "user", "content": "Hi", "name": "Ines"}, {"role": "assistant", "content": "Hello"}]
    calling = {"type": "function", "function": {"name": "f"}}
    rows = [json.dumps({"messages": messages}), json.dumps({"messages": [{**messages[0], "name": None}, messages[1]]})]
    content = "\n".join(
        [*rows, json.dumps({"messages": [{"role": "user", "content": "Ha"}, messages[1]], "tools": [calling]})]
    )
    report = validate.check_file([content.encode()], None, 1, observers=[DatasetChecks(shows_names=shown)])
    told = [(one.line, one.path, one.code) for one in report.problems if one.code == "name_not_shown"]
    assert told == ([(1, "messages[0].name", "name_not_shown")] if words else [])
    assert not any("Ines" in one.message for one in report.problems)
    assert all(words in one.message for one in report.problems if one.code == "name_not_shown")


def pair(question: str, better: str, worse: str) -> dict[str, Any]:
    outputs = ([{"role": "assistant", "content": text}] for text in (better, worse))
    keys = ("preferred_output", "non_preferred_output")
    return {"input": {"messages": [{"role": "user", "content": question}]}, **dict(zip(keys, outputs, strict=True))}


def found_pairs(rows: list[dict[str, Any]], training: PromptIndex | None = None) -> tuple[list[Any], DatasetChecks]:
    whole = DatasetChecks(training)
    content = "\n".join(map(json.dumps, rows)).encode()
    report = validate.check_file([content], frozenset(), 1, Method.DPO, [whole])
    return [(problem.line, problem.path, problem.code) for problem in report.problems], whole


def test_pairs_twice_or_both_ways_round_are_told_and_other_pairs_of_one_prompt_are_not() -> None:
    rows = [pair("Tea?", "Yes.", "No."), pair("Tea?", "Yes.", "Maybe."), pair("Tea?", "No.", "Yes.")]
    told, _ = found_pairs([*rows, pair("Tea?", "Yes.", "No."), pair("Milk?", "No.", "a@firm.de")])
    assert told == [
        (3, "", "contradictory_preference"),
        (4, "", "duplicate_example"),
        (5, "non_preferred_output[0].content", "email_address"),
    ]


def test_pair_of_the_validation_file_that_is_trained_on_is_told() -> None:
    _, training = found_pairs([pair("Tea?", "Yes.", "No."), pair("Tea?", "Yes.", "Maybe.")])
    rows = [pair("Tea?", "Yes.", "Maybe."), pair("Tea?", "Yes.", "Never."), pair("Milk?", "Yes.", "No.")]
    assert found_pairs(rows, training.prompts)[0] == [(1, "", "leaked_example"), (2, "", "leaked_prompt")]


def test_same_question_about_another_image_is_another_prompt() -> None:
    def about(image: str, answer: str) -> dict[str, Any]:
        parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": image}}]
        return {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]}

    rows = [about("https://a.example/1.png", "A cat."), about("https://a.example/2.png", "A dog.")]
    content = "\n".join(map(json.dumps, [*rows, rows[0]])).encode()
    report = validate.check_file([content], None, 1, observers=[DatasetChecks()])
    told = [(one.line, one.code) for one in report.problems if one.code != "image_not_supported"]
    assert told == [(3, "duplicate_example")]


def test_some_of_each_code_are_listed_however_many_others_come_first() -> None:
    bad = [b'{"messages": 1}'] * 1500 + [b"{"] * 30 + [b'{"prompt": "", "completion": ""}']
    report = validate.check_file([b"\n".join(bad)], frozenset(), 1)
    listed = [problem.code for problem in report.problems]
    counts = {"invalid_messages": 1500, "truncated_json": 30, "prompt_completion_row": 1}
    assert {group.first.code: group.count for group in report.groups} == counts
    assert {code: listed.count(code) for code in counts} == {
        "invalid_messages": problem_tally.MAX_LISTED,
        "truncated_json": problem_tally.LISTED_OF_EACH,
        "prompt_completion_row": 1,
    }
