"""What Python prints of a list or dict is read only where JSON can say the same."""

import subprocess
import sys

import pytest

from luthier.data.jsonl import python_literal


@pytest.mark.parametrize(
    ("text", "value"),
    [("[-1, -0.5, -1e3]", [-1, -0.5, -1000.0]), ("{'a': (True, None)}", {"a": [True, None]}), ("['\\u00e9']", ["é"])],
)
def test_literal_that_json_can_say_is_read(text: str, value: object) -> None:
    assert python_literal.read(text) == value


@pytest.mark.parametrize(
    "text", ["[1e999]", "[-1e999]", "[-True]", "[-False]", "[-None]", "['\\ud800']", "{'\\ud800': 1}", "[{1}]", "[b'']"]
)
def test_literal_that_json_cannot_say_is_refused(text: str) -> None:
    assert python_literal.read(text) is None


def test_text_that_pythons_parser_warns_of_is_refused_without_a_word() -> None:
    code = "from luthier.data.jsonl import python_literal as p; print(p.read('[1if 1 else 2, 0in [1]]'))"
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("None\n", "")
