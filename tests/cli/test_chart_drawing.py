"""Charts as text: the whole run in the width of the terminal, in Braille, or in letters without colours or Unicode."""

import io
import math

from rich.console import Console

from luthier.cli.charts import drawing, metrics
from luthier.cli.charts.drawing import Line, Look
from luthier.cli.charts.live_chart import LiveChart, look_of

FULL = Look(is_unicode=True, is_coloured=True)
FALLING = [(float(step), 3 * math.exp(-step / 200)) for step in range(1, 401)]
RISING = [(float(step), step / 400) for step in (100, 200, 300, 400)]
TWO = [Line("training", "t", "cyan", FALLING), Line("validation", "v", "yellow", RISING)]


def test_chart_has_its_range_its_steps_and_its_legend_within_the_width() -> None:
    for width in (24, 40, 80, 200):
        shown = [text.plain for text in drawing.draw(TWO, width, 9, FULL, last_step=500, title="loss")]
        assert max(map(len, shown)) <= width
        assert shown[0].startswith("loss")
        assert [shown[row].split()[0][0] for row in (1, 9)] == ["2", "0"], "from the largest to the smallest value"
        assert ["1", "step", "500"] in [line.split() for line in shown]
        assert "training" in "".join(shown[11:])


def test_axis_ends_at_the_last_step_of_the_run_not_at_the_last_point() -> None:
    half = drawing.draw([Line("training", "t", "cyan", FALLING)], 80, 9, FULL, last_step=800)
    whole = drawing.draw([Line("training", "t", "cyan", FALLING)], 80, 9, FULL, last_step=400)
    assert max(len(text.plain) for text in half[1:10]) < 46
    assert max(len(text.plain) for text in whole[1:10]) == 80


def test_every_step_counts_in_the_mean_of_its_dot() -> None:
    spike = [(float(step), 100.0 if step == 5000 else 1.0) for step in range(1, 10_001)]
    shown = drawing.draw([Line("training", "t", "cyan", spike)], 80, 9, FULL, title="loss")
    assert shown[0].plain == "loss, each dot the mean of about 71 values"
    assert 2 < float(shown[1].plain.split()[0]) < 3, "the spike is seen, in the mean of its neighbours"


def test_lines_are_letters_without_colours_and_ascii_without_unicode() -> None:
    plain = "\n".join(text.plain for text in drawing.draw(TWO, 80, 9, Look(is_unicode=True, is_coloured=False)))
    assert "ttt" in plain
    assert "vvv" in plain
    assert not any("\u2800" <= letter <= "\u28ff" for letter in plain)
    ascii_only = "\n".join(text.plain for text in drawing.draw(TWO, 80, 9, Look(is_unicode=False, is_coloured=True)))
    assert ascii_only.isascii()


def test_one_point_a_flat_line_and_no_point_are_no_fault() -> None:
    for points in ([(1.0, 2.0)], [(1.0, 0.0), (2.0, 0.0)], [(1.0, 1e-9), (9.0, 1e12)]):
        assert len(drawing.draw([Line("x", "x", "cyan", points)], 80, 5, FULL)) == 9
    assert drawing.draw([Line("x", "x", "cyan", [])], 80, 5, FULL) == []
    assert drawing.draw(TWO, 20, 5, FULL) == [], "too narrow for a chart"


def test_live_chart_leaves_out_what_is_no_number_and_steps_that_come_again() -> None:
    chart = LiveChart()
    for data in ({"step": 1, "train_loss": 2.0}, {"step": 2, "train_loss": math.nan}, {"step": 1, "train_loss": 9.0}):
        chart.add(data)
    assert chart.metrics["train_loss"] == [(1.0, 2.0)]


def test_live_chart_needs_a_terminal_of_some_height() -> None:
    chart = LiveChart()
    chart.add({"step": 1, "train_loss": 2.0, "full_valid_loss": 2.5})
    tall, low = (Console(file=io.StringIO(), width=80, height=height, force_terminal=True) for height in (24, 12))
    tall.print(chart)
    low.print(chart)
    assert "validation" in tall.file.getvalue()  # type: ignore[attr-defined]
    assert low.file.getvalue().strip() == ""  # type: ignore[attr-defined]


def test_no_color_and_a_dumb_terminal_have_no_colours() -> None:
    bright = Console(file=io.StringIO(), force_terminal=True, color_system="standard", _environ={"TERM": "xterm"})
    assert look_of(bright).is_coloured
    for environment in ({"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}):
        assert not look_of(Console(file=io.StringIO(), force_terminal=True, _environ=environment)).is_coloured


def test_columns_are_those_of_results_csv() -> None:
    assert metrics.columns()[0] == "train_loss"
    assert "step" not in metrics.columns()
