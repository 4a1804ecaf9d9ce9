"""A page of events written as JSON directly: a hundred dicts take longer to build and to encode than to find.

A metric's values pass through as the text in which they were stored. Tests hold the result to `Dialect.event`.
"""

import json
from collections.abc import Sequence
from json.encoder import encode_basestring

from luthier.api.dialects import Dialect, unix
from luthier.core.json_text import JsonText
from luthier.core.models import Event


def page(dialect: Dialect, events: Sequence[Event], more: bool) -> str:
    """`Dialect.page` of the events."""
    first, last = (encode_basestring(events[place].id) if events else "null" for place in (0, -1))
    items = ",".join([_event(dialect, event) for event in events])
    has_more = "true" if more else "false"
    return f'{{"object":"list","data":[{items}],"has_more":{has_more},"first_id":{first},"last_id":{last}}}'


def _event(dialect: Dialect, event: Event) -> str:
    data = "null" if event.data is None else event.data.text if isinstance(event.data, JsonText) else None
    if data is None or "NaN" in data or "Infinity" in data:  # words that Python's JSON knows and JSON does not
        return json.dumps(dialect.event(event), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    ending = f',"data":{data}}}' if event.data is not None else "}"
    return (
        f'{{"id":{encode_basestring(event.id)},"object":"fine_tuning.job.event","created_at":{unix(event.created_at)},'
        f'"level":"{dialect.levels[event.level]}","message":{encode_basestring(event.message)},'
        f'"type":"{event.type!s}"{ending}'
    )
