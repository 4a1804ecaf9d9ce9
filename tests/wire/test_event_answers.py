"""Events as answers: stored figures pass through as text, and what JSON cannot express is never sent."""

import json
from dataclasses import replace

import msgspec
import pytest

from luthier.api.dialects import dialects
from luthier.api.dialects.dialects import Dialect
from luthier.api.openapi import example_answers
from luthier.core.models import Event
from luthier.core.raw_json import JsonText
from luthier.core.states import EventLevel, EventType

EVENTS: list[Event] = [
    example_answers.EVENT,
    replace(example_answers.EVENT, data=JsonText('{"step": 3, "train_loss": 1.5e-07}')),
    replace(example_answers.EVENT, data=None, type=EventType.MESSAGE, level=EventLevel.WARNING),
    replace(example_answers.EVENT, data=None, level=EventLevel.ERROR, message='"quoted" \\ \n\t\x00\x7f ü 😀 \u2028'),
]


@pytest.mark.parametrize("dialect", dialects.DIALECTS, ids=lambda dialect: str(dialect.name))
@pytest.mark.parametrize("event", EVENTS)
def test_event_is_sent_with_its_message_level_and_figures(dialect: Dialect, event: Event) -> None:
    sent = json.loads(msgspec.json.encode(dialect.event.from_event(event)))
    assert (sent["message"], sent["type"]) == (event.message, str(event.type))
    assert sent["level"] == dialect.event.levels[event.level]
    assert sent.get("data") == (None if event.data is None else dict(event.data))
    assert ("data" in sent) is (event.data is not None)


@pytest.mark.parametrize("figures", [JsonText('{"train_loss": NaN}'), JsonText('{"train_loss": -Infinity}')])
def test_stored_figure_that_json_cannot_express_is_never_sent(figures: JsonText) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dialects.OPENAI.event.from_event(replace(example_answers.EVENT, data=figures))
