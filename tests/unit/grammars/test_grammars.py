"""Grammars in their process: verdicts, bounds, turns, and answers held against them."""

import asyncio
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.errors import Unavailable
from luthier.data.schemas import response_schema
from luthier.data.tools import answer_grammar
from luthier.data.tools.prompt_format import call_text
from luthier.grammars import tokens, worker
from luthier.grammars.grammar_checker import CheckedGrammar, GrammarChecker
from luthier.grammars.matcher import Matcher
from luthier.grammars.trial import NoVerdict, TrialProcess

TEXT = {"type": "string"}
PLAIN = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(alphabet="abc äöü{}[]\"'")
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner))


def grammar_of(schema: object) -> str:
    assert isinstance(schema, dict)
    return answer_grammar.build_grammar(
        {}, must_call=False, parallel=False, schema=response_schema.grammar_schema(schema, False)
    )


@pytest.fixture
def own() -> Iterator[GrammarChecker]:
    """One whose process a test may end."""
    made = GrammarChecker()
    yield made
    made.close()


def tried(grammars: GrammarChecker, schema: object, owner: str = "r") -> CheckedGrammar:
    return asyncio.run(grammars.checked(owner, grammar_of(schema)))


def matcher(grammars: GrammarChecker, schema: object) -> Matcher:
    found = tried(grammars, schema)
    assert found.fault is None
    return found.new_matcher()


def test_answer_is_taken_as_far_as_it_fits_and_whole_at_its_end(grammars: GrammarChecker) -> None:
    shape = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    answer = matcher(grammars, shape)
    assert answer.accepts('{"a"')
    assert not answer.is_complete()
    assert answer.accepts(": 12}")
    assert answer.is_complete()
    for wrong in ("Paris", "[1]", '{"b"', '{"a": "x"'):
        assert not matcher(grammars, shape).accepts(wrong)


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 2}, "[1, 2]", "[1, 2, 3"),
        ({"type": "string", "maxLength": 3}, '"abc"', '"abcd'),
        ({"enum": ["red", "green"]}, '"red"', '"blue'),
        ({"type": "integer", "maximum": 7}, "7", "8"),
        ({"type": "null"}, "null", "nil"),
        ({"type": "object"}, '{"a": {}}', "[]"),
        ({"type": "string", "pattern": "^a+$"}, '"aa"', '"ab'),
    ],
)
def test_prose_and_json_of_another_shape_are_not_taken(
    grammars: GrammarChecker, schema: object, right: str, wrong: str
) -> None:
    answer = matcher(grammars, schema)
    assert answer.accepts(right)
    assert answer.is_complete()
    assert not matcher(grammars, schema).accepts(wrong)
    assert not matcher(grammars, schema).accepts("Here it is: ")


@given(st.dictionaries(st.sampled_from("abc"), JSON), st.integers(1, 9))
def test_any_object_is_taken_however_it_is_cut(grammars: GrammarChecker, value: dict[str, object], size: int) -> None:
    text = json.dumps(value, ensure_ascii=False)
    answer = matcher(grammars, {"type": "object"})
    assert all(answer.accepts(text[start : start + size]) for start in range(0, len(text), size))
    assert answer.is_complete()


def test_calls_and_words_are_told_apart(grammars: GrammarChecker) -> None:
    grammar = answer_grammar.build_grammar({"f": {"type": "object"}}, must_call=False, parallel=True)
    begun = asyncio.run(grammars.checked("r", grammar))
    call, words, broken = begun.new_matcher(), begun.new_matcher(), begun.new_matcher()
    assert call.accepts(call_text("f", '{"a": 1}'))
    assert call.is_complete()
    assert words.accepts("It is <b>sunny</b>.")
    assert words.is_complete()
    assert not broken.accepts(call_text("g", "{}"))


def test_grammar_that_cannot_be_built_and_one_that_grows_are_told_apart(grammars: GrammarChecker) -> None:
    assert tried(grammars, {"type": "string", "pattern": "a^b"}).fault == "unknown"
    assert tried(grammars, {"type": "string", "pattern": "^.*[a-c].{24}$"}).fault == "complex"
    assert tried(grammars, {"type": "string", "pattern": "^.*[a-c].{4}$"}).fault is None


def test_same_grammar_is_tried_once_and_kept(own: GrammarChecker) -> None:
    async def both() -> tuple[CheckedGrammar, CheckedGrammar]:
        grammar = grammar_of({"type": "object"})
        return await asyncio.gather(own.checked("a", grammar), own.checked("b", grammar))

    first, second = asyncio.run(both())
    assert first is second
    assert tried(own, {"type": "object"}, "c") is first


def _process_of(grammars: GrammarChecker) -> psutil.Process:
    tried(grammars, TEXT)
    (found,) = [child for child in psutil.Process().children() if child.pid in grammars.pids()]
    return found


def test_process_that_was_killed_is_replaced_and_blames_no_grammar(own: GrammarChecker) -> None:
    process = _process_of(own)
    process.kill()
    process.wait(10)
    assert tried(own, {"type": "object"}).fault is None
    assert own.pids() != [process.pid]


def test_process_ends_with_its_parent_and_with_the_service(own: GrammarChecker) -> None:
    process = _process_of(own)
    memory_bytes, _ = process.rlimit(psutil.RLIMIT_AS)
    assert memory_bytes == worker.MEMORY_BYTES
    own.close()
    assert not process.is_running()


def test_process_that_does_not_answer_is_no_verdict_but_unavailable(own: GrammarChecker) -> None:
    process = _process_of(own)
    process.suspend()
    with pytest.raises(Unavailable) as caught:
        asyncio.run(own.checked("r", grammar_of({"type": "integer"}), wait_s=0.1))
    assert caught.value.code == "grammars_busy"
    process.resume()
    assert tried(own, {"type": "integer"}).fault is None


def test_process_that_takes_nothing_is_ended_and_gives_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    spawned: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def deaf(command: object, **options: Any) -> "subprocess.Popen[bytes]":
        process = popen(["sh", "-c", "exec <&-; echo; exec sleep 100"], **options)
        assert process.stdout is not None
        process.stdout.read(1)  # from here on its pipe is broken
        spawned.append(process)
        return process

    monkeypatch.setattr(subprocess, "Popen", deaf)
    process = TrialProcess()
    with pytest.raises(NoVerdict):
        process.ask([grammar_of(TEXT)])
    assert process.pids() == []
    assert [one.returncode for one in spawned] == [-signal.SIGKILL]


def test_process_that_is_interrupted_gives_no_verdict_then_or_later() -> None:
    process = TrialProcess()
    process.start()
    (pid,) = process.pids()
    psutil.Process(pid).suspend()  # so that it is asked, and has not answered
    timer = threading.Timer(0.2, process.interrupt)
    timer.start()
    for _ in range(2):
        with pytest.raises(NoVerdict):
            process.ask([grammar_of(TEXT)])
    timer.join()
    assert process.pids() == []


def test_owners_have_their_turns_whoever_asks_for_more(own: GrammarChecker) -> None:
    order: list[str] = []

    async def ask(owner: str, place: int) -> None:
        await own.checked(owner, grammar_of({"type": "string", "maxLength": place + 1, "enum": [owner]}))
        order.append(owner)

    async def all_of_them() -> None:
        await asyncio.gather(*(ask("greedy", place) for place in range(12)), ask("other", 0))

    asyncio.run(all_of_them())
    assert order.index("other") < 4


def test_owner_with_too_many_waiting_is_told_to_come_back(own: GrammarChecker) -> None:
    async def crowd() -> list[object]:
        asked = (own.checked("r", grammar_of({"type": "string", "maxLength": place})) for place in range(1, 90))
        return await asyncio.gather(*asked, return_exceptions=True)

    codes = [getattr(answer, "code", None) for answer in asyncio.run(crowd())]
    assert "grammars_busy" in codes
    assert codes[0] is None


def test_broad_vocabulary_holds_every_byte_and_no_token_twice() -> None:
    vocabulary = tokens.broad_tokenizer()
    assert vocabulary.vocab_size > 10_000
    assert vocabulary.decode_bytes(list(range(255))) == bytes(range(255))  # 255 is no byte of any text
