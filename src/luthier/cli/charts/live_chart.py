"""The chart of losses under the progress line of a watched job: the whole run, drawn anew only for a new point."""

from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from luthier.cli.charts import drawing, metrics
from luthier.cli.charts.drawing import Line, Look
from luthier.cli.charts.metrics import Metrics

_VALIDATION = ("full_valid_loss", "valid_loss")
"""The first that a run has is drawn: of all of the validation file, or else of a batch."""
_ROWS = 9
_LEAST_HEIGHT = 18
"""A terminal of fewer lines has no chart: the events need them."""


class LiveChart:
    """Training and validation loss of a job so far. Events are added one by one; rich calls it to draw.

    `n_steps`, 0 until it is known, is where the axis of steps ends.
    """

    def __init__(self) -> None:
        self.n_steps = 0
        self.metrics: Metrics = {}
        self._drawn: list[Text] = []
        self._drawn_for: tuple[int, ...] = ()

    def add(self, data: dict[str, Any]) -> None:
        """Takes the data of a metrics event."""
        metrics.add_event(self.metrics, data)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the chart's lines; none before the first step or in a small terminal."""
        if console.height < _LEAST_HEIGHT:
            return
        key = (options.max_width, self.n_steps, sum(map(len, self.metrics.values())))
        if key != self._drawn_for:
            self._drawn = drawing.draw(
                loss_lines(self.metrics), options.max_width, _ROWS, look_of(console), self.n_steps, "loss"
            )
            self._drawn_for = key
        yield from self._drawn


def loss_lines(of: Metrics) -> list[Line]:
    """Training loss and, if there is any, validation loss."""
    name = next((name for name in _VALIDATION if of.get(name)), None)
    lines = [Line("training", "t", drawing.STYLES[0], of.get("train_loss", []))]
    return lines if name is None else [*lines, Line("validation", "v", drawing.STYLES[1], of[name])]


def look_of(console: Console) -> Look:
    """What the console's terminal can show: NO_COLOR, TERM=dumb and an encoding without Braille are heeded."""
    has_colour = console.color_system is not None and not console.no_color
    return Look(is_unicode=not console.options.ascii_only, is_coloured=has_colour)
