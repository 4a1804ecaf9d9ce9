"""The lineage of a model as a picture: boxes and arrows in fixed columns, a band for each job. Pure; pixels.

Data, job, models and deployments stand from left to right; a job that goes on from a model stands in a band below, and
an arrow leads down to it. So a long chain grows downwards, and the picture never gets wider.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.portal.views.models import fitting_text
from luthier.portal.views.models.lineage_steps import Steps, Thing, TuningStep

BOX_WIDTH, BOX_HEIGHT = 218, 46
GAP_X, GAP_Y, GAP_BANDS = 48, 16, 34
MARGIN, HEAD = 8, 26
NAME_SIZE, NOTE_SIZE = 13, 11.5
PADDING = 12
COLUMNS = ("Data", "Job", "Models", "Deployments")
DATA, JOB, MODELS, DEPLOYMENTS = range(4)


@dataclass(frozen=True, slots=True)
class Box:
    """A thing at its place; `name` and `note` are cut to fit, `thing` has the whole of both."""

    thing: Thing
    x: int
    y: int
    name: str
    note: str


@dataclass(frozen=True, slots=True)
class Arrow:
    """A path's `d`; `is_onward` for a job that goes on from a model."""

    d: str
    is_onward: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """What the template draws; `headings` are the columns' names at their x."""

    width: int
    height: int
    headings: Sequence[tuple[int, str]]
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]


def draw(steps: Steps) -> Picture:
    """The picture of the steps."""
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    places: dict[str, Box] = {}
    y = MARGIN + HEAD
    y = _models(boxes, arrows, places, [(steps.origin, steps.origin_deployments)], None, y)
    for step in steps.steps:
        y = _band(boxes, arrows, places, step, y + GAP_BANDS)
    if steps.more is not None:
        boxes.append(_box(steps.more, JOB, y + GAP_BANDS))
        y += GAP_BANDS + BOX_HEIGHT
    headings = [(_x(column), name) for column, name in enumerate(COLUMNS)]
    return Picture(_x(DEPLOYMENTS) + BOX_WIDTH + MARGIN, y + MARGIN, headings, boxes, arrows)


def _band(boxes: list[Box], arrows: list[Arrow], places: dict[str, Box], step: TuningStep, top: int) -> int:
    """Adds one job with its data, models and deployments below `top`; returns where the band ends."""
    bottom = top
    job = None
    if step.job is not None:
        job = _box(step.job, JOB, top)
        boxes.append(job)
        bottom = top + BOX_HEIGHT
        for number, thing in enumerate(step.data):
            file = _box(thing, DATA, top + number * (BOX_HEIGHT + GAP_Y))
            boxes.append(file)
            arrows.append(_across(file, job))
            bottom = max(bottom, file.y + BOX_HEIGHT)
    parent = places.get(step.parent)
    end = _models(boxes, arrows, places, step.models, job, top)
    target = job or places.get(step.models[0][0].model if step.models else "")
    if parent is not None and target is not None:
        arrows.append(_onward(parent, target))
    return max(bottom, end)


def _models(
    boxes: list[Box],
    arrows: list[Arrow],
    places: dict[str, Box],
    models: Sequence[tuple[Thing, Sequence[Thing]]],
    job: Box | None,
    top: int,
) -> int:
    """Adds models below each other, their deployments beside them; returns where they end."""
    y = top
    for thing, deployments in models:
        model = _box(thing, MODELS, y)
        boxes.append(model)
        if thing.model:
            places[thing.model] = model
        if job is not None:
            arrows.append(_across(job, model))
        for number, one in enumerate(deployments):
            deployment = _box(one, DEPLOYMENTS, y + number * (BOX_HEIGHT + GAP_Y))
            boxes.append(deployment)
            arrows.append(_across(model, deployment))
        y += max(1, len(deployments)) * (BOX_HEIGHT + GAP_Y)
    return max(top, y - GAP_Y)


def _box(thing: Thing, column: int, y: int) -> Box:
    """The thing in a column, its texts cut to the box."""
    room = BOX_WIDTH - 2 * PADDING
    name = fitting_text.shorten(thing.name, room, NAME_SIZE)
    return Box(thing, _x(column), y, name, fitting_text.shorten(thing.note, room, NOTE_SIZE))


def _x(column: int) -> int:
    return MARGIN + column * (BOX_WIDTH + GAP_X)


def _across(left: Box, right: Box) -> Arrow:
    """From a box to one in the next column."""
    start, end = left.y + BOX_HEIGHT // 2, right.y + BOX_HEIGHT // 2
    x = left.x + BOX_WIDTH
    if start == end:
        return Arrow(f"M{x} {start}H{right.x - 2}", False)
    return Arrow(f"M{x} {start}H{x + 16}V{end}H{right.x - 2}", False)


def _onward(model: Box, target: Box) -> Arrow:
    """From a model down to a job in a later band, by the channel between the two columns."""
    start, channel = model.x + BOX_WIDTH // 2, model.x - 14
    middle = target.x + BOX_WIDTH // 2
    below, above = model.y + BOX_HEIGHT + GAP_Y // 2, target.y - GAP_BANDS // 2
    if above <= below:
        return Arrow(f"M{start} {model.y + BOX_HEIGHT}V{below}H{middle}V{target.y - 2}", True)
    return Arrow(f"M{start} {model.y + BOX_HEIGHT}V{below}H{channel}V{above}H{middle}V{target.y - 2}", True)
