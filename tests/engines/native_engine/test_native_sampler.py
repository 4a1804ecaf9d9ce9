"""Tokens are drawn as OpenAI's parameters say, and log-probabilities are of the raw logits whatever they are."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import llguidance
import numpy as np
import pytest

import tiny
import tiny_decoders
from luthier.engines.native.decoder.library import LANES, Decoder
from luthier.engines.native.steps.sampling import DrawnToken, Sampler, SamplingParameters
from tiny_decoders import Array

VOCABULARY = tiny.VOCABULARY + 3
"""A model may have more rows than its tokenizer has tokens, and what fills the last panel is not among them."""
END_IDS = frozenset({1, 2})
DRAWS = 20_000
LOGITS: Array = np.random.default_rng(5).normal(0, 2, VOCABULARY).astype(np.float32)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    folder = tiny_decoders.save(tmp_path_factory.mktemp("model"), "llama", vocab_size=VOCABULARY)
    decoder = tiny_decoders.load(folder, n_threads=2)
    yield decoder
    decoder.close()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> llguidance.LLTokenizer:
    folder = tiny.tokenizer_folder(tmp_path_factory.mktemp("tokenizer"))
    return llguidance.LLTokenizer((folder / "tokenizer.json").read_text(), n_vocab=VOCABULARY, eos_token=2)


class Model:
    """A model that says the same logits always."""

    def __init__(self, decoder: Decoder, tokenizer: llguidance.LLTokenizer, logits: Array = LOGITS) -> None:
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._logits = np.full(-(-VOCABULARY // LANES) * LANES, 1e9, np.float32)
        self._logits[:VOCABULARY] = logits

    def sampler(self, **parameters: Any) -> Sampler:
        return Sampler(SamplingParameters(**{"max_tokens": 9, **parameters}), self._tokenizer, VOCABULARY, END_IDS)

    def draw(self, sampler: Sampler) -> DrawnToken:
        (draw,) = self._decoder.draw([sampler.draw(self._logits)])
        return sampler.take(draw)

    def answer(self, n: int, **parameters: Any) -> list[int]:
        sampler = self.sampler(**parameters)
        return [self.draw(sampler).id for _ in range(n)]

    def frequencies(self, **parameters: Any) -> Array:
        counts = Counter(self.answer(DRAWS, seed=11, **parameters))
        return np.array([counts[id] / DRAWS for id in range(VOCABULARY)])


@pytest.fixture(scope="module")
def model(decoder: Decoder, tokenizer: llguidance.LLTokenizer) -> Model:
    return Model(decoder, tokenizer)


def softmax(logits: Array) -> Array:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    normal: Array = weights / weights.sum()
    return normal


def assert_drawn_from(frequencies: Array, expected: Array) -> None:
    """Each within five standard deviations, and nothing that cannot come."""
    allowed = 5 * np.sqrt(expected * (1 - expected) / DRAWS) + 1 / DRAWS
    assert (np.abs(frequencies - expected) <= allowed).all()
    assert (frequencies[expected == 0] == 0).all()


def test_greedy_takes_the_likeliest_token(model: Model) -> None:
    assert model.answer(3, temperature=0.0) == [int(LOGITS.argmax())] * 3


def test_greedy_takes_the_lowest_id_of_equals(decoder: Decoder, tokenizer: llguidance.LLTokenizer) -> None:
    logits = np.zeros(VOCABULARY, np.float32)
    logits[[150, 70, 402]] = 3
    assert Model(decoder, tokenizer, logits).answer(1, temperature=0.0) == [70]


def test_seed_decides_what_is_drawn(model: Model) -> None:
    first, again, other = (model.answer(50, temperature=1.0, seed=seed) for seed in (7, 7, 8))
    assert first == again != other
    assert len({tuple(model.answer(20)) for _ in range(5)}) == 5, "without a seed each answer is its own"


@pytest.mark.parametrize("seed", [0, -1, -(2**63), 2**63 - 1])
def test_every_seed_of_64_bits_is_taken(model: Model, seed: int) -> None:
    assert model.answer(5, seed=seed) == model.answer(5, seed=seed)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_by_their_probability_at_the_temperature(model: Model, temperature: float) -> None:
    assert_drawn_from(model.frequencies(temperature=temperature), softmax(LOGITS / temperature))


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
def test_top_p_keeps_the_smallest_set_of_the_likeliest_tokens_that_reaches_it(model: Model, top_p: float) -> None:
    probabilities = softmax(LOGITS)
    order = np.argsort(-probabilities)
    n = int(np.searchsorted(np.cumsum(probabilities[order]), top_p)) + 1
    expected = np.zeros(VOCABULARY)
    expected[order[:n]] = probabilities[order[:n]] / probabilities[order[:n]].sum()
    assert_drawn_from(model.frequencies(top_p=top_p), expected)


def test_top_p_of_nothing_keeps_the_likeliest_token(model: Model) -> None:
    assert set(model.answer(50, top_p=0.0)) == {int(LOGITS.argmax())}


def test_top_p_is_of_the_probabilities_at_the_temperature(decoder: Decoder, tokenizer: llguidance.LLTokenizer) -> None:
    logits = np.full(VOCABULARY, -50, np.float32)
    logits[:3] = np.log([0.5, 0.3, 0.2])
    flat = Model(decoder, tokenizer, logits)
    assert set(flat.answer(200, top_p=0.45, seed=1)) == {0}
    assert set(flat.answer(200, top_p=0.45, temperature=2.0, seed=1)) == {0, 1}


def test_top_p_among_very_many_unlikely_tokens_reaches_into_them(
    decoder: Decoder, tokenizer: llguidance.LLTokenizer
) -> None:
    """One token has nearly everything, and each of the others less than a millionth of it."""
    logits = np.full(VOCABULARY, -14.5, np.float32)
    logits[9] = 0
    flat = Model(decoder, tokenizer, logits)
    assert set(flat.answer(200, top_p=0.99995, temperature=1.0, seed=1)) == {9}
    assert len(set(flat.answer(200, top_p=0.99995, temperature=5.0, seed=1))) > 50


def test_bias_of_100_forces_a_token_and_of_minus_100_bans_it(model: Model) -> None:
    best, worst = int(LOGITS.argmax()), int(LOGITS.argmin())
    assert set(model.answer(50, logit_bias={worst: 100.0})) == {worst}
    assert best not in model.answer(2000, logit_bias={best: -100.0}, temperature=2.0)
    assert model.answer(1, logit_bias={best: -100.0}, temperature=0.0) == [int(np.argsort(-LOGITS)[1])]


def test_bias_is_added_to_the_logit(model: Model) -> None:
    changed = LOGITS.copy()
    changed[[3, 4, 190]] += np.array([2.5, -1.0, 4.0], np.float32)
    assert_drawn_from(model.frequencies(logit_bias={3: 2.5, 4: -1.0, 190: 4.0}), softmax(changed))


@pytest.mark.parametrize(("frequency", "presence"), [(0.7, 0.0), (0.0, 1.3), (0.4, -0.9), (-0.2, 0.0)])
def test_penalties_are_taken_off_by_count_and_by_presence(model: Model, frequency: float, presence: float) -> None:
    """logit - count * frequency_penalty - (count > 0) * presence_penalty, by greedy draws."""
    counts = np.zeros(VOCABULARY)
    expected = []
    for _ in range(60):
        changed = LOGITS.astype(np.float64) - counts * frequency - (counts > 0) * presence
        expected.append(int(changed.argmax()))
        counts[expected[-1]] += 1
    drawn = model.answer(60, temperature=0.0, frequency_penalty=frequency, presence_penalty=presence)
    assert drawn == expected


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 0.0},
        {"temperature": 0.3},
        {"temperature": 2.0, "top_p": 0.5},
        {"logit_bias": {7: 100.0}},
        {"frequency_penalty": 2.0, "presence_penalty": 2.0},
        {"grammar": '%llguidance {}\nstart: "q"'},
    ],
)
def test_log_probabilities_are_of_the_raw_logits(model: Model, parameters: dict[str, Any]) -> None:
    expected = np.log(softmax(LOGITS))
    sampler = model.sampler(top_log_probs=5, seed=1, **parameters)
    drawn = model.draw(sampler)
    assert drawn.log_prob == pytest.approx(expected[drawn.id], abs=1e-4)
    assert [id for id, _ in drawn.top] == np.argsort(-LOGITS)[:5].tolist()
    assert [value for _, value in drawn.top] == pytest.approx(expected[np.argsort(-LOGITS)[:5]], abs=1e-4)


def test_likeliest_tokens_are_best_first_and_of_equals_the_lower_id(
    decoder: Decoder, tokenizer: llguidance.LLTokenizer
) -> None:
    logits = np.zeros(VOCABULARY, np.float32)
    logits[[150, 20]] = 3
    logits[77] = 4
    flat = Model(decoder, tokenizer, logits)
    drawn = flat.draw(flat.sampler(top_log_probs=6))
    assert [id for id, _ in drawn.top] == [77, 20, 150, 0, 1, 2]


def test_log_probability_of_a_token_comes_without_any_others(model: Model) -> None:
    drawn = model.draw(model.sampler(top_log_probs=0, temperature=0.0))
    assert drawn.top == []
    assert drawn.log_prob == pytest.approx(float(np.log(softmax(LOGITS)).max()), abs=1e-4)


def test_more_of_the_likeliest_tokens_than_there_are_gives_all(model: Model) -> None:
    drawn = model.draw(model.sampler(top_log_probs=VOCABULARY + 5))
    assert sorted(id for id, _ in drawn.top) == list(range(VOCABULARY))


@pytest.mark.parametrize(("temperature", "n_words"), [(0.0, 1), (5.0, 2)])
def test_grammar_is_obeyed_to_its_end(
    model: Model, tokenizer: llguidance.LLTokenizer, temperature: float, n_words: int
) -> None:
    words: Counter[bytes] = Counter()
    for seed in range(20):
        sampler = model.sampler(grammar='start: "yes" | "no"', temperature=temperature, seed=seed)
        word = b""
        while not sampler.is_at_end:
            token = model.draw(sampler).id
            if token in END_IDS:
                break
            word += tokenizer.decode_bytes([token])
        words[word] += 1
    assert set(words) <= {b"yes", b"no"}
    assert len(words) == n_words


def test_tokens_that_a_grammar_allows_are_drawn_by_their_share(model: Model, tokenizer: llguidance.LLTokenizer) -> None:
    letters = [tokenizer.tokenize_str(letter)[0] for letter in "abc"]
    expected = np.zeros(VOCABULARY)
    expected[letters] = softmax(LOGITS[letters])
    counts = Counter(model.draw(model.sampler(grammar="start: /[abc]/", seed=seed)).id for seed in range(1000))
    for letter in letters:
        assert counts[letter] / 1000 == pytest.approx(expected[letter], abs=0.08)
    assert set(counts) <= set(letters)


def test_each_end_token_may_come_where_the_grammar_may_end_and_nowhere_else(model: Model) -> None:
    for end in END_IDS:
        sampler = model.sampler(grammar="start: /[ab]+/", temperature=0.0, logit_bias={end: 100.0})
        assert model.draw(sampler).id not in END_IDS
        assert model.draw(sampler).id == end


def test_grammar_that_is_none_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="grammar"):
        model.sampler(grammar="start: nothing_of_this_name ::=")


def test_draws_made_together_are_those_made_one_by_one(decoder: Decoder, model: Model) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (9, decoder.row)).astype(np.float32)
    together = [model.sampler(seed=number) for number in range(9)]
    apart = [model.sampler(seed=number) for number in range(9)]
    draws = decoder.draw([sampler.draw(row) for sampler, row in zip(together, logits, strict=True)])
    ids = [decoder.draw([sampler.draw(row)])[0].token for sampler, row in zip(apart, logits, strict=True)]
    assert [draw.token for draw in draws] == ids


def test_parameters_are_read_from_an_openai_request() -> None:
    request = {"max_tokens": 5, "stop": "x", "logit_bias": {"7": -1}, "logprobs": 3, "frequency_penalty": None}
    parameters = SamplingParameters.of_request(request)
    assert (parameters.max_tokens, parameters.stops, parameters.top_log_probs) == (5, ("x",), 3)
    assert parameters.logit_bias == {7: -1.0}
    assert (parameters.temperature, parameters.top_p, parameters.frequency_penalty) == (1.0, 1.0, 0.0)
    assert SamplingParameters.of_request({"max_tokens": 1, "stop": ["a", "b"]}).stops == ("a", "b")
    assert SamplingParameters.of_request({"max_tokens": 1}).top_log_probs is None
