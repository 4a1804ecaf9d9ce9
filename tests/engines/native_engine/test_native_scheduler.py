"""Which rows a step computes: room for the short beside the long, pages that are shared, waited for and given back."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_decoders
from luthier.engines.native.decoder.library import PAGE, Decoder
from luthier.engines.native.steps.pace import BACKGROUND_PIECE_S, Pace
from scheduling import Call, Desk, EvenPace, Message
from tiny_decoders import CONTEXT, prompt

OpenDesk = Callable[..., Desk]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.save(tmp_path_factory.mktemp("model"), "llama", torch.bfloat16, bos_token_id=None)


@pytest.fixture
def open_desk(folder: Path) -> Iterator[OpenDesk]:
    """Makes desks of decoders with some pages, not started yet."""
    made: list[tuple[Desk, Decoder]] = []

    def make(n_pages: int = 64, max_sequences: int = 8, pace: Pace | None = None) -> Desk:
        decoder = tiny_decoders.load(folder, n_pages)
        desk = Desk(decoder, max_sequences, pace)
        made.append((desk, decoder))
        return desk

    yield make
    for desk, decoder in made:
        desk.close()
        decoder.close()


def test_greedy_answer_is_that_of_transformers(open_desk: OpenDesk, folder: Path) -> None:
    causal, tokens = tiny_decoders.reference(folder), prompt(70)
    expected: list[int] = []
    while len(expected) < 12:
        log_probs = tiny_decoders.log_probs_of(causal, [*tokens, *expected])[-1]
        log_probs[2] = -np.inf
        expected.append(int(log_probs.argmax()))
    answer = open_desk().start().run(tokens, max_tokens=12)
    assert answer.tokens == [id for id in expected if id != 1]
    assert answer.messages[-1]["finish"] == "length"
    assert answer.usage == [70, 12, 0]


def test_short_prompt_gets_its_first_token_while_a_long_one_is_read(open_desk: OpenDesk) -> None:
    desk = open_desk()
    short: list[Call] = []

    def arrive(message: Message) -> None:
        if "progress" in message and not short:
            short.append(desk.ask(prompt(20, 1)))

    long = desk.ask(prompt(CONTEXT - 10), on_message=arrive)
    desk.start()
    long.wait()
    assert short[0].wait().n_steps_to_first_token <= 2
    assert long.n_steps_to_first_token > 10
    assert short[0].tokens == desk.run(prompt(20, 1)).tokens


def test_background_rests_while_a_callers_prompt_is_read_and_goes_on_beside_its_answer(open_desk: OpenDesk) -> None:
    desk = open_desk()
    live: list[Call] = []

    def arrive(message: Message) -> None:
        if "text" in message and not live:
            live.append(desk.ask(prompt(150, 3), max_tokens=20))

    batch = desk.ask(prompt(20, 1), max_tokens=60, on_message=arrive, is_background=True)
    reading = desk.ask(prompt(100, 2), max_tokens=60, is_background=True)
    desk.start()
    batch.wait()
    reading.wait()
    begins, first = live[0].at_step + 1, live[0].wait().at_step + live[0].n_steps_to_first_token
    for call in (batch, reading):
        steps = [step for step, _ in call.received]
        assert not [step for step in steps if begins <= step <= first]
        assert len([step for step in steps if first < step <= live[0].received[-1][0]]) >= 15


def test_pieces_of_the_background_are_short_beside_callers_and_after_them(open_desk: OpenDesk) -> None:
    class Recorded(EvenPace):
        def rows_in(self, seconds: float) -> int:
            asked.append(seconds)
            return super().rows_in(seconds)

    asked: list[float] = []
    desk = open_desk(pace=Recorded()).start()
    desk.ask(prompt(100, 1), is_background=True).wait()
    desk.run(prompt(100, 2))
    assert BACKGROUND_PIECE_S not in asked
    asked.clear()
    desk.ask(prompt(100, 3), is_background=True).wait()
    assert set(asked[:3]) == {BACKGROUND_PIECE_S}


def test_answer_in_progress_gets_a_token_with_every_step(open_desk: OpenDesk) -> None:
    desk = open_desk()
    first = desk.ask(prompt(5), max_tokens=30)
    desk.ask(prompt(CONTEXT - 10, 1))
    desk.start()
    steps = sorted({step for step, message in first.wait().received if "text" in message})
    assert steps == list(range(steps[0], steps[0] + 30))


def test_long_prompt_is_read_however_many_short_ones_come(open_desk: OpenDesk) -> None:
    desk = open_desk()
    long_is_done = threading.Event()
    numbers = iter(range(1, 100_000))

    def come_again(message: Message) -> None:
        if "finish" in message and not long_is_done.is_set():
            desk.ask(prompt(31, next(numbers)), on_message=come_again, max_tokens=1)

    for _ in range(4):
        desk.ask(prompt(31, next(numbers)), on_message=come_again, max_tokens=1)
    long = desk.ask(prompt(300, 0), on_message=lambda message: long_is_done.set() if "text" in message else None)
    desk.start()
    assert 10 < long.wait().n_steps_to_first_token < 120


def test_prompt_that_finds_no_pages_waits_and_is_answered_when_there_are_some(open_desk: OpenDesk) -> None:
    desk = open_desk(n_pages=4)
    first = desk.ask(prompt(100), max_tokens=60)  # three pages
    second = desk.ask(prompt(90, 1), max_tokens=30)  # two
    third = desk.ask(prompt(10, 2), max_tokens=5)  # one, but behind the second
    desk.start()
    for call in (first, second, third):
        call.wait()
    assert second.received[0][0] > first.received[-1][0]
    assert third.received[0][0] > first.received[-1][0]
    alone = open_desk().start()
    assert second.tokens == alone.run(prompt(90, 1), max_tokens=30).tokens
    assert third.tokens == alone.run(prompt(10, 2), max_tokens=5).tokens


def test_more_calls_than_sequences_wait_for_a_place(open_desk: OpenDesk) -> None:
    desk = open_desk(max_sequences=2)
    calls = [desk.ask(prompt(10, number), max_tokens=5) for number in range(5)]
    desk.start()
    ends = [call.wait().received[-1][0] for call in calls]
    assert ends == sorted(ends)
    assert len(set(ends)) >= 3


def test_cancelled_call_gives_its_pages_to_those_that_wait(open_desk: OpenDesk) -> None:
    desk = open_desk(n_pages=4).start()
    first = desk.ask(prompt(70), max_tokens=4 * PAGE - 70)
    first.heard.get(timeout=30)
    second = desk.ask(prompt(80, 1), max_tokens=100)
    desk.scheduler.cancel(first.number)
    second.wait()
    assert not first.done.is_set()
    assert second.usage[1] == 100
    assert desk.run(prompt(4 * PAGE - 8, 2), max_tokens=8).usage[1] == 8, "every page is there again"


def test_call_that_is_cancelled_while_it_waits_is_never_begun(open_desk: OpenDesk) -> None:
    desk = open_desk(n_pages=4)
    first = desk.ask(prompt(70), max_tokens=100)
    second = desk.ask(prompt(200, 1))
    desk.scheduler.cancel(second.number)
    desk.start()
    third = desk.ask(prompt(200, 2))
    first.wait()
    third.wait()
    assert second.received == []


def test_equal_prompts_that_arrive_together_are_read_once(open_desk: OpenDesk) -> None:
    desk = open_desk()
    calls = [desk.ask(prompt(200)) for _ in range(4)]
    desk.start()
    answers = [call.wait().tokens for call in calls]
    assert answers == [answers[0]] * 4
    assert sorted(call.usage[2] for call in calls) == [0, 192, 192, 192]
    assert answers[0] == open_desk().start().run(prompt(200)).tokens


@pytest.mark.parametrize(
    ("n_tokens", "n_cached"),
    [(8, 0), (9, 8), (63, 62), (64, 63), (65, 64), (72, 64), (73, 72), (128, 127), (200, 192), (201, 200)],
)
def test_prompt_that_was_read_before_is_read_again_from_its_last_token_on(
    open_desk: OpenDesk, n_tokens: int, n_cached: int
) -> None:
    desk = open_desk().start()
    first, second = desk.run(prompt(n_tokens)), desk.run(prompt(n_tokens))
    assert (first.usage[2], second.usage[2]) == (0, n_cached)
    assert first.tokens == second.tokens


def test_common_beginning_of_prompts_is_shared_and_what_follows_is_their_own(open_desk: OpenDesk) -> None:
    desk = open_desk()
    texts = [[*prompt(150), *prompt(60, number)] for number in range(1, 4)]
    calls = [desk.ask(text) for text in texts]
    desk.start()
    assert sorted(call.wait().usage[2] for call in calls) == [0, 150, 150]
    alone = [open_desk().start().run(text).tokens for text in texts]
    assert [call.tokens for call in calls] == alone


def test_beginning_of_a_page_is_copied_and_each_goes_on_alone(open_desk: OpenDesk) -> None:
    desk, texts = open_desk().start(), [[*prompt(40), *prompt(30, number)] for number in range(1, 4)]
    first = desk.ask(texts[0], max_tokens=30)
    first.heard.get(timeout=30)
    others = [desk.ask(text, max_tokens=30) for text in texts[1:]]
    answers = [call.wait().tokens for call in (first, *others)]
    assert [call.usage[2] for call in others] == [40, 40]
    assert answers == [open_desk().start().run(text, max_tokens=30).tokens for text in texts]


def test_rows_that_are_scored_are_computed_and_what_they_share_before_is_not(open_desk: OpenDesk) -> None:
    texts = [[*prompt(70), *prompt(20, number)] for number in range(1, 4)]
    desk = open_desk()
    calls = [desk.score(text, 3, rows=8) for text in texts]
    desk.start()
    together = [[entry for message in call.wait().messages for entry in message.get("scores", ())] for call in calls]
    assert [len(entries) for entries in together] == [8] * 3
    alone = [open_desk().start().score(text, 3, rows=8).wait() for text in texts]
    assert together == [[entry for message in call.messages for entry in message.get("scores", ())] for call in alone]
    assert desk.scheduler.n_steps < sum(-(-len(text) // 32) for text in texts)


def test_scopes_share_nothing(open_desk: OpenDesk) -> None:
    desk = open_desk()
    calls = [desk.ask(prompt(200), scope=scope) for scope in ("one", "another")]
    desk.start()
    assert [call.wait().usage[2] for call in calls] == [0, 0]
    assert desk.run(prompt(200), scope="one").usage[2] == 192
    assert desk.run(prompt(200), scope="a third").usage[2] == 0


def test_prefix_is_forgotten_when_its_pages_are_needed(open_desk: OpenDesk) -> None:
    desk = open_desk(n_pages=5).start()
    before = desk.run(prompt(200)).tokens
    for number in range(1, 4):
        desk.run(prompt(250, number))
    again = desk.run(prompt(200))
    assert again.usage[2] == 0
    assert again.tokens == before


def test_text_held_back_for_a_stop_string_is_given_out_at_the_token_limit(open_desk: OpenDesk) -> None:
    desk = open_desk().start()
    whole = desk.run(prompt(30), max_tokens=6)
    last = f"<{whole.tokens[-1]}>"
    held = desk.run(prompt(30), max_tokens=6, stops=(f"{last}and more",), top_log_probs=0)
    assert held.text == whole.text
    assert held.messages[-1]["finish"] == "length"
    assert sum(len(message.get("log_probs", ())) for message in held.messages) == 6


def test_stop_string_ends_the_answer_before_it(open_desk: OpenDesk) -> None:
    desk = open_desk().start()
    whole = desk.run(prompt(30), max_tokens=6)
    cut = desk.run(prompt(30), max_tokens=6, stops=(f"<{whole.tokens[3]}>",))
    place = whole.tokens.index(whole.tokens[3])
    assert cut.tokens == whole.tokens[:place]
    assert cut.messages[-1]["finish"] == "stop"
    assert cut.usage[1] == place + 1


def test_token_that_ends_answers_ends_them_and_is_counted(open_desk: OpenDesk) -> None:
    desk = open_desk().start()
    answer = desk.run(prompt(30), max_tokens=50, logit_bias={2: 100.0}, top_log_probs=1)
    assert (answer.text, answer.messages[-1]["finish"], answer.usage[1]) == ("", "stop", 1)
    assert [entry[0] for entry in answer.messages[-1]["log_probs"]] == [2]


def test_hidden_token_has_no_text(open_desk: OpenDesk) -> None:
    answer = open_desk().start().run(prompt(30), max_tokens=3, logit_bias={1: 100.0}, top_log_probs=0)
    assert answer.text == ""
    assert answer.usage[1] == 3
    entries = [entry for message in answer.messages for entry in message.get("log_probs", ())]
    assert [entry[0] for entry in entries] == [1, 1, 1]


def test_order_between_steps_is_carried_out_while_answers_go_on(open_desk: OpenDesk) -> None:
    desk = open_desk().start()
    ran = threading.Event()
    call = desk.ask(prompt(30), max_tokens=500)
    call.heard.get(timeout=30)
    desk.scheduler.run_between_steps(ran.set)
    assert ran.wait(30)
    assert call.wait().usage[1] == 500
