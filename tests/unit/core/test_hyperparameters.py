"""The rule behind "auto", as docs/hyperparameters.md tells it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.errors import InvalidRequest
from luthier.core.training.hyperparameters import Hyperparameters, check, resolve
from repository import DOCS

DOCUMENT = DOCS / "hyperparameters.md"


def test_document_shows_what_the_rule_gives() -> None:
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (\d+) \| ([\d,]+) \|$", DOCUMENT.read_text(), re.M)
    assert len(rows) == 8
    for row in rows:
        examples, batch_size, n_epochs, steps = (int(cell.replace(",", "")) for cell in row)
        resolved = resolve(Hyperparameters(), examples)
        assert (resolved.batch_size, resolved.n_epochs) == (batch_size, n_epochs)
        assert -(-examples // batch_size) * n_epochs == steps


@given(st.integers(10, 10_000_000))
def test_auto_is_always_within_the_ranges(examples: int) -> None:
    resolved = resolve(Hyperparameters(), examples)
    check(Hyperparameters(resolved.n_epochs, resolved.batch_size, resolved.learning_rate_multiplier))


def test_numbers_that_were_asked_for_stay() -> None:
    resolved = resolve(Hyperparameters(n_epochs=2, batch_size=7, learning_rate_multiplier=0.1), 1000)
    assert (resolved.n_epochs, resolved.batch_size, resolved.learning_rate_multiplier) == (2, 7, 0.1)


@pytest.mark.parametrize(
    "asked",
    [
        Hyperparameters(n_epochs=0),
        Hyperparameters(n_epochs=51),
        Hyperparameters(batch_size=0),
        Hyperparameters(batch_size=257),
        Hyperparameters(learning_rate_multiplier=0),
        Hyperparameters(learning_rate_multiplier=float("nan")),
        Hyperparameters(learning_rate_multiplier=float("inf")),
    ],
)
def test_number_out_of_range_is_refused_by_name(asked: Hyperparameters) -> None:
    with pytest.raises(InvalidRequest, match="it must be") as caught:
        check(asked)
    assert (caught.value.param or "").startswith("hyperparameters.")
