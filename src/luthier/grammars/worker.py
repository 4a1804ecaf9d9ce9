"""The process in which grammars are tried: reads a list of grammars a line, writes a verdict a line.

`python -m luthier.grammars.worker`, started by `trial`, over stdin and stdout in JSON. The first grammar of a list is
an answer's, the others are those of the texts in it that have a pattern. The process's memory is limited by the system,
and so is the processor time of each list: what passes either ends it, and its parent takes that for the verdict. It
ends when its stdin closes.
"""

import json
import random
import resource
import signal
import sys
import time
from collections.abc import Sequence

import llguidance

from luthier.grammars import tokens

MEMORY_BYTES = 1 << 30
"""Of address space, of which Python and the vocabulary take a good half."""
CPU_S = 0.5
STEPS = 32
"""Tokens of an answer that is tried out: some grammars are small and grow as they are used."""
_ANSWERS = 4
"""An answer may end after a token: so many at most are tried for the steps."""

_COMPLEX = ("too large", "too many", "limit", "Unable to determine if regex is empty")
"""What the library's words for a grammar beyond its limits have in them."""
_STATES, _FUEL, _ITEMS = 4_000, 100_000, 30_000
"""Well below what llama.cpp gives its own (250,000, 200,000 and 50,000): one that passes those there breaks off in the
middle of an answer. Patterns in use need less than 2,000 states for the steps; those that explode pass 5,000."""


def main() -> None:
    """Limits this process's memory and forbids core dumps, then answers lines until stdin closes.

    A list that takes more than CPU_S seconds ends the process by a timer's signal.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tokenizer = tokens.broad_tokenizer()
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, CPU_S)  # its signal ends the process
        verdict = check_grammars(json.loads(line), tokenizer)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(json.dumps(verdict).encode() + b"\n")
        sys.stdout.buffer.flush()


def check_grammars(grammars: Sequence[str], tokenizer: llguidance.LLTokenizer) -> dict[str, object]:
    """The verdict on all: `fault` is None, "unknown" if one cannot be built, or "complex"; `cpu_s` for building.

    `cpu_s` is in seconds, and of the first grammar only.
    """
    before = time.process_time()
    matcher = llguidance.LLMatcher(tokenizer, grammars[0], log_level=0, limits=_limits())
    cpu_s = time.process_time() - before
    rng = random.Random(0)
    fault = _fault(matcher, tokenizer, rng)
    for grammar in grammars[1:]:
        if fault is None:
            part = llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=_limits())
            fault = _fault(part, tokenizer, rng)
    return {"fault": fault, "cpu_s": cpu_s}


def _fault(matcher: llguidance.LLMatcher, tokenizer: llguidance.LLTokenizer, rng: random.Random) -> str | None:
    """The fault of a grammar, or None, after trying some steps of random answers on copies of its matcher."""
    if matcher.is_error():
        return "complex" if any(word in matcher.get_error() for word in _COMPLEX) else "unknown"
    steps = 0
    for _ in range(_ANSWERS):
        answer = matcher.deep_copy()
        while steps < STEPS and not answer.is_stopped():
            steps += 1
            token = _random_token(answer.compute_logit_bias(), rng, tokenizer.eos_token)
            if token is None or not answer.consume_token(token):
                break
        if answer.is_error():
            return "complex"
    return None


def _limits() -> llguidance.LLParserLimits:
    """The limits within which the library may build and step a grammar."""
    return llguidance.LLParserLimits(max_lexer_states=_STATES, step_lexer_fuel=_FUEL, step_max_items=_ITEMS)


def _random_token(allowed: bytes, rng: random.Random, end: int) -> int | None:
    """A token that may come next, by chance; None if there is none but `end`.

    `allowed` has a byte for each token id, 0xc8 where the token may come.
    """
    start = rng.randrange(len(allowed))
    for token in (allowed.find(b"\xc8", start), allowed.find(b"\xc8")):
        if 0 <= token != end:
            return token
    return None


if __name__ == "__main__":
    main()
