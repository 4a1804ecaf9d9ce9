#!/usr/bin/env bash
# llguidance 1.0.1 (the version inside the llama.cpp of xllamacpp 2026.10): which `format` words of JSON Schema it knows.
#
# Guess: an unknown `format` is an annotation, as in JSON Schema 2020-12 (validation, section 7.2.1), and is ignored.
# Seen:  the whole grammar fails to build, over `uri`, `regex` and `json-pointer` too, which the standard lists. An engine
#        that goes on without a grammar that it cannot build then answers in prose. `date` on the other hand knows its
#        months: the 31st of February cannot be written.
#
#   date duration email uuid: built        uri regex json-pointer: Unknown format
#   "2025-02-28" taken whole, "2025-02-31" refused at its day
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'llguidance==1.0.1'
"$folder/venv/bin/python" - <<'PY'
import json

import llguidance
from llguidance import LLMatcher


class Bytes:
    """A vocabulary of single bytes."""

    bos_token_id = None
    tokens = [bytes([value]) for value in range(256)] + [b"<|end|>"]
    eos_token_id = 256
    special_token_ids = [256]

    def __call__(self, text):
        return list(text)


tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()), n_vocab=257)


def matcher(schema):
    return LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(json.dumps(schema)), log_level=0)


def said(word):
    built = matcher({"type": "string", "format": word})
    return built.get_error().splitlines()[0] if built.is_error() else "built"


for word in ("date", "duration", "email", "uuid"):
    print(word, said(word))
    assert said(word) == "built"
for word in ("uri", "regex", "json-pointer"):
    print(word, said(word))
    assert f"Unknown format: {word}" in said(word)
for day, whole in (("2025-02-28", True), ("2025-02-31", False)):
    text = json.dumps(day).encode()
    taken = matcher({"type": "string", "format": "date"}).try_consume_tokens(list(text))
    print(day, "taken", taken, "of", len(text))
    assert (taken == len(text)) is whole
PY
