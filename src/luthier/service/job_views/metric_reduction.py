"""Fewer rows of a job's metrics for a chart: the extremes of each series per bucket stay. Pure."""

import math
from collections.abc import Iterator, Sequence

from luthier.service.job_views.metric_columns import Columns

WHOLE_FILE = "full_valid_"
"""Series of the whole validation file: one value an epoch, of which none is left out."""
COURSE = frozenset({"learning_rate"})
"""Series that are smooth: evenly spaced rows show them."""


def kept_rows(columns: Columns, series: Sequence[str], points: int) -> Sequence[int]:
    """The indexes of the rows to show, in order: all, if there are at most `points`.

    Else the first, the last, each with a value of the whole validation file, of every other series the smallest and
    the greatest value in each bucket, and evenly spaced rows up to `points` in all. More than `points` only if the
    rows that always stay are more.
    """
    n_rows = len(columns)
    if n_rows <= points:
        return range(n_rows)
    kept = {0, n_rows - 1}
    present = {name: _present(columns.values[name]) for name in series if name in columns.values}
    noisy = []
    for name, rows in present.items():
        if name.startswith(WHOLE_FILE):
            kept.update(rows)
        elif name not in COURSE:
            noisy.append(name)
    if (room := points - len(kept)) > 0 and noisy:
        n_buckets = max(1, room // (2 * len(noisy)))
        for name in noisy:
            kept.update(_extremes(present[name], columns.values[name], n_buckets))
    if (room := points - len(kept)) > 0:
        kept.update(number * n_rows // room for number in range(room))
    return sorted(kept)


def _present(values: Sequence[float]) -> Sequence[int]:
    """The indexes of the values that are there; a range if that is all of them."""
    if not math.isnan(sum(values)):  # a tenth of the time of a look at each
        return range(len(values))
    return [index for index, value in enumerate(values) if value == value]  # NaN is not equal to itself


def _extremes(rows: Sequence[int], values: Sequence[float], n_buckets: int) -> Iterator[int]:
    """The row of the smallest and of the greatest value in each of `n_buckets` stretches of the present values."""
    there = list(values) if len(rows) == len(values) else [values[row] for row in rows]  # an array would box each twice
    n_buckets = min(n_buckets, len(rows))
    for bucket in range(n_buckets):
        start, stop = bucket * len(rows) // n_buckets, (bucket + 1) * len(rows) // n_buckets
        stretch = there[start:stop]
        yield rows[start + stretch.index(min(stretch))]
        yield rows[start + stretch.index(max(stretch))]
