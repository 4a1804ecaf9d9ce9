"""A page of events as text says what the dialect's own shapes say."""

import json
from dataclasses import replace

import pytest

from luthier.api import dialects, event_text
from luthier.api.dialects import Dialect
from luthier.api.schemas import examples
from luthier.core.json_text import JsonText
from luthier.core.models import Event
from luthier.core.states import EventLevel, EventType

TOLD: list[Event] = [
    examples.EVENT,
    replace(examples.EVENT, data=JsonText('{"step": 3, "train_loss": 1.5e-07}')),
    replace(examples.EVENT, data=None, type=EventType.MESSAGE, level=EventLevel.WARNING),
    replace(examples.EVENT, data=None, level=EventLevel.ERROR, message='"quoted" \\ \n\t\x00\x7f ü 😀 \u2028'),
]


@pytest.mark.parametrize("dialect", dialects.DIALECTS, ids=lambda dialect: str(dialect.name))
@pytest.mark.parametrize("count", range(len(TOLD) + 1))
def test_text_of_a_page_is_the_page(dialect: Dialect, count: int) -> None:
    found = TOLD[:count]
    expected = dialect.page([dialect.event(event) for event in found], more=count > 1)
    assert json.loads(event_text.page(dialect, found, count > 1)) == expected


def test_stored_metric_that_json_has_no_word_for_is_never_sent() -> None:
    broken = replace(examples.EVENT, data=JsonText('{"train_loss": NaN}'))
    with pytest.raises(ValueError, match="not JSON compliant"):
        event_text.page(dialects.OPENAI, [broken], more=False)
