"""The lines of a batch's input file: where each is, what it says, and every fault of the file."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from luthier.core.inference.batches import MAX_BATCH_LINES, BatchFault
from luthier.service import shutdown

MAX_LINE_BYTES = 8 * 1024 * 1024
"""Of one line: what the body of a live chat may have."""
MAX_CUSTOM_ID_CHARACTERS = 512
MAX_FAULTS = 100
"""So many faults of a file are listed; the rest is counted."""
WORK_S, REST_S = 0.005, 0.005
"""A check rests as long as it works: it shares the interpreter with the live callers."""

Fields = dict[str, msgspec.Raw]
_fields = msgspec.json.Decoder(Fields)
_text = msgspec.json.Decoder(str)


@dataclass(frozen=True, slots=True)
class LinePlace:
    """Where a line is in the file, in bytes; `number` counts from 1, blank lines included."""

    offset: int
    length: int
    number: int

    def read(self, path: Path) -> bytes:
        """The line's bytes. Raises OSError."""
        with path.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.length)


@dataclass(frozen=True, slots=True)
class InputLine:
    """A line that has no fault: the caller's id of it, and the body of its request as JSON."""

    custom_id: str
    body: bytes


@dataclass(slots=True)
class Checked:
    """What the check of a file has found: where its lines are, the models that they name with the first line of each,
    and its faults.
    """

    places: list[LinePlace] = field(default_factory=list)
    models: dict[str, int] = field(default_factory=dict)
    faults: list[BatchFault] = field(default_factory=list)
    n_faults: int = 0

    def add_fault(self, fault: BatchFault) -> None:
        """Counts a fault, and keeps it if it is one of the first MAX_FAULTS."""
        self.n_faults += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(fault)

    def all_faults(self) -> tuple[BatchFault, ...]:
        """The faults that are kept, and one that counts the others."""
        more = self.n_faults - len(self.faults)
        if not more:
            return tuple(self.faults)
        return (*self.faults, BatchFault("more_faults", f"The file has {more:,} more faults, which are not listed."))


def find_places(path: Path) -> list[LinePlace]:
    """Where each line that is not blank is. Raises OSError."""
    return [place for place, _ in _lines(path)]


def parse(line: bytes) -> InputLine:
    """A line that `check` has found good."""
    fields = _fields.decode(line)
    return InputLine(_text.decode(fields["custom_id"]), bytes(fields["body"]))


def check(path: Path, endpoint: str, stopping: Callable[[], bool] = shutdown.never) -> Checked:
    """Checks every line of a file for a batch of this endpoint. Raises Stopped between two lines if the service stops,
    and OSError.
    """
    checked = Checked()
    seen: dict[str, int] = {}
    worked_from = time.monotonic()
    for place, line in _lines(path):
        if stopping():
            raise shutdown.Stopped
        if time.monotonic() - worked_from > WORK_S:
            time.sleep(REST_S)
            worked_from = time.monotonic()
        checked.places.append(place)
        if len(checked.places) <= MAX_BATCH_LINES:
            for fault in _faults_of_line(line, place.number, canonical(endpoint), seen, checked.models):
                checked.add_fault(fault)
    if not checked.places:
        checked.add_fault(BatchFault("empty_file", "The file has no request. Write one JSON object in each line."))
    if len(checked.places) > MAX_BATCH_LINES:
        text = f"The file has {len(checked.places):,} requests; a batch may have {MAX_BATCH_LINES:,}. Split it."
        checked.add_fault(BatchFault("too_many_tasks", text))
    return checked


def canonical(endpoint: str) -> str:
    """The endpoint as OpenAI writes it: Azure also leaves out the version."""
    return endpoint if endpoint.startswith("/v1/") else f"/v1{endpoint}"


def _lines(path: Path) -> Iterator[tuple[LinePlace, bytes]]:
    """Each line that is not blank, with its place; a byte order mark at the beginning is passed over."""
    offset = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            start = 3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0
            if line[start:].strip():
                yield LinePlace(offset + start, len(line) - start, number), line[start:]
            offset += len(line)


def _faults_of_line(
    line: bytes, number: int, endpoint: str, seen: dict[str, int], models: dict[str, int]
) -> Iterator[BatchFault]:
    """Every fault of one line; notes its id in `seen` and its model in `models`, with the line's number."""
    if len(line) > MAX_LINE_BYTES:
        text = f"The line has {len(line):,} bytes; a request may have {MAX_LINE_BYTES:,}."
        yield BatchFault("line_too_long", text, None, number)
        return
    try:
        fields = _fields.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        yield BatchFault(
            "invalid_json_line", "The line is not a JSON object. Check its brackets and quotes.", None, number
        )
        return
    yield from _faults_of_id(fields, number, seen)
    if (method := _string(fields, "method")) != "POST":
        yield _fault_of_field("method", method, "it must be POST", number, "invalid_method")
    url = _string(fields, "url")
    if url is None or canonical(url) != endpoint:
        yield _fault_of_field("url", url, f"it must be the endpoint of the batch, {endpoint}", number, "url_mismatch")
    try:
        body = _fields.decode(fields["body"])
    except (KeyError, msgspec.DecodeError, RecursionError):
        yield _fault_of_field("body", None, "it must be the request as a JSON object", number, "invalid_body")
        return
    model = _string(body, "model")
    if not model:
        yield _fault_of_field("body.model", None, "it must name a deployment or model", number, "missing_model")
    else:
        models.setdefault(model, number)


def _faults_of_id(fields: Fields, number: int, seen: dict[str, int]) -> Iterator[BatchFault]:
    """The fault of a line's custom_id, if it has one."""
    custom_id = _string(fields, "custom_id")
    if not custom_id or len(custom_id) > MAX_CUSTOM_ID_CHARACTERS:
        wanted = f"it must be a text of 1 to {MAX_CUSTOM_ID_CHARACTERS} characters"
        yield _fault_of_field("custom_id", None, wanted, number, "invalid_custom_id")
    elif (first := seen.setdefault(custom_id, number)) != number:
        text = f"custom_id is that of line {first} too; each line needs one of its own."
        yield BatchFault("duplicate_custom_id", text, "custom_id", number)


def _fault_of_field(param: str, value: str | None, wanted: str, number: int, code: str) -> BatchFault:
    """The fault of one field; `value` is what a line has there, None if it is missing, of another kind, or long."""
    has = "is missing or cannot be used" if value is None else f"is {value[:64]!r}"
    return BatchFault(code, f"{param} {has}; {wanted}.", param, number)


def _string(fields: Fields, name: str) -> str | None:
    """The field if it is a text, else None."""
    try:
        return _text.decode(fields[name])
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return None
