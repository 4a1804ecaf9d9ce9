#!/usr/bin/env bash
# llguidance 1.0.1 and jsonschema-rs 0.60.3: does what a grammar of a schema lets through satisfy the schema?
#
# Guess: yes, whatever the model: the grammar may be narrower than the schema, never wider.
# Seen:  a key that the schema names comes once at most, but one that it does not name may be written again and again,
#        and each time counts towards minProperties. A reader keeps the last of them, and then the object is too small.
#        Small models do write so: where further keys are free, the likeliest next key is the one before.
#
#   {"a": 1, "a": 2} of named keys: refused at the second     of free keys: taken whole, read as {"a": 2}
#   minProperties 2: the grammar takes it, the validator says that it has less than 2 properties
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'llguidance==1.0.1' 'jsonschema-rs==0.60.3'
"$folder/venv/bin/python" - <<'PY'
import json

import jsonschema_rs
import llguidance
from llguidance import LLMatcher

INTEGER = {"type": "integer"}
TEXT = '{"a": 1, "a": 2}'


class Bytes:
    """A vocabulary of single bytes."""

    bos_token_id = None
    tokens = [bytes([value]) for value in range(256)] + [b"<|end|>"]
    eos_token_id = 256
    special_token_ids = [256]

    def __call__(self, text):
        return list(text)


tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()), n_vocab=257)


def is_taken(schema):
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(json.dumps(schema)), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    content = list(TEXT.encode())
    return matcher.try_consume_tokens(content) == len(content) and matcher.is_accepting()


named = {"type": "object", "properties": {"a": INTEGER}, "additionalProperties": INTEGER}
free = {"type": "object", "additionalProperties": INTEGER, "minProperties": 2}
broken = [error.message for error in jsonschema_rs.validator_for(free).iter_errors(json.loads(TEXT))]
print("named", is_taken(named), "- free", is_taken(free), "- read as", json.loads(TEXT), "- validator", broken)
assert not is_taken(named)
assert is_taken(free)
assert len(broken) == 1
PY
